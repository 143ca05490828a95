"""Drawn scenes: stand-ins for photographs where there are few, each fixed by its split and number.

Landscapes, streets, rooms and heaps of things, lit and textured. They have the sizes, edges and clutter of photographs,
not their statistics; where a folder of photographs is at hand, it is used instead (`data.pictures`).
"""

from functools import cache

import cv2
import numpy as np

HEIGHT, WIDTH = 480, 640  # px
SCENES = {"train": 24, "calibration": 8, "val": 20}  # how many each split has
_SEED = 20260


@cache
def scene(split: str, number: int) -> np.ndarray:
    """A drawn scene of a split, uint8 (480, 640, 3) RGB; the four kinds take turns."""
    rng = np.random.default_rng([_SEED, list(SCENES).index(split), number])
    kind = (_landscape, _street, _room, _heap)[number % 4]
    picture = kind(rng) + 8 * _clouds(rng, (60, 160))[..., None]  # a little grain, as every photograph has
    return np.clip(picture, 0, 255).astype(np.uint8)


def _clouds(rng, cells, channels=1):
    """Smooth noise of unit order in octaves of ``cells`` across the height, (H, W) or (H, W, channels)."""
    total = np.zeros((HEIGHT, WIDTH, channels), np.float32)
    for n, count in enumerate(cells):
        noise = rng.standard_normal((count, count * 4 // 3, channels)).astype(np.float32)
        total += cv2.resize(noise, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC).reshape(total.shape) / 1.6**n
    return total[..., 0] if channels == 1 else total


def _colour(rng, low=30, high=225):
    return rng.uniform(low, high, 3).astype(np.float32)


def _sky(rng):
    top, bottom = _colour(rng, 60, 200) * (0.6, 0.8, 1.1), _colour(rng, 150, 245)
    y = np.linspace(0, 1, HEIGHT, dtype=np.float32)[:, None, None]
    cover = np.clip(_clouds(rng, (3, 6, 12, 24)) * rng.uniform(0.2, 0.6), 0, 1)[..., None]
    return np.clip(top * (1 - y) + bottom * y, 0, 255) * (1 - cover) + 245 * cover


def _ridge(rng, height, rough):
    """A skyline: for each column the row at which a layer begins, int (W,)."""
    line = np.zeros(WIDTH, np.float32)
    for cells in (3, 7, 15, 40, 90):
        line += cv2.resize(rng.standard_normal((1, cells)).astype(np.float32), (WIDTH, 1))[0] * rough / cells**0.8
    return np.clip(height + line, 0, HEIGHT - 1).astype(int)


def _landscape(rng):
    picture, haze = _sky(rng), _colour(rng, 130, 220)
    rows = np.arange(HEIGHT)[:, None]
    for depth in np.linspace(0.15, 1, int(rng.integers(3, 6))):
        skyline = _ridge(rng, HEIGHT * (0.3 + 0.4 * depth), 120 * depth)
        land = (1 - depth) * haze + depth * _colour(rng, 20, 150) * (0.8, 1.0, 0.6)
        texture = _clouds(rng, (6, 14, 30, 70, 150)) * 32 * depth
        shade = 1 - 0.3 * np.clip((rows - skyline) / HEIGHT, 0, 1)
        picture = np.where((rows > skyline)[..., None], land * shade[..., None] + texture[..., None], picture)
    for _ in range(int(rng.integers(4, 18))):
        _tree(rng, picture)
    return picture


def _tree(rng, picture):
    """A trunk and a crown of many small leaves; the nearer the ground line to the bottom, the larger."""
    y = int(rng.uniform(0.55, 1.0) * HEIGHT)
    x, size = int(rng.integers(WIDTH)), int(20 + 110 * (y / HEIGHT - 0.5))
    trunk, leaf = _colour(rng, 30, 90), _colour(rng, 30, 140) * (0.8, 1.1, 0.5)
    cv2.line(picture, (x, y), (x, y - size), trunk.tolist(), max(2, size // 8), cv2.LINE_AA)
    for dx, dy, tone in zip(*rng.normal(0, 0.4, (2, 90)), rng.uniform(0.5, 1.5, 90), strict=True):
        centre = int(x + dx * size), int(y - size * 1.25 + dy * size)
        cv2.circle(picture, centre, max(1, size // 9), np.clip(leaf * tone, 0, 255).tolist(), -1, cv2.LINE_AA)


def _street(rng):
    picture = _sky(rng)
    vanishing = (int(rng.uniform(0.25, 0.75) * WIDTH), int(rng.uniform(0.4, 0.6) * HEIGHT))
    road = _colour(rng, 60, 130)
    picture[vanishing[1] :] = road + 14 * _clouds(rng, (40, 120))[vanishing[1] :, :, None]
    for side in (-1, 1):
        near = 0 if side < 0 else WIDTH
        for far in np.linspace(0.15, 1, int(rng.integers(4, 8))):
            left, right = sorted((int(near), int(near + (vanishing[0] - near) * far * 0.9)))
            _house(rng, picture, left, right, vanishing, shrink=1 - 0.75 * far)
            near = right if side < 0 else left
    for share in np.linspace(0.1, 0.9, 7):
        foot = (int(vanishing[0] + (share - 0.5) * 2.4 * WIDTH), HEIGHT)
        cv2.line(picture, vanishing, foot, (road * rng.uniform(0.7, 1.6)).tolist(), 2, cv2.LINE_AA)
    for _ in range(int(rng.integers(2, 7))):
        _box(rng, picture, vanishing[1], HEIGHT)
    return picture


def _house(rng, picture, left, right, vanishing, shrink):
    if right - left < 6:
        return
    wall, window = _colour(rng), _colour(rng, 20, 240)
    top = int(vanishing[1] * (1 - rng.uniform(0.35, 1.0) * shrink))
    bottom = int(vanishing[1] + (HEIGHT - vanishing[1]) * 0.5 * shrink)
    picture[top:bottom, left:right] = wall + 10 * _clouds(rng, (30, 90))[top:bottom, left:right, None]
    step = max(8, int(rng.uniform(22, 44) * shrink + 6))
    for y in range(top + step // 2, bottom - step // 2, step):
        for x in range(left + step // 3, right - step // 3, step):
            tone = window * rng.uniform(0.5, 1.1)
            picture[y : y + step // 2, x : x + step // 2] = np.clip(tone, 0, 255)
    cv2.rectangle(picture, (left, top), (right, bottom), (wall * 0.55).tolist(), 2)


def _box(rng, picture, top, bottom):
    """A lit box with three visible sides, somewhere between two rows."""
    y = int(rng.uniform(top + 0.2 * (bottom - top), bottom))
    size = int(18 + 90 * (y - top) / max(bottom - top, 1))
    x, colour = int(rng.integers(WIDTH)), _colour(rng)
    w, h, lean = size, int(size * rng.uniform(0.5, 1.6)), int(size * rng.uniform(-0.5, 0.5))
    front = np.array([(x, y), (x + w, y), (x + w, y - h), (x, y - h)], np.int32)
    roof = np.array([(x, y - h), (x + w, y - h), (x + w + lean, y - h - w // 3), (x + lean, y - h - w // 3)], np.int32)
    edge = x + w if lean > 0 else x
    flank = np.array([(edge, y), (edge, y - h), (edge + lean, y - h - w // 3), (edge + lean, y - w // 3)], np.int32)
    for outline, tone in ((flank, 0.6), (front, 0.85), (roof, 1.2)):
        cv2.fillPoly(picture, [outline], np.clip(colour * tone, 0, 255).tolist(), cv2.LINE_AA)


def _room(rng):
    wall, floor_line = _colour(rng, 90, 230), int(rng.uniform(0.5, 0.75) * HEIGHT)
    light = 1 - 0.5 * np.hypot(*np.meshgrid(np.linspace(-1, 1, WIDTH), np.linspace(-1, 1, HEIGHT)))[..., None] / 1.4
    picture = wall * light.astype(np.float32) + 5 * _clouds(rng, (20, 60, 150))[..., None]
    tiles, pair = int(rng.integers(8, 24)), (_colour(rng), _colour(rng))
    y, x = np.mgrid[:tiles, :tiles]
    floor = np.where(((x + y) % 2)[..., None], *pair).astype(np.float32)
    floor = cv2.resize(floor, (512, 512), interpolation=cv2.INTER_NEAREST)
    corners = np.float32([(0.1 * WIDTH, floor_line), (0.9 * WIDTH, floor_line), (2 * WIDTH, HEIGHT), (-WIDTH, HEIGHT)])
    matrix = cv2.getPerspectiveTransform(np.float32([(0, 0), (512, 0), (512, 512), (0, 512)]), corners)
    laid = cv2.warpPerspective(floor, matrix, (WIDTH, HEIGHT), flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REFLECT_101)
    picture[floor_line:] = laid[floor_line:] * light[floor_line:]
    for _ in range(int(rng.integers(1, 6))):
        x, y = int(rng.uniform(0.05, 0.8) * WIDTH), int(rng.uniform(0.05, 0.5) * floor_line)
        w, h = (int(value) for value in rng.uniform(40, 150, 2))
        inside = 128 + 60 * _clouds(rng, (3, 8, 30), 3)[y : y + h, x : x + w]
        picture[y : y + h, x : x + w] = np.clip(inside * _colour(rng, 60, 240) / 150, 0, 255)
        cv2.rectangle(picture, (x, y), (x + w, y + h), _colour(rng, 20, 120).tolist(), int(rng.integers(3, 9)))
    for _ in range(int(rng.integers(3, 8))):
        _box(rng, picture, floor_line - 40, HEIGHT)
    return picture


def _heap(rng):
    """Round and square things over one another, each shaded from its upper left."""
    picture = _colour(rng, 60, 200) + 25 * _clouds(rng, (4, 12, 50, 140), 3)
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
    for _ in range(int(rng.integers(30, 70))):
        cy, cx, ry, rx = *rng.uniform(0, (HEIGHT, WIDTH)), *rng.uniform(15, 70, 2)
        turn, power, colour = rng.uniform(0, np.pi), float(rng.choice([2, 2, 6])), _colour(rng)
        waves = rng.uniform(2, 16) * (rng.random() < 0.4)
        reach = int(1.5 * max(ry, rx))
        part = np.s_[max(0, int(cy) - reach) : int(cy) + reach, max(0, int(cx) - reach) : int(cx) + reach]
        u = ((x[part] - cx) * np.cos(turn) + (y[part] - cy) * np.sin(turn)) / rx
        v = ((y[part] - cy) * np.cos(turn) - (x[part] - cx) * np.sin(turn)) / ry
        inside = np.abs(u) ** power + np.abs(v) ** power < 1
        shade = (0.85 - 0.3 * (u * np.cos(turn) + v * np.sin(turn))) * (1 + 0.3 * np.sin(u * waves))
        picture[part][inside] = np.clip(shade[inside][:, None] * colour, 0, 255)
    return picture
