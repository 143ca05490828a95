"""The folder that a command writes: checked before the work, and replaced only where all in it is ours, unchanged.

A finished folder holds ``.rds-manifest.json``, the SHA-256 of every file that we wrote. DVC does that for its stages.
"""

import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from rds_lib.core.artifacts import flush, read_json, write_json
from rds_lib.core.errors import RDSInputError

MANIFEST = ".rds-manifest.json"
_NEW = ".rds-new"  # a whole new result inside the folder that it moves into
_TEMPORARY = ".tmp-"


def check_output(out: str | Path, *, overwrite: bool = False, marker: str) -> Path:
    """Return where ``out`` leads, once it is sure that a result can be put there.

    Parameters
    ----------
    out : path
        A new or an empty folder, or a link to one; with ``overwrite`` also an earlier output of the same command.
    marker : str
        What tells the command's outputs from those of others, such as a file that each of them has.

    Raises
    ------
    RDSInputError
        If it is no folder, cannot be written, or holds a file that we did not write or that was changed since.
    """
    with _in_one_line(out):
        place = Path(os.path.realpath(out))
        if place.is_symlink() or (os.path.lexists(place) and not place.is_dir()):
            raise RDSInputError(f"{out}: is not a folder; choose another place for the output")
        check_writable(place)
        if (place / _NEW).is_dir():
            _move_in(place)
        if place.is_dir():
            _check_ours(out, place, overwrite, marker)
    return place


def check_writable(folder: str | Path) -> None:
    """Raise unless files can be made in a folder, or in the nearest one above it that exists."""
    with _in_one_line(folder):
        home = Path(os.path.realpath(folder))
        while not os.path.lexists(home):
            home = home.parent
        probe = home / f"{_TEMPORARY}{secrets.token_hex(4)}"
        probe.mkdir()
        probe.rmdir()


@contextmanager
def output_folder(out: str | Path, *, overwrite: bool = False, marker: str) -> Iterator[Path]:
    """Yield a temporary folder whose content becomes that of ``out`` when the block ends without an error.

    An earlier output stays until the new one is whole. Where the new one cannot be moved in, it is kept beside it. A
    kill while it moves in is mended by the next `check_output`. For what is refused see there.
    """
    place = check_output(out, overwrite=overwrite, marker=marker)
    with _in_one_line(out):
        home = place if place.is_dir() else place.parent
        home.mkdir(parents=True, exist_ok=True)
        stage = home / f"{_TEMPORARY}{secrets.token_hex(4)}"
        stage.mkdir()
    try:
        yield stage
        if home == place or "DVC_STAGE" not in os.environ:  # DVC keeps hashes of its own, and removes what it replaces
            files = {name: _digest(stage / name) for name in sorted(_files(stage))}
            write_json(stage / MANIFEST, {"output": marker, "files": files})
        for path in [stage, *stage.rglob("*")]:
            flush(path)
    except BaseException:
        shutil.rmtree(stage, ignore_errors=True)
        raise
    try:
        check_output(out, overwrite=overwrite, marker=marker)
        if home == place:
            os.rename(stage, place / _NEW)
            stage = place / _NEW
            _move_in(place)
        else:
            os.rename(stage, place)
            flush(home)
    except (OSError, RDSInputError) as error:
        raise RDSInputError(f"{error}; the result is whole, and kept in {_kept(stage, place)}") from error


def _move_in(place: Path) -> None:
    """Replace the files of an old result by those of a new one in ``_NEW``; the manifest goes last.

    It may be called again after a stop anywhere inside it.
    """
    new = place / _NEW
    if (new / MANIFEST).is_file():
        after, before = (_listed(folder) if (folder / MANIFEST).is_file() else {} for folder in (new, place))
        for name in after:
            if (new / name).is_file():
                (place / name).parent.mkdir(parents=True, exist_ok=True)
                os.replace(new / name, place / name)
        for name in before.keys() - after.keys():
            (place / name).unlink(missing_ok=True)
            with suppress(OSError):  # not empty
                for folder in list(Path(name).parents)[:-1]:
                    (place / folder).rmdir()
        os.replace(new / MANIFEST, place / MANIFEST)
        flush(place)
    shutil.rmtree(new)


def _kept(stage: Path, place: Path) -> Path:
    """Give a whole result that has no place a name of its own beside it, where that can be."""
    for number in range(1, 100):
        target = place.with_name(f"{place.name}-{number}")
        with suppress(OSError):
            if not os.path.lexists(target):
                os.rename(stage, target)
                return target
    return stage


def _check_ours(out, place: Path, overwrite: bool, marker: str) -> None:
    names = _files(place)
    if not names and not (place / MANIFEST).exists():
        return
    if not (place / MANIFEST).is_file():
        raise RDSInputError(
            f"{out}: holds other files, such as {min(names)}, and no list of ours ({MANIFEST}); choose an empty or a "
            "new folder"
        )
    if read_json(place / MANIFEST).get("output") != marker:
        raise RDSInputError(f"{out}: holds the output of another command; choose an empty or a new folder")
    if not overwrite:
        raise RDSInputError(f"{out}: holds an earlier output; choose another folder or add --overwrite")
    known = _listed(place)
    for name in sorted(names):
        if name not in known or not (place / name).is_file() or _digest(place / name) != known[name]:
            what = "was changed since we wrote it" if name in known else "is not of the earlier output"
            raise RDSInputError(f"{out}: {name} {what}; move it away, or choose another folder")


def _listed(folder: Path) -> dict[str, str]:
    """The files of a manifest: SHA-256 by path inside the folder."""
    files = read_json(folder / MANIFEST).get("files")
    if not isinstance(files, dict) or any(Path(name).is_absolute() or ".." in Path(name).parts for name in files):
        raise RDSInputError(f"{folder / MANIFEST}: is damaged; move the folder away, or choose another one")
    return files


def _files(folder: Path) -> set[str]:
    """All that is no folder, by path inside ``folder``; without the manifest and what a stopped run left."""
    found = set()
    for path in folder.rglob("*"):
        name = path.relative_to(folder)
        ours = name.parts[0].startswith(_TEMPORARY) or name.parts[0] in (_NEW, MANIFEST)
        if not ours and (path.is_symlink() or not path.is_dir()):
            found.add(name.as_posix())
    return found


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _in_one_line(out) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RDSInputError(f"{out}: cannot be written ({error.strerror or error}); choose another place") from error
