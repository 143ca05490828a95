"""The one order of frames: by the numbers in their names; and which pictures of a folder are its frames."""

import re
import warnings
from collections import Counter
from collections.abc import Collection, Iterable
from decimal import Decimal
from pathlib import Path

import numpy as np

from rds_lib.core.errors import RDSInputError

# 12 or 0.04, which is one number; in 1.2.3 each of the three is a number
_NUMBER = re.compile(r"((?<![0-9][.,])[0-9]+[.,][0-9]+(?![.,]?[0-9])|[0-9]+)")


def in_time_order(stems: Iterable[str], where: str | Path) -> list[str]:
    """Sort the names of frames, without their suffixes, by the numbers in them: ``f2`` before ``f10``.

    Digits after a point are no number of their own: ``0.4`` comes after ``0.04``, as times in seconds do. Names that
    count on after a point, such as ``1.9``, ``1.10``, have whole numbers on both sides of it.

    Raises
    ------
    RDSInputError
        If two names carry the same numbers (``1``, ``00001``); it names ``where``.
    """
    stems = list(stems)
    return [stems[i] for i in _order(stems, stems, where)[0]]


def frame_files(folder: str | Path, suffixes: Collection[str]) -> tuple[list[Path], tuple | None]:
    """The pictures of a folder in time order, and the numbers around the first gap in them, if there is one.

    Hidden files and other types are passed over.

    Raises
    ------
    RDSInputError
        If two names carry the same numbers, or the folder holds more than one series of pictures.

    Warns
    -----
    UserWarning
        If single pictures have other names than all the rest, as a mask beside the frames has: they are left out.
    """
    try:
        found = list(Path(folder).iterdir())
    except OSError as cause:
        raise RDSInputError(f"{folder}: cannot be read ({cause.strerror})") from cause
    paths = [path for path in found if path.suffix.lower() in suffixes and path.name[0] != "."]
    order, keys = _order([path.stem for path in paths], [path.name for path in paths], folder)
    frames = _without_strays(folder, [(keys[i][0::2], paths[i]) for i in order])
    kept = set(frames)
    return frames, _gap([keys[i] for i in order if paths[i] in kept])


def _order(stems, names, where):
    """Indices in time order, and each name's key: text and numbers in turn."""
    keys = _keys(stems)
    order = sorted(range(len(keys)), key=keys.__getitem__)
    for i, j in zip(order, order[1:]):
        if keys[i] == keys[j]:
            raise RDSInputError(
                f"{where}: {names[i]} and {names[j]} are the same frame by their names; keep one of them here"
            )
    return order, keys


def _keys(stems):
    """Text and numbers take turns, so that any two keys can be compared; a column has numbers of one kind."""
    split = [_NUMBER.split(stem) for stem in stems]
    for column in range(1, max(map(len, split), default=0), 2):
        rows = [parts for parts in split if len(parts) > column]
        read = _reader([parts[column].replace(",", ".") for parts in rows])
        for parts in rows:
            parts[column] = read(parts[column].replace(",", "."))
    return [tuple(parts) for parts in split]


def _reader(numbers):
    """How to read the numbers of one column: whole, as decimals, or as two whole numbers with a point between."""
    decimals = [number.partition(".")[2] for number in numbers if "." in number]
    if not decimals:
        return _whole
    counts_on = len({*map(len, decimals)}) > 1 and any(len(part) > 1 and part.endswith("0") for part in decimals)
    return (lambda number: tuple(map(_whole, number.split(".")))) if counts_on else Decimal


def _whole(digits):
    """A whole number; Python reads none of more than 4300 digits."""
    return int(digits) if len(digits) < 4300 else Decimal(digits)


def _without_strays(folder, items):
    """Leave out single pictures whose names do not fit the rest; two series in one folder are no video."""
    kinds = [(texts, "PNG" if path.suffix.lower() == ".png" else "JPEG") for texts, path in items]
    counts = Counter(kinds)
    if len(counts) < 2:
        return [path for _, path in items]
    (main, most), *others = counts.most_common()
    is_numbered = len(main[0]) > 1 and 2 * most > len(items)
    if is_numbered and all(n == 1 and texts != main[0] for (texts, _), n in others):
        strays = [path.name for kind, (_, path) in zip(kinds, items) if kind != main]
        warnings.warn(f"{folder}: left out, as not named like the other frames: {', '.join(strays)}", stacklevel=4)
        return [path for kind, (_, path) in zip(kinds, items) if kind == main]
    numbered = [texts for (texts, _), n in counts.items() if len(texts) > 1 and n > 1]
    if len({kind for _, kind in counts}) > 1 or len(numbered) > 1:
        series = " and ".join(f"{n} like {items[kinds.index(kind)][1].name}" for kind, n in counts.most_common(3))
        raise RDSInputError(f"{folder}: holds {series}; a video is one series of frames, so move the others elsewhere")
    return [path for _, path in items]


def _gap(keys):
    """The numbers before and after the first gap, or None.

    Looks at names that differ in their last number alone; a regular stride (00000, 00005, ...) is no gap, and times
    may be uneven by half a step.
    """
    if any(len(key) < 3 or key[:-2] + key[-1:] != keys[0][:-2] + keys[0][-1:] for key in keys):
        return None
    numbers = [key[-2] for key in keys]
    if len(numbers) < 2 or isinstance(numbers[0], tuple):
        return None
    steps = np.diff(numbers)
    gaps = np.flatnonzero(2 * steps > 3 * steps.min())
    return (numbers[gaps[0]], numbers[gaps[0] + 1]) if len(gaps) else None
