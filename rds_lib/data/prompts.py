"""Checks of what people pass to the video predictor. Calls that SAM2 defines pass unchanged."""

import warnings
from numbers import Integral

import numpy as np
import torch

from rds_lib.core.errors import RDSInputError
from rds_lib.data.labels import as_mask

LABELS = {-1: "padding", 0: "background", 1: "foreground", 2: "box top left", 3: "box bottom right"}


def check_frame_index(inference_state, frame_idx, name="frame_idx"):
    """Raise unless ``frame_idx`` is a whole number from 0 to the last frame."""
    last = inference_state["num_frames"] - 1
    if isinstance(frame_idx, bool) or not isinstance(frame_idx, Integral) or not 0 <= frame_idx <= last:
        raise RDSInputError(f"{name} is {frame_idx!r}; give a whole number from 0 to {last}, this video's last frame")


def check_mask(inference_state, mask, image_size: int):
    """Raise unless ``mask`` is a mask by its values and of the video's or the model's input size; warn if it is empty.

    SAM2 takes what is not 0 in an array for the object, so logits would be all object, and thresholds float tensors.
    """
    is_tensor = isinstance(mask, torch.Tensor)
    values = mask.detach().cpu().float().numpy() if is_tensor else np.asarray(mask)
    size = inference_state["video_height"], inference_state["video_width"]
    if values.ndim != 2 or values.shape not in (size, (image_size, image_size)):
        raise RDSInputError(f"mask has shape {values.shape}; give one object's mask (H, W) = {size}, the video's size")
    is_soft = is_tensor and mask.is_floating_point() and bool(np.isfinite(values).all())
    if not (values.any() if is_soft else as_mask(values).any()):
        warnings.warn("the mask is empty: the object is tracked as absent from the start", stacklevel=4)


def check_prompt(inference_state, points, labels, box, normalize_coords: bool):
    """Raise unless a prompt has points with a label each, or a box, or both, each as the checks below want them."""
    if points is None and labels is None and box is None:
        raise RDSInputError("a prompt without points and box; give points (N, 2) with their labels, or box")
    if (points is None) != (labels is None):
        given, lacking = ("labels", "points") if points is None else ("points", "labels")
        raise RDSInputError(f"{given} without {lacking}; give points (N, 2) and one label for each: 1 on the object")
    if points is not None:
        check_points(inference_state, points, labels, normalize_coords)
    if box is not None:
        check_box(inference_state, box, normalize_coords)


def check_points(inference_state, points, labels, normalize_coords: bool):
    """Raise unless ``points`` (N, 2) as x, y lie in the image and ``labels`` (N,) are known."""
    coords = _as_array(points, "points")
    marks = _as_array(labels, "labels").reshape(-1)
    if coords.ndim not in (2, 3) or coords.shape[-1] != 2 or (coords.ndim == 3 and len(coords) != 1):
        raise RDSInputError(f"points have shape {coords.shape}; give (N, 2) as x, y")
    coords = coords.reshape(-1, 2)
    if len(coords) != len(marks):
        raise RDSInputError(f"{len(coords)} points but {len(marks)} labels; give one label per point")
    unknown = [mark for mark in marks.tolist() if mark not in LABELS]
    if unknown:
        known = ", ".join(f"{label} ({meaning})" for label, meaning in LABELS.items())
        raise RDSInputError(f"label {unknown[0]!r} is unknown; use {known}")
    if not np.isfinite(coords).all():
        raise RDSInputError("points hold NaN or infinite coordinates")
    limit = _limits(inference_state, normalize_coords)
    outside = ((coords < 0) | (coords > limit)).any(1) & (marks != -1)
    if outside.any():
        x, y = coords[outside][0].tolist()
        raise RDSInputError(f"point ({x}, {y}) is outside the image: x from 0 to {limit[0]}, y from 0 to {limit[1]}")


def check_box(inference_state, box, normalize_coords: bool):
    """Raise unless ``box`` is x0, y0, x1, y1 with x0 < x1 and y0 < y1 and meets the image; it may reach beyond."""
    corners = _as_array(box, "box").reshape(-1)
    if corners.shape != (4,) or not np.isfinite(corners).all():
        raise RDSInputError(f"box is {corners.tolist()}; give four finite numbers x0, y0, x1, y1")
    x0, y0, x1, y1 = corners.tolist()
    if x0 >= x1 or y0 >= y1:
        raise RDSInputError(f"box is {corners.tolist()}; x0 < x1 and y0 < y1 must hold (top left, then bottom right)")
    width, height = _limits(inference_state, normalize_coords)
    if x1 <= 0 or y1 <= 0 or x0 >= width or y0 >= height:
        raise RDSInputError(f"box {corners.tolist()} is outside the image: x from 0 to {width}, y from 0 to {height}")


def _limits(inference_state, normalize_coords):
    return (inference_state["video_width"], inference_state["video_height"]) if normalize_coords else (1, 1)


def _as_array(values, name):
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu()
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as cause:
        raise RDSInputError(f"{name} cannot be read as numbers: {values!r}") from cause
