"""How many threads torch gets in the processes that this project starts itself.

A frame of a small model has little to share out: a second thread makes it a fifth faster on an idle machine, and many
times slower where something else runs, because torch's threads spin while they wait for each other
(``benchmarks/busy.py``). So a small model gets one thread, and work on several videos several processes. What the user
sets in ``OMP_NUM_THREADS`` or ``RDS_CPU_WORKERS`` stays, and the processes of a library user are his own.

No import of torch: the variable counts only before torch is loaded.
"""

import os
from collections.abc import Mapping

THREADS, WORKERS = "OMP_NUM_THREADS", "RDS_CPU_WORKERS"
SMALL = ("mini", "mini_half")  # 3 and 5 million parameters; the smallest of SAM2's own has 39


def cpu_count() -> int:
    """The number of CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def thread_variables(config: str, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the environment variables that fit a model: one thread and a process per CPU for a small one.

    Parameters
    ----------
    config : str
        Name of the model's configuration, as in ``params.model.config``.
    environ : mapping
        The variables now. Nothing is returned where ``OMP_NUM_THREADS`` is among them; ``RDS_CPU_WORKERS`` is kept.
    """
    if config not in SMALL or THREADS in environ:
        return {}
    return {THREADS: "1", WORKERS: environ.get(WORKERS) or str(cpu_count())}


def fit_threads(config: str) -> None:
    """Set `thread_variables` for this process; call it before torch is imported."""
    os.environ.update(thread_variables(config))
