"""One sequence of a data set: what is missing, odd or damaged in its frames and masks."""

import warnings

from rds_lib.core.errors import RDSInputError
from rds_lib.data.images import list_frames
from rds_lib.data.layouts import shorten
from rds_lib.data.names import frame_files
from rds_lib.supplies.findings import ERROR, WARNING, Findings
from rds_lib.supplies.objects import check_labels, check_object
from rds_lib.supplies.pictures import frame_size, mask_size
from rds_lib.supplies.splits import Split


def check_sequence(split: Split, name: str, findings: Findings, *, deep: bool = False) -> tuple[int, int]:
    """Note what is wrong with a sequence; return how many frames and masks were looked at.

    Parameters
    ----------
    deep : bool
        Decode every picture; otherwise look at headers, at the ends of files, and at the masks that objects begin in.
    """
    frames = _listed(split.frames / name, name, findings)
    stems = [path.stem for path in frames]
    size = _check_frames(frames, name, findings, deep)
    folders = _object_folders(split, name, findings)
    masks = {}
    for obj, folder in folders.items():
        masks[obj] = _masks_of(folder, name, findings)
        _check_masks(masks[obj], stems, size, name, findings, deep)
        if masks[obj]:
            _check_gaps(split.layout, masks[obj], stems, folder, name, findings)
    if split.layout == "sav":
        for obj, paths in masks.items():
            check_object(obj, paths, folders[obj], name, findings)
    elif masks[None]:
        check_labels(split, masks[None], stems, name, findings, deep)
    return len(frames), sum(map(len, masks.values()))


def _listed(folder, name, findings):
    """The frames of a folder; gaps and pictures that are left out are noted as the reader says them."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            paths = list_frames(folder)
        except RDSInputError as error:
            findings.quote(ERROR, name, folder, error)
            paths = []
    for warning in said:
        findings.quote(WARNING, name, folder, warning.message)
    return paths


def _check_frames(frames, name, findings, deep):
    """(H, W) of the first frame that can be read, which the others and the masks should have."""
    size = None
    for path in frames:
        try:
            found = frame_size(path, deep=deep)
        except RDSInputError as error:
            findings.quote(ERROR, name, path, error)
            continue
        size = size or found
        if found != size:
            what = f"{found[1]}x{found[0]} px, but the first frame has {size[1]}x{size[0]}"
            findings.add(ERROR, name, path, what, "make all frames of one size", kind="size of frame")
    return size


def _object_folders(split, name, findings):
    """Where the masks lie: SA-V has a folder for each object, the others one for all, with the key None."""
    folder = split.masks / name
    if split.layout != "sav":
        return {None: folder}
    found = {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if not path.is_dir():
            if path.suffix.lower() == ".png":
                findings.add(
                    ERROR, name, path, "a mask outside the folders of objects", "move it into one, such as 000"
                )
        elif not (path.name.isascii() and path.name.isdigit()):
            findings.add(ERROR, name, path, "no folder of an object", "name it by a number such as 000")
        elif int(path.name) in found:
            what = f"the same object by its number as {found[int(path.name)].name}"
            findings.add(ERROR, name, path, what, "keep one of the two")
        else:
            found[int(path.name)] = path
    if missing := sorted(set(range(max(found, default=0))) - set(found)):
        what = f"no folder for objects {shorten([f'{obj:03d}' for obj in missing])}"
        findings.add(WARNING, name, folder, what, "unpack the annotations again if they should be there")
    if not found:
        findings.add(ERROR, name, folder, "no folder of an object", "unpack the annotations again")
    return found


def _masks_of(folder, name, findings):
    """The label PNGs of a folder in time order, by stem."""
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in (".jpg", ".jpeg") and not path.name.startswith("."):
            what, fix = "a mask coded as JPEG, which blurs labels", "get the PNG, it cannot be made from this"
            findings.add(ERROR, name, path, what, fix)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            paths = frame_files(folder, (".png",))[0]
            if not paths:
                findings.add(ERROR, name, folder, "holds no annotation PNGs", "unpack the annotations again")
        except RDSInputError as error:
            findings.quote(ERROR, name, folder, error)
            paths = []
    for warning in said:
        findings.quote(WARNING, name, folder, warning.message)
    return {path.stem: path for path in paths}


def _check_masks(masks, stems, size, name, findings, deep):
    """Masks that cannot be read, have another size than the frames, or have no frame."""
    for stem, path in masks.items():
        if stems and stem not in stems:
            findings.add(
                ERROR, name, path, "a mask without a frame of its name", "unpack the frames again", kind="orphan"
            )
        try:
            found = mask_size(path, deep=deep)
        except RDSInputError as error:
            findings.quote(ERROR, name, path, error)
            continue
        if size and found != size:
            what = f"{found[1]}x{found[0]} px, but the frames have {size[1]}x{size[0]}"
            findings.add(ERROR, name, path, what, "draw masks at the frames' size", kind="size of mask")


def _check_gaps(layout, masks, stems, folder, name, findings):
    """Frames without a mask where there should be one; what YouTube-VOS should have stands in its meta.json."""
    absent = [stem for stem in stems if stem not in masks]
    if layout in ("davis2017", "mose", "lvos") and absent:
        if len(masks) == 1 and layout != "lvos":
            what, fix = "one frame alone has a mask", "fine for tracking; scores need the rest"
            findings.add(WARNING, name, folder, what, fix)
        else:
            severity = WARNING if layout == "lvos" else ERROR
            what = f"no mask for {len(absent)} of {len(stems)} frames: {shorten(absent)}"
            findings.add(severity, name, folder, what, "unpack the annotations again")
    if layout == "sav":
        gap = frame_files(folder, (".png",))[1]
        if gap:
            what = f"no masks between {gap[0]} and {gap[1]}"
            findings.add(WARNING, name, folder, what, "unpack the annotations again if they should be there")
