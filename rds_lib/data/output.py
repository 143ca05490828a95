"""The folder that a command writes: checked before the work, held meanwhile, replaced only where all in it is ours.

A finished folder holds ``.rds-manifest.json``, the SHA-256 of every file that we wrote. DVC does that for its stages.
"""

import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

from rds_lib.core.artifacts import TEMPORARY, flush, mark_of, read_json, write_json
from rds_lib.core.errors import RDSInputError
from rds_lib.work.finished import digest, digests
from rds_lib.work.locks import LOCK, claim, remove

MANIFEST = ".rds-manifest.json"
_NEW = ".rds-new"  # a whole new result inside the folder that it moves into


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
        If it is no folder, cannot be written, is in use by another run, or holds a file that we did not write or that
        was changed since.
    """
    place, home = _place_of(out)
    with _in_one_line(out), claim(place, inside=home) if home.is_dir() else nullcontext():
        _check_content(out, place, overwrite, marker)
    return place


def _place_of(out) -> tuple[Path, Path]:
    """Where a path leads, and the folder that its temporaries and its lock lie in; both can be written."""
    with _in_one_line(out):
        place = Path(os.path.realpath(out))
        if place.is_symlink() or (os.path.lexists(place) and not place.is_dir()):
            raise RDSInputError(f"{out}: is not a folder; choose another place for the output")
        check_writable(place)
        return place, place if place.is_dir() else place.parent


def check_writable(folder: str | Path) -> None:
    """Raise unless files can be made in a folder, or in the nearest one above it that exists."""
    with _in_one_line(folder):
        home = Path(os.path.realpath(folder))
        while not os.path.lexists(home):
            home = home.parent
        probe = home / f"{TEMPORARY}{secrets.token_hex(4)}"
        probe.mkdir()
        probe.rmdir()


@contextmanager
def output_folder(out: str | Path, *, overwrite: bool = False, marker: str) -> Iterator[Path]:
    """Yield a temporary folder whose content becomes that of ``out`` when the block ends without an error.

    No other run can write it meanwhile. An earlier output stays until the new one is whole. Where the new one cannot be
    moved in, it is kept beside it. A kill while it moves in is mended by the next `check_output`, which also tells what
    is refused; what a killed run left is removed.
    """
    place, home = _place_of(out)
    with claim(place, inside=home):
        with _in_one_line(out):
            _check_content(out, place, overwrite, marker)
            for left in home.glob(f"{mark_of(place)}*"):
                remove(left)
            stage = home / f"{mark_of(place)}{secrets.token_hex(4)}"
            stage.mkdir()
        with _filled(stage, home == place, marker):
            yield stage
        _put(stage, place, home, lambda: _check_content(out, place, overwrite, marker))


@contextmanager
def _filled(stage: Path, is_inside: bool, marker: str) -> Iterator[None]:
    """Have a folder that the block fills listed and on the disk, or removed where the block fails."""
    try:
        yield
        if is_inside or "DVC_STAGE" not in os.environ:  # DVC keeps hashes of its own, and removes what it replaces
            files = digests(stage, [stage / name for name in _files(stage)])
            write_json(stage / MANIFEST, {"output": marker, "files": files})
        for path in [stage, *stage.rglob("*")]:
            flush(path)
    except BaseException:
        shutil.rmtree(stage, ignore_errors=True)
        raise


def _put(stage: Path, place: Path, home: Path, check: Callable[[], None]) -> None:
    """Move a whole result to its place; kept beside it where that has been taken meanwhile."""
    try:
        check()
        if home == place:
            os.rename(stage, place / _NEW)
            stage = place / _NEW
            _move_in(place)
        else:
            os.rename(stage, place)
            flush(home)
    except (OSError, RDSInputError) as error:
        raise RDSInputError(f"{error}; the result is whole, and kept in {_kept(stage, place)}") from error


def _check_content(out, place: Path, overwrite: bool, marker: str) -> None:
    if (place / _NEW).is_dir():
        _move_in(place)
    if place.is_dir():
        _check_ours(out, place, overwrite, marker)


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
        if name not in known or not (place / name).is_file() or digest(place / name) != known[name]:
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
        ours = name.parts[0].startswith((TEMPORARY, LOCK)) or name.parts[0] in (_NEW, MANIFEST)
        if not ours and (path.is_symlink() or not path.is_dir()):
            found.add(name.as_posix())
    return found


@contextmanager
def _in_one_line(out) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RDSInputError(f"{out}: cannot be written ({error.strerror or error}); choose another place") from error
