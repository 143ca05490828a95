"""DAVIS 2017, SA-V and YouTube-VOS folders: one reader for generated and for real data."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from rds_lib.core.artifacts import read_table
from rds_lib.core.errors import RDSInputError
from rds_lib.data.images import are_binary, image_size, list_frames, read_frame, read_labels, save_palette_png
from rds_lib.data.labels import davis_palette, present_labels
from rds_lib.data.layouts import CONDITIONS, check_split, locate, read_index, shorten
from rds_lib.data.names import frame_files
from rds_lib.data.writers import write_dataset, write_masks

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Sequence", "davis_palette", "describe", "read_dataset", "save_palette_png", "write_dataset", "write_masks"]


@dataclass(frozen=True)
class Sequence:
    """A video with its annotations; pixels are read when asked for.

    ``obj_ids`` are palette indices, or for SA-V the folder names as numbers (``000`` is object 0).
    Frames are counted from 0 in time order; ``frame_names`` are the file stems.
    """

    name: str
    frame_paths: tuple[Path, ...]
    frame_names: tuple[str, ...]
    obj_ids: tuple[int, ...]
    prompt_frame: dict[int, int]  # object -> index of its first annotated frame
    annotated: tuple[int, ...]  # frames with ground truth
    layout: str
    mask_paths: dict[int, dict] = field(repr=False)  # frame -> {object: PNG}; one PNG for all has the key None
    black_white: bool = False  # its masks are 0 and 255, as those of DAVIS 2016

    def __len__(self) -> int:
        return len(self.frame_paths)

    @cached_property
    def size(self) -> tuple[int, int]:
        """(H, W) in px, from the first frame."""
        return image_size(self.frame_paths[0])

    def frame(self, t: int) -> np.ndarray:
        """Frame t as (H, W, 3) uint8 RGB."""
        return self._checked(read_frame(self.frame_paths[t]), self.frame_paths[t])

    def masks(self, t: int) -> dict[int, np.ndarray]:
        """The ground truth of frame t, object id -> (H, W) bool.

        DAVIS: every object, also where it is out of sight. SA-V: the objects that have a PNG for this frame.
        YouTube-VOS: the objects seen in this PNG, because there 0 means "no label here".

        Raises
        ------
        RDSInputError
            If frame t has no annotation, or one of another size than the frame.
        """
        if t not in self.mask_paths:
            raise RDSInputError(f"{self.name}: frame {t} has no annotation; annotated are {shorten(self.annotated)}")
        paths = self.mask_paths[t].items()
        read = {obj: self._checked(read_labels(path, binary=self.black_white), path) for obj, path in paths}
        if self.layout == "sav":
            return {obj: labels > 0 for obj, labels in read.items()}
        labels = read[None]
        ids = self.obj_ids if self.layout == "davis2017" else [i for i in present_labels(labels) if i in self.obj_ids]
        return {obj: labels == obj for obj in ids}

    def prompt(self, obj_id: int) -> np.ndarray:
        """The first annotation of an object, (H, W) bool: what a tracker is given."""
        if obj_id not in self.prompt_frame:
            raise RDSInputError(f"{self.name}: no object {obj_id}; it has {shorten(self.obj_ids)}")
        return self.masks(self.prompt_frame[obj_id])[obj_id]

    def conditions(self) -> "pd.DataFrame | None":
        """What held on each frame of a changing clip: ``frame_idx``, ``condition``, ``strength``; None for any other.

        Raises
        ------
        RDSInputError
            If the table has not one row a frame.
        """
        path = next(iter(self.mask_paths[self.annotated[0]].values())).parent
        path = (path.parent if self.layout == "sav" else path) / CONDITIONS
        if not path.is_file():
            return None
        table = read_table(path, columns=("frame_idx", "condition", "strength"))
        if list(table["frame_idx"]) != list(range(len(self))):
            raise RDSInputError(f"{path}: {len(table)} rows; expected one for each frame, 0 to {len(self) - 1}")
        if table["strength"].dtype.kind not in "iuf" or not table["strength"].between(0, 1).all():
            raise RDSInputError(f"{path}: a strength that is no number from 0 to 1; write the clip again")
        return table

    def _checked(self, pixels, path):
        if pixels.shape[:2] != self.size:
            (h, w), (height, width) = pixels.shape[:2], self.size
            raise RDSInputError(f"{path}: {w}x{h} px, but the first frame of {self.name} has {width}x{height}")
        return pixels


def read_dataset(root: str | Path, *, layout: str, split: str = "val") -> list[Sequence]:
    """Read the sequences of a split, generated or real, in the order of its list.

    Parameters
    ----------
    root : path
        The folder that holds ``JPEGImages`` (DAVIS), ``sav_val`` (SA-V) or ``valid`` (YouTube-VOS).
    layout : {"davis2017", "sav", "ytvos"}
    split : str
        ``"val"``, ``"train"``, ``"test"``, ...; YouTube-VOS calls ``"val"`` ``valid`` on disk.

    Notes
    -----
    An object's prompt is its first annotation. DAVIS's objects are 1 to the largest id of the first annotated frame,
    as in the official evaluation, which aborts on a prediction with a larger id; 255 is background. YouTube-VOS's
    objects are those of ``meta.json``, SA-V's the numbered folders.

    Raises
    ------
    RDSInputError
        If the list or a sequence it names is missing, an annotation has no frame, or an object no annotation.
    """
    where = locate(Path(root), layout, split)
    check_split(Path(root), layout, split)
    wanted = read_index(where)
    missing = [name for name in wanted if not (where.frames / name).is_dir() or not (where.masks / name).is_dir()]
    if missing:
        raise RDSInputError(
            f"{where.index}: {len(missing)} of its {len(wanted)} sequences lack a folder in {where.frames} "
            f"or {where.masks}: {shorten(missing)}"
        )
    return [_read_sequence(where, name, ids, layout) for name, ids in wanted.items()]


def describe(sequences: Iterable[Sequence]) -> "pd.DataFrame":
    """One row per sequence: name, frames, annotated, objects, size (``WxH`` px) and layout."""
    import pandas as pd

    rows = [(s.name, len(s), len(s.annotated), len(s.obj_ids), f"{s.size[1]}x{s.size[0]}", s.layout) for s in sequences]
    return pd.DataFrame(rows, columns=["name", "frames", "annotated", "objects", "size", "layout"])


def _read_sequence(where, name, ids, layout):
    frame_paths = tuple(list_frames(where.frames / name))
    frame_names = tuple(path.stem for path in frame_paths)
    by_stem = _mask_files(where.masks / name, layout)
    orphans = sorted(by_stem.keys() - set(frame_names))
    if orphans:
        raise RDSInputError(
            f"{where.frames / name}: no frame for the annotations {shorten(orphans)} of {where.masks / name}"
        )
    mask_paths = {t: by_stem[stem] for t, stem in enumerate(frame_names) if stem in by_stem}
    black_white = layout != "sav" and are_binary(paths[None] for paths in mask_paths.values())
    ids = _object_ids(mask_paths, layout, black_white) if ids is None else ids
    prompt_frame = _first_seen(mask_paths, ids, black_white)
    unseen = [obj for obj in ids if obj not in prompt_frame]
    if not prompt_frame or (unseen and layout != "davis2017"):
        raise RDSInputError(f"{where.masks / name}: no annotation shows object {shorten(unseen or [1])}")
    about = layout, mask_paths, black_white
    return Sequence(name, frame_paths, frame_names, tuple(prompt_frame), prompt_frame, tuple(mask_paths), *about)


def _object_ids(mask_paths, layout, black_white):
    """SA-V: its folders. DAVIS: all ids up to the largest of the first annotation."""
    if layout == "sav":
        return sorted({obj for paths in mask_paths.values() for obj in paths})
    first = read_labels(mask_paths[min(mask_paths)][None], binary=black_white)
    return range(1, max(present_labels(first), default=0) + 1)


def _mask_files(folder, layout):
    """Frame stem -> {object, or None for all: PNG}."""
    folders = {None: folder}
    if layout == "sav":
        folders = {
            path.name: path for path in sorted(folder.iterdir()) if path.is_dir() and not path.name.startswith(".")
        }
        wrong = [name for name in folders if not (name.isascii() and name.isdigit())]
        if wrong:
            raise RDSInputError(f"{folder}: object folders {shorten(wrong)}; expected numbers such as 000")
    files = {}
    for obj, pngs in folders.items():
        for path in frame_files(pngs, (".png",))[0]:
            files.setdefault(path.stem, {})[obj if obj is None else int(obj)] = path
    if not files:
        raise RDSInputError(f"{folder}: holds no annotation PNGs")
    return files


def _first_seen(mask_paths, ids, black_white):
    """Object -> first frame where its mask is not empty, ids ascending; reads no further than needed."""
    seen = {}
    for t, paths in mask_paths.items():
        for obj, path in paths.items():
            if obj not in seen:
                labels = read_labels(path, binary=black_white)
                found = present_labels(labels) if obj is None else [obj] * bool(labels.any())
                seen |= {i: t for i in found if i in ids and i not in seen}
        if len(seen) == len(ids):
            break
    return dict(sorted(seen.items()))
