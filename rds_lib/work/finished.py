"""Long work that is done once, and products that others read: a folder says, by hash, what it held when finished."""

import hashlib
import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

from rds_lib.core.artifacts import read_json, write_json
from rds_lib.core.errors import RDSInputError
from rds_lib.core.paths import shown
from rds_lib.work import ranks
from rds_lib.work.locks import claim, sweep

LIST = "finished.json"
LOG = "log.csv"
_logger = logging.getLogger(__name__)


def once(folder: str | Path, name: str, make: Callable[[], object], *, parts: str = LOG) -> Path:
    """Return the file ``name`` of a folder; ``make`` writes it, unless an earlier run did and all is as it left it.

    The file and all others whose name is like ``parts`` count, by SHA-256: what was damaged since is made again, from
    the state beside it. A second run waits for the first. Under ``torchrun`` all processes call ``make``, and the first
    looks after the folder; a second such run is refused, as its processes cannot wait for one of them.
    """
    folder = Path(folder)
    is_first, is_alone = ranks.is_first(), ranks.world_size() == 1
    with claim(folder, wait=is_alone) if is_first else nullcontext():
        is_done = is_finished(folder, name, parts)
        if is_first and not is_done:
            sweep(folder, whole=True)  # before any process begins to write
        if not ranks.agreed(is_done):
            make()
            if is_first:
                _write_list(folder, [folder / name, *_like(parts, folder)])  # an error where the file is missing
    return folder / name


def is_finished(folder: Path, name: str, parts: str = LOG) -> bool:
    """Whether a folder's file and parts are those that its list names; one that was damaged is named in a warning."""
    if not (folder / LIST).is_file():
        return False
    with suppress(RDSInputError):
        now, then = digests(folder, [*folder.glob(name), *_like(parts, folder)]), read_json(folder / LIST).get("files")
        if now == then and name in now:
            return True
        then = then if isinstance(then, dict) else {}
        changed = min((key for key in {*now, *then} if now.get(key) != then.get(key)), default=name)
        _logger.warning("%s: is not as it was finished; made again", shown(folder / changed))
    return False


def _like(pattern: str, folder: Path) -> list[Path]:
    return [path for path in folder.rglob(pattern) if path.is_file() and path != folder / LIST]


def digests(folder: Path, files: Iterable[Path]) -> dict[str, str]:
    """SHA-256 of files in a folder, by path inside it."""
    return {file.relative_to(folder).as_posix(): digest(file) for file in sorted(files)}


@contextmanager
def sealed(folder: Path) -> Iterator[None]:
    """List all files of a folder by hash, for `check_whole`, once the block that writes it has ended well."""
    (folder / LIST).unlink(missing_ok=True)
    yield
    if folder.is_dir():
        _write_list(folder, _like("*", folder))


def check_whole(folder: Path, inner: str = "") -> None:
    """Raise unless a file or folder inside a sealed folder, or all of it, is as it was when it was sealed.

    DVC takes what is in its cache for whole as long as nobody may write it.

    Raises
    ------
    RDSInputError
        If a file was cut, changed or removed since.
    """
    if not (folder / LIST).is_file():
        return
    then = read_json(folder / LIST)["files"]
    for name in then if isinstance(then, dict) else ():
        if inner and name != inner and not name.startswith(f"{inner}/"):
            continue
        path = folder / name
        if not path.is_file() or digest(path) != then[name]:
            raise RDSInputError(
                f"{shown(path)}: is not as its stage left it; delete it and .dvc/cache, which may hold the same, and "
                "run dvc repro"
            )


def digest(file: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _write_list(folder: Path, files: Iterable[Path]) -> None:
    write_json(folder / LIST, {"files": digests(folder, files)})
