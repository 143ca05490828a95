"""Trainings, each done once: found in ``.cache/train``, taken from those that are shipped, or done here.

A training's folder is named by all that it follows from, code, data, parameters and base weights, so a shipped one is
taken where its name is the one that is asked for. ``python -m rds_lib ship`` writes `SHIPPED`.
"""

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from contextvars import ContextVar
from pathlib import Path
from tempfile import TemporaryDirectory

from rds_lib.core.artifacts import copy_file, read_json, read_text, write_json
from rds_lib.core.errors import RDSInputError
from rds_lib.core.paths import ASSETS, CACHE, shown
from rds_lib.work import ranks
from rds_lib.work.context import holding
from rds_lib.work.finished import LIST, LOG, digests, once
from rds_lib.work.steps import Enough, first_steps, seconds_of

SHIPPED = ASSETS / "trainings"
ABOUT = "about.json"  # beside a training's weights: what it took, and whether it came from `SHIPPED`
_renewed: ContextVar[int] = ContextVar("renewed", default=0)
log = logging.getLogger(__name__)


def trained(name: str, weights: str, train: Callable[[Path], None]) -> Path:
    """Return the weights of a training in ``.cache/train``.

    Parameters
    ----------
    name : str
        What it is called, with the hash of all that it follows from.
    weights : str
        The name of its file.
    train : callable
        Trains in a folder and writes ``weights`` there. Under ``torchrun`` all processes call it.

    Raises
    ------
    RDSInputError
        If the shipped training is not as it was shipped.
    """
    scratch, shipped = CACHE / "train" / name, SHIPPED / name

    def make():
        source = shipped if (shipped / LIST).is_file() else _still_right(name, train)
        if source is not None:
            if ranks.is_first():
                _take(source, scratch)
            return
        train(scratch)
        if ranks.is_first():
            write_json(scratch / ABOUT, {"shipped": False, "seconds": round(seconds_of(scratch), 1)})

    return once(scratch, weights, make)


def about(weights: Path) -> dict:
    """``shipped`` and the ``seconds`` that a training took, of its weights in ``.cache/train``."""
    return read_json(weights.with_name(ABOUT))


def renewing(steps: int) -> AbstractContextManager[None]:
    """Take shipped trainings of other code too, where the first ``steps`` of the training give the log that they have.

    So a change that leaves trainings as they are, such as a better name, does not cost hours of training.
    """
    return holding(_renewed, steps)


def _still_right(name, train) -> Path | None:
    """The shipped folder of a training that other code made, if its first steps are what this code makes of them."""
    steps, what = _renewed.get(), name.rpartition("-")[0]
    candidates = [path for path in SHIPPED.glob(f"{what}-*") if path.name.rpartition("-")[0] == what]
    if not steps or not candidates:
        return None
    with TemporaryDirectory() as place:
        with suppress(Enough), first_steps(steps):
            train(Path(place))
        logs = {file.relative_to(place): read_text(file) for file in Path(place).rglob(LOG)}
    same = [path for path in candidates if all(_begins(path / file, text) for file, text in logs.items())]
    log.info("%s: the shipped training %s these first steps", name, "has" if same else "does not have")
    return same[0] if same else None


def _begins(file, text):
    return file.is_file() and read_text(file).startswith(text)


def _take(shipped: Path, scratch: Path) -> None:
    files = read_json(shipped / LIST)["files"]
    if digests(shipped, [shipped / name for name in files if (shipped / name).is_file()]) != files:
        raise RDSInputError(f"{shown(shipped)}: not as it was shipped; git checkout -- {shown(shipped)}")
    for name in files:
        copy_file(shipped / name, scratch / name)
    write_json(scratch / ABOUT, read_json(shipped / ABOUT) | {"shipped": True})
    log.info("%s: taken from %s, not trained here", scratch.name, shown(shipped))
