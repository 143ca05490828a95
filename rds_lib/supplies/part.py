"""The begun download: ``<file>.part``, and ``<file>.part.json`` that says what it is the beginning of."""

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, NamedTuple

from rds_lib.core.artifacts import read_json, write_json
from rds_lib.core.errors import RDSInputError


class Version(NamedTuple):
    """Which version of a file a server sends, by its headers; what it does not say is empty or None."""

    etag: str
    modified: str
    total: int | None  # bytes of the whole file

    @property
    def validator(self) -> str:
        """What ``If-Range`` takes: a strong ETag, else the date; empty if there is neither."""
        return self.etag if self.etag and not self.etag.startswith("W/") else self.modified

    def is_same(self, other: "Version") -> bool:
        """Whether two answers speak of the same version, as far as both say."""
        pairs = zip(self, other)
        return all(a == b or not a or not b for a, b in pairs)


class Part:
    """The file that a download fills, which later runs go on with."""

    def __init__(self, target: Path):
        self.path = target.with_name(f"{target.name}.part")
        self.note = target.with_name(f"{target.name}.part.json")

    @property
    def size(self) -> int:
        """Bytes that are there."""
        return self.path.stat().st_size if self.path.is_file() else 0

    def version(self, address: str) -> Version | None:
        """What the part is the beginning of; None if it is of another address, or nobody says so."""
        with suppress(RDSInputError, TypeError, ValueError):
            note = read_json(self.note)
            if self.path.is_file() and note["address"] == address:
                return _version(note)
        return None

    def begin(self, address: str, version: Version) -> None:
        """Empty the part, for a version of a file at an address."""
        self.path.unlink(missing_ok=True)
        write_json(self.note, {"address": address, **version._asdict()})
        self.path.touch()

    def open(self) -> BinaryIO:
        """The part, to write on at its end."""
        return self.path.open("ab")

    def become(self, target: Path) -> None:
        """Move the finished part to its place."""
        with self.path.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(self.path, target)
        self.note.unlink(missing_ok=True)

    def remove(self) -> None:
        """Forget what was begun."""
        self.path.unlink(missing_ok=True)
        self.note.unlink(missing_ok=True)


def _version(note: Mapping) -> Version:
    total = note["total"]
    if not isinstance(total, int | None) or not all(isinstance(note[key], str) for key in ("etag", "modified")):
        raise ValueError("no note of ours")
    return Version(note["etag"], note["modified"], total)
