"""Find and read the masks that a protocol scores: DAVIS 2017, SA-V and YouTube-VOS folders."""

import json
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from rds_lib.core.artifacts import read_json, read_text
from rds_lib.core.errors import RDSInputError
from rds_lib.data.images import are_binary, read_labels
from rds_lib.data.labels import VOID, present_labels
from rds_lib.data.layouts import check_name, check_split, locate, object_numbers, read_index
from rds_lib.data.names import frame_files, in_time_order


@dataclass(frozen=True)
class Clip:
    """One folder of ground truth, its predictions, and what is scored in it.

    ``frames`` maps each scored file name to the objects scored there. ``max_id`` is the largest label a prediction
    may hold. In a ``binary`` clip (SA-V) every non-zero pixel belongs to its one object, and in a ``black_white`` one
    (DAVIS 2016) those of 255 do, in ground truth and predictions, or those of 1.
    """

    sequence: str
    gt_dir: Path
    pred_dir: Path
    objects: tuple
    frames: dict
    max_id: int = VOID - 1
    binary: bool = False
    unseen: frozenset = frozenset()
    black_white: bool = False


def find_clips(gt_root, pred_root, protocol, *, split="val", sequences=None) -> tuple[list[Clip], dict]:
    """List the clips of a protocol, in scoring order, and what its summary should say about the choice.

    Raises
    ------
    RDSInputError
        If a folder, a sequence, a split list or a prediction that will be scored is missing.
    """
    if protocol not in FINDERS:
        raise RDSInputError(f"protocol {protocol!r} is unknown; use one of {', '.join(map(repr, FINDERS))}")
    gt_root, pred_root = Path(gt_root), Path(pred_root)
    for name, root in (("gt_root", gt_root), ("pred_root", pred_root)):
        if not root.is_dir():
            raise RDSInputError(f"{name} {root} is not a folder")
    if sequences is None:
        check_split(gt_root, protocol, split)
    clips, notes = FINDERS[protocol](gt_root, pred_root, split, sequences)
    for clip in clips:
        _require_predictions(clip)
    return clips, notes


def read_pair(clip: Clip, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Read one frame's ground truth and prediction as (H, W) uint8 label maps of equal size.

    Raises
    ------
    RDSInputError
        If a file cannot be read, is no index PNG, differs in size, or holds a label the protocol does not allow.
    """
    gt_path, pred_path = clip.gt_dir / name, clip.pred_dir / name
    gt, pred = (read_labels(path, binary=clip.black_white) for path in (gt_path, pred_path))
    if pred.shape != gt.shape:
        raise RDSInputError(
            f"{pred_path} is {pred.shape[1]}x{pred.shape[0]} px, its ground truth {gt.shape[1]}x{gt.shape[0]} px; "
            "predictions are scored at the size of the ground truth and never resized"
        )
    if clip.binary:
        return _one_object(gt, gt_path), _one_object(pred, pred_path)
    largest = int(pred.max())
    if largest > clip.max_id:
        hint = " (a 0/255 grey mask?)" if largest == VOID else ""
        raise RDSInputError(
            f"{pred_path} holds label {largest}{hint}; allowed are 0 to {clip.max_id}, the object ids of the ground "
            "truth: save each object's id as the pixel value"
        )
    return gt, pred


def _one_object(labels, path):
    """Non-zero as 1; two different non-zero labels in a one-object file are an error, as in SA-V's evaluator."""
    count = cv2.countNonZero(labels)
    if count and cv2.countNonZero((labels == labels.max()).view(np.uint8)) != count:
        raise RDSInputError(f"{path} holds more than one label; SA-V files hold one object each, 0 and one other value")
    return (labels > 0).view(np.uint8)


def _davis_clips(gt_root, pred_root, split, sequences):
    where = locate(gt_root, "davis2017", split)
    base = where.masks if where.masks.is_dir() else _other_resolution(gt_root)
    names, notes = _choose(where, where.index.parent.is_dir(), split, sequences)
    clips = []
    for name in _sequence_names(base, names):
        frames = _frame_names(base / name)
        black_white = are_binary(base / name / frame for frame in frames)
        first = read_labels(base / name / frames[0], binary=black_white)
        count = max(present_labels(first), default=0)
        if count == 0:
            raise RDSInputError(f"{base / name / frames[0]} shows no object; DAVIS takes its objects from this frame")
        objects = tuple(range(1, count + 1))
        scored = dict.fromkeys(frames[1:-1], objects)
        about = {"max_id": count, "black_white": black_white}
        clips.append(Clip(name, base / name, pred_root / name, objects, scored, **about))
    return clips, notes


def _other_resolution(root):
    """The one ``Annotations/<res>`` that is not 480p, else ``Annotations`` or ``root`` with the sequences in it."""
    base = root / "Annotations"
    if not base.is_dir():
        return root
    folders = _folders(base)
    if any(_pngs(folder) for folder in folders):
        return base
    if len(folders) != 1:
        found = ", ".join(folder.name for folder in folders) or "none"
        raise RDSInputError(f"{base} should hold 480p or one other resolution; found {found}: pass that folder instead")
    return folders[0]


def _sav_clips(gt_root, pred_root, split, sequences):
    where = locate(gt_root, "sav", split)
    if not where.masks.is_dir():  # not the root of all splits: one split's folder, or its annotations
        base = gt_root / "Annotations_6fps" if (gt_root / "Annotations_6fps").is_dir() else gt_root
        where = where._replace(masks=base, index=gt_root / where.index.name)
    names, notes = _choose(where, where.index.is_file(), split, sequences)
    clips = []
    for name in _sequence_names(where.masks, names):
        folders = _folders(where.masks / name)
        if not folders:
            raise RDSInputError(f"{where.masks / name} has no object folders; SA-V keeps masks as {name}/000/00000.png")
        for folder in folders:
            scored = dict.fromkeys(_frame_names(folder)[1:-1], (folder.name,))
            clips.append(Clip(name, folder, pred_root / name / folder.name, (folder.name,), scored, binary=True))
    return clips, notes


def _choose(where, has_list, split, sequences):
    """Names to score (None: all there are) and how they were chosen."""
    if sequences is not None:
        return sequences, {"split": "named sequences"}
    return (list(read_index(where)), {"split": split}) if has_list else (None, {"split": "all folders"})


def _ytvos_clips(gt_root, pred_root, split, sequences):
    where = locate(gt_root, "ytvos", split)
    if not where.masks.is_dir():
        base = gt_root / "Annotations" if (gt_root / "Annotations").is_dir() else gt_root
        where = where._replace(masks=base, index=gt_root / where.index.name)
    meta = read_json(where.index, schema=None) if where.index.is_file() else None
    seen_path = where.index.with_name("seen_categories.json")
    seen = _read_seen(seen_path) if seen_path.is_file() else None
    clips, flagged = [], False
    for name in _sequence_names(where.masks, sequences):
        folder = where.masks / name
        masks = [folder / frame for frame in _frame_names(folder)]
        about = {"black_white": are_binary(masks)}
        entries = _appearances(masks, **about) if meta is None else _meta_objects(meta, where.index, name)
        frames = {} if _shows_prompts_alone(folder, entries) else _prompts_left_out(folder, entries)
        flagged = flagged or any("seen" in entry for entry in entries.values())
        about["unseen"] = frozenset(obj_id for obj_id, entry in entries.items() if not _is_seen(entry, seen))
        clips.append(Clip(name, folder, pred_root / name, tuple(entries), frames, **about))
    source = seen_path.name if seen is not None else "meta.json" if flagged else "missing: all objects count as seen"
    return clips, {"seen_split": source}


def _shows_prompts_alone(folder, entries):
    """Whether the ground truth is kept back, as YouTube-VOS publishes valid: a mask where an object begins, no other.

    A prompt of one object is no ground truth of another, so nothing of such a sequence can be scored.
    """
    listed = [in_time_order(entry["frames"], "meta.json") for entry in entries.values()]
    prompts, others = {first for first, *_ in listed}, {stem for _, *rest in listed for stem in rest}
    present = {Path(name).stem for name in _frame_names(folder)}
    return present <= prompts and not others <= present


def _prompts_left_out(folder, entries):
    """Scored frames in time order: those ``meta.json`` lists for an object, without the first, its prompt."""
    frames = {frame: () for frame in _frame_names(folder)}
    for obj_id, entry in entries.items():
        for stem in in_time_order(entry["frames"], f"meta.json, object {obj_id}")[1:]:
            if f"{stem}.png" not in frames:
                raise RDSInputError(f"{folder / stem}.png is missing; meta.json lists it for object {obj_id}")
            frames[f"{stem}.png"] += (obj_id,)
    return {frame: objects for frame, objects in frames.items() if objects}


def _meta_objects(meta, path, sequence):
    """``{obj_id: {"frames": [stem, ...], ...}}`` of one sequence, ids ascending."""
    try:
        objects = object_numbers(meta["videos"][sequence]["objects"])
        if objects and all(_describes_frames(entry) for entry in objects.values()):
            for stem in {stem for entry in objects.values() for stem in entry["frames"]}:
                check_name(stem, f"{path}: frame")
            return dict(sorted(objects.items()))
    except (KeyError, TypeError, AttributeError, ValueError):
        pass
    raise RDSInputError(
        f"{path} does not describe sequence {sequence!r}; it needs "
        '{"videos": {"<sequence>": {"objects": {"1": {"category": "...", "frames": ["00000", ...]}}}}}'
    )


def _describes_frames(entry):
    is_seen = entry.get("seen", True)
    return bool(entry["frames"]) and isinstance(entry["frames"], list) and isinstance(is_seen, bool)


def _appearances(frames, black_white):
    """What ``meta.json`` would say: each object of the ground truth with the frames from its first sight on."""
    entries = {}
    for frame in frames:
        for obj_id in present_labels(read_labels(frame, binary=black_white)):
            entries.setdefault(obj_id, {"frames": []})
        for entry in entries.values():
            entry["frames"].append(frame.stem)
    if not entries:
        raise RDSInputError(f"{frames[0].parent} shows no object in any frame")
    return dict(sorted(entries.items()))


def _is_seen(entry, seen_categories):
    if "seen" in entry:
        return bool(entry["seen"])
    return seen_categories is None or entry.get("category") in seen_categories


def _read_seen(path):
    try:
        names = json.loads(read_text(path))
    except (ValueError, RecursionError) as cause:
        raise RDSInputError(f"{path} cannot be read as JSON ({cause})") from cause
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise RDSInputError(f"{path} should hold a list of category names, not {repr(names)[:80]}")
    return names


def _sequence_names(base, wanted):
    present = [folder.name for folder in _folders(base)]
    names = present if wanted is None else list(dict.fromkeys(wanted))
    for name in names:
        if name not in present:
            raise RDSInputError(f"sequence {name!r} has no ground-truth folder in {base}")
    if not names:
        raise RDSInputError(f"there are no sequences to score in {base}")
    return names


def _frame_names(folder):
    names = _pngs(folder)
    if not names:
        raise RDSInputError(f"{folder} holds no PNG masks")
    return names


def _require_predictions(clip):
    if not clip.pred_dir.is_dir():
        raise RDSInputError(f"sequence {clip.sequence!r} has no predictions: {clip.pred_dir} is not a folder")
    present = {path.name for path in clip.pred_dir.iterdir()}
    missing = [name for name in clip.frames if name not in present]
    if missing:
        raise RDSInputError(
            f"{clip.pred_dir / missing[0]} is missing ({len(missing)} of the {len(clip.frames)} scored frames of "
            f"sequence {clip.sequence!r}); predictions carry the file names of the ground truth"
        )


def _folders(root):
    return sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))


def _pngs(folder):
    """File names of masks in time order; hidden files such as ``._00000.png`` are passed over."""
    return [path.name for path in frame_files(folder, (".png",))[0]]


FINDERS = {"davis2017": _davis_clips, "sav": _sav_clips, "ytvos": _ytvos_clips}
