"""The objects of a sequence: what its masks show, against the folders, the first mask or the meta.json with them."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from rds_lib.core.errors import RDSInputError
from rds_lib.data.images import are_binary, read_labels
from rds_lib.data.labels import present_labels
from rds_lib.data.layouts import shorten
from rds_lib.supplies.findings import ERROR, WARNING, Findings
from rds_lib.supplies.splits import Split

FIRST_ALONE = ("davis2017", "mose")  # their objects are those of the first mask


def check_object(obj: int, masks: Mapping[str, Path], folder: Path, name: str, findings: Findings) -> None:
    """An object of SA-V: its masks must show it, the first one above all."""
    for t, path in enumerate(masks.values()):
        try:
            if read_labels(path).any():
                if t:
                    what, fix = "empty first masks", f"the object is prompted with {path.name}"
                    findings.add(WARNING, name, next(iter(masks.values())), what, fix)
                return
        except RDSInputError as error:
            findings.quote(ERROR, name, path, error)
            return
    if masks:
        findings.add(ERROR, name, folder, f"no mask shows object {obj:03d}", "get the annotations again")


def check_labels(
    split: Split, masks: Mapping[str, Path], stems: Sequence[str], name: str, findings: Findings, deep: bool
) -> None:
    """The objects of a label map: those of the first mask, or those of meta.json, and no others."""
    entries = split.objects.get(name)
    try:
        binary = are_binary(masks.values())
        starts = _starts(entries, stems) if entries else {}
        _check_meta(split, entries, starts, masks, stems, name, findings)
        wanted = {starts[obj] for obj in starts if starts[obj] in masks}
        chosen = masks if deep else {stem: masks[stem] for stem in [*list(masks)[:1], *sorted(wanted)]}
        seen = {stem: _ids(path, binary) for stem, path in chosen.items()}
        if entries and not set(entries) <= {obj for ids in seen.values() for obj in ids}:
            seen = {stem: _ids(path, binary) for stem, path in masks.items()}
    except RDSInputError as error:
        findings.quote(ERROR, name, Path(str(error).partition(": ")[0]), error)
        return
    if entries:
        _check_entries(split.index, entries, starts, masks, seen, name, findings)
    else:
        _check_first(split.layout, masks, seen, binary, name, findings)


def _ids(path, binary):
    return present_labels(read_labels(path, binary=binary))


def _starts(entries: Mapping, stems) -> dict[int, str]:
    """The frame that each object begins in, by meta.json; without those of which it does not say."""
    numbers = {int(stem): stem for stem in stems if stem.isascii() and stem.isdigit() and len(stem) < 18}
    found = {}
    for obj, entry in entries.items():
        listed = _frames_of(entry)
        if listed:
            start = min(listed) if all(text.isdigit() for text in listed) else listed[0]
            found[obj] = numbers.get(int(start), start) if start.isascii() and start.isdigit() else start
    return found


def _frames_of(entry) -> list[str]:
    """The frames that an entry of meta.json names: all of an object (YouTube-VOS), or its first and last (LVOS)."""
    entry = entry if isinstance(entry, Mapping) else {}
    span = entry.get("frame_range")
    frames = [span.get("start"), span.get("end")] if isinstance(span, Mapping) else entry.get("frames")
    return [str(item) for item in frames if item is not None] if isinstance(frames, list) else []


def _check_meta(split, entries, starts, masks, stems, name, findings):
    """What meta.json says against the files: frames that it names, objects of which it says nothing."""
    if not entries or not stems:
        return
    silent = [obj for obj in entries if obj not in starts]
    if silent:
        what = f"names no frames of object {shorten(silent)}"
        findings.add(WARNING, name, split.index, what, "get the right meta.json", kind="silent")
    numbers = {stem.lstrip("0") for stem in stems}
    named = {frame for entry in entries.values() for frame in _frames_of(entry)}
    absent = sorted(frame for frame in named if frame not in stems and frame.lstrip("0") not in numbers)
    if absent:
        severity = ERROR if split.layout == "ytvos" else WARNING
        what = f"names frames that are not there: {shorten(absent)}"
        findings.add(severity, name, split.index, what, "unpack the frames again", kind="absent")
    without = sorted((named & set(stems)) - set(masks))
    if split.layout == "ytvos" and without and set(masks) - set(starts.values()):
        what = f"names {len(without)} frames that have no mask: {shorten(without)}"
        findings.add(WARNING, name, split.index, what, "unpack the annotations again", kind="without")


def _check_entries(index, entries, starts, masks, seen, name, findings):
    """The objects of meta.json must show up, best where it says that they begin; others are not read."""
    shown = {obj for ids in seen.values() for obj in ids}
    for obj in entries:
        start = starts.get(obj)
        if obj not in shown:
            what, fix = f"names object {obj}, which no mask shows", "get the annotations again"
            findings.add(ERROR, name, index, what, fix)
        elif start is not None and obj not in seen.get(start, ()):
            where = "where the mask does not show it" if start in masks else "where no mask is"
            what = f"begins object {obj} at {start}, {where}"
            findings.add(WARNING, name, index, what, "it is prompted where it is first seen")
    if more := sorted(shown - set(entries)):
        what = f"does not name object {shorten(more)}, which masks show"
        findings.add(WARNING, name, index, what, "they are passed over; get the right meta.json")


def _check_first(layout, masks, seen, binary, name, findings):
    """The first mask must show an object; what DAVIS and MOSE show later alone is not tracked."""
    first = next(iter(masks))
    if not seen[first]:
        if layout not in FIRST_ALONE and any(_ids(path, binary) for path in masks.values()):
            findings.add(
                WARNING, name, masks[first], "the mask is empty", "objects are prompted where they are first seen"
            )
        else:
            findings.add(ERROR, name, masks[first], "the mask is empty, there is no object to track", "get it again")
        return
    if layout in FIRST_ALONE:
        if skipped := sorted(set(range(1, max(seen[first]))) - set(seen[first])):
            what = f"the first mask shows object {max(seen[first])}, but not {shorten(skipped)}"
            findings.add(WARNING, name, masks[first], what, "they count as objects; get the mask again")
        later = sorted({obj for ids in seen.values() for obj in ids if obj > max(seen[first])})
        if later:
            where = next(masks[stem] for stem, ids in seen.items() if later[0] in ids)
            what = f"object {shorten(later)} is not in the first mask"
            findings.add(WARNING, name, where, what, "it is passed over, and the official evaluation refuses it")
