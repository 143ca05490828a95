"""The one training loop: the base model, RDS with its controls, PBD, DyT, AdaViT and SlimSAM's three parts use it."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from tqdm import tqdm

from rds_lib.training.run import TrainingRun, average_gradients, learning_rate, optimizer_step

WARM_UP = 10  # steps
CLIP_NORM = 1.0


@dataclass(frozen=True)
class Schedule:
    """How long and on what a method is trained; equal for all methods of a comparison.

    ``steps`` optimiser steps of ``batch`` clips of ``frames`` frames; under ``torchrun`` every process draws its own.
    """

    steps: int
    batch: int
    frames: int
    seed: int = 0
    save_every: int = 50


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
) -> None:
    """Train until the batches end.

    Parameters
    ----------
    step_loss : callable ``(batch, step) -> (loss, row)``
        The loss of one step, and what to log of it. Whatever it draws at random must follow from ``step``.
    batches : iterable
        From ``data.batches.loader``, the first one for step ``run.step``.
    run : TrainingRun
        Counts, logs and saves; a run that resumes starts at its own step.
    optimizer : Optimizer
        Each group has its peak learning rate under ``peak``.
    parameters : list of Parameter
        What is trained; gradients are averaged over ``world`` processes and clipped together to ``clip_norm``.
    warm_up, hold : int, float
        Steps to the peak rate, and the share of all steps that it holds; see `learning_rate`.
    after_step : callable, optional
        Gets the row before it is logged.
    """
    for batch in tqdm(batches, desc=label, disable=None if run.writes else True):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(run.step, run.total, group["peak"], warm_up=warm_up, hold=hold)
        loss, row = step_loss(batch, run.step)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        average_gradients(parameters, world)
        optimizer_step(optimizer, parameters, clip_norm=clip_norm)
        if after_step is not None:
            after_step(row)
        run.finish_step(**row)
