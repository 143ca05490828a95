"""How much each block matters to the masks (global) and to the features (local), and the ranking (section B.2)."""

from collections.abc import Sequence
from functools import partial

import numpy as np
import pandas as pd
import torch

from rds_lib.core.errors import RDSInputError
from rds_lib.metrics.masks import contour_accuracy, region_similarity
from rds_lib.model.clip_tracking import ClipTracker
from rds_lib.work.parallel import cpu_workers, map_items


def rank_blocks(global_score, local_score, always_on: Sequence[int], k_sel: int) -> list[int]:
    """Choose the blocks that I-LoRA adapts: K and the best ``k_sel - |K|`` of the others.

    Section B.2: with descending ranks r_G and r_L over the blocks outside K, the highest s(i) = -(r_G(i) + r_L(i)) win.
    Paper does not say how ties break; we take the better global rank, then the lower block.

    Parameters
    ----------
    global_score, local_score : array-like, shape (L,)
        Importance per block, larger is more important; values on K are ignored.
    always_on : sequence of int
        K, blocks that are never skipped.
    k_sel : int
        Number of blocks to select, |K| to L.

    Returns
    -------
    list of int, sorted
    """
    global_score, local_score = np.asarray(global_score, float), np.asarray(local_score, float)
    depth, always_on = len(global_score), sorted(set(always_on))
    if local_score.shape != global_score.shape or global_score.ndim != 1:
        shapes = f"{global_score.shape} and {local_score.shape}"
        raise RDSInputError(f"scores of shapes {shapes}; give one number per block in both")
    if not len(always_on) <= k_sel <= depth:
        raise RDSInputError(f"k_sel = {k_sel}; allowed: {len(always_on)} (always-on blocks) to {depth} (all blocks)")
    free = [i for i in range(depth) if i not in always_on]
    if not (np.isfinite(global_score[free]).all() and np.isfinite(local_score[free]).all()):
        raise RDSInputError("importance scores hold NaN or infinity outside the always-on blocks; measure them again")
    rank_g, rank_l = _descending_ranks(global_score[free]), _descending_ranks(local_score[free])
    order = sorted(range(len(free)), key=lambda n: (rank_g[n] + rank_l[n], rank_g[n], free[n]))
    return sorted(always_on + [free[n] for n in order[: k_sel - len(always_on)]])


def _descending_ranks(scores):
    """Rank 1 for the largest; equal scores share the mean of their ranks."""
    return pd.Series(scores).rank(ascending=False, method="average").to_numpy()


@torch.inference_mode()
def measure_importance(tracker: ClipTracker, batches) -> pd.DataFrame:
    """Global and local importance of every block of a tracker's backbone, on clips with ground truth.

    Global: drop of J&F (points, at the model's input size) when the block alone is removed on every frame after the
    first. Local: how far the block moves the features, ||block(x) - x|| / ||x|| over all tokens. The paper's exact
    formulas are in its main text; these follow the description in sections B.1 and B.2.

    Parameters
    ----------
    tracker : ClipTracker
        ``clip_tracking.SAM2Clips(model)`` for SAM2.
    batches : iterable of (images (B, T, 3, S, S), targets (B, T, S, S))
        For instance ``SequenceBatches``.

    Returns
    -------
    DataFrame
        ``block``, ``global_score``, ``local_score``, ``always_on``; the full model's J&F in ``attrs["jf_full"]``. NaN
        where a block cannot be removed (global) or changes the shape of its input (local).
    """
    backbone = tracker.backbone
    depth, always_on, device = backbone.depth, backbone.always_on, next(backbone.blocks.parameters()).device
    batches = [(images.to(device), targets.to(device)) for images, targets in batches]
    local = np.mean([_local_scores(backbone, images) for images, _ in batches], axis=0)
    full = np.mean([_clip_jf(tracker, images, targets, None) for images, targets in batches])
    scores = np.full(depth, np.nan)
    free = [i for i in range(depth) if i not in always_on]

    def without(i):
        route = tuple(j != i for j in range(depth))
        return full - np.mean([_clip_jf(tracker, images, targets, route) for images, targets in batches])

    scores[free] = map_items(without, free, workers=cpu_workers(), label="block importance")
    table = pd.DataFrame({"block": range(depth), "global_score": scores, "local_score": local})
    table["always_on"] = table["block"].isin(always_on)
    table.attrs["jf_full"] = float(full)
    return table


@torch.inference_mode()
def _clip_jf(tracker, images, targets, route) -> float:
    """J&F in points over the frames after the first, all of them under one fixed route."""
    backbone, scores = tracker.backbone, []
    outputs = tracker.track(targets, lambda t, _: backbone.run(backbone.embed(images[:, t]), route if t else None))
    for t in range(1, len(outputs)):
        masks = (outputs[t].mask_logits[:, 0] > 0).cpu().numpy()
        truth = targets[:, t].cpu().numpy() > 0.5
        scores += [(region_similarity(m, g) + contour_accuracy(m, g)) / 2 for m, g in zip(masks, truth)]
    return 100 * float(np.mean(scores))


def _local_scores(backbone, images):
    """One number per block for images (B, T, 3, S, S); a frame of each clip at a time, so that long clips fit a GPU."""
    moved, size = np.zeros(backbone.depth), np.zeros(backbone.depth)  # squared

    def note(i, block, inputs, y):
        x = inputs[0]
        moved[i] += (y - x).norm().item() ** 2 if y.shape == x.shape else np.nan
        size[i] += x.norm().item() ** 2

    hooks = [block.register_forward_hook(partial(note, i)) for i, block in enumerate(backbone.blocks)]
    try:
        for t in range(images.shape[1]):
            backbone.run(backbone.embed(images[:, t]))
    finally:
        for hook in hooks:
            hook.remove()
    return np.sqrt(moved / size)
