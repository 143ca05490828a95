"""What is asked of a training from outside: its first steps alone, and how long it took."""

import time
from contextlib import AbstractContextManager
from contextvars import ContextVar
from pathlib import Path

from rds_lib.core.artifacts import read_json, write_json
from rds_lib.work.context import holding

CLOCK = "clock.json"  # beside a training's state, which follows from its steps alone and holds no times
_enough: ContextVar[int | None] = ContextVar("enough", default=None)


class Enough(Exception):
    """The first steps of a training are done, and no more are asked for; see `first_steps`."""


def first_steps(number: int) -> AbstractContextManager[None]:
    """Stop trainings after their first steps, which are those of the whole training, with `Enough`."""
    return holding(_enough, number)


def is_enough(step: int) -> bool:
    """Whether no step after this many is asked for."""
    return step == _enough.get()


class Clock:
    """The seconds that a training in a folder takes, over all processes that went on with it."""

    def __init__(self, folder: Path):
        self.file = folder / CLOCK
        self.began = time.monotonic() - _seconds(self.file)

    def save(self) -> None:
        """Write the seconds until now."""
        write_json(self.file, {"seconds": time.monotonic() - self.began})


def seconds_of(folder: Path) -> float:
    """Seconds that the training in a folder took so far, those of its parts added up; 0 where none was saved."""
    return sum(map(_seconds, Path(folder).rglob(CLOCK)))


def _seconds(file):
    return float(read_json(file)["seconds"]) if file.is_file() else 0.0
