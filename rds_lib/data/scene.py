"""What a generated clip is drawn with: a ground under a moving camera, and sprites over it, back to front."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from rds_lib.data import textures
from rds_lib.data.shapes import UNSEEN

MARGIN = 1.3  # sides of the ground, in those of the frame: room for the camera to move
PATCH = 128  # px, side of the square on which an object is painted before it is warped into the frame


@dataclass
class Sprite:
    """A thing that moves through a clip: its looks, and where it is on each of T frames."""

    paint: np.ndarray  # (PATCH, PATCH, 4) float32: premultiplied RGB and alpha in [0, 1]
    category: str
    path: np.ndarray  # (T, 2) centre in px
    size: np.ndarray  # (T,) side of the patch in px
    angle: np.ndarray  # (T,) degrees
    bend: float  # amplitude of the deformation, share of the patch
    phase: np.ndarray  # (2, 2, T + 4): the deformation's slow random walk
    gain: np.ndarray  # (T, 3) colour gain
    obj_id: int  # 0 for things that nobody asks to be tracked


class Scene:
    """The background, the camera and the light that all sprites of a clip share.

    Parameters
    ----------
    rng : Generator
        All that is drawn at random comes from it, in a fixed order.
    pool : sequence of Picture
        Textures are cropped from them.
    bsds_root : str
        A folder of BSDS500: most textures and objects then come from its photographs of the split.
    shapes : iterable of str
        Categories of `shapes.UNSEEN` that half of the objects belong to.
    limit : float, optional
        Bound of the random walks of camera, light, size and angle; without one they run away in long clips.
    """

    def __init__(
        self,
        rng: np.random.Generator,
        split: str,
        frames: int,
        height: int,
        width: int,
        *,
        pool: Sequence[textures.Picture],
        bsds_root: str = "",
        shapes: Iterable[str] = (),
        limit: float | None = None,
    ):
        self.rng, self.split, self.frames, self.height, self.width = rng, split, frames, height, width
        self.pool, self.shapes, self.limit = pool, tuple(shapes), limit
        self.bsds = textures.more_pictures(split, bsds_root) if bsds_root else ()
        self.regions = textures.bsds_objects(bsds_root, split) if bsds_root else ()
        self.used = {}  # names of the pictures that it took, in order
        self.ground = None  # (MARGIN * H, MARGIN * W, 3) uint8; drawn with the frames unless an object brings its own
        self.short = min(height, width)
        self.camera = self._walk(2) * self.short * rng.choice([0.0, 0.008, 0.02])
        self.light = 1 + 0.12 * rng.choice([0.0, 1.0]) * self._walk(1) / 3

    def _picture(self):
        pool = self.bsds if self.bsds and self.rng.random() < 0.7 else self.pool
        picture = pool[int(self.rng.integers(len(pool)))]
        self.used[picture.name] = None
        return picture.rgb

    def texture(self, height: int, width: int) -> np.ndarray:
        """A crop of a picture in other colours, or now and then a drawn texture; uint8 (height, width, 3)."""
        if self.rng.random() < 0.15:
            return textures.procedural_texture(self.rng, height, width)
        return textures.jitter_colour(self.rng, textures.crop_texture(self.rng, self._picture(), height, width))

    def look(self) -> tuple[np.ndarray, str]:
        """The paint and the category of a new object."""
        rng = self.rng
        if self.shapes and rng.random() < 0.5:
            category = self.shapes[int(rng.integers(len(self.shapes)))]
            return paint_object(UNSEEN[category](rng, PATCH), self.texture(PATCH, PATCH)), category
        if self.regions and rng.random() < 0.6:
            region = self._region()
            paint, _ = cut_out(region.rgb, region.mask)
            paint[..., :3] = textures.jitter_colour(rng, paint[..., :3], strength=0.15)
            return paint_object(paint[..., 3], paint[..., :3]), "cutout"
        mask = textures.blob_mask(rng, PATCH)
        solid = cv2.contourArea(cv2.convexHull(cv2.findNonZero(mask))) < 1.35 * np.count_nonzero(mask)
        return paint_object(mask, self.texture(PATCH, PATCH)), "blob" if solid else "spider"

    def _region(self):
        region = self.regions[int(self.rng.integers(len(self.regions)))]
        self.used[region.name] = None
        return region

    def cut_out_in_place(self, sprite: Sprite) -> None:
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
        paint, side = cut_out(rgb[y : y + h, x : x + w], mask[y : y + h, x : x + w])
        sprite.paint, sprite.category = paint_object(paint[..., 3], paint[..., :3]), "cutout"
        sprite.size = sprite.size / sprite.size[0] * side
        sprite.angle = sprite.angle - sprite.angle[0]
        start = np.array([x + w / 2 - width / 2 + self.width / 2, y + h / 2 - height / 2 + self.height / 2])
        sprite.path = sprite.path - sprite.path[0] + start

    def sprite(self, obj_id: int, difficulty: str) -> Sprite:
        """A new sprite; ``difficulty`` decides how it moves and changes."""
        rng, n = self.rng, self.frames
        paint, category = self.look()
        side = self.short * rng.uniform(0.45, 0.9)
        size = np.full(n, side) * (1 + 0.08 * self._walk(1)[:, 0] / 3)
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
        angle = rng.uniform(-25, 25) + self._walk(1)[:, 0] * rng.uniform(0, 8)
        return Sprite(paint, category, path, size, angle, bend, phase, gain.astype(np.float32), obj_id)

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

    def render(self, sprites: Sequence[Sprite], window: range) -> tuple[np.ndarray, np.ndarray]:
        """Draw the frames of ``window``: images (T, H, W, 3) and ids of visible pixels (T, H, W), both uint8."""
        images = np.empty((len(window), self.height, self.width, 3), np.uint8)
        masks = np.zeros((len(window), self.height, self.width), np.uint8)
        ground = self.ground
        if ground is None:
            ground = self.texture(int(self.height * MARGIN), int(self.width * MARGIN))
        spin = self._walk(1)[:, 0] * self.rng.choice([0.0, 0.6])
        zoom = 1 + 0.03 * self._walk(1)[:, 0] / 3
        grain = self.rng.uniform(0, 5)
        for n, t in enumerate(window):
            canvas = self.draw_ground(ground, t, spin[t], zoom[t]).astype(np.float32)
            for sprite in sprites:
                layer = self.draw_sprite(sprite, t)
                alpha = layer[..., 3:]
                canvas = canvas * (1 - alpha) + layer[..., :3] * sprite.gain[t]
                masks[n][alpha[..., 0] >= 0.5] = sprite.obj_id
            canvas = canvas * self.light[t] + self.rng.standard_normal(canvas.shape, np.float32) * grain
            images[n] = np.clip(canvas, 0, 255).astype(np.uint8)
        return images, masks

    def draw_ground(
        self,
        ground: np.ndarray,
        t: int,
        spin: float,
        zoom: float,
        *,
        shift: float = 0.0,
        view: np.ndarray | None = None,
    ) -> np.ndarray:
        """The ground of frame t as the camera sees it; ``shift`` moves it to the right, in px.

        ``view`` (2, 3) is a further camera, applied to ground and sprites alike.
        """
        centre = (ground.shape[1] / 2, ground.shape[0] / 2)
        matrix = cv2.getRotationMatrix2D(centre, float(spin), float(zoom))
        matrix[:, 2] += self.camera[t] + (self.width / 2 - centre[0], self.height / 2 - centre[1])
        matrix[0, 2] += shift
        matrix = matrix if view is None else _after(view, matrix)
        return cv2.warpAffine(ground, matrix, (self.width, self.height), borderMode=cv2.BORDER_REFLECT_101)

    def draw_sprite(self, sprite: Sprite, t: int, *, view: np.ndarray | None = None) -> np.ndarray:
        """A sprite's layer on frame t, (H, W, 4) float32: premultiplied RGB and alpha; ``view`` as for the ground."""
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
        matrix = matrix if view is None else _after(view, matrix)
        return cv2.warpAffine(paint, matrix, (self.width, self.height), flags=cv2.INTER_LINEAR)

    def _walk(self, dims):
        """A smooth random walk that starts at 0, (T, dims), of unit order after ten frames."""
        steps = np.cumsum(self.rng.normal(0, 0.12, (self.frames, dims)), 0)
        walk = np.cumsum(steps, 0)
        walk = walk - walk[:1]
        return walk if self.limit is None else self.limit * np.tanh(walk / self.limit)


def cut_out(rgb: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, int]:
    """A region centred on a square canvas, (PATCH, PATCH, 4) uint8, and the canvas's side before, in px."""
    side = int(max(mask.shape) * 1.12)
    canvas = np.zeros((side, side, 4), np.uint8)
    y, x = (side - mask.shape[0]) // 2, (side - mask.shape[1]) // 2
    canvas[y : y + mask.shape[0], x : x + mask.shape[1]] = np.dstack([rgb, mask])
    return cv2.resize(canvas, (PATCH, PATCH), interpolation=cv2.INTER_AREA if side > PATCH else cv2.INTER_LINEAR), side


def paint_object(mask: np.ndarray, rgb: np.ndarray) -> np.ndarray:
    """Premultiplied colours with a transparent rim one pixel wide, so that warping never smears the border."""
    alpha = cv2.GaussianBlur(mask, (3, 3), 0).astype(np.float32)[..., None] / 255
    alpha[[0, -1]] = 0
    alpha[:, [0, -1]] = 0
    return np.ascontiguousarray(np.concatenate([rgb * alpha, alpha], -1), np.float32)


def _after(second, first):
    """The affine map (2, 3) that does ``first`` and then ``second``."""
    return second @ np.vstack([first, [0.0, 0.0, 1.0]])
