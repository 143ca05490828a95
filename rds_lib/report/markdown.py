"""Generated parts of hand-written Markdown, and tables.

A part stands between two lines of its own, ``<!-- begin NAME -->`` and ``<!-- end NAME -->``.
"""

import re
from collections.abc import Iterable, Mapping, Sequence

from rds_lib.core.errors import RDSInputError

_MARK = re.compile(r"^<!-- (begin|end) ([\w-]+) -->\n", re.MULTILINE)


def parts(text: str) -> dict[str, str]:
    """Return what stands between each pair of markers, by name.

    Raises
    ------
    RDSInputError
        If a marker has no partner, lies inside another pair, or a name comes twice.
    """
    marks, found = list(_MARK.finditer(text)), {}
    for begin, end in zip(marks[::2], [*marks[1::2], None]):
        if end is None or (begin[1], end[1]) != ("begin", "end") or begin[2] != end[2] or begin[2] in found:
            raise RDSInputError(f"marker {begin[0].strip()}: every part needs one begin and one end, in this order")
        found[begin[2]] = text[begin.end() : end.start()]
    return found


def replace_between(text: str, name: str, content: str) -> str:
    """Return the text with another part ``name``; all else stays as it is."""
    if name not in parts(text):
        raise RDSInputError(f"no part {name}; put it between <!-- begin {name} --> and <!-- end {name} -->")
    begin, end = f"<!-- begin {name} -->\n", f"<!-- end {name} -->\n"
    before, _, rest = text.partition(begin)
    body = content.rstrip("\n")
    return before + begin + (f"{body}\n" if body else "") + end + rest.partition(end)[2]


def replace_parts(text: str, contents: Mapping[str, str]) -> str:
    """Return the text with all its parts filled from ``contents``; parts it does not have are not asked for."""
    for name in parts(text):
        if name not in contents:
            raise RDSInputError(f"nothing generates the part {name}; there is: {', '.join(contents)}")
        text = replace_between(text, name, contents[name])
    return text


def without_parts(text: str) -> str:
    """Return the text as written by hand: every generated part is empty."""
    return replace_parts(text, dict.fromkeys(parts(text), ""))


def table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a Markdown table."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)
