"""One run at a time in a folder, what a dead run left there, and products that whoever misses them first makes.

A lock is the kernel's, which frees it when its process ends, however that ends: none is ever to be removed by hand.
"""

import logging
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from rds_lib.core import paths
from rds_lib.core.artifacts import TEMPORARY, atomic_write, mark_of
from rds_lib.core.errors import RDSInputError
from rds_lib.work import ranks

try:
    import fcntl
except ImportError:  # Windows has no such locks, and runs without
    fcntl = None

LOCK = ".lock-"
_logger = logging.getLogger(__name__)


@contextmanager
def claim(place: str | Path, *, wait: bool = False, inside: Path | None = None) -> Iterator[None]:
    """Hold a file or folder, which need not be there yet, for as long as the block lasts.

    A small file beside it says who holds it; it goes with the block, and after a kill with the next one.

    Parameters
    ----------
    wait : bool
        Wait for another run, and say so, rather than raise.
    inside : Path, optional
        The folder of the small file; by default that of ``place``.

    Raises
    ------
    RDSInputError
        If another run holds it; the error names that run.
    """
    place = Path(place)
    home = place.parent if inside is None else inside
    made = [folder for folder in (home, *home.parents) if not folder.exists()]
    home.mkdir(parents=True, exist_ok=True)
    lock = _lock_of(place, home)
    said, descriptor = False, _acquire(lock)
    while descriptor is None:
        held = f"{paths.shown(place)}: in use by {_holder(lock)}"
        if not wait:
            raise RDSInputError(f"{held}; wait until it ends, or choose another place")
        if not said:
            _logger.warning("%s; waiting for it", held)
        said = True
        time.sleep(0.2)
        descriptor = _acquire(lock)
    try:
        yield
    finally:
        with suppress(OSError):
            if fcntl is not None:
                lock.unlink(missing_ok=True)
                fcntl.flock(descriptor, fcntl.LOCK_UN)  # forked processes hold the descriptor too
            for folder in made:  # of a run that wrote nothing
                folder.rmdir()
        os.close(descriptor)


def holder(place: str | Path) -> str | None:
    """Who holds a file or folder now, in words; None if nobody does. Nothing is made, and no run is kept waiting."""
    lock = _lock_of(Path(place), Path(place).parent)
    with suppress(OSError):  # no lock, or one that we may not open
        descriptor = os.open(lock, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
        try:
            if fcntl is not None:
                fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return _holder(lock)
        finally:
            os.close(descriptor)
    return None


def sweep(place: str | Path, *, whole: bool = False) -> None:
    """Remove the temporaries that dead runs left beside a file or folder, or with ``whole`` all inside the folder.

    Call it while you hold the place: then no living run has one.
    """
    place = Path(place)
    found = place.rglob(f"{TEMPORARY}*") if whole else place.parent.glob(f"{mark_of(place)}*")
    for path in list(found):
        remove(path)


def remove(path: Path) -> None:
    """Remove a file, or a folder with all in it; whatever cannot be removed stays."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()


def require(name: str, folder: str | Path, build: Callable[[Path], Any] | None = None, *, stage: str) -> Path:
    """Return the path of another stage's product; build it first if it is missing and ``build`` is given.

    One process builds; others that ask for the product meanwhile wait for it.

    Parameters
    ----------
    name : str
        File or folder inside ``folder``, such as ``importance`` or ``train/calibration.csv``.
    folder : str or Path
        The profile's working folder, from ``paths.workdir(profile)``.
    build : callable, optional
        Writes the product to the path it is given. A build that fails leaves nothing behind.
    stage : str
        The stage of ``dvc.yaml`` that makes the product; the error names it.

    Raises
    ------
    RDSInputError
        If the product is missing and there is no ``build``.
    """
    path = Path(folder) / name
    if path.exists():
        return path
    if build is None:
        raise RDSInputError(f"{paths.shown(path)} is missing; make it with: dvc repro {stage}")
    with claim(path, wait=True):
        if not path.exists():
            sweep(path)
            with ranks.alone(), atomic_write(path) as temporary:  # the other ranks wait for the lock
                build(temporary)
            _logger.info("built %s, which stage %s makes in a full run", name, stage)
    return path


def _lock_of(place: Path, home: Path) -> Path:
    return home / f"{LOCK}{mark_of(place).removeprefix(TEMPORARY)[:-1]}"


def _acquire(lock: Path) -> int | None:
    """The descriptor of a lock that is ours now; None while another run has it."""
    while True:
        try:
            descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
        except PermissionError:  # left by another user
            descriptor = os.open(lock, os.O_RDONLY)
        if fcntl is None:
            return descriptor
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        except OSError:  # a file system without locks
            return descriptor
        if _is_still(lock, descriptor):
            with suppress(OSError):  # a full disk: then it does not say who
                os.ftruncate(descriptor, 0)
                os.write(descriptor, _who().encode(errors="backslashreplace"))
            return descriptor
        os.close(descriptor)  # of a file that its holder has just removed


def _is_still(lock: Path, descriptor: int) -> bool:
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(descriptor), os.stat(lock))
    return False


def _who() -> str:
    command = "".join(sign if sign.isprintable() else "?" for sign in " ".join(["python", *sys.orig_argv[1:]]))
    return f"process {os.getpid()} ({command[:160]}), since {datetime.now():%Y-%m-%d %H:%M:%S}"


def _holder(lock: Path) -> str:
    with suppress(OSError):
        return lock.read_text(encoding="utf-8", errors="replace") or "another run"
    return "another run"
