"""Map a function over items, in as many processes as the CPU has cores.

One frame of a small model fills one core and hardly a second one, so two processes of one thread each get more done
than one process of two threads. On a GPU the items take turns.
"""

import gc
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_all_start_methods, get_context

import cv2
import torch
from tqdm import tqdm

from rds_lib.core.threads import WORKERS

_job = None  # function and items of the call in progress: forked processes find them here, so neither is pickled


def cpu_workers() -> int:
    """How many processes pay off: ``RDS_CPU_WORKERS``, else as many as torch has threads.

    1 with a GPU or where processes cannot be forked.
    """
    forks = "fork" in get_all_start_methods() and not torch.cuda.is_available()
    return int(os.environ.get(WORKERS) or torch.get_num_threads()) if forks else 1


def map_items(function: Callable, items: Iterable, *, workers: int = 1, label: str = "") -> list:
    """Return ``[function(item) for item in items]``, computed by ``workers`` forked processes of one thread each.

    Results are pickled on their way back; whatever else the function changes in its process is lost. An exception in
    the function is raised here. A process that is killed ends the call with ``BrokenProcessPool``.
    """
    global _job
    items = list(items)
    workers = min(workers, len(items))
    bar = partial(tqdm, total=len(items), desc=label, leave=False, disable=None)
    if workers <= 1:
        return [function(item) for item in bar(items)]
    _job, threads = (function, items), cv2.getNumThreads()
    cv2.setNumThreads(1)  # before the fork: a child that uses an inherited OpenCV thread pool hangs
    try:
        with ProcessPoolExecutor(workers, mp_context=get_context("fork"), initializer=one_thread) as pool:
            return list(bar(pool.map(_call, range(len(items)))))
    finally:
        _job = None
        cv2.setNumThreads(threads)


def one_thread(_=None) -> None:
    """Keep a worker process to one core, and off what it was forked with: a decoder waits for its threads."""
    gc.freeze()
    torch.set_num_threads(1)


def _call(number):
    function, items = _job
    return function(items[number])
