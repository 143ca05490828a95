"""What can change inside a clip: light, lens, sharpness, grain, compression, company, the shot, the background."""

from collections.abc import Callable

import cv2
import numpy as np

from rds_lib.data.scene import Scene

ROOM = 2.2  # sides of the ground, in those of the frame: what the camera sees when it zooms out
SEAM = 0.15  # share of the frame's width over which one background turns into the next


class Film:
    """A scene with all that may change on its way: sprites back to front, and the settings of every frame.

    Each method named in ``EFFECTS`` puts one condition on the frames from ``start`` up to ``stop``, and returns its
    strength on them, (stop - start,) in (0, 1].
    """

    def __init__(self, scene: Scene, n_objects: int):
        self.scene, self.rng, n = scene, scene.rng, scene.frames
        self.sprites = [scene.sprite(obj_id, "plain") for obj_id in range(1, n_objects + 1)]
        self.zoom = np.ones(n)  # of the lens, around the first object
        self.grounds = [self._new_ground()]
        self.left, self.right = np.zeros(n, int), np.zeros(n, int)  # grounds in the picture, by number
        self.share = np.zeros(n)  # how far the right one has come in
        self.hidden = np.zeros(n, bool)  # frames without any sprite
        self.finish: list[Callable | None] = [None] * n  # what happens to the finished picture

    def _new_ground(self):
        return self.scene.texture(int(self.scene.height * ROOM), int(self.scene.width * ROOM))

    def night(self, start: int, stop: int) -> np.ndarray:
        """Light falls to a tenth and turns blue, and comes back."""
        strength = _swell(self.rng, stop - start)
        for t, s in zip(range(start, stop), strength):
            gain = np.float32(1 - np.array([0.92, 0.9, 0.78]) * s)
            self.finish[t] = lambda canvas, gain=gain: canvas * gain
        return strength

    def move_lens(self, start: int, stop: int) -> np.ndarray:
        """The camera zooms in or out around the first object, and back."""
        strength = _swell(self.rng, stop - start)
        self.zoom[start:stop] = float(self.rng.choice([2.4, 0.5])) ** strength
        return strength

    def blur(self, start: int, stop: int) -> np.ndarray:
        """Out of focus, or smeared in one direction."""
        strength, short = _swell(self.rng, stop - start), self.scene.short
        angle = self.rng.uniform(0, 180) if self.rng.random() < 0.5 else None
        for t, s in zip(range(start, stop), strength):
            self.finish[t] = lambda canvas, s=s: _blurred(canvas, s * short, angle)
        return strength

    def noise(self, start: int, stop: int) -> np.ndarray:
        """Grain of up to 55 grey levels, as of a sensor in the dark."""
        strength, seed = _swell(self.rng, stop - start), int(self.rng.integers(2**31))
        for t, s in zip(range(start, stop), strength):
            self.finish[t] = lambda canvas, s=s, t=t: canvas + _grain((seed, t), canvas.shape) * np.float32(55 * s)
        return strength

    def compression(self, start: int, stop: int) -> np.ndarray:
        """JPEG whose quality falls to 3 of 100, with halved colours."""
        strength = _swell(self.rng, stop - start)
        for t, s in zip(range(start, stop), strength):
            self.finish[t] = lambda canvas, s=s: _compressed(canvas, round(3 + 40 * (1 - s)))
        return strength

    def crowding(self, start: int, stop: int) -> np.ndarray:
        """Look-alikes of the first object and strangers come in from the sides, before and behind, and leave."""
        rng, scene, first = self.rng, self.scene, self.sprites[0]
        strength = _swell(rng, stop - start, peak=False)
        outside = np.ones(scene.frames)
        outside[start:stop] = 1 - strength
        behind, before = [], []
        for n in range(int(rng.integers(5, 9))):
            other = scene.sprite(0, "plain")
            if n % 2:
                other.paint, other.bend = first.paint, first.bend
            other.size = other.size * rng.uniform(0.5, 0.8)
            other.path[:, 0] += outside * rng.choice([-1, 1]) * (scene.width + other.size.max())
            (before if n % 3 == 0 else behind).append(other)
        self.sprites = [*behind, *self.sprites, *before]
        return strength

    def cut(self, start: int, stop: int) -> np.ndarray:
        """Another shot: the same objects elsewhere, at another size, before another ground; then back.

        Half of the time the shot begins with its ground alone.
        """
        rng, scene = self.rng, self.scene
        self.grounds.append(self._new_ground())
        self.left[start:stop] = self.right[start:stop] = len(self.grounds) - 1
        for sprite in self.sprites:
            if sprite.obj_id:
                place = rng.uniform(0.3, 0.7, 2) * (scene.width, scene.height)
                sprite.path[start:stop] += place - sprite.path[start]
                sprite.size[start:stop] *= rng.uniform(0.6, 1.5)
                sprite.angle[start:stop] += rng.uniform(-40, 40)
        if rng.random() < 0.5:
            self.hidden[start : start + (stop - start) // 3] = True
        return np.ones(stop - start)

    def pan(self, start: int, stop: int) -> np.ndarray:
        """The camera follows the objects to another background, which stays; the strength is its speed."""
        self.grounds.append(self._new_ground())
        speed = np.sin(np.pi * np.arange(1, stop - start + 1) / (stop - start + 1))
        self.share[start:stop] = np.cumsum(speed) / speed.sum()
        self.right[start:] = self.left[stop:] = len(self.grounds) - 1
        return speed

    def render(self) -> tuple[np.ndarray, np.ndarray]:
        """Draw all frames: images (T, H, W, 3) and ids of visible pixels (T, H, W), both uint8."""
        scene, rng = self.scene, self.rng
        images = np.empty((scene.frames, scene.height, scene.width, 3), np.uint8)
        masks = np.zeros(images.shape[:3], np.uint8)
        first = next(sprite for sprite in self.sprites if sprite.obj_id == 1)
        grain = rng.uniform(0, 5)
        for t in range(scene.frames):
            view = _lens(first.path[t] + scene.camera[t], self.zoom[t])
            canvas = self._ground(t, view)
            for sprite in [] if self.hidden[t] else self.sprites:
                layer = scene.draw_sprite(sprite, t, view=view)
                alpha = layer[..., 3:]
                canvas = canvas * (1 - alpha) + layer[..., :3] * sprite.gain[t]
                masks[t][alpha[..., 0] >= 0.5] = sprite.obj_id
            canvas = canvas * scene.light[t] + rng.standard_normal(canvas.shape, np.float32) * grain
            if self.finish[t] is not None:
                canvas = self.finish[t](canvas)
            images[t] = np.clip(canvas, 0, 255).astype(np.uint8)
        return images, masks

    def _ground(self, t, view):
        """The left ground, and the right one as far as it has come in, with a soft seam between them."""
        scene, width = self.scene, self.scene.width
        travel = width * (1 + 2 * SEAM)
        aside = self.share[t] * travel
        left = scene.draw_ground(self.grounds[self.left[t]], t, 0.0, 1.0, shift=-aside, view=view).astype(np.float32)
        if self.left[t] == self.right[t]:
            return left
        right = scene.draw_ground(self.grounds[self.right[t]], t, 0.0, 1.0, shift=travel - aside, view=view)
        seam = width * (1 + SEAM) - aside
        mix = np.clip((np.arange(width, dtype=np.float32) - seam) / (SEAM * width) + 0.5, 0, 1)[:, None]
        return left * (1 - mix) + right * mix


EFFECTS = {
    "night": Film.night,
    "zoom": Film.move_lens,
    "blur": Film.blur,
    "noise": Film.noise,
    "compression": Film.compression,
    "crowding": Film.crowding,
    "cut": Film.cut,
    "pan": Film.pan,
}


def _swell(rng, frames, *, peak: bool = True):
    """A strength that rises, holds and falls, in (0, 1]; with ``peak`` it holds at .7 to 1."""
    u = np.arange(1, frames + 1) / (frames + 1)
    shape = np.minimum(np.minimum(u, 1 - u) / 0.3, 1.0)
    return shape * (rng.uniform(0.7, 1.0) if peak else 1.0)


def _lens(centre, zoom):
    """The affine map (2, 3) of a zoom around ``centre``; None for none."""
    if zoom == 1:
        return None
    return np.array([[zoom, 0, (1 - zoom) * centre[0]], [0, zoom, (1 - zoom) * centre[1]]])


def _blurred(canvas, reach, angle):
    """Blur by 1.8 % of ``reach`` px in all directions, or along a line of 9 % of it at ``angle`` degrees."""
    if angle is None:
        return cv2.GaussianBlur(canvas, (0, 0), 0.018 * reach + 0.3)
    length = max(3, round(0.09 * reach) | 1)
    line = np.zeros((length, length), np.float32)
    line[length // 2] = 1
    turn = cv2.getRotationMatrix2D((length // 2, length // 2), angle, 1)
    line = cv2.warpAffine(line, turn, (length, length))
    return cv2.filter2D(canvas, -1, line / line.sum(), borderType=cv2.BORDER_REFLECT_101)


def _grain(seed, shape):
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def _compressed(canvas, quality):
    pixels = np.clip(canvas, 0, 255).astype(np.uint8)[..., ::-1]
    _, code = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return cv2.imdecode(code, cv2.IMREAD_COLOR)[..., ::-1].astype(np.float32)
