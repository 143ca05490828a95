"""Measure many fixed routes on the same frames of the same videos: damage to the features, and IoU of tracked masks.

Inference only, for any backbone, and for any clip tracker on top of it. A video is decoded once, its tokens are
embedded once (once more mirrored), and every route runs on these tokens.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from math import comb
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from rds_lib.core.artifacts import read_npz, write_npz
from rds_lib.core.errors import RDSInputError
from rds_lib.evaluation.headroom_clips import Clip
from rds_lib.methods.static import random_plan
from rds_lib.model.backbone import Backbone
from rds_lib.model.clip_tracking import ClipTracker
from rds_lib.model.losses import mask_iou, squared_damage
from rds_lib.work.parallel import map_items

CHUNK = 8  # frames that run under one route at a time


@dataclass(frozen=True)
class Measured:
    """What R routes did on N frames of V videos, in C copies: as it is, and mirrored where C is 2."""

    videos: np.ndarray  # (V,) names
    frames: np.ndarray  # (V, N) int, counted from the video's first frame
    routes: np.ndarray  # (R, L) bool
    damage: np.ndarray  # (R, V, N, C) relative distance of the features from the full encoder's
    iou: np.ndarray  # (R, V, N, C) mean over objects, 0 to 1; (0, V, N, C) without a tracker
    full_iou: np.ndarray  # (V, N, C) of the full encoder; NaN without a tracker
    seen: np.ndarray  # (V, N, C, F) what a router could see before the blocks run; see `pooled_tokens`

    def write(self, path: Path) -> None:
        """Write all of it as one ``npz``."""
        write_npz(path, **asdict(self))

    @classmethod
    def read(cls, path: Path) -> "Measured":
        """What `write` wrote."""
        arrays = read_npz(path)
        return cls(**{item.name: arrays[item.name] for item in fields(cls)})


def random_plans(number: int, n_active: int, backbone: Backbone, *, seed: int) -> np.ndarray:
    """Different random routes of ``n_active`` blocks, K among them, (R, L) bool.

    Raises
    ------
    RDSInputError
        If fewer than two are asked for, or there are not so many.
    """
    depth, always_on = backbone.depth, backbone.always_on
    if number < 2:
        raise RDSInputError(f"routes = {number}: at least 2 are needed, since it is their difference that is measured")
    rng, plans = np.random.default_rng(seed), {}
    plans[tuple(random_plan(n_active, depth, always_on, rng))] = None  # refuses an impossible n_active
    possible = comb(depth - len(always_on), n_active - len(always_on))
    if possible < number:
        raise RDSInputError(
            f"routes = {number}: there are only {possible} routes of {n_active} blocks with {always_on} always on; "
            "choose fewer routes or another number of blocks"
        )
    while len(plans) < number:
        plans[tuple(random_plan(n_active, depth, always_on, rng))] = None
    return np.array(list(plans))


def measure(
    model: ClipTracker | Backbone,
    clips: Sequence[Callable[[], Clip]],
    routes: np.ndarray,
    *,
    mirror: bool = True,
    workers: int = 1,
    label: str = "headroom",
) -> Measured:
    """Run all routes on all clips.

    Parameters
    ----------
    model : ClipTracker or Backbone
        A tracker gives damage and IoU; a backbone alone gives damage.
    clips : sequence of callables
        Each loads one clip, in the process that measures it. All have the same number of measured frames.
    routes : ndarray, shape (R, L), bool
    mirror : bool
        Measure a mirrored copy too, which tells noise from what a router could follow. Doubles the time.
    workers : int
        Processes; see ``parallel.map_items``.
    """

    def of_clip(load):
        clip = load()
        copies = [_measure_copy(model, each, routes) for each in (clip, clip.mirrored())[: 1 + mirror]]
        return clip.name, clip.measured, *(np.stack(parts, -1) for parts in zip(*copies))

    found = map_items(of_clip, clips, workers=workers, label=label)
    names, frames, damage, iou, seen = zip(*found)
    iou = np.stack(iou, 1)  # (1 + R or 0, V, N, C)
    return Measured(
        videos=np.array(names),
        frames=np.array(frames),
        routes=np.asarray(routes, bool),
        damage=np.stack(damage, 1),
        iou=iou[1:],
        full_iou=iou[0] if len(iou) else np.full(iou.shape[1:], np.nan),
        seen=np.moveaxis(np.stack(seen), -1, 2),
    )


class _Copy:
    """A clip on the model's device with its tokens embedded, to be run under one route after another."""

    def __init__(self, model, clip):
        self.clip, self.backbone, self.track = clip, getattr(model, "backbone", model), getattr(model, "track", None)
        device = next(self.backbone.blocks.parameters()).device
        self.targets = clip.targets.to(device)
        frames = range(1, len(clip.images)) if self.track else clip.measured
        self.tokens = [self.backbone.embed(part.to(device)) for part in clip.images[list(frames)].split(CHUNK)]
        self.place = {t: divmod(n, CHUNK) for n, t in enumerate(frames)}
        self.first = self.backbone.run(self.backbone.embed(clip.images[:1].to(device))) if self.track else None

    def run(self, route) -> tuple[dict, list[float]]:
        """Features of the measured frames, and their IoU (empty without a tracker); None runs all blocks."""
        chunks, kept = {}, {}

        def encode(t, previous=None):
            if t == 0:
                return _rows(self.first, 0, len(self.targets))
            chunk, row = self.place[t]
            if chunk not in chunks:
                chunks.clear()
                chunks[chunk] = self.backbone.run(self.tokens[chunk], route)
            if t in self.clip.measured:
                kept[t] = _rows(chunks[chunk], row, 1)
            return _rows(chunks[chunk], row, len(self.targets))

        if self.track is None:
            for t in self.clip.measured:
                encode(t)
            return kept, []
        outputs = self.track(self.targets, encode)
        found = (mask_iou(outputs[t].mask_logits[:, 0], self.targets[:, t]) for t in self.clip.measured)
        return kept, [of_objects.mean().item() for of_objects in found]

    def seen(self) -> np.ndarray:
        """`pooled_tokens` of the measured frames, (N, F), with the last annotated mask before each."""
        rows = []
        for t in self.clip.measured:
            chunk, row = self.place[t]
            last = max(known for known in self.clip.annotated if known < t)
            rows.append(pooled_tokens(self.tokens[chunk][row], self.targets[:, last].amax(0)))
        return np.stack(rows)


@torch.inference_mode()
def _measure_copy(model, clip, routes):
    """Damage (R, N); IoU of the full encoder, then of every route (1 + R, N), (0, N) without a tracker; seen (N, F)."""
    copy, damage = _Copy(model, clip), []
    whole, iou = copy.run(None)
    ious = [iou] if iou else []
    for route in routes.tolist():
        features, iou = copy.run(route)
        damage.append([squared_damage(features[t], whole[t]).sqrt().item() for t in clip.measured])
        ious += [iou] if iou else []
    return np.array(damage), np.array(ious).reshape(-1, len(clip.measured)), copy.seen()


def _rows(features, row: int, times: int):
    """One image's features from those of a batch, repeated for that many objects."""
    return tree_map(lambda x: x[row : row + 1].expand(times, *x.shape[1:]), features)


def pooled_tokens(tokens: Tensor, mask: Tensor) -> np.ndarray:
    """What a plain router could go by: the tokens' mean, deviation and mean inside the last mask, its area and place.

    Parameters
    ----------
    tokens : Tensor, shape (h, w, C)
        Of one frame, as they enter block 0.
    mask : Tensor, shape (S, S), float 0/1
        Union of the objects on the frame before.

    Returns
    -------
    ndarray, shape (3 C + 4,)
        The last four: share of the frame inside the mask, its root, and the middle's y and x from 0 to 1 (0 without a
        mask).
    """
    share = torch.nn.functional.interpolate(mask[None, None], size=tokens.shape[:2], mode="area")[0, 0]  # (h, w)
    inside = share.sum().clamp(min=1e-3)
    h, w = tokens.shape[:2]
    y, x = (torch.linspace(0, 1, side, device=tokens.device) for side in (h, w))
    place = torch.stack([share.mean(), share.mean().sqrt(), (share.sum(1) @ y) / inside, (share.sum(0) @ x) / inside])
    pooled = [tokens.mean((0, 1)), tokens.std((0, 1)), (tokens * share[..., None]).sum((0, 1)) / inside, place]
    return torch.cat(pooled).float().cpu().numpy()
