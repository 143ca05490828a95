"""Map a function over items, in as many processes as the CPU has cores.

One frame of a small model fills one core and hardly a second one, so two processes of one thread each get more done
than one process of two threads. On a GPU the items take turns. Under torchrun they are shared out first; see `ranks`.
"""

import gc
import os
import signal
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from multiprocessing import get_all_start_methods, get_context
from multiprocessing.connection import wait

import cv2
import torch
from tqdm import tqdm

from rds_lib.core.errors import RDSInputError
from rds_lib.core.threads import WORKERS
from rds_lib.work import ranks
from rds_lib.work.processes import end_with, stop

GRACE = 2.0  # seconds for a worker to remove what it has half written


def cpu_workers() -> int:
    """How many processes pay off: ``RDS_CPU_WORKERS``, else as many as torch has threads.

    1 with a GPU or where processes cannot be forked.
    """
    forks = "fork" in get_all_start_methods() and not torch.cuda.is_available()
    return int(os.environ.get(WORKERS) or torch.get_num_threads()) if forks else 1


def map_items(
    function: Callable, items: Iterable, *, workers: int = 1, label: str = "", together: bool = False
) -> list:
    """Return ``[function(item) for item in items]``, computed by ``workers`` forked processes of one thread each.

    Results are pickled on their way back; whatever else the function changes in its process is lost. The first item's
    exception is raised here, once no item is at work. A process that is killed ends the call with `RDSInputError`.

    Within `ranks.shared` each rank does its part of the items, and every rank returns all results; the first exception
    of any rank ends them all. With ``together`` every item is a training, in which all ranks take part.
    """
    items = list(items)
    if not ranks.is_shared():
        return _map(function, items, workers, label)
    if together:
        with ranks.apart():
            done = _map(function, items, 1, label)
        ranks.agreed(None)  # the others go on when the first one has written its files
        return done
    with ranks.apart():
        part = _map(function, ranks.part_of(items), workers, label)
    return ranks.gathered(part)


def _map(function: Callable, items: list, workers: int, label: str) -> list:
    workers = min(workers, len(items))
    bar = tqdm(total=len(items), desc=label, leave=False, disable=None)
    if workers <= 1:
        with bar:
            return [(function(item), bar.update())[0] for item in items]
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)  # before the fork: a child that uses an inherited OpenCV thread pool hangs
    try:
        with bar, _team(workers, partial(_work, os.getpid(), function, items)) as team:
            return _share_out(items, team, bar, label)
    finally:
        cv2.setNumThreads(threads)


def one_thread(_=None) -> None:
    """Keep a worker process to one core, and off what it was forked with: a decoder waits for its threads."""
    gc.freeze()
    torch.set_num_threads(1)


def item_name(item) -> str:
    """What messages call an item of work: its own name, or the texts and numbers that a partial function is given."""
    if isinstance(item, partial):
        return " ".join(filter(None, map(item_name, item.args)))
    name = item if isinstance(item, str | int | float) else getattr(item, "name", "")
    return str(name) if isinstance(name, str | int | float) and not isinstance(item, os.PathLike) else ""


@contextmanager
def _team(workers: int, work: Callable) -> Iterator[dict]:
    """Processes by the pipe to each; they end with the block, and with this process."""
    context, team = get_context("fork"), {}
    try:
        for _ in range(workers):
            ours, theirs = context.Pipe()
            team[ours] = context.Process(target=work, args=(theirs,))
            team[ours].start()
            theirs.close()  # the child's copy alone keeps the pipe open
        yield team
    finally:
        for process in team.values():
            process.terminate()
        for pipe, process in team.items():
            process.join(GRACE)
            process.kill()
            process.join()
            pipe.close()


def _share_out(items: list, team: dict, bar, label: str) -> list:
    results, failures, todo, busy = {}, {}, iter(range(len(items))), {}
    free = list(team)
    while free or busy:
        for pipe in free:
            number = None if failures else next(todo, None)
            if number is not None:
                busy[pipe] = number
                with suppress(OSError):  # a killed one, as its answer will tell
                    pipe.send(number)
        free = wait(list(busy)) if busy else []
        for pipe in free:
            number = busy.pop(pipe)
            try:
                is_done, answer = pipe.recv()
            except (EOFError, OSError):
                team[pipe].join(GRACE)
                where = f"item {number + 1} of {len(items)} {item_name(items[number])}".strip()
                raise RDSInputError(
                    f"{label or 'work in processes'}: the process at work on {where} was killed "
                    f"({team[pipe].exitcode}), perhaps for want of memory; run fewer at once with {WORKERS}=1"
                ) from None
            (results if is_done else failures)[number] = answer
            bar.update()
    if failures:
        raise failures[min(failures)]
    return [results[number] for number in range(len(items))]


def _work(parent: int, function: Callable, items: list, pipe) -> None:
    end_with(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent stops its workers
    signal.signal(signal.SIGTERM, stop)
    one_thread()
    while True:
        number = pipe.recv()
        try:
            pipe.send((True, function(items[number])))
        except Exception as error:
            error.add_note(traceback.format_exc())
            pipe.send((False, error))
