"""Where DAVIS 2017, SA-V and YouTube-VOS keep their frames, annotations and lists."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from rds_lib.core.artifacts import read_json, read_text
from rds_lib.core.errors import RDSInputError


class Layout(NamedTuple):
    """Path patterns below the root; ``{}`` stands for the split's folder."""

    frames: str
    masks: str
    index: str  # the list of sequences, written last: what it does not name is not there
    stride: int  # frames from one annotation to the next
    folders: dict[str, str]  # split -> its name on disk, where the two differ


LAYOUTS = {
    "davis2017": Layout("JPEGImages/480p", "Annotations/480p", "ImageSets/2017/{}.txt", 1, {}),
    "sav": Layout("sav_{}/JPEGImages_24fps", "sav_{}/Annotations_6fps", "sav_{0}/sav_{0}.txt", 4, {}),
    "ytvos": Layout("{}/JPEGImages", "{}/Annotations", "{}/meta.json", 5, {"val": "valid"}),
}
CONDITIONS = "conditions.csv"  # beside the masks of a clip whose conditions change: what held on each frame


class Location(NamedTuple):
    """The three places of one split: folders of frames and of annotations, and the list of sequences."""

    frames: Path
    masks: Path
    index: Path


def locate(root: Path, layout: str, split: str) -> Location:
    """Find a split's places; an unknown layout or a split that is no plain name is an ``RDSInputError``."""
    if layout not in LAYOUTS:
        raise RDSInputError(f"layout {layout!r} is unknown; choose one of {', '.join(LAYOUTS)}")
    spec = LAYOUTS[layout]
    split = spec.folders.get(split, check_name(split, "split"))
    return Location(*(root / part.format(split) for part in (spec.frames, spec.masks, spec.index)))


def check_split(root: Path, layout: str, split: str) -> None:
    """Raise if the root has other splits than the one asked for; it may also be a split's own folder and has none."""
    spec = LAYOUTS[layout]
    pattern = spec.masks if "{}" in spec.masks else spec.index
    before, after = pattern.split("{}")
    names = [p.relative_to(root).as_posix()[len(before) : -len(after)] for p in root.glob(pattern.replace("{}", "*"))]
    known = {folder: name for name, folder in spec.folders.items()}
    found = sorted({known.get(name, name) for name in names if not name.startswith(".")})
    if found and split not in found and spec.folders.get(split, split) not in names:
        raise RDSInputError(f"{root}: no split {split!r} here; there is: {', '.join(found)}")


def check_name(name: str, what: str) -> str:
    """Return a name that comes from a file, once it is sure that it cannot lead out of its folder."""
    is_plain = isinstance(name, str) and 0 < len(name) < 256 and Path(name).name == name and "\0" not in name
    if not is_plain or name.startswith("."):
        short = repr(name)[:80]
        raise RDSInputError(f"{what} {short}: expected the plain name of a file, without folders or a leading dot")
    return name


def object_numbers(objects: Mapping[str, object]) -> dict[int, object]:
    """The entries of ``meta.json`` for a video's objects by number; a ``ValueError`` if one is no plain number.

    Two names of one number, such as 1 and 01, are one too many.
    """
    numbers = {int(key): entry for key, entry in objects.items() if key.isascii() and key.isdigit() and len(key) < 10}
    if len(numbers) < len(objects):
        raise ValueError("names of objects are whole numbers, each once")
    return numbers


def read_index(where: Location) -> dict[str, list[int] | None]:
    """Read a split's list: sequence name -> the object ids of its entry (YouTube-VOS), or None."""
    if not where.index.is_file():
        raise RDSInputError(f"{where.index}: missing; it lists the sequences of the split. Is the root right?")
    if where.index.suffix == ".json":
        videos = read_json(where.index, schema=None).get("videos")
        try:
            wanted = {name: sorted(object_numbers(video["objects"])) for name, video in videos.items()}
        except (AttributeError, KeyError, TypeError, ValueError) as cause:
            raise RDSInputError(
                f'{where.index}: expected {{"videos": {{name: {{"objects": {{id: ...}}}}}}}}'
            ) from cause
    else:
        lines = read_text(where.index).splitlines()
        wanted = {line.strip(): None for line in lines if line.strip()}
    if not wanted:
        raise RDSInputError(f"{where.index}: names no sequence")
    return {check_name(name, f"{where.index}: sequence"): ids for name, ids in wanted.items()}


def shorten(items, limit: int = 8) -> str:
    """Join items for a message, the first few of many."""
    return ", ".join(str(item) for item in items[:limit]) + (
        f", ... ({len(items)} in all)" if len(items) > limit else ""
    )
