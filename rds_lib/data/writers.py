"""Write clips and predictions in the layouts of DAVIS 2017, SA-V and YouTube-VOS."""

import json
import os
import shutil
from collections.abc import Iterable, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from rds_lib.core.artifacts import atomic_write, read_json, read_text, write_json
from rds_lib.core.errors import RDSInputError
from rds_lib.data.images import write_palette_png
from rds_lib.data.labels import check_labels, present_labels
from rds_lib.data.layouts import CONDITIONS, LAYOUTS, check_name, locate, read_index

if TYPE_CHECKING:
    from rds_lib.data.clips import Clip
    from rds_lib.data.datasets import Sequence


def write_dataset(
    root: str | Path,
    clips: Iterable["Clip"],
    *,
    layout: str,
    split: str = "val",
    seen_categories: Iterable[str] | None = None,
) -> None:
    """Write clips as a set that `read_dataset` and the official tools read; a set that is there grows.

    Parameters
    ----------
    root, layout, split
        As for `read_dataset`. A new root appears as a whole; in one that exists, the clips are moved in when all of
        them are written and the list that names them is replaced last, so readers see the old set or the new one.
    clips : iterable of Clip
        Written one by one. Frames become JPEG of quality 95 without chroma subsampling. DAVIS: palette PNGs of
        every frame; SA-V: every 4th frame, one PNG per object from its first appearance on, object 1 in folder
        ``000``; YouTube-VOS: every 5th frame and ``meta.json``. Conditions go to ``conditions.csv`` beside a clip's
        masks: ``frame_idx``, ``condition``, ``strength``.
    seen_categories : iterable of str, optional
        YouTube-VOS: written to ``seen_categories.json`` beside ``meta.json``. By default all of the clips'.

    Raises
    ------
    RDSInputError
        If a clip's name is taken or no path, its arrays do not fit, or there is no object to prompt with.
    """
    root = Path(root)
    old = locate(root, layout, split)
    with _staged(root, old) as stage:
        new = locate(stage, layout, split)
        entries = {}
        for clip in clips:
            _check_clip(clip)
            if clip.name in entries or (old.frames / clip.name).exists() or (old.masks / clip.name).exists():
                raise RDSInputError(f"{old.frames / clip.name}: already there; delete the set or rename the clip")
            entries[clip.name] = _write_clip(new, clip, layout)
        if not entries:
            raise RDSInputError(f"{root}: no clips to write")
        _write_index(new, old, entries, layout, seen_categories)


def write_masks(
    folder: str | Path, sequence: "Sequence", masks: Mapping[int, object], *, layout: str | None = None
) -> Path:
    """Write predictions in the form that the evaluation of a layout takes.

    Parameters
    ----------
    folder : path
        The prediction root. The sequence's own folder in it is replaced as a whole.
    masks : mapping
        Frame index -> label map (H, W) uint8, or {object id: (H, W) bool}. Where two objects overlap in a label
        map, the lower id wins, as in SAM2's own tool. SA-V keeps overlaps and takes the second form alone.
    layout : str, optional
        That of the sequence by default. SA-V: ``<name>/<obj 000>/<frame>.png`` of 0 and 1; otherwise a palette PNG
        ``<name>/<frame>.png``.

    Returns
    -------
    Path
        The sequence's folder.
    """
    layout = layout or sequence.layout
    locate(Path(folder), layout, "val")
    target = Path(folder) / sequence.name
    with atomic_write(target) as stage:
        stage.mkdir()
        for t, content in masks.items():
            for name, labels in _prediction_files(sequence, t, content, layout):
                (stage / name).parent.mkdir(exist_ok=True)
                write_palette_png(stage / name, labels)
        if target.exists():
            shutil.rmtree(target)
    return target


@contextmanager
def _staged(root, old):
    """Yield a folder to fill like ``root``; it becomes the root, or its content joins the root by renames alone."""
    if not root.exists():
        with atomic_write(root) as stage:
            stage.mkdir()
            yield stage
        return
    with TemporaryDirectory(prefix=".tmp-", dir=root) as stage:
        yield Path(stage)
        parts = [part.relative_to(root) for part in old]
        for part in parts[:2]:
            (root / part).mkdir(parents=True, exist_ok=True)
            for folder in sorted((stage / part).iterdir()):
                os.rename(folder, root / part / folder.name)
        for file in sorted((stage / parts[2]).parent.iterdir(), key=lambda file: file.name == parts[2].name):
            if file.is_file():
                (root / parts[2]).parent.mkdir(parents=True, exist_ok=True)
                os.replace(file, (root / parts[2]).parent / file.name)


def _check_clip(clip):
    check_name(clip.name, "clip")
    frames, masks = clip.frames, clip.masks
    if clip.conditions and len(clip.conditions) != len(frames):
        raise RDSInputError(
            f"clip {clip.name}: {len(clip.conditions)} conditions for {len(frames)} frames; one a frame"
        )
    if frames.dtype != np.uint8 or masks.dtype != np.uint8 or frames.ndim != 4 or frames.shape != (*masks.shape, 3):
        raise RDSInputError(
            f"clip {clip.name}: frames {frames.shape} {frames.dtype} and masks {masks.shape} {masks.dtype}; "
            "expected (T, H, W, 3) and (T, H, W), both uint8"
        )


def _write_clip(where, clip, layout):
    """Write one clip; return object id -> the annotated frames from its first appearance on."""
    frames, masks = where.frames / clip.name, where.masks / clip.name
    frames.mkdir(parents=True)
    masks.mkdir(parents=True)
    for t, picture in enumerate(clip.frames):
        Image.fromarray(picture).save(frames / f"{t:05d}.jpg", quality=95, subsampling=0)
    if clip.conditions:
        rows = [("frame_idx", "condition", "strength"), *((t, *row) for t, row in enumerate(clip.conditions))]
        lines = "".join(f"{','.join(map(str, row))}\n" for row in rows)
        (masks / CONDITIONS).write_text(lines, encoding="utf-8")
    required = {}
    for t in range(0, len(clip.masks), LAYOUTS[layout].stride):
        labels, stem = clip.masks[t], f"{t:05d}"
        for obj in present_labels(labels):
            required.setdefault(obj, [])
        for obj, names in required.items():
            names.append(stem)
            if layout == "sav":
                (masks / f"{obj - 1:03d}").mkdir(exist_ok=True)
                write_palette_png(masks / f"{obj - 1:03d}" / f"{stem}.png", (labels == obj).astype(np.uint8))
        if layout != "sav":
            write_palette_png(masks / f"{stem}.png", labels)
    if not required or (layout == "davis2017" and not clip.masks[0].any()):
        where = "its first frame, from which DAVIS takes them," if required else "its annotated frames"
        raise RDSInputError(f"clip {clip.name}: no object in {where} to prompt with")
    return {
        obj: {
            "category": clip.categories[obj - 1] if obj <= len(clip.categories) else "object",
            "frames": required[obj],
        }
        for obj in sorted(required)
    }


def _write_index(new, old, entries, layout, seen_categories):
    new.index.parent.mkdir(parents=True, exist_ok=True)
    if layout != "ytvos":
        names = (list(read_index(old)) if old.index.exists() else []) + list(entries)
        new.index.write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
        return
    seen_path = old.index.with_name("seen_categories.json")
    seen = set(json.loads(read_text(seen_path))) if seen_path.exists() else set()
    if seen_categories is None:
        seen_categories = {item["category"] for objects in entries.values() for item in objects.values()}
    videos = read_json(old.index, schema=None)["videos"] if old.index.exists() else {}
    videos |= {
        name: {"objects": {str(obj): item for obj, item in objects.items()}} for name, objects in entries.items()
    }
    write_json(new.index, {"videos": videos}, schema=None)
    new.index.with_name(seen_path.name).write_text(
        json.dumps(sorted(seen | set(seen_categories))) + "\n", encoding="utf-8"
    )


def _prediction_files(sequence, t, content, layout):
    """Yield (path inside the sequence's folder, label map) for one frame's prediction."""
    if not 0 <= t < len(sequence):
        raise RDSInputError(f"{sequence.name}: a mask for frame {t}; it has frames 0 to {len(sequence) - 1}")
    file = f"{sequence.frame_names[t]}.png"
    per_object = isinstance(content, Mapping)
    for labels in content.values() if per_object else [content]:
        if labels.shape != sequence.size or labels.dtype != (bool if per_object else np.uint8):
            raise RDSInputError(
                f"{sequence.name}: mask of frame {t} is {labels.shape} {labels.dtype}; expected {sequence.size}, "
                "uint8 for a label map and bool for one object"
            )
    if layout == "sav":
        if not per_object:
            raise RDSInputError(
                f"{sequence.name}: SA-V takes one mask per object, {{object id: bool mask}}, not a label map"
            )
        yield from ((f"{obj:03d}/{file}", mask.astype(np.uint8)) for obj, mask in content.items())
        return
    if per_object:
        check_labels(content, sequence.name)
        merged = np.zeros(sequence.size, np.uint8)
        for obj in sorted(content, reverse=True):
            merged[content[obj]] = obj
        content = merged
    yield file, content
