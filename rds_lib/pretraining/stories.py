"""What happens in a made clip: who is in it, where they go, what the camera does. Numbers alone, in world units."""

from dataclasses import dataclass

import numpy as np
import torch

OBJECTS = 4  # to follow in a clip, at most
LATE = 4  # things that come in later, at most
IN_PLACE = 0.4  # share of the clips in which the first object moves over the photograph that it was cut from
OTHERS = 2  # strangers from the start, at most


@dataclass
class Thing:
    """An object over T frames, in world units."""

    sprite: int
    number: int  # its id, 0 for one that is not asked for
    centre: np.ndarray  # (T, 2)
    half: np.ndarray  # (T, 2), half sides
    angle: np.ndarray  # (T,) radians
    flip: float  # -1 mirrors it
    wave: np.ndarray  # (3,)
    phase: np.ndarray  # (T, 2)
    tint: np.ndarray  # (T, 3)
    present: np.ndarray  # (T,) 0 or 1

    def arrays(self, view: np.ndarray, middle: np.ndarray, about: np.ndarray) -> tuple:
        """Its part of a `Made` recipe, from sprite to number, as a camera sees it (see `draw_made`)."""
        cos, sin = np.cos(self.angle), np.sin(self.angle)
        turn = np.stack([np.stack([cos, -sin], -1), np.stack([sin, cos], -1)], -2)  # (T, 2, 2)
        back = np.linalg.inv(view @ (turn * (self.half * (self.flip, 1.0))[:, None]))
        at = np.einsum("tij,tj->ti", view, self.centre - about) + middle
        inverse = np.concatenate([back, -np.einsum("tij,tj->ti", back, at)[..., None]], -1)
        parts = (np.float32(each) for each in (inverse, self.wave, self.phase, self.tint, self.present))
        return torch.tensor(self.sprite), *map(torch.from_numpy, parts), torch.tensor(self.number)


@dataclass
class Cast:
    """The things of a clip from the back to the front, and its backgrounds."""

    things: list[Thing]
    grounds: tuple[int, int]
    ground_half: np.ndarray  # (2,) half sides of the first background
    ground_at: np.ndarray  # (T, 2) its middle


def swells(rng: np.random.Generator, frames: int, names) -> dict[str, np.ndarray]:
    """Up to three events by name, each with its strength (T,) in [0, 1], 0 on frame 0: it rises, holds and falls."""
    n = int(rng.choice(4, p=[0.2, 0.35, 0.3, 0.15]))
    return {str(name): _swell(rng, frames) for name in rng.permutation(names)[:n]}


def _swell(rng, frames):
    x = (np.linspace(0, 1, frames) - rng.uniform(0.05, 0.6)) / rng.uniform(0.3, 0.7)
    strength = (np.minimum(x, 1 - x) / 0.3).clip(0, 1) * rng.uniform(0.6, 1.0)
    strength[0] = 0
    return strength


def lens(rng, frames, reach, events, target):
    """The camera: zoom and turn (T, 2, 2), shift (T, 2), and the point (T, 2) around which it zooms and turns."""
    u = np.linspace(0, 1, frames)
    zoom = np.exp(u * rng.normal(0, 0.12))
    if "zoom" in events:
        zoom = zoom * np.exp(rng.choice([rng.uniform(0.3, 0.9), -rng.uniform(0.3, 0.7)]) * events["zoom"])
    angle = u * rng.normal(0, 0.05)
    turn = np.stack([np.stack([np.cos(angle), -np.sin(angle)], -1), np.stack([np.sin(angle), np.cos(angle)], -1)], -2)
    shake = np.cumsum(rng.normal(0, 0.006, (frames, 2)), 0)
    shift = (u[:, None] * rng.normal(0, 0.1, 2) + shake - shake[0]) * reach
    return turn * zoom[:, None, None], shift, target


def cast(rng: np.random.Generator, frames: int, reach: np.ndarray, events: dict, stock) -> Cast:
    """Choose backgrounds and things, and let the events happen to them.

    The first object has number 1; on frame 0 it is in front of all others, so that it can be seen.
    """
    grounds, half, at, target = _setting(rng, frames, reach, stock)
    target = target or _thing(rng, frames, reach, stock, number=1, events=events)
    twins = rng.random() < 0.3
    objects, others, late = [target], [], []
    for number in range(2, int(rng.integers(2 if "late_entry" in events else 1, OBJECTS + 1)) + 1):
        objects.append(_thing(rng, frames, reach, stock, number=number, events=events))
    for _ in range(int(rng.integers(OTHERS + 1))):
        others.append(_thing(rng, frames, reach, stock, twin=target if twins else None))
    _happen(rng, reach, events, objects)
    if "crowding" in events:
        late += [
            _visitor(rng, frames, reach, events["crowding"], target, stock) for _ in range(int(rng.integers(2, LATE)))
        ]
    if "occlusion" in events:
        late.append(_occluder(rng, frames, reach, events["occlusion"], target, stock))
    second = grounds
    if "pan" in events or "cut" in events:
        second = int(rng.integers(stock.whole))
    if "pan" in events:
        at = at - _right(half) * (np.cumsum(events["pan"]) / max(events["pan"].sum(), 1e-6))[:, None]
    if "cut" in events:
        away = events["cut"] > 0
        at = at - _right(half) * (away & (events.get("pan", np.zeros(frames)).cumsum() == 0))[:, None]
        _another_shot(rng, reach, away, objects + others)
    return Cast([*others, *reversed(objects), *late], (grounds, second), half, at)


def _right(half):
    """From the middle of the first background to that of the one on its right."""
    return np.array([2 * half[0], 0.0])


def _setting(rng, frames, reach, stock):
    """A background and, at times, the object that was taken out of it, which starts at its own place."""
    height = rng.uniform(1.1, 2.0)
    if len(stock.places) and rng.random() < IN_PLACE:
        ground, sprite, *place = stock.places[int(rng.integers(len(stock.places)))].tolist()
        half = _half(stock, int(ground), height, reach)
        place, size = np.array(place[:2]) * half, np.array(place[2:]) * half
        room = half - reach
        at = (rng.uniform(-0.5, 0.5, 2) * reach - place).clip(-room, room)
        if (np.abs(place + at) < 0.8 * reach).all() and 0.15 < size.min() and size.max() < 0.9:
            target = _thing(rng, frames, reach, stock, number=1, sprite=int(sprite))
            target.centre = target.centre - target.centre[0] + place + at
            target.half, target.angle = target.half / target.half[0] * size, target.angle - target.angle[0]
            target.flip, target.tint = 1.0, np.ones((frames, 3))
            return int(ground), half, np.tile(at, (frames, 1)), target
    ground = int(rng.integers(stock.whole))
    half = _half(stock, ground, height, reach)
    return ground, half, np.tile(rng.uniform(reach - half, half - reach), (frames, 1)), None


def _half(stock, ground, height, reach):
    """Half sides of a background, which is larger than the frame."""
    aspect = float(stock.aspects[ground])
    return np.array([aspect, 1.0]) * max(height, 1.05 * reach[0] / aspect)


def _thing(rng, frames, reach, stock, *, number=0, events=(), sprite=None, twin=None) -> Thing:
    """An object that moves, grows, turns and bends as most do."""
    u, side = np.linspace(0, 1, frames), np.exp(rng.normal(0, 0.1))
    size = rng.uniform(0.18, 0.55) * np.exp(u * rng.normal(0, 0.25))
    chosen = int(rng.integers(len(stock.sprites))) if sprite is None else sprite
    bends = rng.uniform(0, 0.05) + 0.12 * ("bending" in events)
    return Thing(
        sprite=twin.sprite if twin else chosen,
        number=number,
        centre=_path(rng, frames, reach, speed=3.0 if "fast" in events and number else 1.0),
        half=size[:, None] * (side, 1 / side),
        angle=rng.normal(0, 0.3) + u * rng.normal(0, 0.5),
        flip=float(rng.choice([-1, 1])),
        wave=np.array([bends, *rng.uniform(1.0, 3.0, 2)]),
        phase=rng.uniform(0, 2 * np.pi, 2) + np.arange(frames)[:, None] * rng.uniform(0.1, 0.6, 2),
        tint=np.tile(np.exp(rng.normal(0, 0.15, 3)), (frames, 1)),
        present=np.ones(frames),
    )


def _path(rng, frames, reach, speed):
    """A start, a velocity and a slow swing, folded back at the borders: (T, 2)."""
    u, distance = np.linspace(0, 1, frames)[:, None], min(0.05 * frames, 1.2) * speed
    swing = np.sin(2 * np.pi * (u * rng.uniform(0.3, 1.2) + rng.random()))
    moved = u * rng.normal(0, distance, 2) + (swing - swing[0]) * rng.normal(0, distance / 3, 2)
    limit = 0.9 * reach
    place = (rng.uniform(-0.75, 0.75, 2) * reach + moved + limit) % (4 * limit)
    return limit - np.abs(place - 2 * limit)


def _happen(rng, reach, events, objects):
    """The events that concern the objects themselves."""
    frames = len(objects[0].centre)
    u, side = np.linspace(0, 1, frames), rng.choice([-1, 1])
    first, last = objects[0], objects[-1]
    if "scale" in events:
        first.half = first.half * np.exp(events["scale"] * np.log(rng.choice([0.45, 2.0])))[:, None]
    if "colour" in events:
        first.tint = first.tint * np.exp(events["colour"][:, None] * rng.uniform(-0.8, 0.8, 3))
    if "disappearance" in events:
        gone = events["disappearance"] / max(events["disappearance"].max(), 1e-6)
        first.centre[:, 0] += gone * side * (reach[0] + 1)
    if "late_entry" in events:
        last.centre[:, 0] += (1 - 2.5 * u).clip(0, 1) * side * (reach[0] + 1)


def _visitor(rng, frames, reach, strength, target, stock):
    """A twin or a stranger that comes in from a side and leaves."""
    other = _thing(rng, frames, reach, stock, twin=target if rng.random() < 0.5 else None)
    other.centre[:, 0] += (1 - strength / max(strength.max(), 1e-6)) * rng.choice([-1, 1]) * (reach[0] + 1)
    other.half, other.present = other.half * 0.8, np.float64(strength > 0)
    return other


def _occluder(rng, frames, reach, strength, target, stock):
    """A thing that passes over the first object."""
    bar, shown = _thing(rng, frames, reach, stock), strength > 0
    size = np.tile(target.half.mean(0) * rng.uniform(1.1, 1.6), (frames, 1))
    way = np.cumsum(shown) / max(shown.sum(), 1) * 2 - 1
    turn = rng.uniform(0, 2 * np.pi)
    bar.centre = target.centre + way[:, None] * (np.cos(turn), np.sin(turn)) * 2.2 * size
    bar.half, bar.present = size, np.float64(shown)
    return bar


def _another_shot(rng, reach, away, things):
    """While the camera is ``away``, things are elsewhere and of another size; at times not there at first."""
    empty = away & (np.cumsum(away) <= away.sum() / 3) & (rng.random() < 0.4)
    for thing in things:
        if away.any():
            place = rng.uniform(-0.5, 0.5, 2) * reach
            thing.centre[away] += place - thing.centre[away][0]
            thing.half[away] *= rng.uniform(0.6, 1.5)
            thing.present[empty] = 0
