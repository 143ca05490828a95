"""Generated video-object-segmentation clips with exact masks, each made to be hard in one named way.

Bit-stable for a given seed, given versions of numpy, OpenCV and scikit-image and one kind of CPU: every draw comes from
the seed, and no drawing depends on the clock, the thread count or the order in which clips are made. On a CPU with
other vector instructions OpenCV may round a colour by one grey level; masks stay the same.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from rds_lib.core.errors import RDSInputError
from rds_lib.data import textures

DIFFICULTIES = (
    "plain",
    "fast_motion",
    "occlusion",
    "disappearance",
    "scale_change",
    "deformation",
    "appearance_change",
    "distractor",
    "late_entry",
)
CATEGORIES = ("blob", "spider", "cutout")
SPLIT_CODES = {"train": 0, "calibration": 1, "val": 2}
MARGIN = 1.3  # sides of the ground, in those of the frame: room for the camera to move
IN_PLACE = 0.5  # share of the clips with BSDS500 in which the first object moves in the photograph that it was cut from
PATCH = 128  # px, side of the square on which an object is painted before it is warped into the frame


@dataclass(frozen=True)
class Clip:
    """One clip: ``frames`` (T, H, W, 3) uint8 RGB, ``masks`` (T, H, W) uint8 ids of visible pixels, 0 = background."""

    name: str
    frames: np.ndarray
    masks: np.ndarray
    difficulty: str
    categories: tuple[str, ...]


@dataclass
class _Sprite:
    paint: np.ndarray  # (PATCH, PATCH, 4) float32: premultiplied RGB and alpha in [0, 1]
    category: str
    path: np.ndarray  # (T, 2) centre in px
    size: np.ndarray  # (T,) side of the patch in px
    angle: np.ndarray  # (T,) degrees
    bend: float  # amplitude of the deformation, share of the patch
    phase: np.ndarray  # (2, 2, T + 4): the deformation's slow random walk
    gain: np.ndarray  # (T, 3) colour gain
    obj_id: int  # 0 for things that nobody asks to be tracked


def generate_clip(
    seed: int,
    index: int,
    *,
    split: str,
    frames: int,
    height: int,
    width: int,
    difficulty: str | None = None,
    n_objects: int | None = None,
    bsds_root: str = "",
    length: int | None = None,
) -> Clip:
    """Make clip number ``index`` of a split.

    Parameters
    ----------
    seed, index : int
        Together with the split they fix every pixel.
    split : {"train", "calibration", "val"}
        Splits share neither photographs nor draws.
    frames, height, width : int
        Length, and size in px (at least 32).
    difficulty : str, optional
        One of ``DIFFICULTIES``; by default they take turns with ``index``.
    n_objects : int, optional
        1 to 3 by default.
    bsds_root : str
        A folder of BSDS500; half of the objects and of the backgrounds then come from it (not for ``val``).
    length : int, optional
        Make a clip this long and return a window of ``frames`` frames from anywhere in it: what happens takes as
        long as in the long clip, and only the window is drawn.
    """
    if split not in SPLIT_CODES:
        raise RDSInputError(f"split {split!r} is unknown; choose one of {sorted(SPLIT_CODES)}")
    difficulty = difficulty or DIFFICULTIES[index % len(DIFFICULTIES)]
    if difficulty not in DIFFICULTIES:
        raise RDSInputError(f"difficulty {difficulty!r} is unknown; choose one of {DIFFICULTIES}")
    if frames < 1 or min(height, width) < 32:
        raise RDSInputError(f"a clip of {frames} frames at {height}x{width} px is too small; at least 1 frame of 32x32")
    rng = np.random.default_rng([seed, SPLIT_CODES[split], index])
    scene = _Scene(rng, split, max(frames, length or 0), height, width, bsds_root)
    n_objects = n_objects or int(rng.integers(2, 4) if difficulty == "late_entry" else rng.integers(1, 4))
    sprites = [scene.sprite(obj_id, difficulty) for obj_id in range(1, n_objects + 1)]
    if scene.bsds_root and rng.random() < IN_PLACE:
        scene.cut_out_in_place(sprites[0])
    sprites = _add_company(scene, sprites, difficulty)
    start = int(rng.integers(scene.frames - frames + 1)) if length else 0
    images, masks = scene.render(sprites, range(start, start + frames))
    named = sorted((s for s in sprites if s.obj_id), key=lambda s: s.obj_id)
    return Clip(f"{split}-{index:04d}-{difficulty}", images, masks, difficulty, tuple(s.category for s in named))


def _add_company(scene, sprites, difficulty):
    """Add what makes the clip hard besides the objects themselves: an occluder or look-alikes."""
    rng, first = scene.rng, sprites[0]
    if difficulty == "occlusion":
        bar = scene.sprite(0, "plain")
        bar.paint = _paint(textures.blob_mask(rng, PATCH), scene.texture(PATCH, PATCH))
        bar.size = np.full(scene.frames, first.size.mean() * rng.uniform(1.1, 1.6))
        start = first.path[0] + (rng.choice([-1, 1]) * (bar.size[0] + first.size[0]) / 2, rng.normal(0, 4))
        middle = first.path[scene.frames // 2]
        t = np.linspace(0, 2, scene.frames)[:, None]
        bar.path = start * (1 - t) + middle * t
        return [*sprites, bar]
    if difficulty == "distractor":
        twins = []
        for _ in range(int(rng.integers(1, 3))):
            twin = scene.sprite(0, "plain")
            twin.paint, twin.size, twin.bend = first.paint, first.size.copy(), first.bend
            twins.append(twin)
        return [*twins, *sprites]
    return sprites


class _Scene:
    """The background, the camera and the light that all sprites of a clip share."""

    def __init__(self, rng, split, frames, height, width, bsds_root):
        self.rng, self.split, self.frames, self.height, self.width = rng, split, frames, height, width
        self.bsds_root = bsds_root if split in textures.BSDS_SPLITS else ""
        self.photos = textures.photographs(split)
        self.ground = None  # (MARGIN * H, MARGIN * W, 3) uint8; drawn with the frames unless an object brings its own
        self.short = min(height, width)
        self.camera = _walk(rng, frames, 2) * self.short * rng.choice([0.0, 0.008, 0.02])
        self.light = 1 + 0.12 * rng.choice([0.0, 1.0]) * _walk(rng, frames, 1) / 3

    def photo(self):
        if self.bsds_root and self.rng.random() < 0.7:
            pool = textures.bsds_photographs(self.bsds_root, self.split)
        else:
            pool = self.photos
        return pool[int(self.rng.integers(len(pool)))]

    def texture(self, height, width):
        if self.rng.random() < 0.15:
            return textures.procedural_texture(self.rng, height, width)
        return textures.jitter_colour(self.rng, textures.crop_texture(self.rng, self.photo(), height, width))

    def look(self):
        """The paint and the category of a new object."""
        rng = self.rng
        if self.bsds_root and rng.random() < 0.6:
            region = self._region()
            paint, _ = _cut_out(region.rgb, region.mask)
            paint[..., :3] = textures.jitter_colour(rng, paint[..., :3], strength=0.15)
            return _paint(paint[..., 3], paint[..., :3]), "cutout"
        mask = textures.blob_mask(rng, PATCH)
        solid = cv2.contourArea(cv2.convexHull(cv2.findNonZero(mask))) < 1.35 * np.count_nonzero(mask)
        return _paint(mask, self.texture(PATCH, PATCH)), "blob" if solid else "spider"

    def _region(self):
        pool = textures.bsds_objects(self.bsds_root, self.split)
        return pool[int(self.rng.integers(len(pool)))]

    def cut_out_in_place(self, sprite):
        """Let a sprite be a region of a photograph that starts where it was cut out, and this photograph the ground.

        Its outlines are the photograph's own, and what it hides is filled in, not left as a second object.
        """
        rng, region = self.rng, self._region()
        photo, (h, w) = region.photo, region.mask.shape
        height, width = int(self.height * MARGIN), int(self.width * MARGIN)
        share = rng.uniform(0.5, 1.0)
        rows, cols = (int(max(side * 1.05, full * share)) for side, full in ((h, photo.shape[0]), (w, photo.shape[1])))
        rows, cols = min(rows, photo.shape[0]), min(cols, photo.shape[1])
        top = int(rng.integers(max(0, region.y + h - rows), min(region.y, photo.shape[0] - rows) + 1))
        left = int(rng.integers(max(0, region.x + w - cols), min(region.x, photo.shape[1] - cols) + 1))
        mask = np.zeros(photo.shape[:2], np.uint8)
        mask[region.y : region.y + h, region.x : region.x + w] = region.mask
        crop = np.dstack([photo, mask])[top : top + rows, left : left + cols]
        if rng.random() < 0.5:
            crop = np.ascontiguousarray(crop[:, ::-1])
        crop = cv2.resize(crop, (width, height), interpolation=cv2.INTER_AREA if rows > height else cv2.INTER_LINEAR)
        rgb, mask = textures.jitter_colour(rng, crop[..., :3], strength=0.2), crop[..., 3]
        x, y, w, h = cv2.boundingRect(mask)
        self.ground = textures.fill_hole(rgb, cv2.dilate(mask, np.ones((5, 5), np.uint8)) > 0)
        paint, side = _cut_out(rgb[y : y + h, x : x + w], mask[y : y + h, x : x + w])
        sprite.paint, sprite.category = _paint(paint[..., 3], paint[..., :3]), "cutout"
        sprite.size = sprite.size / sprite.size[0] * side
        sprite.angle = sprite.angle - sprite.angle[0]
        start = np.array([x + w / 2 - width / 2 + self.width / 2, y + h / 2 - height / 2 + self.height / 2])
        sprite.path = sprite.path - sprite.path[0] + start

    def sprite(self, obj_id, difficulty):
        rng, n = self.rng, self.frames
        paint, category = self.look()
        side = self.short * rng.uniform(0.45, 0.9)
        size = np.full(n, side) * (1 + 0.08 * _walk(rng, n, 1)[:, 0] / 3)
        speed = rng.uniform(0.005, 0.035) * (4.0 if difficulty == "fast_motion" else 1.0)
        path = self._wander(speed)
        gain = np.ones((n, 3), np.float32)
        if difficulty == "scale_change":
            size = size * np.geomspace(1, rng.choice([0.45, 2.0]), n)
        if difficulty == "appearance_change":
            gain = gain + np.linspace(0, 1, n)[:, None] * rng.uniform(-0.6, 0.6, 3)
        if difficulty == "disappearance" and obj_id == 1:
            away = np.sin(np.linspace(0, np.pi, n)) ** 2
            path[:, 0] += away * rng.choice([-1, 1]) * (self.width + side / 2)
        if difficulty == "late_entry" and obj_id > 1:
            gone = np.linspace(1.6, -0.6, n).clip(0, 1)
            path[:, 0] += gone * rng.choice([-1, 1]) * (self.width + side / 2)
        bend = rng.uniform(0.0, 0.05) + (0.10 if difficulty == "deformation" else 0.0)
        phase = rng.uniform(0, 2 * np.pi, (2, 2, 1)) + rng.uniform(0.1, 0.6, (2, 2, 1)) * np.arange(n)
        angle = rng.uniform(-25, 25) + _walk(rng, n, 1)[:, 0] * rng.uniform(0, 8)
        return _Sprite(paint, category, path, size, angle, bend, phase, gain.astype(np.float32), obj_id)

    def _wander(self, speed):
        """Centres that move at about ``speed`` (share of the short side a frame) and bounce off a margin."""
        rng, n = self.rng, self.frames
        heading = rng.uniform(0, 2 * np.pi) + np.cumsum(rng.normal(0, 0.25, n))
        steps = np.stack([np.cos(heading), np.sin(heading)], -1) * speed * self.short
        start = rng.uniform(0.25, 0.75, 2) * (self.width, self.height)
        path = start + np.concatenate([np.zeros((1, 2)), np.cumsum(steps[1:], 0)])
        low, high = (
            np.array([0.15, 0.15]) * (self.width, self.height),
            np.array([0.85, 0.85]) * (self.width, self.height),
        )
        span = high - low
        return low + span - np.abs((path - low) % (2 * span) - span)

    def render(self, sprites, window):
        images = np.empty((len(window), self.height, self.width, 3), np.uint8)
        masks = np.zeros((len(window), self.height, self.width), np.uint8)
        ground = self.ground
        if ground is None:
            ground = self.texture(int(self.height * MARGIN), int(self.width * MARGIN))
        spin = _walk(self.rng, self.frames, 1)[:, 0] * self.rng.choice([0.0, 0.6])
        zoom = 1 + 0.03 * _walk(self.rng, self.frames, 1)[:, 0] / 3
        grain = self.rng.uniform(0, 5)
        for n, t in enumerate(window):
            canvas = self._ground(ground, t, spin[t], zoom[t]).astype(np.float32)
            for sprite in sprites:
                layer = self._warp(sprite, t)
                alpha = layer[..., 3:]
                canvas = canvas * (1 - alpha) + layer[..., :3] * sprite.gain[t]
                masks[n][alpha[..., 0] >= 0.5] = sprite.obj_id
            canvas = canvas * self.light[t] + self.rng.standard_normal(canvas.shape, np.float32) * grain
            images[n] = np.clip(canvas, 0, 255).astype(np.uint8)
        return images, masks

    def _ground(self, ground, t, spin, zoom):
        centre = (ground.shape[1] / 2, ground.shape[0] / 2)
        matrix = cv2.getRotationMatrix2D(centre, float(spin), float(zoom))
        matrix[:, 2] += self.camera[t] + (self.width / 2 - centre[0], self.height / 2 - centre[1])
        return cv2.warpAffine(ground, matrix, (self.width, self.height), borderMode=cv2.BORDER_REFLECT_101)

    def _warp(self, sprite, t):
        paint = sprite.paint
        if sprite.bend > 0.005:
            line = np.linspace(0, 2 * np.pi, PATCH, dtype=np.float32)
            amplitude = np.float32(sprite.bend * PATCH)
            base = np.arange(PATCH, dtype=np.float32)
            waves = sprite.phase[:, :, t].astype(np.float32)
            shift_x = amplitude * np.sin(line * 1.3 + waves[0, 0])[:, None] * np.cos(line * 0.7 + waves[0, 1])[None]
            shift_y = amplitude * np.cos(line * 0.7 + waves[1, 0])[:, None] * np.sin(line * 1.3 + waves[1, 1])[None]
            paint = cv2.remap(paint, base[None] + shift_x, base[:, None] + shift_y, cv2.INTER_LINEAR)
        matrix = cv2.getRotationMatrix2D((PATCH / 2, PATCH / 2), float(sprite.angle[t]), float(sprite.size[t] / PATCH))
        matrix[:, 2] += sprite.path[t] + self.camera[t] - PATCH / 2
        return cv2.warpAffine(paint, matrix, (self.width, self.height), flags=cv2.INTER_LINEAR)


def _cut_out(rgb, mask):
    """A region centred on a square canvas, (PATCH, PATCH, 4) uint8, and the canvas's side before, in px."""
    side = int(max(mask.shape) * 1.12)
    canvas = np.zeros((side, side, 4), np.uint8)
    y, x = (side - mask.shape[0]) // 2, (side - mask.shape[1]) // 2
    canvas[y : y + mask.shape[0], x : x + mask.shape[1]] = np.dstack([rgb, mask])
    return cv2.resize(canvas, (PATCH, PATCH), interpolation=cv2.INTER_AREA if side > PATCH else cv2.INTER_LINEAR), side


def _paint(mask, rgb):
    """Premultiplied colours with a transparent rim one pixel wide, so that warping never smears the border."""
    alpha = cv2.GaussianBlur(mask, (3, 3), 0).astype(np.float32)[..., None] / 255
    alpha[[0, -1]] = 0
    alpha[:, [0, -1]] = 0
    return np.ascontiguousarray(np.concatenate([rgb * alpha, alpha], -1), np.float32)


def _walk(rng, n, dims):
    """A smooth random walk that starts at 0, (n, dims), of unit order after ten frames."""
    steps = np.cumsum(rng.normal(0, 0.12, (n, dims)), 0)
    walk = np.cumsum(steps, 0)
    return walk - walk[:1]
