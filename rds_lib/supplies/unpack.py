"""Unpack a zip or tar archive that nobody trusts: every name is looked at before the first file is written.

Refused are absolute names and ``..``, links and devices, names that stand twice, files where folders are, and more
files or bytes than a bound. Whatever is refused leaves nothing behind.
"""

import bz2
import gzip
import lzma
import os
import shutil
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import BinaryIO, NamedTuple

from tqdm import tqdm

from rds_lib.core.artifacts import atomic_write
from rds_lib.core.errors import RDSInputError
from rds_lib.data.layouts import check_name
from rds_lib.work.locks import claim, sweep

MOST_FILES = 1_000_000
LEAST_BOUND = 2**30  # bytes that any archive may unpack to
MOST_GROWTH = 20  # times its own size that a larger one may; pictures hardly shrink
MOST_HEADER = 2**24  # bytes of a tar's header, which is read as a whole
JUNK = ("__MACOSX",)  # folders of a Mac's own
_COMPRESSED = ((b"\x1f\x8b", gzip.open), (b"BZh", bz2.open), (b"\xfd7zXZ\x00", lzma.open))


class Member(NamedTuple):
    """A file or a folder (``size`` None) of an archive, and how to open it."""

    name: str
    size: int | None
    open: Callable[[], BinaryIO] | None


class Contents(NamedTuple):
    """What an archive holds below its one top folder ``top``: files by path in there, and their bytes in all."""

    top: str
    files: dict[PurePosixPath, Member]
    size: int
    left_out: int  # files beside the top folder


def unpack(
    archive: Path, out: Path, *, top: str | None = None, finish: Callable[[Path, Contents], None] | None = None
) -> Contents:
    """Unpack what lies below an archive's top folder; ``out/<top>`` appears whole or not at all.

    Parameters
    ----------
    top : str, optional
        The top folder; what lies beside it is left out. By default the archive must have one alone.
    finish : callable, optional
        Is given the folder before it moves to its place, and what was unpacked there.

    Raises
    ------
    RDSInputError
        If the archive is damaged, none at all, or refused, there is no such top folder, its place is taken, or the
        disk is too full.
    """
    with _readable(archive), _opened(archive) as members:
        contents = _chosen(archive, _looked_at(archive, members), top)
        folder = out / check_name(contents.top, f"{archive}: folder")
        if os.path.lexists(folder):
            raise RDSInputError(f"{folder}: is there already; move it away, or choose another --out")
        room_for(folder, contents.size)
        with claim(folder), atomic_write(folder) as stage:
            sweep(folder)
            stage.mkdir()
            for path, member in tqdm(contents.files.items(), desc=folder.name, leave=False, disable=None):
                _write(member, stage / path)
            if finish is not None:
                finish(stage, contents)
        return contents


def room_for(folder: Path, size: int) -> None:
    """Raise unless the disk of a folder, which need not be there, has room for ``size`` bytes and some more."""
    home = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    free = shutil.disk_usage(home).free
    if free < size + 2**26:
        raise RDSInputError(
            f"{folder}: needs {size / 1e9:.2f} GB, and the disk has {free / 1e9:.2f} GB free; make room or choose "
            "another disk"
        )


@contextmanager
def _opened(archive: Path) -> Iterator[Iterator[Member]]:
    """The members of a zip or tar, told apart by content."""
    with archive.open("rb") as file:
        head = file.read(8)
        file.seek(0)
        if head.startswith(b"PK"):
            with zipfile.ZipFile(file) as content:
                yield _zip_members(archive, content)
            return
        plain = next((opener(file) for magic, opener in _COMPRESSED if head.startswith(magic)), file)
        with tarfile.open(fileobj=_Cautious(plain), mode="r:") as content:
            yield _tar_members(archive, content)


class _Cautious:
    """A file whose reads are bounded: a tar may claim a header of any length, which would fill the memory."""

    def __init__(self, file):
        self._file = file
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= MOST_HEADER:
            raise tarfile.ReadError(f"a header of {size} bytes")
        return self._file.read(size)


def _zip_members(archive, content):
    for item in content.infolist():
        kind = stat.S_IFMT(item.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise _refusal(archive, item.filename, "is a link or a device")
        if item.flag_bits & 1:
            raise _refusal(archive, item.filename, "is encrypted")
        if item.is_dir() or kind == stat.S_IFDIR:
            yield Member(item.filename, None, None)
        else:
            yield Member(item.filename, item.file_size, lambda item=item: content.open(item))


def _tar_members(archive, content):
    for item in content:
        if item.isdir():
            yield Member(item.name, None, None)
        elif item.isreg() and not item.issparse():
            yield Member(item.name, item.size, lambda item=item: content.extractfile(item))
        else:
            raise _refusal(archive, item.name, "is a link, a device or another file that is none")


def _looked_at(archive: Path, members: Iterator[Member]) -> dict[PurePosixPath, Member]:
    """All members by path, none of which leads out or lies in another one's place."""
    bound, size, found = max(LEAST_BOUND, MOST_GROWTH * archive.stat().st_size), 0, {}
    for member in members:
        path, is_folder = _path(archive, member.name), member.size is None
        if path in found and not (is_folder and found[path].size is None):
            raise _refusal(archive, member.name, "stands twice in it")
        if not path.parts and not is_folder:
            raise _refusal(archive, member.name, "is no name of a file")
        found[path] = member
        size += member.size or 0
        if len(found) > MOST_FILES:
            raise RDSInputError(f"{archive}: more than {MOST_FILES} files; no set that is known here has as many")
        if size > bound:
            raise RDSInputError(f"{archive}: unpacks to more than {bound} bytes, which no set that is known here does")
    files = {path for path, member in found.items() if member.size is not None}
    for path in found:
        if wrong := next((parent for parent in path.parents if parent in files), None):
            raise _refusal(archive, str(wrong), "is a file and a folder at once")
    return found


def _path(archive, name):
    """The path of a member; whatever could lead out of the folder is refused, on any system."""
    is_odd = not name.isprintable() or "\\" in name or ":" in name or len(name) > 1024
    path = PurePosixPath(name)
    if is_odd or path.is_absolute() or ".." in path.parts or any(len(part.encode()) > 255 for part in path.parts):
        raise _refusal(archive, name, "leads out of the folder, or is no name of a file")
    return path


def _chosen(archive: Path, found: dict[PurePosixPath, Member], top: str | None) -> Contents:
    """The files below the top folder, by path in there."""
    found = {path: member for path, member in found.items() if path.parts and path.parts[0] not in JUNK}
    files = {path: member for path, member in found.items() if member.size is not None}
    nested = {path: member for path, member in files.items() if len(path.parts) > 1}
    tops, loose = sorted({path.parts[0] for path in nested}), [str(path) for path in files if path not in nested]
    if top is None and (len(tops) != 1 or loose):
        has = ", ".join([*tops, *loose][:8]) or "no file"
        raise RDSInputError(f"{archive}: expected one folder that holds all the rest, found {has}; unpack it by hand")
    top = tops[0] if top is None else top
    if top not in tops:
        raise RDSInputError(f"{archive}: no folder {top!r} with files in it; found {', '.join(tops[:8]) or 'none'}")
    inside = {PurePosixPath(*path.parts[1:]): member for path, member in nested.items() if path.parts[0] == top}
    return Contents(top, inside, sum(member.size for member in inside.values()), len(files) - len(inside))


def _write(member, target):
    target.parent.mkdir(parents=True, exist_ok=True)
    with member.open() as source, target.open("xb") as file:
        left = member.size
        while left and (chunk := source.read(min(2**20, left))):
            file.write(chunk)
            left -= len(chunk)
        if left or source.read(1):
            raise zipfile.BadZipFile(f"{member.name} has another length than the archive says")


def _refusal(archive, name, why):
    return RDSInputError(f"{archive}: {str(name)[:200]!r} {why}; nothing was unpacked. Get the archive from its makers")


@contextmanager
def _readable(archive: Path) -> Iterator[None]:
    """Turn what a damaged archive raises into one error; a full disk stays what it is."""
    try:
        yield
    except RDSInputError:
        raise
    except Exception as error:  # a damaged archive raises anything
        if isinstance(error, OSError) and error.errno is not None and not isinstance(error, FileExistsError):
            raise
        raise RDSInputError(
            f"{archive}: is no whole zip or tar archive ({type(error).__name__}: {error}); delete it and fetch it again"
        ) from error
