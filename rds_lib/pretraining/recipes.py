"""The numbers that a training clip follows from: where everything is on each frame, and in what light.

Drawing them costs a fraction of a millisecond and needs no pixels; `maker` turns a batch of them into frames and masks
on the device. Three planes are involved. On the frame, x and y run from -1 to 1. In the world, y does and x runs as
far as the frame was wide before it was squeezed to a square. On a background or an object, both run from -1 to 1.
Every map is affine, (2, 3), and leads from the frame to what is sampled.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from rds_lib.pretraining.stories import cast, lens, swells

NOISE = 2**20  # numbers in the noise that frames take pieces of
SLOTS = 10  # objects a clip, at most, whether they are asked for or not
WIDEST = 1.8  # width over height before the frame is squeezed
ON_FRAMES = ("zoom", "night", "blur", "noise", "compression")  # what changes in a real clip too
IN_WORLD = ("crowding", "cut", "pan", "occlusion", "disappearance", "scale", "fast", "bending", "colour", "late_entry")
REAL_SHARE_SEEN = 0.004  # of the cropped frame, by the object that is asked for


class Look(NamedTuple):
    """Light and quality of T frames; in a batch, all with an axis B before them."""

    gain: Tensor  # (T, 3)
    lift: Tensor  # (T,), added
    blur: Tensor  # (T,) in [0, 3], see `effects.blurred`
    squash: Tensor  # (T,) in [0, 1], see `effects.compressed`
    noise: Tensor  # (T,) standard deviation
    noise_at: Tensor  # (T,) int, where in the noise


class Made(NamedTuple):
    """A clip of objects over a background; slots are drawn from the first to the last, so the last is in front."""

    ground: Tensor  # (2,) int, the background and the one to the right of it
    ground_map: Tensor  # (T, 2, 3); the two backgrounds share x from -1 to 0 and from 0 to 1
    sprite: Tensor  # (SLOTS,) int
    sprite_map: Tensor  # (SLOTS, T, 2, 3)
    wave: Tensor  # (SLOTS, 3), how far a sprite bends, and its waves a unit in x and in y
    phase: Tensor  # (SLOTS, T, 2) radians
    tint: Tensor  # (SLOTS, T, 3) gain
    present: Tensor  # (SLOTS, T) 0 or 1
    number: Tensor  # (SLOTS,) int, id of an object that may be asked for, 0 for others; 1 is in sight on frame 0
    look: Look


class Real(NamedTuple):
    """A window of a real video."""

    frame: Tensor  # (T,) int, in the footage
    frame_map: Tensor  # (T, 2, 3)
    wanted: Tensor  # (SLOTS,) int, ids that are in sight on frame 0, the one that it is cropped around first; then 0
    look: Look


def stack(recipes: list):
    """One recipe with an axis B of a list of one kind; None of an empty list."""
    if not recipes:
        return None
    if isinstance(recipes[0], Tensor):
        return torch.stack(recipes)
    return type(recipes[0])(*(stack(list(parts)) for parts in zip(*recipes, strict=True)))


def draw_made(rng: np.random.Generator, frames: int, stock) -> Made:
    """Draw a clip of ``frames`` frames from a `Stock`."""
    reach = np.array([rng.uniform(1, WIDEST), 1.0])  # half sides of the frame in the world
    events = swells(rng, frames, ON_FRAMES + IN_WORLD)
    scene = cast(rng, frames, reach, events, stock)
    target = next(thing for thing in scene.things if thing.number == 1)
    turn, shift, about = lens(rng, frames, reach, events, target.centre)
    to_frame = np.diag([rng.choice([-1.0, 1.0]) / reach[0], 1.0])
    view = to_frame @ turn  # (T, 2, 2): world to frame, around `about`
    middle = (about + shift) @ to_frame.T  # (T, 2): where `about` comes to lie on the frame
    arrays = [thing.arrays(view, middle, about) for thing in scene.things]
    arrays += [_nothing(frames)] * (SLOTS - len(arrays))
    back = np.linalg.inv(view)
    ground = np.concatenate(
        [back, (about - np.einsum("tij,tj->ti", back, middle) - scene.ground_at)[..., None]], -1
    ) / scene.ground_half.reshape(2, 1)
    ground[:, 0] /= 2
    ground[:, 0, 2] -= 0.5
    return Made(
        torch.tensor(scene.grounds), _float(ground), *(torch.stack(each) for each in zip(*arrays, strict=True)),
        _look(rng, frames, events),
    )  # fmt: skip


def draw_real(rng: np.random.Generator, frames: int, footage) -> Real:
    """Draw a window of ``frames`` frames, one to three apart, of a `Footage` whose videos are all long enough."""
    while True:
        start, length = footage.spans[int(rng.integers(len(footage.spans)))]
        apart = int(rng.integers(1, min(3, (length - 1) // max(frames - 1, 1)) + 1))
        times = start + int(rng.integers(length - apart * (frames - 1))) + apart * np.arange(frames)
        times = times[::-1].copy() if rng.random() < 0.5 else times
        labels = footage.labels[times[0]]
        ids = 1 + np.flatnonzero(np.bincount(labels.ravel(), minlength=256)[1:255])
        if not len(ids):
            continue
        wanted = rng.permutation(ids)[:SLOTS]
        half, middle = _window(rng, labels == wanted[0])
        if _share(labels == wanted[0], half, middle) >= REAL_SHARE_SEEN:
            break
    events = swells(rng, frames, ON_FRAMES)
    turn, shift, _ = lens(rng, frames, np.ones(2), events, np.zeros((frames, 2)))
    halves = (half / np.sqrt(np.linalg.det(turn))[:, None]).clip(max=1)  # (T, 2)
    middles = (middle - shift * halves).clip(halves - 1, 1 - halves)  # inside the frame, and not turned
    sides = halves[:, None] * np.diag([rng.choice([-1.0, 1.0]), 1.0])
    frame_map = np.concatenate([sides, middles[..., None]], -1)
    wanted = np.concatenate([wanted, np.zeros(SLOTS - len(wanted), wanted.dtype)])
    return Real(torch.tensor(times), _float(frame_map), torch.tensor(wanted), _look(rng, frames, events))


def _window(rng, mask):
    """Half sides and middle, in frame coordinates, of a rectangle of half to all of each side around an object."""
    half, middle = np.empty(2), np.empty(2)
    for axis, n in ((0, mask.shape[1]), (1, mask.shape[0])):
        centre = 2 * (np.flatnonzero(mask.any(axis)).mean() + 0.5) / n - 1
        half[axis] = rng.uniform(0.5, 1.0)
        middle[axis] = np.clip(centre + rng.uniform(-0.8, 0.8) * half[axis], half[axis] - 1, 1 - half[axis])
    return half, middle


def _share(mask, half, middle):
    """The share of a window that a mask (H, W) fills."""
    (left, right), (top, bottom) = (
        (((np.array([-1, 1]) * half[axis] + middle[axis] + 1) / 2) * mask.shape[1 - axis]).astype(int)
        for axis in (0, 1)
    )
    return mask[top : bottom + 1, left : right + 1].mean()


def _look(rng, frames, events):
    u, none = np.linspace(0, 1, frames), np.zeros(frames)
    gain = np.exp(rng.normal(0, 0.2, 3) + rng.normal(0, 0.2)) * np.exp(u * rng.normal(0, 0.2))[:, None]
    gain = gain * (1 - events.get("night", none)[:, None] * (0.92, 0.9, 0.78))
    blur = rng.uniform(0, 1) * (rng.random() < 0.3) + 3 * events.get("blur", none)
    squash = np.maximum(rng.uniform(0, 0.4) * (rng.random() < 0.3), events.get("compression", none))
    noise = rng.uniform(0, 0.02) + 0.22 * events.get("noise", none)
    lift, at = np.full(frames, rng.normal(0, 0.05)), torch.from_numpy(rng.integers(NOISE, size=frames))
    return Look(*map(_float, (gain, lift, blur.clip(0, 3), squash, noise)), at)


def _nothing(frames):
    """A slot that stays empty."""
    zero, none = torch.tensor(0), torch.zeros(frames)
    return zero, torch.zeros(frames, 2, 3), torch.zeros(3), torch.zeros(frames, 2), torch.ones(frames, 3), none, zero


def _float(array):
    return torch.from_numpy(np.ascontiguousarray(array, np.float32))
