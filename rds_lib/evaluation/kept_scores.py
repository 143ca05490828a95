"""Scores on disk, exactly as they were: what a long evaluation has finished is not tracked again."""

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import numpy as np
import pandas as pd

from rds_lib.core.artifacts import read_npz, write_npz
from rds_lib.core.errors import RDSInputError
from rds_lib.core.paths import shown
from rds_lib.evaluation.scores import Scores
from rds_lib.work import ranks
from rds_lib.work.finished import once

FILE = "scores.npz"
TABLES = ("objects", "routes", "boxes")


def kept_scores(folder: Path, score: Callable[[], list[Scores]]) -> list[Scores]:
    """What ``score`` returns, kept in a folder with all that it writes there, or found there if it is as it was left.

    Under `ranks.shared` all ranks call ``score``, and the first writes the file.
    """
    found = []

    def make():
        found.extend(score())
        if ranks.is_first():
            write_scores(folder / FILE, found)

    once(folder, FILE, make, parts="*")
    return found or read_scores(folder / FILE)


def folder_name(name: str) -> str:
    """A name of any signs as the name of a folder, a different one for each."""
    mark = hashlib.sha256(name.encode()).hexdigest()[:8]
    return f"{re.sub(r'[^0-9A-Za-z._]+', '-', name)[:60].strip('-.')}-{mark}"


def write_scores(path: Path, scores: list[Scores]) -> None:
    """Write scores of several data sets as one ``npz``: numbers as they are, texts as codes into a list of them."""
    arrays, notes = {}, []
    for n, one in enumerate(scores):
        note = {item.name: getattr(one, item.name) for item in fields(one) if item.name not in TABLES}
        for name in TABLES:
            table = getattr(one, name)
            note[name] = {
                "columns": [(column, str(table[column].dtype)) for column in table],
                "rows": len(table),
                "attrs": dict(table.attrs),
            }
            for i, column in enumerate(table):
                arrays |= {f"{n}/{name}/{i}{end}": array for end, array in _arrays(table[column]).items()}
        notes.append(note)
    write_npz(path, notes=np.array(json.dumps(notes)), **arrays)


def read_scores(path: Path) -> list[Scores]:
    """What `write_scores` wrote.

    Raises
    ------
    RDSInputError
        If it is no such file.
    """
    arrays, found = read_npz(path), []
    try:
        for n, note in enumerate(json.loads(str(arrays["notes"]))):
            tables = {name: _table(arrays, f"{n}/{name}", note.pop(name)) for name in TABLES}
            found.append(Scores(**tables, **note))
    except (ValueError, TypeError, KeyError, IndexError) as error:
        raise RDSInputError(f"{shown(path)}: no scores of ours ({error}); delete it and run again") from error
    return found


def _arrays(column: pd.Series) -> dict[str, np.ndarray]:
    if column.dtype.kind in "biuf":
        return {"": column.to_numpy()}
    codes, texts = pd.factorize(column)  # -1 where there is none
    if not all(isinstance(text, str) for text in texts):
        raise TypeError(f"column {column.name!r}: holds {column.dtype} that are no texts")
    return {"": codes.astype(np.int32), "-texts": np.array(texts, dtype=str)}


def _table(arrays, start, note) -> pd.DataFrame:
    columns = {}
    for i, (name, dtype) in enumerate(note["columns"]):
        values = arrays[f"{start}/{i}"]
        if f"{start}/{i}-texts" in arrays:
            texts = [*arrays[f"{start}/{i}-texts"].tolist(), None]
            values = [texts[code] for code in values]
        columns[name] = pd.Series(values, dtype=dtype)
    table = pd.DataFrame(columns, index=pd.RangeIndex(note["rows"]))
    table.attrs |= note["attrs"]
    return table
