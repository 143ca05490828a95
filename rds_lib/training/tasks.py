"""What trainings share: the loss of every method of the comparison, and the budgets of a step's clips."""

import torch

from rds_lib.model.clip_tracking import ClipTracker


def tracking_loss(tracker: ClipTracker, encode, targets) -> tuple[torch.Tensor, float]:
    """Track clips from the true mask of their first frame; the tracker's loss and the IoU on the other frames.

    ``encode`` is that of ``ClipTracker.track``; targets (B, T, S, S). In bfloat16 on a GPU.
    """
    with torch.autocast("cuda", torch.bfloat16, enabled=targets.is_cuda):
        outputs = tracker.track(targets, encode)
    return tracker.loss(outputs, targets)


def draw_budgets(budgets, batch, generator):
    """One of the budgets for each clip, (B,)."""
    if not budgets:
        return None
    chosen = torch.randint(len(budgets), (batch,), generator=generator, device=generator.device)
    return torch.tensor(budgets, device=generator.device)[chosen]
