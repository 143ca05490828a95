"""Numbers in prose that say where they come from, so that they can be filled in anew and checked.

A quoted number stands before an invisible mark that names its source, a table below the page's own folder:
``57.1<!-- table9.csv: method=RDS; level=0.6: value: .1f -->``. The mark has the file, what its row has, the column and
a Python format, by default ``.1f``. Instead of a column, ``#`` counts the rows. Pages about results are written by
hand, and `refill` puts in the numbers.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from rds_lib.core.artifacts import read_table
from rds_lib.core.errors import RDSInputError
from rds_lib.core.paths import shown

NUMBER = r"[+-]?\d+(?:[.,]\d+)*"
QUOTED = re.compile(rf"({NUMBER}|\?)<!-- ([^:>]+\.csv): ([^:>]*): ([^:>]+?)(?:: ([^>]+?))? -->")
MARK = re.compile(r"<!--.*?-->", re.DOTALL)
DIGITS = re.compile(NUMBER)
NAMES = r"\b(?:SAM2(?:\.1)?|DINOv3|DAVIS 201[67]|YouTube-VOS 2019|CVPR 2026)\b"
FREE = re.compile(rf"`[^`]*`|\]\([^)]*\)|!\[[^]]*\]|{NAMES}")


def refill(text: str, *folders: Path) -> str:
    """Return a page with every quoted number as its table has it, in the first of ``folders`` that has such a file.

    A ``?`` is filled in too.

    Raises
    ------
    RDSInputError
        If a mark names no file, no row or several rows, or no column.
    """
    return QUOTED.sub(lambda found: found[0].replace(found[1], quoted(*found.groups()[1:], folders), 1), text)


def quoted(file: str, rows: str, column: str, form: str | None, folders: Sequence[Path]) -> str:
    """One number, as a mark names it."""
    paths = [folder / file.strip() for folder in folders]
    path = next((path for path in paths if path.is_file()), paths[-1])
    table, name = read_table(path), shown(path)
    for part in filter(None, map(str.strip, rows.split(";"))):
        key, _, value = part.partition("=")
        if key not in table:
            raise RDSInputError(f"{name}: has no column {key!r}; there is: {', '.join(table)}")
        table = table[table[key].map(_text) == value]
    if column == "#":
        return str(len(table))
    if len(table) != 1 or column not in table:
        raise RDSInputError(f"{name}: {rows}: {column}: one row and a column expected, {len(table)} rows found")
    return format(table[column].iloc[0], form or ".1f")


def unquoted(text: str) -> list[str]:
    """Numbers of a page that no mark vouches for, but for those in code, in links and in names of models and data."""
    lines = [line for line in QUOTED.sub("", text).splitlines() if not line.startswith("#")]
    return DIGITS.findall(FREE.sub("", MARK.sub("", "\n".join(lines))))


def _text(value) -> str:
    return format(value, "g") if isinstance(value, float) else str(value)
