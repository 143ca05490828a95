"""The data sets of generated clips that a profile trains, calibrates and validates on."""

import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from itertools import islice
from multiprocessing import get_context
from pathlib import Path

from rds_lib.core.artifacts import output_folder
from rds_lib.core.errors import RDSInputError
from rds_lib.data.clips import Clip, generate_clip
from rds_lib.data.writers import write_dataset

# The three validation sets share a split, so each counts its clips from another number. The difficulties take turns
# with that number: DAVIS starts with a plain clip, SA-V with an occlusion, YouTube-VOS with objects that enter late.
FIRST_INDEX = {"davis2017": 0, "sav": 1001, "ytvos": 2006}
_ROOM = 1000


def generate_datasets(params, out: str | Path, *, overwrite: bool = False, workers: int | None = None) -> None:
    """Write the generated sets of a profile, deterministically and whatever the number of processes.

    ``out/train`` and ``out/calibration`` have the layout of DAVIS 2017 and a split of their own name;
    ``out/val/davis2017``, ``out/val/sav`` and ``out/val/ytvos`` have their own layouts and the split ``val``. No two
    sets share a clip. Categories of the training clips are "seen" in the YouTube-VOS set.

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
        If ``out`` holds something, or a validation set has more than 1000 clips.
    """
    spec = params.clips
    numbers = {"davis2017": spec.val, "sav": spec.sav, "ytvos": spec.ytvos}
    if max(numbers.values()) > _ROOM:
        raise RDSInputError(f"params clips: {numbers} clips to validate on; at most {_ROOM} a set")
    total = spec.train + spec.calibration + sum(numbers.values())
    pixels = total * spec.frames * spec.height * spec.width
    workers = workers or (min(2, os.cpu_count() or 1) if pixels > 2e7 else 1)
    jobs = [("train", i) for i in range(spec.train)] + [("calibration", i) for i in range(spec.calibration)]
    jobs += [("val", FIRST_INDEX[layout] + i) for layout, n in numbers.items() for i in range(n)]
    with output_folder(out, overwrite=overwrite, marker="train") as stage, _drawn(spec, jobs, workers) as clips:
        seen = set()
        write_dataset(stage / "train", _noting(seen, islice(clips, spec.train)), layout="davis2017", split="train")
        write_dataset(stage / "calibration", islice(clips, spec.calibration), layout="davis2017", split="calibration")
        for layout, n in numbers.items():
            if n:
                known = seen if layout == "ytvos" else None
                write_dataset(stage / "val" / layout, islice(clips, n), layout=layout, seen_categories=known)


@contextmanager
def _drawn(spec, jobs, workers) -> Iterator[Iterator[Clip]]:
    """The clips of ``jobs`` in their order; a few are drawn ahead, in processes of their own."""
    draw = partial(generate_clip, spec.seed, frames=spec.frames, height=spec.height, width=spec.width)
    if workers == 1:
        yield (draw(index, split=split) for split, index in jobs)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        yield _in_order((partial(pool.submit, draw, index, split=split) for split, index in jobs), ahead=2 * workers)


def _in_order(submits, ahead) -> Iterator[Clip]:
    pending = deque()
    for submit in submits:
        pending.append(submit())
        if len(pending) > ahead:
            yield pending.popleft().result()
    while pending:
        yield pending.popleft().result()


def _noting(seen: set[str], clips: Iterable[Clip]) -> Iterator[Clip]:
    """Pass clips on and note their categories."""
    for clip in clips:
        seen.update(clip.categories)
        yield clip
