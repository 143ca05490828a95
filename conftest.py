"""Make `pytest` and `pytest --nbval notebooks/` work as they stand, from any folder."""

import os
import signal
from contextlib import ExitStack
from pathlib import Path

import pytest

from rds_lib.core.threads import fit_threads
from rds_lib.pipeline import notebook

fit_threads("mini")  # before any test imports torch
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell has it for what it starts in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)
_session = ExitStack()


def pytest_configure(config: pytest.Config) -> None:
    """Give notebooks under nbval the environment their stored outputs were made in."""
    option = config.option
    if not (getattr(option, "nbval", False) or getattr(option, "nbval_lax", False)):
        return
    option.nbval_sanitize_with = option.nbval_sanitize_with or str(Path(__file__).parent / "tests/nbval_sanitize.cfg")
    option.nbval_current_env = True
    option.nbval_kernel_startup_timeout = max(120, int(option.nbval_kernel_startup_timeout))
    workdir = _session.enter_context(notebook.smoke_folder())
    settings = _session.enter_context(notebook.own_jupyter())
    os.environ.update(settings | notebook.environment(workdir, smoke=True))


def pytest_unconfigure() -> None:
    """Remove the session's smoke folder."""
    _session.close()
