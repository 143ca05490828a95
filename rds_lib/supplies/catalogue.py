"""The data sets that can be had: where from, how large, and into what they unpack; `catalogue.yaml` lists them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit, urlunsplit

from ruamel.yaml import YAML

from rds_lib.core.artifacts import read_text
from rds_lib.core.errors import RDSInputError
from rds_lib.core.paths import shipped
from rds_lib.data.layouts import check_name

FILE = Path(__file__).with_name("catalogue.yaml")
UNKNOWN = "unknown"  # a hash that is given so stands for none: whatever comes is taken


@dataclass(frozen=True)
class Supply:
    """One archive of a data set, as `catalogue.yaml` describes its entries."""

    name: str
    title: str
    home: str
    addresses: tuple[str, ...]
    size: int | None  # bytes of the archive
    sha256: str | None
    unpacks_to: str | None
    layout: str
    shape: str
    licence: str
    needs: str = ""

    @property
    def archive(self) -> str:
        """The file's own name, from its first address."""
        name = PurePosixPath(unquote(urlsplit(self.addresses[0]).path)).name
        return check_name(name or f"{self.name}.archive", "--url: name of the file")


def read_catalogue(path: Path = FILE) -> dict[str, Supply]:
    """All entries by name."""
    entries = YAML(typ="safe", pure=True).load(read_text(shipped(path)))
    return {name: _supply(name, **entry) for name, entry in entries.items()}


def supply(
    name: str, *, urls: Sequence[str] = (), sha256: str | None = None, catalogue: dict[str, Supply] | None = None
) -> Supply:
    """An entry of the catalogue, with addresses or a hash of the caller's own in place of its.

    Parameters
    ----------
    urls : sequence of str
        Addresses of the same file, http or https, tried in this order.
    sha256 : str, optional
        64 hexadecimal digits, or ``unknown``: take what comes. With either the entry's size counts no more.

    Raises
    ------
    RDSInputError
        If there is no such entry, a value is out of range, or the set has no address and none is given.
    """
    catalogue = read_catalogue() if catalogue is None else catalogue
    if name not in catalogue:
        raise RDSInputError(f"data set {name!r} is not in the catalogue; choose one of {', '.join(catalogue)}")
    entry = catalogue[name]
    if urls:
        entry = replace(entry, addresses=tuple(_checked(url) for url in urls))
    if sha256 is not None:
        entry = replace(entry, size=None, sha256=_hash(sha256))
    if not entry.addresses:
        raise RDSInputError(
            f"{entry.title}: cannot be fetched by itself, it needs {entry.needs}. Get it from {entry.home} and unpack "
            f"it to: {entry.shape}. Or give the link that you got there: --url LINK. Then see that it is whole: "
            f"python -m rds_lib data check FOLDER --layout {entry.layout}. Licence: {entry.licence}"
        )
    return entry


def shown_address(url: str) -> str:
    """An address as it may be kept and printed: a link of one's own may hold a key after its question mark."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def _supply(name, *, addresses, bytes, **entry):
    return Supply(name, addresses=tuple(addresses), size=bytes, **entry)


def _checked(url):
    try:
        parts = urlsplit(url)
        is_good = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        is_good = False
    if not is_good or not url.isascii() or not url.isprintable() or " " in url:
        raise RDSInputError(f"--url {url[:120]!r}: expected an address that begins with https:// or http://")
    return url


def _hash(text):
    if text == UNKNOWN:
        return None
    if not re.fullmatch("[0-9a-fA-F]{64}", text):
        raise RDSInputError(f"--sha256 {text[:80]!r}: expected 64 hexadecimal digits, or {UNKNOWN}")
    return text.lower()
