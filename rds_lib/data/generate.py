"""The data sets of generated clips that a profile trains, calibrates and validates on."""

import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

from rds_lib.core import paths
from rds_lib.core.errors import RDSInputError
from rds_lib.data import textures
from rds_lib.data.changing import generate_changing_clip
from rds_lib.data.clips import Clip, generate_clip
from rds_lib.data.drawn import FIRST_INDEX
from rds_lib.data.output import output_folder
from rds_lib.data.shapes import UNSEEN
from rds_lib.data.writers import write_dataset
from rds_lib.work.processes import end_with

_ROOM = 990
PICTURES = "pictures.csv"


class Job(NamedTuple):
    """A clip to draw; ``kind`` is plain, wide (over more pictures), unseen (wide, other outlines too) or changing."""

    kind: str
    split: str
    index: int


def generate_datasets(params, out: str | Path, *, overwrite: bool = False, workers: int | None = None) -> None:
    """Write the generated sets of a profile, deterministically and whatever the number of processes.

    ``out/train`` and ``out/calibration`` have the layout of DAVIS 2017 and a split of their own name;
    ``out/val/davis2017``, ``.../sav``, ``.../ytvos`` and ``.../changing``, which is laid out as DAVIS, have the split
    ``val``. No two sets share a clip. Categories of the training clips are "seen" in the YouTube-VOS set. A profile
    with clips over more pictures also gets ``out/pictures.csv``: the pictures of every clip.

    Parameters
    ----------
    params : Params
        Its section ``clips`` gives seed, numbers of clips, frames and pixels; a set of 0 clips is left out.
    out : path
        Appears as a whole, or not at all.
    overwrite : bool
        Replace an earlier output.
    workers : int, optional
        Processes; by default two, but one when there is little to draw.

    Raises
    ------
    RDSInputError
        If ``out`` holds something, a set is too large, or ``clips.photographs`` is no folder of photographs.
    """
    spec, sets, root = params.clips, _sets(params.clips), _photographs(params)
    jobs = [job for group in sets.values() for job in group]
    pixels = len(jobs) * spec.frames * spec.height * spec.width
    workers = workers or (min(2, os.cpu_count() or 1) if pixels > 2e7 else 1)
    draw = partial(_draw, spec.seed, spec.frames, {"height": spec.height, "width": spec.width}, root)
    with output_folder(out, overwrite=overwrite, marker="train") as stage, _drawn(draw, jobs, workers) as clips:
        seen, rows = set(), []
        for name, group in sets.items():
            layout, split, folder = _place(name)
            known = seen if layout == "ytvos" else None
            own = _noting(rows, seen if name == "train" else set(), name, islice(clips, len(group)))
            if group:
                write_dataset(stage / folder, own, layout=layout, split=split, seen_categories=known)
        if any(job.kind != "plain" for job in jobs):
            lines = "".join(f"{','.join(row)}\n" for row in [("set", "clip", "picture"), *rows])
            (stage / PICTURES).write_text(lines, encoding="utf-8")


def _sets(spec) -> dict[str, list[Job]]:
    """The jobs of every set, in the order in which they are drawn."""

    def jobs(kind, split, first, number):
        if number > _ROOM:
            raise RDSInputError(f"params clips: {number} {kind} clips of {split} in one set; at most {_ROOM}")
        return [Job(kind, split, FIRST_INDEX[first] + i) for i in range(number)]

    def learnt(split, number, changing):
        return [Job("plain", split, i) for i in range(number)] + jobs("changing", split, "changing", changing)

    return {
        "train": learnt("train", spec.train, spec.changing_train),
        "calibration": learnt("calibration", spec.calibration, spec.changing_calibration),
        "davis2017": jobs("plain", "val", "davis2017", spec.val) + jobs("wide", "val", "wide", spec.wide),
        "sav": jobs("plain", "val", "sav", spec.sav),
        "ytvos": jobs("plain", "val", "ytvos", spec.ytvos) + jobs("unseen", "val", "wide_ytvos", spec.wide_ytvos),
        "changing": jobs("changing", "val", "changing", spec.changing),
    }


def _place(name):
    """(layout, split, folder) of a set."""
    if name in ("train", "calibration"):
        return "davis2017", name, name
    return ("davis2017" if name == "changing" else name), "val", f"val/{name}"


def _photographs(params) -> str:
    """The folder of photographs as a full path, or "" for none."""
    text = params.clips.photographs
    root = paths.resolve_or_none(text)
    if root and not (root / "images").is_dir():
        raise RDSInputError(
            f"params/{params.profile}.yaml: clips.photographs = {text!r} has no folder images; name one laid out as "
            'BSDS500 (images/train, images/val, images/test), or "" for drawn scenes in their place'
        )
    if root:
        textures.more_pictures("val", str(root))  # refused now, not after an hour
    return str(root or "")


def _draw(seed, frames, size, root, job) -> Clip:
    if job.kind == "plain":
        return generate_clip(seed, job.index, split=job.split, frames=frames, **size)
    root = root if job.split == "val" else ""  # what is learnt from is the same with and without photographs at hand
    look = {"pool": textures.more_pictures(job.split, root), "bsds_root": root}
    if job.kind == "changing":
        return generate_changing_clip(seed, job.index, split=job.split, **size, **look)
    shapes = tuple(UNSEEN) if job.kind == "unseen" else ()
    return generate_clip(seed, job.index, split=job.split, frames=frames, **size, **look, shapes=shapes)


@contextmanager
def _drawn(draw, jobs, workers) -> Iterator[Iterator[Clip]]:
    """The clips of ``jobs`` in their order; a few are drawn ahead, in processes of their own."""
    if workers == 1:
        yield map(draw, jobs)
        return
    ends = {"initializer": end_with, "initargs": (os.getpid(),)}
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), **ends) as pool:
        try:
            yield _in_order(partial(pool.submit, draw), jobs, ahead=2 * workers)
        finally:
            pool.shutdown(cancel_futures=True)


def _in_order(submit, jobs, ahead) -> Iterator[Clip]:
    pending = deque()
    try:
        for job in [*jobs, *[None] * ahead]:
            if job is not None:
                pending.append((job, submit(job)))
            if pending and (job is None or len(pending) > ahead):
                yield pending[0][1].result()
                pending.popleft()
    except BrokenProcessPool:
        job = pending[0][0]
        raise RDSInputError(
            f"clips: a process was killed at work on clip {job.index} of {job.split} or on one of the next, perhaps "
            "for want of memory; nothing is written"
        ) from None


def _noting(rows: list, seen: set[str], name: str, clips: Iterable[Clip]) -> Iterator[Clip]:
    """Pass the clips of a set on and note their pictures and categories."""
    for clip in clips:
        seen.update(clip.categories)
        rows += [(name, clip.name, picture) for picture in clip.pictures]
        yield clip
