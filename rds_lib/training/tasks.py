"""The loss that every method of the comparison is trained on."""

import torch

from rds_lib.model.clip_tracking import ClipTracker


def tracking_loss(tracker: ClipTracker, encode, targets) -> tuple[torch.Tensor, float]:
    """Track clips from the true mask of their first frame; the tracker's loss and the IoU on the other frames.

    ``encode`` is that of ``ClipTracker.track``; targets (B, T, S, S). In bfloat16 on a GPU.
    """
    with torch.autocast("cuda", torch.bfloat16, enabled=targets.is_cuda):
        outputs = tracker.track(targets, encode)
    return tracker.loss(outputs, targets)
