"""One function over many items, in as many processes as the CPU has cores.

One frame of a small model keeps one core busy and a second one hardly: two processes with a thread each do more than one
process with two threads. On a GPU the items take turns.
"""

from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_all_start_methods, get_context

import cv2
import torch
from tqdm import tqdm

_job = None  # function and items of the call in progress; forked processes find them here, so neither has to be pickled


def cpu_workers() -> int:
    """Processes that pay off here: torch's number of threads on a CPU, 1 with a GPU or where processes cannot be forked."""
    forks = "fork" in get_all_start_methods() and not torch.cuda.is_available()
    return torch.get_num_threads() if forks else 1


def map_items(function: Callable, items: Iterable, *, workers: int = 1, label: str = "") -> list:
    """``[function(item) for item in items]``, in order; with several workers in forked processes of one thread each.

    Results are pickled on their way back, and what the function changes in its process stays there. An exception of the
    function is raised here; a process that is killed ends the call with ``BrokenProcessPool``.
    """
    global _job
    items = list(items)
    workers = min(workers, len(items))
    bar = partial(tqdm, total=len(items), desc=label, leave=False, disable=None)
    if workers <= 1:
        return [function(item) for item in bar(items)]
    _job, threads = (function, items), cv2.getNumThreads()
    cv2.setNumThreads(1)  # before the fork: a child that touches an inherited pool of OpenCV waits for ever
    try:
        with ProcessPoolExecutor(workers, mp_context=get_context("fork"), initializer=one_thread) as pool:
            return list(bar(pool.map(_call, range(len(items)))))
    finally:
        _job = None
        cv2.setNumThreads(threads)


def one_thread(_=None) -> None:
    """Keep a worker process to one core."""
    torch.set_num_threads(1)


def _call(number):
    function, items = _job
    return function(items[number])
