"""How far two ways of running the same model are apart: mask logits, frame by frame."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from rds_lib.core.errors import RDSInputError


@torch.inference_mode()
def logits_of(predictor: nn.Module, video, prompts: Mapping[int, np.ndarray]) -> dict[int, Tensor]:
    """Track a video from the masks of its first frame; logits (O, 1, H, W) float32 on the CPU by frame."""
    state = predictor.init_state(str(video))
    for obj_id, mask in prompts.items():
        predictor.add_new_mask(state, 0, obj_id, mask)
    return {t: logits.float().cpu().clone() for t, _, logits in predictor.propagate_in_video(state)}


def agreement(found: Mapping[int, Tensor], wanted: Mapping[int, Tensor]) -> pd.DataFrame:
    """Compare logits frame by frame.

    Returns
    -------
    DataFrame, one row per frame
        ``frame``; ``largest`` and ``mean`` absolute difference; ``spread``, the standard deviation of those wanted;
        ``mask_iou`` of what is above 0, a mean over objects, 1 where both show nothing; ``turned``, the share of the
        pixels that are above 0 in one alone.

    Raises
    ------
    RDSInputError
        If they are not of the same frames.
    """
    if found.keys() != wanted.keys():
        raise RDSInputError(f"logits of frames {sorted(found)} and of frames {sorted(wanted)}; track the same video")
    rows = []
    for t in sorted(wanted):
        gap = (found[t] - wanted[t]).abs()
        one, other = found[t] > 0, wanted[t] > 0
        both, any_ = ((a.flatten(1).sum(1)) for a in (one & other, one | other))
        iou = torch.where(any_ > 0, both / any_.clamp(min=1), 1.0).mean()
        numbers = (gap.max(), gap.mean(), wanted[t].std(), iou, (one != other).float().mean())
        rows.append((t, *(float(number) for number in numbers)))
    return pd.DataFrame(rows, columns=["frame", "largest", "mean", "spread", "mask_iou", "turned"])
