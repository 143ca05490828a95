"""Fetch a data set: its archive from the first address that has it, compared with its hash, unpacked whole or not."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from rds_lib.core.artifacts import read_json, write_json
from rds_lib.core.errors import RDSInputError
from rds_lib.data.output import check_writable
from rds_lib.supplies.catalogue import Supply, shown_address
from rds_lib.supplies.download import Mishap, download
from rds_lib.supplies.part import Part
from rds_lib.supplies.unpack import room_for, unpack
from rds_lib.work.finished import digest
from rds_lib.work.locks import claim

RECEIPT = ".rds-fetched.json"  # in the unpacked folder: where it came from


class Fetched(NamedTuple):
    """What a fetch has put where."""

    root: Path
    sha256: str
    is_checked: bool  # against a hash that was known before
    files: int
    size: int  # bytes, unpacked
    is_new: bool


def fetch(
    entry: Supply,
    out: Path,
    *,
    keep: bool = False,
    say: Callable[[str], None] = lambda text: None,
    pause: Callable[[float], None] = time.sleep,
) -> Fetched:
    """Have a data set at ``out/<folder of its archive>``; what a stopped fetch left is gone on with.

    Parameters
    ----------
    entry : Supply
        From `catalogue.supply`.
    keep : bool
        Leave the archive in ``out`` when it is unpacked.
    say : callable
        Is given lines about what goes wrong, and on.

    Raises
    ------
    RDSInputError
        If no address has the file, its hash is another one, the disk is too full, another fetch is at work on it, or
        the archive is refused by `unpack`. Then ``out`` holds no half data set; a begun or a whole archive stays.
    """
    out = Path(out)
    if out.exists() and not out.is_dir():
        raise RDSInputError(f"{out}: is not a folder; choose another --out")
    check_writable(out)
    archive = out / entry.archive
    with claim(archive):
        if entry.unpacks_to is not None and (there := _there(out / entry.unpacks_to)):
            return there
        found, address = _archive(entry, archive, say, pause)
        note = {"name": entry.name, "address": address, "licence": entry.licence}
        note |= {"sha256": found, "checked": entry.sha256 is not None}

        def finish(stage, contents):
            write_json(stage / RECEIPT, {**note, "files": len(contents.files), "bytes": contents.size})

        contents = unpack(archive, out, top=entry.unpacks_to, finish=finish)
        if contents.left_out:
            say(f"{archive}: left out {contents.left_out} files that lie beside the folder {contents.top}")
        if not keep:
            archive.unlink()
        return Fetched(out / contents.top, found, entry.sha256 is not None, len(contents.files), contents.size, True)


def _there(root: Path) -> Fetched | None:
    """What an earlier fetch left; an error where a folder of that name is not ours."""
    if not root.exists():
        return None
    if not (root / RECEIPT).is_file():
        raise RDSInputError(
            f"{root}: is there already, and was not fetched by us; move it away, or choose another --out"
        )
    note = read_json(root / RECEIPT)
    return Fetched(root, note["sha256"], note["checked"], note["files"], note["bytes"], False)


def _archive(entry, archive, say, pause):
    """Have the whole archive; return its hash, and the address it came from, None where it was there."""
    if not archive.exists():
        if archive.is_symlink():
            raise RDSInputError(f"{archive}: is a link to nothing; remove it")
        part = Part(archive)
        if entry.size:
            room_for(archive, max(2 * entry.size - part.size, entry.size))  # pictures unpack to about the same again
        why = {}
        for address in entry.addresses:
            try:
                found = _from(entry, address, part, say, pause)
                part.become(archive)
                return found, shown_address(address)
            except Mishap as mishap:
                why[shown_address(address)] = mishap
        told = "; ".join(f"{address} {mishap}" for address, mishap in why.items())
        raise RDSInputError(f"{entry.name}: not fetched: {told}. {_what_now(part)}")
    found = digest(archive)
    if entry.sha256 not in (None, found):
        raise RDSInputError(
            f"{archive}: its SHA-256 is {found}, expected {entry.sha256}; delete it, or name its hash with --sha256"
        )
    return found, None


def _from(entry, address, part, say, pause):
    """Fill the part from one address and return its hash; once more from the first byte where it was patched up."""
    was_begun = part.size > 0
    for _ in range(1 + was_begun):
        download(address, part, size=entry.size, verified=entry.sha256 is not None, pause=pause, say=say)
        found = digest(part.path)
        if entry.sha256 in (None, found):
            return found
        part.remove()
        wrong = f"sends a file whose SHA-256 is {found}, expected {entry.sha256}"
        say(f"{shown_address(address)}: {wrong}")
    raise Mishap(wrong, again=False)


def _what_now(part):
    if part.size:
        return f"{part.path} holds {part.size} bytes, with which the same command goes on"
    return "Name another address of the same file with --url, or its hash with --sha256 if its makers changed it"
