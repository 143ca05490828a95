"""Mask metrics equal to the official evaluations: region J, contour F, their means."""

import functools
import warnings
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from rds_lib.core.errors import RDSInputError
from rds_lib.data.labels import as_mask
from rds_lib.metrics.files import Clip, find_clips, read_pair

CONTOUR_TOLERANCE = 0.008  # of the image diagonal
UNSCORED = "has no scored frame"


def score_masks(gt_root, pred_root, protocol="davis2017", *, split="val", sequences=None) -> pd.DataFrame:
    """Score predicted masks, ``pred_root/<sequence>/<frame>.png``, per object; frames that do not count are not read.

    Parameters
    ----------
    gt_root : path
        Data set root as in `rds_lib.data.layouts`, one split's folder, or the folder of sequences. ytvos: ``meta.json``
        beside ``Annotations/`` as YouTube-VOS has it, ``{"videos": {name: {"objects": {"1": {"category": "cat",
        "frames": ["00000", ...]}}}}}``, and the seen categories as a list in ``seen_categories.json`` beside it, or
        ``"seen": bool`` in the objects. Without either all objects count as seen, and the summary says so.
    split : str
        Whose list of sequences to score, where there is one; ``sequences`` (names) goes before it.

    Returns
    -------
    DataFrame
        ``sequence, object, J, F, JF, frames``, recalls and decays (ytvos: ``seen``), in [0, 1]; NaN and a warning
        where no frame counts. ``.attrs["summary"]``: the headline numbers, see `summarise`.

    Raises
    ------
    RDSInputError
        For missing, unreadable, wrongly sized or wrongly coded masks.
    """
    clips, notes = find_clips(gt_root, pred_root, protocol, split=split, sequences=sequences)
    rows = [_object_row(clip, obj, track, protocol) for clip in clips for obj, track in _score_clip(clip).items()]
    table = pd.DataFrame(rows)
    warn_of_unscored(table, protocol)
    table.attrs["summary"] = {"protocol": protocol, **notes, **summarise(table, protocol)}
    return table


def warn_of_unscored(table, protocol) -> None:
    """Say once which objects of `score_masks`' table have no frame that counts."""
    unscored = table[table["frames"] == 0]
    if len(unscored):
        first = unscored.iloc[0]
        more = f" ({len(unscored)} of {len(table)} objects have none)" if len(unscored) > 1 else ""
        warnings.warn(
            f"object {first['object']} of sequence {first['sequence']!r} {UNSCORED} (protocol {protocol}){more}; NaN, "
            "and left out of every mean",
            stacklevel=3,
        )


def score_frames(gt_root, pred_root, protocol="davis2017", *, split="val", sequences=None) -> pd.DataFrame:
    """Score every object on every scored frame: ``sequence, object, frame, J, F``; arguments as `score_masks`."""
    clips, _ = find_clips(gt_root, pred_root, protocol, split=split, sequences=sequences)
    parts = [
        pd.DataFrame({"sequence": clip.sequence, "object": obj, "frame": frames, "J": scores[:, 0], "F": scores[:, 1]})
        for clip in clips
        for obj, (frames, scores) in _score_clip(clip).items()
    ]
    return pd.concat(parts, ignore_index=True)


def summarise(table, protocol) -> dict:
    """Headline numbers of a protocol from `score_masks`' table; each is a mean over objects.

    davis2017: ``JF, J, F`` and their ``recall`` and ``decay``. sav: ``JF, J, F`` (say whether val or test). ytvos:
    ``G`` = mean of ``J_seen, F_seen, J_unseen, F_unseen``; a group without objects is NaN and left out of G. The
    real YouTube-VOS 2019 val can only be scored by its server: these are a local proxy, never "YTVOS19 val".
    ``objects`` counts those with a score.
    """
    counts = {"objects": int(table["J"].notna().sum()), "sequences": table["sequence"].nunique()}
    if protocol == "ytvos":
        groups = {"seen": table[table["seen"]], "unseen": table[~table["seen"]]}
        means = {f"{m}_{name}": _mean(group[m]) for name, group in groups.items() for m in ("J", "F")}
        return {"G": _mean(list(means.values())), **means, **counts}
    names = ["J", "F"]
    if protocol == "davis2017":
        names += ["J_recall", "J_decay", "F_recall", "F_decay"]
    means = {name: _mean(table[name]) for name in names}
    return {"JF": (means["J"] + means["F"]) / 2, **means, **counts}


def region_similarity(pred, gt) -> float:
    """Region similarity J = |pred & gt| / |pred | gt| of two (H, W) bool masks; 1 if both are empty (DAVIS)."""
    pred, gt = _as_masks(pred, gt)
    inter = cv2.countNonZero(cv2.bitwise_and(pred, gt))
    union = cv2.countNonZero(pred) + cv2.countNonZero(gt) - inter
    return inter / union if union else 1.0


def contour_accuracy(pred, gt, radius=None) -> float:
    """Contour accuracy F of two masks: boundary precision and recall within a disk, as davis2017-evaluation.

    Parameters
    ----------
    pred, gt : array, shape (H, W), bool or uint8
    radius : int, optional
        Tolerance in pixels; default ``ceil(0.008 * diagonal)``, 8 px at 480 x 854.

    Returns
    -------
    float
        2 P R / (P + R). 1 if both masks have no boundary (empty, or the full frame), 0 if only one has none.
    """
    pred, gt = _as_masks(pred, gt)
    radius = boundary_radius(gt.shape) if radius is None else radius
    if radius < 0 or radius != int(radius):
        raise RDSInputError(f"radius={radius!r} must be a whole number of pixels, at least 0")
    pred, gt = (_boundary(mask) for mask in _crop(pred, gt))
    n_pred, n_gt = cv2.countNonZero(pred), cv2.countNonZero(gt)
    if not n_pred or not n_gt:
        return float(n_pred == n_gt)
    disk = _disk(int(radius))
    precision = cv2.countNonZero(cv2.bitwise_and(pred, cv2.dilate(gt, disk))) / n_pred
    recall = cv2.countNonZero(cv2.bitwise_and(gt, cv2.dilate(pred, disk))) / n_gt
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def boundary_radius(shape) -> int:
    """Tolerance of F in pixels for an (H, W) image: 0.8 % of its diagonal, rounded up."""
    return int(np.ceil(CONTOUR_TOLERANCE * np.linalg.norm(shape)))


def _score_clip(clip: Clip) -> dict:
    """Per object: frame stems, and a float array (frames, 2) of J and F."""
    tracks = {obj: [] for obj in clip.objects}
    for name, objects in clip.frames.items():
        gt, pred = read_pair(clip, name)
        radius = boundary_radius(gt.shape)
        for obj in objects:
            label = 1 if clip.binary else obj
            masks = _crop(pred == label, gt == label)
            scores = region_similarity(*masks), contour_accuracy(*masks, radius)
            tracks[obj].append((Path(name).stem, scores, *(mask.any() for mask in masks)))
    if clip.binary:
        tracks = {obj: _from_first_sight(track) for obj, track in tracks.items()}
    return {
        obj: ([frame for frame, *_ in track], np.array([scores for _, scores, *_ in track]).reshape(-1, 2))
        for obj, track in tracks.items()
    }


def _from_first_sight(track):
    """SA-V's evaluator counts an object from its first sight in prediction or ground truth on.

    It crashes on an object that the ground truth never shows; here all frames of such an object count, 1 where the
    prediction is empty too and 0 elsewhere.
    """
    if not any(in_gt for *_, in_gt in track):
        return track
    return track[next(t for t, (*_, in_pred, in_gt) in enumerate(track) if in_pred or in_gt) :]


def _object_row(clip, obj, track, protocol):
    J, F = track[1].T
    row = {"sequence": clip.sequence, "object": obj, "J": _mean(J), "F": _mean(F)}
    row |= {"JF": (row["J"] + row["F"]) / 2, "frames": len(J)}
    for name, values in (("J", J), ("F", F)):
        row |= {f"{name}_recall": _mean(values > 0.5), f"{name}_decay": _decay(values)}
    return row | ({"seen": obj not in clip.unseen} if protocol == "ytvos" else {})


def _mean(values):
    values = np.asarray(values, dtype=float)
    values = values[~np.isnan(values)]
    return float(np.mean(values)) if values.size else float("nan")


def _decay(values):
    """Mean of the first quarter minus mean of the last, quarters overlapping by a frame.

    The official tool keeps the quarter indices in uint8, so its decay is wrong beyond 256 scored frames; int64 here.
    """
    if not len(values):
        return float("nan")
    ids = (np.round(np.linspace(1, len(values), 5) + 1e-10) - 1).astype(np.int64)
    return _mean(values[: ids[1] + 1]) - _mean(values[ids[3] : ids[4] + 1])


def _as_masks(pred, gt):
    """Both as 0/1 uint8 (H, W)."""
    pred, gt = np.asarray(pred), np.asarray(gt)
    if pred.ndim != 2 or pred.shape != gt.shape or not pred.size:
        raise RDSInputError(f"masks must be two (H, W) arrays of one size; got {pred.shape} and {gt.shape}")
    masks = (mask != 0 if mask.dtype.kind in "iu" else as_mask(mask) for mask in (pred, gt))
    return tuple(mask.view(np.uint8) for mask in masks)


def _crop(pred, gt):
    """Cut two masks to their joint bounding box and one pixel more, clipped to the image.

    Boundary pixels lie at most one pixel up or left of a mask, and the added row and column of background (or the
    image's own border) make the boundary at the cut equal to the one in the full image.
    """
    boxes = [cv2.boundingRect(mask.view(np.uint8)) for mask in (pred, gt)]
    boxes = [(x, y, x + w, y + h) for x, y, w, h in boxes if w]
    if not boxes:
        return pred[:1, :1], gt[:1, :1]
    left, top = (max(min(box[i] for box in boxes) - 1, 0) for i in (0, 1))
    right, bottom = (max(box[i] for box in boxes) + 1 for i in (2, 3))
    return pred[top:bottom, left:right], gt[top:bottom, left:right]


def _boundary(mask):
    """Pixels that differ from their right, lower or lower-right neighbour (seg2bmap), as 0/1 uint8."""
    out = np.zeros_like(mask)
    here, right, below = mask[:-1, :-1], mask[:-1, 1:], mask[1:, :-1]
    out[:-1, :-1] = (here ^ right) | (here ^ below) | (here ^ mask[1:, 1:])
    out[-1, :-1] = mask[-1, :-1] ^ mask[-1, 1:]
    out[:-1, -1] = mask[:-1, -1] ^ mask[1:, -1]
    return out


@functools.cache
def _disk(radius):
    y, x = np.ogrid[-radius : radius + 1, -radius : radius + 1]
    return (x * x + y * y <= radius * radius).astype(np.uint8)
