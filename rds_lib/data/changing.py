"""Generated clips whose conditions change inside the clip: a clear stretch, a condition, a clear stretch, the next one.

At most one condition holds on a frame, and its name and strength are kept with the clip, so that what a router does
can be set against what it saw. All else is as in `data.clips`: the same looks and motion, exact masks, bit-stable.
"""

from collections.abc import Iterable, Sequence

import numpy as np

from rds_lib.core.errors import RDSInputError
from rds_lib.data import textures
from rds_lib.data.clips import SPLIT_CODES, Clip, categories_of, check_size
from rds_lib.data.film import EFFECTS, Film
from rds_lib.data.scene import Scene

CLEAR = "clear"
CONDITIONS = tuple(EFFECTS)
FRAMES = (40, 60)  # shortest and longest clip
EVENTS = 3  # conditions a clip, one after another
SHORTEST = 5  # frames that a condition and its clear stretches need at least
_STREAM = 77  # keeps the draws apart from those of `generate_clip`


def generate_changing_clip(
    seed: int,
    index: int,
    *,
    split: str,
    height: int,
    width: int,
    frames: int | None = None,
    conditions: Sequence[str] | None = None,
    n_objects: int | None = None,
    bsds_root: str = "",
    pool: Sequence[textures.Picture] | None = None,
    shapes: Iterable[str] = (),
) -> Clip:
    """Make changing clip number ``index`` of a split; ``Clip.conditions`` says what holds on each frame.

    Parameters
    ----------
    frames : int, optional
        40 to 60 by default, drawn from the seed; at least 5 a condition.
    conditions : sequence of str, optional
        Names in ``CONDITIONS``, in their order in time. By default three different ones, of which the first takes
        turns with ``index``.
    seed, index, split, height, width, n_objects, bsds_root, pool, shapes
        As for `generate_clip`.

    Raises
    ------
    RDSInputError
        If a condition, the split or the size is not one of those that can be drawn.
    """
    check_size(split, 1 if frames is None else frames, height, width)
    rng = np.random.default_rng([seed, SPLIT_CODES[split], _STREAM, index])
    frames = frames or int(rng.integers(FRAMES[0], FRAMES[1] + 1))
    names = _chosen(rng, index) if conditions is None else list(conditions)
    _check(names, frames)
    pool = pool or textures.pictures(split)
    scene = Scene(rng, split, frames, height, width, pool=pool, bsds_root=bsds_root, shapes=shapes, limit=3.0)
    film = Film(scene, n_objects or int(rng.integers(1, 4)))
    story = [(CLEAR, 0.0)] * frames
    for name, (start, stop) in zip(names, _timeline(rng, len(names), frames), strict=True):
        strength = EFFECTS[name](film, start, stop)
        story[start:stop] = [(name, round(float(value), 3)) for value in strength]
    images, masks = film.render()
    title = f"{split}-{index:04d}-changing"
    return Clip(title, images, masks, "changing", categories_of(film.sprites), tuple(scene.used), tuple(story))


def _chosen(rng, index):
    first = CONDITIONS[index % len(CONDITIONS)]
    others = [name for name in CONDITIONS if name != first]
    return [first, *rng.permutation(others)[: EVENTS - 1].tolist()]


def _check(names, frames):
    unknown = [name for name in names if name not in CONDITIONS]
    if unknown or not names:
        raise RDSInputError(f"conditions {names}: choose one or more of {', '.join(CONDITIONS)}")
    if frames < SHORTEST * len(names):
        raise RDSInputError(f"{frames} frames are too few for {len(names)} conditions; {SHORTEST} a condition at least")


def _timeline(rng, n, frames):
    """(start, stop) of each of n conditions: clear stretches before, between and after take 40 % of the frames."""
    parts = np.empty(2 * n + 1)
    parts[0::2] = 0.4 / (n + 1) * rng.uniform(0.7, 1.3, n + 1)
    parts[1::2] = 0.6 / n * rng.uniform(0.7, 1.3, n)
    ends = np.round(np.cumsum(parts / parts.sum()) * frames).astype(int)
    return [(max(1, int(ends[2 * i])), int(ends[2 * i + 1])) for i in range(n)]
