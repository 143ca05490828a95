"""The one training loop: the base model, RDS with its controls, PBD, DyT, AdaViT and SlimSAM's three parts use it."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import torch
from tqdm import tqdm

from rds_lib.training.run import TrainingRun, learning_rate, optimizer_step
from rds_lib.work.recompute import recomputed
from rds_lib.work.together import ProcessLost, average_gradients, check_same_step, mean_row

WARM_UP = 10  # steps
CLIP_NORM = 1.0
PRECISIONS = ("auto", "float32", "bfloat16")


@dataclass(frozen=True)
class Schedule:
    """How long, on what and how a method is trained; equal for all methods of a comparison.

    ``steps`` optimiser steps of ``batch`` clips of ``frames`` frames. Under ``torchrun`` the processes share the clips
    of a step, and each computes its own in ``accumulate`` micro-batches. ``precision`` "auto" is bfloat16 on a GPU and
    float32 elsewhere. With ``recompute_blocks`` the encoder's blocks keep no inner activations; see `recomputed`.
    """

    steps: int
    batch: int
    frames: int
    seed: int = 0
    save_every: int = 50
    accumulate: int = 1
    precision: str = "auto"
    recompute_blocks: bool = False

    def share(self, process: int, processes: int) -> dict:
        """What `TrainingBatches` needs to draw one process's part of every step."""
        sharing = {"process": process, "processes": processes, "accumulate": self.accumulate}
        return {"seed": self.seed, "batch": self.batch, **sharing}

    def autocast(self, device) -> torch.autocast:
        """The context in which losses are computed on a device."""
        kind = torch.device(device).type
        wanted = {"auto": kind == "cuda", "float32": False, "bfloat16": True}[self.precision]
        return torch.autocast(kind, torch.bfloat16, enabled=wanted)


PLAIN = Schedule(steps=0, batch=0, frames=0, precision="float32")


def fit(
    step_loss: Callable,
    batches: Iterable,
    run: TrainingRun,
    optimizer: torch.optim.Optimizer,
    parameters: list,
    *,
    label: str = "",
    warm_up: int = WARM_UP,
    hold: float = 0.0,
    clip_norm: float = CLIP_NORM,
    world: int = 1,
    after_step: Callable[[dict], None] | None = None,
    schedule: Schedule = PLAIN,
    look: Callable | None = None,
    blocks: Iterable = (),
) -> None:
    """Train until the batches end.

    Parameters
    ----------
    step_loss : callable ``(batch, step) -> (loss, row)``
        The mean loss of a micro-batch, and what to log of it. What it draws at random must follow from the clips.
    batches : iterable
        From ``data.batches.loader``, the first one for step ``run.step``; tuples of tensors where they are cut.
    parameters : list of Parameter
        What is trained; gradients are averaged over ``world`` processes and clipped together to ``clip_norm``. Each
        group of ``optimizer`` has its peak learning rate under ``peak``.
    warm_up, hold : int, float
        Steps to the peak rate, and the share of all steps that it holds; see `learning_rate`.
    after_step : callable, optional
        Gets the row before it is logged.
    schedule : Schedule
        Says how: micro-batches, precision, and whether ``blocks`` are computed again. Plain by default.
    look : callable ``(batch, step)``, optional
        Sees the whole batch, without a gradient, before it is cut into micro-batches.
    """
    device = parameters[0].device
    check_same_step(run.step, device)
    with _stopped_with_a_word(run, world), recomputed(blocks) if schedule.recompute_blocks else nullcontext():
        for batch in tqdm(batches, desc=label, disable=None if run.writes else True):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(run.step, run.total, group["peak"], warm_up=warm_up, hold=hold)
            optimizer.zero_grad(set_to_none=True)
            rows = list(_backward(step_loss, look, batch, run.step, schedule, device))
            average_gradients(parameters, world)
            optimizer_step(optimizer, parameters, clip_norm=clip_norm)
            row = rows[0] if len(rows) == world == 1 else mean_row(rows, device)
            if after_step is not None:
                after_step(row)
            run.finish_step(**row)


def _backward(step_loss, look, batch, step, schedule, device) -> Iterator[dict]:
    """Add up the gradients of a batch, micro-batch by micro-batch; yields the row of each."""
    parts = schedule.accumulate
    if parts > 1 and look is not None:
        with torch.no_grad(), schedule.autocast(device):
            look(batch, step)
    for part in zip(*(tensor.chunk(parts) for tensor in batch)) if parts > 1 else [batch]:
        with schedule.autocast(device):
            loss, row = step_loss(part, step)
        (loss / parts).backward()
        yield row


@contextmanager
def _stopped_with_a_word(run, world):
    """Where several processes train: say at which step one that was lost, or a SIGTERM, stopped all."""
    try:
        yield
    except (ProcessLost, SystemExit) as stop:
        if world == 1:
            raise
        raise ProcessLost(
            f"{run.workdir}: a process of this training was killed or told to stop, and all {world} end after step "
            f"{run.step} of {run.total}; the same command goes on from the last state there"
        ) from stop
