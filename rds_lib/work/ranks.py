"""Items of work shared out among the processes that torchrun started, its ranks.

Only within `shared`, which the command ``stage`` enters. There all ranks make the same calls in the same order, and
`parallel.map_items` gives each of them a part of its items and all of them all results. An item that is at work calls
nothing that is shared; a training is no such item: all ranks take part in it.
"""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rds_lib.core.errors import RDSInputError
from rds_lib.work.context import holding

PATIENCE = timedelta(days=30)  # for the slowest rank; one that ends, however it ends, is noticed at once
_group: ContextVar[Any] = ContextVar("group", default=None)
_is_alone: ContextVar[bool] = ContextVar("is_alone", default=False)


def is_first() -> bool:
    """Whether this process writes the files: rank 0, and every process that torchrun did not start."""
    return _is_alone.get() or os.environ.get("RANK", "0") == "0"


def world_size() -> int:
    """How many processes torchrun started; 1 without it, and within `alone`."""
    return 1 if _is_alone.get() else int(os.environ.get("WORLD_SIZE", "1"))


def is_shared() -> bool:
    """Whether items are shared out here and now."""
    return _group.get() is not None


@contextmanager
def shared() -> Iterator[None]:
    """Share out the items of every `parallel.map_items` until the block ends; without torchrun nothing changes.

    Each rank has its own GPU then, ``cuda`` without a number. Results travel over gloo, on CPUs and GPUs alike.
    """
    if world_size() == 1:
        yield
        return
    import torch
    import torch.distributed as dist

    from rds_lib.work.together import join_processes

    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    join_processes()  # as the trainings within do
    with holding(_group, dist.new_group(backend="gloo", timeout=PATIENCE)):
        yield


def apart() -> AbstractContextManager[None]:
    """Share out nothing until the block ends: what this rank calls there, it calls for itself."""
    return holding(_group, None)


@contextmanager
def alone() -> Iterator[None]:
    """Let this rank, whichever it is, do everything until the block ends as if torchrun had started no other."""
    with holding(_is_alone, True), apart():
        yield


def part_of(items: list) -> list:
    """This rank's items: every n-th of n ranks."""
    return items[int(os.environ["RANK"]) :: world_size()]


def gathered(parts: list) -> list:
    """What `part_of` shared out, whole and in order again, on every rank.

    Raises
    ------
    RDSInputError
        If another rank ended before it had its part.
    """
    every = _exchange(parts)
    return [every[n % len(every)][n // len(every)] for n in range(sum(map(len, every)))]


def agreed(value):
    """What the first rank says, on all of them; where nothing is shared, the value itself."""
    return _exchange(value)[0] if is_shared() else value


@contextmanager
def written_by_first(folder: Path) -> Iterator[Path]:
    """Yield the folder on the first rank, and one that is thrown away on the others."""
    with nullcontext(folder.parent) if is_first() else TemporaryDirectory() as home:
        yield Path(home) / folder.name


def _exchange(value) -> list:
    """Every rank's value, by rank."""
    import torch.distributed as dist

    every = [None] * world_size()
    try:
        dist.all_gather_object(every, value, group=_group.get())
    except RuntimeError as error:
        raise RDSInputError(
            f"rank {os.environ['RANK']}: another rank ended before its work was done; its own message says why. What "
            "is finished is kept: start the same command again"
        ) from error
    return every
