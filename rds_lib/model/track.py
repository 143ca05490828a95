"""Track the objects of a sequence with a video predictor: prompts in, a mask per object and frame out."""

import time
from dataclasses import dataclass

import cv2
import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from rds_lib.core.errors import RDSInputError
from rds_lib.data.datasets import Sequence


@dataclass(frozen=True)
class Tracked:
    """One tracked sequence: ``masks[t]`` maps object id to bool (H, W); ``routes`` is the predictor's route table."""

    masks: dict[int, dict[int, np.ndarray]]
    routes: pd.DataFrame
    seconds: float  # wall time of prompts and propagation, frames already loaded


def track_sequence(
    predictor, sequence: Sequence, *, prompt: str = "mask", frames: int | None = None, progress: bool = False
) -> Tracked:
    """Track each object from its first annotation to the last frame, or through the first ``frames`` of the video.

    ``prompt`` is "mask", "box" or "point". Objects that appear later are prompted when they appear, as in SAM2's VOS
    script; such a frame runs the full encoder. A pixel that several objects claim goes to the largest logit, but in
    SA-V's layout, whose protocol takes a mask per object, where masks may overlap. Works with stock SAM2 predictors
    too; the route table is then empty.
    """
    state = predictor.init_state(str(sequence.frame_paths[0].parent))
    length = min(len(sequence), frames or len(sequence))
    starts = [start for start in sorted(set(sequence.prompt_frame.values())) if start < length]
    read = overlapping if sequence.layout == "sav" else separate
    masks, began = {}, time.perf_counter()
    bar = tqdm(total=length - min(starts, default=0), desc=sequence.name, disable=None if progress else True)
    for start, stop in zip(starts, [*starts[1:], length]):
        for obj_id, prompt_frame in sequence.prompt_frame.items():
            if prompt_frame == start:
                _add_prompt(predictor, state, start, obj_id, sequence.prompt(obj_id), prompt)
        for t, obj_ids, logits in predictor.propagate_in_video(state, start, stop - start - 1):
            masks[t] = read(obj_ids, logits)
            bar.update()
    seconds = time.perf_counter() - began
    bar.close()
    routes = predictor.route_table(state) if hasattr(predictor, "route_table") else pd.DataFrame()
    return Tracked(masks, routes, seconds)


def _add_prompt(predictor, state, frame_idx, obj_id, mask, kind):
    if kind == "mask":
        predictor.add_new_mask(state, frame_idx, obj_id, mask)
    elif kind == "box":
        predictor.add_new_points_or_box(state, frame_idx, obj_id, box=box_of(mask))
    elif kind == "point":
        predictor.add_new_points_or_box(state, frame_idx, obj_id, points=[click_of(mask)], labels=[1])
    else:
        raise RDSInputError(f"prompt {kind!r} is unknown; choose mask, box or point")


def box_of(mask: np.ndarray) -> list[int]:
    """The tightest box around a bool mask (H, W): x0, y0, x1, y1 in px, x1 and y1 just outside."""
    x, y, width, height = cv2.boundingRect(mask.astype(np.uint8))
    return [x, y, x + width, y + height]


def click_of(mask: np.ndarray) -> list[int]:
    """The pixel (x, y) of a bool mask (H, W) that is farthest from its outline.

    Source: the first click of SAM's evaluation (Kirillov et al. 2023, section 7.1).
    """
    inside = cv2.distanceTransform(np.pad(mask, 1).astype(np.uint8), cv2.DIST_L2, 5)[1:-1, 1:-1]
    y, x = np.unravel_index(inside.argmax(), mask.shape)
    return [int(x), int(y)]


def separate(obj_ids, logits: torch.Tensor) -> dict[int, np.ndarray]:
    """Give each pixel to the object of the largest positive logit; logits (O, 1, H, W) -> bool (H, W) per object."""
    best, owner = logits[:, 0].max(0)
    owner = torch.where(best > 0, owner, -1).cpu().numpy()
    return {obj_id: owner == n for n, obj_id in enumerate(obj_ids)}


def painted(obj_ids, logits: torch.Tensor) -> np.ndarray:
    """The masks that `separate` gives as one label map (H, W) uint8, for object ids from 1 to 254."""
    labels = np.zeros(logits.shape[-2:], np.uint8)
    if len(obj_ids):
        for obj_id, mask in separate(obj_ids, logits).items():
            labels[mask] = obj_id
    return labels


def overlapping(obj_ids, logits: torch.Tensor) -> dict[int, np.ndarray]:
    """Give each object the pixels of its positive logits, also where another claims them; arguments as `separate`."""
    masks = (logits[:, 0] > 0).cpu().numpy()
    return dict(zip(obj_ids, masks, strict=True))


def copy_first_mask(sequence: Sequence) -> Tracked:
    """The floor for any tracker: every object stays where its prompt was."""
    masks = {}
    for t in range(min(sequence.prompt_frame.values()), len(sequence)):
        masks[t] = {i: sequence.prompt(i) for i, start in sequence.prompt_frame.items() if start <= t}
    return Tracked(masks, pd.DataFrame(), 0.0)
