"""Box metrics for tracking, from masks: LaSOT's success and precision, GOT-10k's overlap and success rates.

Boxes are x, y, width, height in px, extents inclusive (width = last column - first column + 1). Every object of a video
is scored as a sequence of its own. The supplement prefers masks; these scores compare with box trackers.
Sources: visionml/pytracking (LaSOT, pytracking's conventions), got-10k/toolkit.
"""

import logging
from collections.abc import Sequence

import cv2
import numpy as np
import pandas as pd

from rds_lib.core.errors import RDSInputError

log = logging.getLogger(__name__)
OVERLAPS = np.arange(21) * 0.05  # LaSOT's thresholds; an overlap must lie *above* them
CENTRE_PX = 20.0  # LaSOT's precision
NORMALISED = np.arange(51) * 0.01  # thresholds of the centre error in target sizes
AT_02 = 20  # index of 0.2, pytracking's single number
LASOT, GOT10K = ("success", "precision", "norm_precision", "norm_precision_area"), ("AO", "SR_0.5", "SR_0.75")


def boxes_of_masks(masks: np.ndarray) -> np.ndarray:
    """Tight boxes around all pixels of masks (T, H, W) bool: (T, 4) float x, y, w, h; NaN where a mask is empty."""
    boxes = np.full((len(masks), 4), np.nan)
    for t, mask in enumerate(masks):
        if mask.any():
            boxes[t] = cv2.boundingRect(mask.astype(np.uint8))
    return boxes


def hold_last(boxes: np.ndarray, *, name: str = "") -> np.ndarray:
    """Fill rows of NaN with the last box before them, since box trackers cannot report absence; the log says how many.

    Raises
    ------
    RDSInputError
        If the first box is NaN.
    """
    lost = np.isnan(boxes).any(1)
    if not len(boxes) or lost[0]:
        raise RDSInputError(f"{name or 'boxes'}: the first frame has no box; give a track that starts with its prompt")
    if lost.any():
        log.info("%s: nothing was found on %d of %d frames, the last box is kept", name, lost.sum(), len(lost))
    source = np.maximum.accumulate(np.where(lost, 0, np.arange(len(boxes))))
    return boxes[source]


def box_iou(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """IoU of boxes (T, 4), row by row; NaN where one is NaN. Inclusive and continuous corners give the same."""
    left_top = np.maximum(first[:, :2], second[:, :2])
    right_bottom = np.minimum(first[:, :2] + first[:, 2:], second[:, :2] + second[:, 2:])
    shared = np.prod(np.clip(right_bottom - left_top, 0, None), axis=1)
    union = first[:, 2] * first[:, 3] + second[:, 2] * second[:, 3] - shared
    return shared / union


def lasot_scores(truth: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    """Scores of one sequence by LaSOT's protocol as pytracking computes it; mean them over sequences.

    The first frame counts, with the true box as its prediction. Frames without the object (NaN in ``truth``) count as
    failures. ``success``: mean share of frames with an overlap *above* 0, 0.05 ... 1; no overlap is above 1, so a
    perfect track gets 20/21. ``precision``: share of frames with the centres at most 20 px apart.
    ``norm_precision``: the same with the error in target widths and heights, at most 0.2 (pytracking);
    ``norm_precision_area``: its mean over 0, 0.01 ... 0.5 (the LaSOT paper).

    Parameters
    ----------
    truth, predicted : ndarray, shape (T, 4)
        x, y, w, h in px.
    """
    truth, predicted = _check(truth, predicted)
    present = ~np.isnan(truth).any(1)
    predicted[0] = truth[0]
    overlap = np.where(present, box_iou(truth, predicted), -1.0)
    apart = _centre(predicted) - _centre(truth)
    pixels = np.where(present, np.linalg.norm(apart, axis=1), np.inf)
    normalised = np.where(present, np.linalg.norm(apart / truth[:, 2:], axis=1), np.inf)
    shares = (normalised[:, None] <= NORMALISED).mean(0)
    return {
        "success": float((overlap[:, None] > OVERLAPS).mean()),
        "precision": float((pixels <= CENTRE_PX).mean()),
        "norm_precision": float(shares[AT_02]),
        "norm_precision_area": float(shares.mean()),
    }


def got10k_scores(tracks: Sequence[tuple[np.ndarray, np.ndarray]], size: tuple[int, int]) -> dict[str, float]:
    """GOT-10k's ``AO``, ``SR_0.5`` and ``SR_0.75`` over all frames of all sequences: long videos weigh more.

    First frames and frames without the object are left out, and boxes are clipped to the image. The benchmark's own
    server means over classes; this is the toolkit's number for its validation set.

    Parameters
    ----------
    tracks : sequence of (truth (T, 4), predicted (T, 4))
    size : (height, width) in px
    """
    overlaps = []
    for truth, predicted in tracks:
        truth, predicted = _check(truth, predicted)
        counted = ~np.isnan(truth).any(1)
        counted[0] = False
        overlaps.append(box_iou(_clip(truth[counted], size), _clip(predicted[counted], size)))
    overlap = np.nan_to_num(np.concatenate(overlaps))
    if not len(overlap):
        raise RDSInputError("no frame counts: GOT-10k leaves out first frames and frames without the object")
    return {
        "AO": float(overlap.mean()),
        "SR_0.5": float((overlap > 0.5).mean()),
        "SR_0.75": float((overlap > 0.75).mean()),
    }


def box_table(sequence, masks) -> pd.DataFrame:
    """Both protocols' scores of every object of a tracked sequence, from its prompt on, over its annotated frames.

    Parameters
    ----------
    sequence : datasets.Sequence
    masks : mapping
        ``masks[t][object]``, bool (H, W), as in `Tracked`.

    Returns
    -------
    DataFrame
        ``sequence``, ``object``, the scores of `lasot_scores` and `got10k_scores`, and ``frames``, how many GOT-10k
        counted: weighted with it, the mean over objects is the toolkit's mean over all frames.
    """
    truth = {t: sequence.masks(t) for t in sequence.annotated}
    rows = []
    for obj_id, start in sequence.prompt_frame.items():
        frames = [t for t in sequence.annotated if t >= start]
        nothing = np.zeros(sequence.size, bool)
        real = boxes_of_masks(np.stack([truth[t].get(obj_id, nothing) for t in frames]))
        found = boxes_of_masks(np.stack([masks[t].get(obj_id, nothing) for t in frames]))
        found[0] = real[0]
        found = hold_last(found, name=f"{sequence.name}, object {obj_id}")
        counted = int((~np.isnan(real).any(1))[1:].sum())
        overlaps = got10k_scores([(real, found)], sequence.size) if counted else dict.fromkeys(GOT10K, 0.0)
        rows.append(
            {"sequence": sequence.name, "object": obj_id, **lasot_scores(real, found), **overlaps, "frames": counted}
        )
    return pd.DataFrame(rows)


def summarise_boxes(table: pd.DataFrame) -> dict[str, float]:
    """One number per score for a whole data set: LaSOT's as means over objects, GOT-10k's as means over frames."""
    weights = table["frames"] if table["frames"].sum() else None
    return {name: float(table[name].mean()) for name in LASOT} | {
        name: float(np.average(table[name], weights=weights)) for name in GOT10K
    }


def _check(truth, predicted):
    truth, predicted = np.array(truth, float), np.array(predicted, float)
    if truth.shape != predicted.shape or truth.ndim != 2 or truth.shape[1] != 4 or not len(truth):
        raise RDSInputError(
            f"boxes of shapes {truth.shape} and {predicted.shape}; give x, y, w, h of the same frames, (T, 4)"
        )
    if np.isnan(truth[0]).any() or np.isnan(predicted).any():
        raise RDSInputError(
            "a track needs its object on the first frame and a predicted box on every frame; see hold_last"
        )
    return truth, predicted


def _centre(boxes):
    return boxes[:, :2] + boxes[:, 2:] / 2  # pytracking subtracts half a pixel, in both boxes


def _clip(boxes, size):
    height, width = size
    corners = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], 1).clip(0, [width, height, width, height])
    return np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], 1)
