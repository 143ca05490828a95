"""Which sequences a split of a data set should have and has, for the layouts that are read, and MOSE and LVOS."""

from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from rds_lib.core.artifacts import read_json, read_text
from rds_lib.core.errors import RDSInputError
from rds_lib.data.layouts import LAYOUTS, Location, check_name, check_split, locate, object_numbers, read_index, shorten
from rds_lib.supplies.findings import ERROR, WARNING, WHOLE_SET, Findings

CHECKED = (*LAYOUTS, "mose", "lvos")


@dataclass(frozen=True)
class Split:
    """A split's folders, and its sequences that have frames and masks."""

    layout: str
    frames: Path
    masks: Path
    index: Path | None
    names: tuple[str, ...]
    objects: Mapping[str, Mapping] = field(default_factory=dict)  # meta.json: sequence -> object number -> entry


def find_split(root: Path, layout: str, split: str, findings: Findings) -> Split | None:
    """Find a split and note what its list and its folders do not share; None where there is nothing to look at.

    Raises
    ------
    RDSInputError
        If there is no such root or layout, or the root has other splits alone.
    """
    if layout not in CHECKED:
        raise RDSInputError(f"--layout {layout!r}: is unknown; choose one of {', '.join(CHECKED)}")
    if not root.is_dir():
        raise RDSInputError(f"{root}: no such folder; name the root of the data set")
    where = _located(root, layout, split)
    if not where.frames.is_dir():
        findings.add(ERROR, WHOLE_SET, where.frames, "no such folder of frames", _hint(root, where, layout))
        return None
    if not where.masks.is_dir():
        findings.add(ERROR, WHOLE_SET, where.masks, "no such folder of masks", "unpack the annotations too")
    wanted = _wanted(where, layout, findings)
    shown = {kind: _folders(place) for kind, place in (("frames", where.frames), ("masks", where.masks))}
    listed = set(shown["frames"]) | set(shown["masks"]) if wanted is None else set(wanted)
    for name in wanted or sorted(listed):
        for kind, place in (("frames", where.frames), ("masks", where.masks)):
            if name not in shown[kind] and place.is_dir():
                source = "" if wanted is None else f" although {where.index.name} names it"
                findings.add(ERROR, name, place / name, f"no folder of {kind}{source}", "unpack the set again")
    _note_unlisted(where, layout, shown, listed, findings)
    names = [name for name in wanted or sorted(listed) if name in shown["frames"] and name in shown["masks"]]
    return Split(layout, where.frames, where.masks, where.index, tuple(names), _objects(where, names, findings))


def _located(root, layout, split):
    if layout in LAYOUTS:
        where = locate(root, layout, split)
        check_split(root, layout, split)
        return where
    folders = [root / check_name(split, "split"), *([root / "valid"] if split == "val" else []), root]
    folder = next((folder for folder in folders if (folder / "JPEGImages").is_dir()), None)
    if folder is None and (others := sorted(path.parent.name for path in root.glob("*/JPEGImages"))):
        raise RDSInputError(f"{root}: no split {split!r} here; there is: {', '.join(others)}")
    folder = folder or folders[0]
    metas = [folder / f"{name}_meta.json" for name in (split, folder.name, "valid" if split == "val" else split)]
    index = next((path for path in metas if path.is_file()), metas[-1]) if layout == "lvos" else None
    return Location(folder / "JPEGImages", folder / "Annotations", index)


def _hint(root, where, layout):
    """How to mend a root that is none: often it is one folder further down."""
    part = where.frames.relative_to(root)
    below = [path for path in sorted(root.iterdir()) if (path / part).is_dir()]
    if below:
        return f"name {below[0]} as the root"
    return f"check the root and --layout {layout}, or unpack the frames"


def _wanted(where, layout, findings):
    """The names of the split's list in its order; None where there is no list to go by."""
    if where.index is None:
        return None
    if layout == "lvos" and not where.index.is_file():
        findings.add(
            WARNING, WHOLE_SET, where.index, "missing", "get it from the set's home, it is a download of its own"
        )
        return None
    try:
        wanted = list(read_index(where))
    except RDSInputError as error:
        findings.quote(ERROR, WHOLE_SET, where.index, error)
        return None
    if where.index.suffix != ".json":
        lines = Counter(line.strip() for line in read_text(where.index).splitlines() if line.strip())
        if twice := [name for name, times in lines.items() if times > 1]:
            what = f"names {shorten(twice)} more than once"
            findings.add(WARNING, WHOLE_SET, where.index, what, "remove the second line; it counts once")
    return wanted


def _note_unlisted(where, layout, shown, listed, findings):
    """Folders that no list names; DAVIS keeps all splits in one place."""
    known = set(listed)
    if layout == "davis2017":
        for path in where.index.parent.glob("*.txt"):
            with suppress(RDSInputError):
                known |= {line.strip() for line in read_text(path).splitlines()}
    for kind, place in (("frames", where.frames), ("masks", where.masks)):
        if more := sorted(set(shown[kind]) - known):
            what = f"folders of {kind} that no list names: {shorten(more)}"
            findings.add(
                WARNING, WHOLE_SET, place, what, "they are passed over; add them to the list or move them away"
            )


def _folders(place: Path) -> list[str]:
    if not place.is_dir():
        return []
    return sorted(path.name for path in place.iterdir() if path.is_dir() and not path.name.startswith("."))


def _objects(where, names, findings):
    """What ``meta.json`` says of the objects of each sequence; empty for sets without one."""
    if where.index is None or where.index.suffix != ".json" or not where.index.is_file():
        return {}
    found = {}
    with suppress(RDSInputError):  # noted by `_wanted`
        videos = read_json(where.index, schema=None).get("videos")
        for name in names:
            with suppress(AttributeError, KeyError, TypeError, ValueError):
                found[name] = object_numbers(videos[name]["objects"])
                if not found[name]:
                    findings.add(ERROR, name, where.index, "names no object of it", "get the right meta.json")
    return found
