"""The loss that every method of the comparison is trained on."""

import torch

from rds_lib.model.clip_tracking import Prompt, track_clip
from rds_lib.model.losses import clip_iou, sam2_loss


def clip_loss(model, encode, targets) -> tuple[torch.Tensor, float]:
    """SAM2's loss, mean over the frames after the first, whose true mask is the prompt, and the IoU on them.

    Every method of the comparison is trained on this. ``encode`` is that of ``track_clip``; targets (B, T, S, S). In
    bfloat16 on a GPU.
    """
    with torch.autocast("cuda", torch.bfloat16, enabled=targets.is_cuda):
        outputs = track_clip(model, targets.shape[1], Prompt(masks=targets[:, :1]), encode)
    losses = [sam2_loss(outputs[t], targets[:, t]) for t in range(1, targets.shape[1])]
    return sum(losses) / len(losses), clip_iou(outputs, targets)
