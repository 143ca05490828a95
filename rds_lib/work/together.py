"""Processes that train together under torchrun: sums and means over them, and what is said when one is lost.

Alone, a process is its own sum. A process that dies closes its connections, so that the others' next sum ends in an
error; one that only hangs ends it after `PATIENCE`.
"""

import os
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.rendezvous import rendezvous

from rds_lib.core.errors import RDSInputError
from rds_lib.work.ranks import world_size

PATIENCE = timedelta(minutes=10)  # that a process waits for the others in one sum; a step takes seconds


class ProcessLost(RDSInputError):
    """Another process of the same training ended, or this one was told to."""


def join_processes() -> tuple[int, int]:
    """Rank and world size; starts the process group under torchrun.

    torchrun keeps one store through all its restarts, in which the addresses of the processes before would be found:
    so each restart has names of its own there.
    """
    world = world_size()
    if world > 1 and not dist.is_initialized():
        store, rank, _ = next(rendezvous("env://", timeout=PATIENCE))
        store = dist.PrefixStore(f"restart {os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)
        backend = "nccl" if torch.cuda.is_available() else "gloo"
        dist.init_process_group(backend, store=store, rank=rank, world_size=world, timeout=PATIENCE)
    return (dist.get_rank(), world) if world > 1 else (0, 1)


def sum_over_processes(tensor: Tensor) -> Tensor:
    """Put the sum over all processes in a tensor, in place, and return it.

    Raises
    ------
    ProcessLost
        If another process is gone.
    """
    if not _are_several():
        return tensor
    try:
        dist.all_reduce(tensor)
    except RuntimeError as cause:  # gloo has no class of its own for it
        raise ProcessLost("another process of this training is gone") from cause
    return tensor


def mean_over_processes(tensor: Tensor) -> Tensor:
    """As `sum_over_processes`, the mean."""
    return sum_over_processes(tensor).div_(dist.get_world_size()) if _are_several() else tensor


def check_same_step(step: int, device) -> None:
    """Raise unless all processes start at the same step, as they do where they read the same state.

    Raises
    ------
    RDSInputError
        If one of them resumed at another step.
    """
    if not _are_several():
        return
    steps = torch.zeros(dist.get_world_size(), dtype=torch.long, device=device)
    steps[dist.get_rank()] = step
    if len(set(found := sum_over_processes(steps).tolist())) > 1:
        raise RDSInputError(
            f"the processes start at steps {found}; put .cache on a file system that all nodes share, and start again"
        )


def _are_several() -> bool:
    return dist.is_available() and dist.is_initialized()


def average_gradients(parameters, world: int) -> None:
    """Make every gradient the mean over all processes; a block that a process did not run counts as zero there."""
    if world == 1:
        return
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    flat = mean_over_processes(torch.cat([parameter.grad.flatten() for parameter in parameters]))
    for parameter, grad in zip(parameters, flat.split([parameter.numel() for parameter in parameters])):
        parameter.grad.copy_(grad.view_as(parameter))


def mean_row(rows: list[dict], device) -> dict:
    """A step's row of the log from those of its micro-batches: the mean of every float, over all processes too."""
    names = [name for name, value in rows[0].items() if isinstance(value, float)]
    sums = torch.tensor([sum(row[name] for row in rows) for name in names], dtype=torch.float64, device=device)
    means = (mean_over_processes(sums) / len(rows)).tolist()
    return rows[0] | {name: round(value, 5) for name, value in zip(names, means)}
