"""Generated video-object-segmentation clips with exact masks, each made to be hard in one named way.

Bit-stable for a given seed, given versions of numpy, OpenCV and scikit-image and one kind of CPU: every draw comes from
the seed, and no drawing depends on the clock, the thread count or the order in which clips are made. On a CPU with
other vector instructions OpenCV may round a colour by one grey level; masks stay the same.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from rds_lib.core.errors import RDSInputError
from rds_lib.data import textures
from rds_lib.data.drawn import DIFFICULTIES
from rds_lib.data.scene import PATCH, Scene, Sprite, paint_object
from rds_lib.data.shapes import UNSEEN

CATEGORIES = ("blob", "spider", "cutout", *UNSEEN)
TIMING_INDEX = 9001  # of the first timed clip of the validation split; no data set uses it or those after it
SPLIT_CODES = {"train": 0, "calibration": 1, "val": 2}
IN_PLACE = 0.5  # share of the clips with BSDS500 in which the first object moves in the photograph that it was cut from


@dataclass(frozen=True)
class Clip:
    """One clip: ``frames`` (T, H, W, 3) uint8 RGB, ``masks`` (T, H, W) uint8 ids of visible pixels, 0 = background."""

    name: str
    frames: np.ndarray
    masks: np.ndarray
    difficulty: str
    categories: tuple[str, ...]
    pictures: tuple[str, ...] = ()  # names of the pictures that it was drawn from
    conditions: tuple[tuple[str, float], ...] = ()  # (condition, strength) of every frame, where they change


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
    pool: Sequence[textures.Picture] | None = None,
    shapes: Iterable[str] = (),
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
        A folder of BSDS500; half of the objects and of the backgrounds then come from it.
    length : int, optional
        Make a clip this long and return a window of ``frames`` frames from anywhere in it: what happens takes as
        long as in the long clip, and only the window is drawn.
    pool, shapes
        As for `Scene`; by default the scikit-image wheel's photographs of the split, and no unseen category.
    """
    check_size(split, frames, height, width)
    difficulty = difficulty or DIFFICULTIES[index % len(DIFFICULTIES)]
    if difficulty not in DIFFICULTIES:
        raise RDSInputError(f"difficulty {difficulty!r} is unknown; choose one of {DIFFICULTIES}")
    rng = np.random.default_rng([seed, SPLIT_CODES[split], index])
    pool, whole = pool or textures.pictures(split), max(frames, length or 0)
    scene = Scene(rng, split, whole, height, width, pool=pool, bsds_root=bsds_root, shapes=shapes)
    n_objects = n_objects or int(rng.integers(2, 4) if difficulty == "late_entry" else rng.integers(1, 4))
    sprites = [scene.sprite(obj_id, difficulty) for obj_id in range(1, n_objects + 1)]
    if scene.regions and rng.random() < IN_PLACE:
        scene.cut_out_in_place(sprites[0])
    sprites = _add_company(scene, sprites, difficulty)
    start = int(rng.integers(scene.frames - frames + 1)) if length else 0
    images, masks = scene.render(sprites, range(start, start + frames))
    name = f"{split}-{index:04d}-{difficulty}"
    return Clip(name, images, masks, difficulty, categories_of(sprites), tuple(scene.used))


def check_size(split: str, frames: int, height: int, width: int) -> None:
    """Raise an ``RDSInputError`` for a split or a size of which no clip can be drawn."""
    if split not in SPLIT_CODES:
        raise RDSInputError(f"split {split!r} is unknown; choose one of {sorted(SPLIT_CODES)}")
    if frames < 1 or min(height, width) < 32:
        raise RDSInputError(f"a clip of {frames} frames at {height}x{width} px is too small; at least 1 frame of 32x32")


def categories_of(sprites: Iterable[Sprite]) -> tuple[str, ...]:
    """The categories of the objects among sprites, in the order of their ids."""
    return tuple(s.category for s in sorted(sprites, key=lambda s: s.obj_id) if s.obj_id)


def _add_company(scene, sprites, difficulty):
    """Add what makes the clip hard besides the objects themselves: an occluder or look-alikes."""
    rng, first = scene.rng, sprites[0]
    if difficulty == "occlusion":
        bar = scene.sprite(0, "plain")
        bar.paint = paint_object(textures.blob_mask(rng, PATCH), scene.texture(PATCH, PATCH))
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


def write_timing_clip(
    folder: Path, section, *, frames: int, difficulty: str = "plain", n_objects: int = 1
) -> dict[int, np.ndarray]:
    """Write the frames of a clip that speed is measured on, and return its objects' masks (H, W) on the first, by id.

    ``section`` is a profile's ``clips``.
    """
    index = TIMING_INDEX + DIFFICULTIES.index(difficulty)
    look = {"height": section.height, "width": section.width, "difficulty": difficulty, "n_objects": n_objects}
    clip = generate_clip(section.seed, index, split="val", frames=frames, **look)
    folder.mkdir(parents=True, exist_ok=True)
    for t, frame in enumerate(clip.frames):
        Image.fromarray(frame).save(folder / f"{t:05d}.jpg", quality=95)
    return {obj_id: clip.masks[0] == obj_id for obj_id in range(1, n_objects + 1)}


def write_timing_clips(
    folder: Path, section, *, difficulties: Iterable[str], frames: int
) -> dict[str, tuple[Path, dict[int, np.ndarray]]]:
    """Write a clip of one object per difficulty; its folder and its prompts, by difficulty."""
    places = {difficulty: folder / difficulty for difficulty in difficulties}
    return {
        name: (place, write_timing_clip(place, section, frames=frames, difficulty=name))
        for name, place in places.items()
    }
