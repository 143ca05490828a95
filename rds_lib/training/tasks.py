"""What trainings share: the loss of every method of the comparison, and what the clips of a step draw at random.

A clip draws from a generator of its own, which follows from the seed, the step and its number in the step: so it draws
the same whichever process computes it, and beside which others.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from rds_lib.model.clip_tracking import ClipTracker
from rds_lib.routing.router import recorded_statistics, replayed_statistics


def tracking_loss(tracker: ClipTracker, encode, targets) -> tuple[Tensor, float]:
    """Track clips from the true mask of their first frame; the tracker's loss and the IoU on the other frames.

    ``encode`` is that of ``ClipTracker.track``; targets (B, T, S, S). Under autocast all but the loss is in bfloat16.
    """
    outputs = tracker.track(targets, encode)
    with torch.autocast(targets.device.type, enabled=False):
        return tracker.loss(outputs, targets)


def clip_generators(seed: int, step: int, batch: int, numbers: Sequence[int] | Tensor, device) -> list[torch.Generator]:
    """A generator for each of the clips with these numbers, of a step of ``batch`` clips."""
    first = (seed << 24) + step * batch
    return [torch.Generator(device).manual_seed(first + int(number)) for number in numbers]


def clip_uniform(shape, generators: Sequence[torch.Generator] | None, device) -> Tensor:
    """Numbers from [0, 1) of a shape whose first axis runs over frames, and within each over the clips.

    Every clip's are from its own generator, or all from torch's global one where there are none.
    """
    if generators is None:
        return torch.rand(shape, device=device)
    own = (shape[0] // len(generators), *shape[1:])
    return torch.stack([torch.rand(own, generator=g, device=device) for g in generators], 1).flatten(0, 1)


def draw_budgets(budgets, generators: Sequence[torch.Generator]) -> Tensor | None:
    """One of the budgets for each clip, (B,)."""
    if not budgets:
        return None
    device = generators[0].device
    chosen = torch.cat([torch.randint(len(budgets), (1,), generator=g, device=device) for g in generators])
    return torch.tensor(budgets, device=device)[chosen]


def in_micro_batches(router: nn.Module | None, step_loss: Callable) -> dict[str, Callable]:
    """``step_loss`` and ``look`` of `loop.fit` for a router whose running statistics are those of all clips of a step.

    The look runs them all at once without a gradient, and each micro-batch then uses the statistics that it found.
    """
    if router is None:
        return {"step_loss": step_loss}

    def look(batch, step):
        with recorded_statistics(router):
            step_loss(batch, step)

    def replayed(batch, step):
        with replayed_statistics(router):
            return step_loss(batch, step)

    return {"step_loss": replayed, "look": look}
