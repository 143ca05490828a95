"""Track the objects of a video as its frames come: prompts in; masks, routes, an overlay video and a page out."""

import os
import sys
import time
import warnings
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path

import cv2
from tqdm import tqdm

from rds_lib.core.artifacts import write_json
from rds_lib.core.errors import RDSInputError
from rds_lib.data.clips import generate_clip
from rds_lib.data.images import read_mask, save_palette_png
from rds_lib.data.labels import check_labels, present_labels
from rds_lib.data.origin import FILE
from rds_lib.data.output import output_folder
from rds_lib.model.backbone import backbone_of, origin_of
from rds_lib.model.track import painted
from rds_lib.pipeline.track_files import MARKER, TrackFiles
from rds_lib.routing.pace import check_fps as check_rate
from rds_lib.show.paint import check_fps
from rds_lib.streaming.sources import frames_of
from rds_lib.work.processes import stopped_once, uninterrupted

FPS = 24.0  # of an overlay video whose frames do not say when they were taken
POINTERS = 16  # frames; SAM2 places the object pointers of a shorter video by its length


@dataclass(frozen=True)
class Summary:
    """What a run of `track_video` did."""

    frames: int
    objects: int
    active_blocks: float  # mean over the frames that were tracked
    depth: int
    seconds: float  # prompts and propagation
    routed: int = 0  # frames on which a router chose blocks
    routed_blocks: float = 0.0  # mean over these
    lost: int = 0  # frames on which all blocks ran because the one before showed no object
    in_time: float | None = None  # share of frames, where a rate was to be held
    stopped: str = ""  # what ended it before the video did

    def __str__(self) -> str:
        text = (
            f"{self.frames} frames, {self.objects} {'object' if self.objects == 1 else 'objects'}, "
            f"{self.active_blocks:.1f} of {self.depth} blocks active"
        )
        if self.routed:
            text += f" ({self.routed_blocks:.1f} on {self.routed} routed frames)"
        if self.lost:
            text += f", no object seen before {self.lost} of the frames"
        text += f", {self.seconds:.1f} s"
        if self.in_time is not None:
            text += f", {100 * self.in_time:.1f}% of frames in time"
        return f"{text}, stopped after {self.frames} frames: {self.stopped}" if self.stopped else text


def first_prompts(
    size: tuple[int, int] | None, *, mask: str | Path = "", box=(), click=(), frames: Sequence[Path] = ()
) -> dict[int, dict]:
    """Prompts for `track_video` from one of a mask file, a box or a click.

    Parameters
    ----------
    size : (int, int)
        Height and width of the video, px; None if they are not known yet, as of a camera.
    mask : path
        PNG with one index per object, or black and white; "" if another prompt is given.
    box : sequence of four numbers, or of such sequences, one per object
        x0, y0, x1, y1 in px.
    click : sequence of two numbers, or of such sequences, one per object
        x, y in px.
    frames : sequence of paths
        Of the video, if they are files.

    Raises
    ------
    RDSInputError
        If not exactly one of the three is given, or the mask is empty or one of the frames.
    """
    if [bool(mask), len(box) > 0, len(click) > 0].count(True) != 1:
        raise RDSInputError(
            "say what to track, in one way: --mask FILE, --box x0,y0,x1,y1 or --click x,y "
            "(mask, box or click in Python)"
        )
    if len(box):
        return {n: {"box": list(one)} for n, one in enumerate(_rows(box), start=1)}
    if len(click):
        return {n: {"points": [list(one)], "labels": [1]} for n, one in enumerate(_rows(click), start=1)}
    if Path(mask).resolve() in {path.resolve() for path in frames}:
        raise RDSInputError(f"{mask}: counts as a frame of the video, by its name; move the mask elsewhere")
    labels = read_mask(mask, size)
    ids = present_labels(labels)
    if not ids:
        raise RDSInputError(f"{mask}: the mask is empty; draw at least one object in it")
    return {obj_id: {"mask": labels == obj_id} for obj_id in ids}


def _rows(numbers):
    rows = numbers if hasattr(numbers[0], "__len__") else [numbers]
    check_labels(range(1, len(rows) + 1), f"{len(rows)} prompts")
    return rows


def track_video(
    predictor,
    video,
    prompts: Mapping[int, Mapping],
    out: str | Path,
    *,
    start_frame: int = 0,
    overlay_video: bool = True,
    fps: float | None = None,
    overwrite: bool = False,
    progress: bool = False,
    follow: bool = False,
    patience: float = 10.0,
    hold: float | None = None,
) -> Summary:
    """Track objects from one frame to the end, as the frames come, and write the result as a folder.

    Writes a palette PNG per frame (empty before ``start_frame``), ``routes.csv``, ``model.json`` (which weights),
    ``overlay.mp4`` and ``inspector.html``; the last two may be missing, with a warning. What stops it in the middle
    (Ctrl-C, a broken frame) is raised on once ``out`` holds the frames before; before the first tracked frame nothing
    is left.

    Parameters
    ----------
    video : path, int, ndarray or iterable
        A folder of frames, a video file, ``"camera:0"``, or arrays: what `streaming.sources.frames_of` takes.
    prompts : mapping
        Object id (1 to 254) -> ``{"mask": (H, W) bool}``, or ``{"box": ...}`` or ``{"points": ..., "labels": ...}`` in
        (x, y) px, on frame ``start_frame``, counted from 0; see `first_prompts`.
    fps : float
        Of the overlay video; by default the source's own, or 24.
    overwrite : bool
        Replace an earlier output.
    follow, patience : bool, float
        Whether a folder still grows, and how many seconds without a new frame are its end.
    hold : float
        Frames a second to hold by running fewer blocks, writing included; from a camera what tracking takes counts.
    """
    check_labels(prompts, "prompts")
    if isinstance(start_frame, bool) or not isinstance(start_frame, Integral) or start_frame < 0:
        raise RDSInputError(f"start_frame is {start_frame!r}; give the number of a frame, from 0")
    if overlay_video and fps is not None:
        check_fps(fps)
    if hold is not None:
        check_rate(hold, "hold")
    with stopped_once() as stops:
        with output_folder(out, overwrite=overwrite, marker=MARKER) as stage:
            write_json(stage / FILE, {"model": origin_of(predictor).as_dict()})
            with frames_of(video, follow=follow, patience=patience) as frames:
                rate = (lambda: fps or frames.rate or FPS) if overlay_video else None
                is_folder = not follow and isinstance(video, (str, Path)) and Path(video).is_dir()
                total = frames.shorter_than(sys.maxsize) if is_folder else None
                bar = {"total": total, "unit": "frame", "disable": None if progress else True}
                with closing(TrackFiles(stage, rate=rate)) as files:
                    summary, stopped = _track(predictor, frames, prompts, files, start_frame, hold, bar)
                    stops.no_more()
            try:
                with stops.again():
                    _write_page(files, predictor, video, prompts, summary)
            except BaseException as error:  # a second Ctrl-C: no page, but what was tracked
                stopped = stopped or error
        if stopped is not None:
            warnings.warn(f"{out}: stopped after {summary.frames} frames; what was tracked is there", stacklevel=2)
            raise stopped
    return summary


def _track(predictor, frames, prompts, files, start_frame, hold, bar) -> tuple[Summary, BaseException | None]:
    """Track and write frame by frame; what was done, and what stopped it after the first tracked frame."""
    seconds, pace, stopped = 0.0, None, None
    options = {} if hold is None else {"fps": hold, "counts_between": not frames.live}
    try:
        _check_start(start_frame, frames.shorter_than(start_frame + 1) if start_frame else None)
        with predictor.start(num_frames=frames.shorter_than(POINTERS), **options) as session:
            pace = session.pace
            for frame in tqdm(frames, **bar):
                began = time.perf_counter()
                result = session.step(frame, prompts if files.count == start_frame else None)
                labels = painted(result.obj_ids, result.mask_logits)
                seconds += time.perf_counter() - began
                with uninterrupted():
                    files.add(frame, frames.file, labels, result.route)
        _check_start(start_frame, files.count)
    except BaseException as error:
        if not files.tracked:
            raise
        stopped = error
    in_time = None if pace is None else pace.report().in_time
    done = (files.count, len(prompts), files.active_blocks, predictor.depth, seconds)
    routed = (files.routed, files.routed_blocks, files.lost)
    return Summary(*done, *routed, in_time, _in_words(stopped)), stopped


def _check_start(start_frame, length):
    if length is not None and start_frame >= length:
        raise RDSInputError(
            f"start_frame is {start_frame}; give a whole number from 0 to {length - 1}, this video's last frame"
        )


def _in_words(stopped) -> str:
    """What stopped a run, in one line; "" if nothing did."""
    if stopped is None:
        return ""
    names = {KeyboardInterrupt: "interrupted", SystemExit: "terminated"}
    return names.get(type(stopped)) or str(stopped).partition("\n")[0] or type(stopped).__name__


def _write_page(files, predictor, video, prompts, summary):
    name = f"camera:{video}" if isinstance(video, int) else "frames"
    if isinstance(video, (str, Path)):  # a page is UTF-8, a name may be anything
        name = os.fsencode(Path(video).resolve().name).decode(errors="replace")
    run = "full encoder" if predictor.policy is None else str(predictor.policy)
    files.write_page(name, run, list(prompts), backbone_of(predictor).shape, str(summary))


def sample_video(folder: Path, *, frames: int = 16, height: int = 180, width: int = 320) -> tuple[Path, Path]:
    """Write a generated clip as JPEG frames, and the mask of its first frame, for want of a video; returns both."""
    clip = generate_clip(11, 3, split="val", frames=frames, height=height, width=width, difficulty="plain", n_objects=2)
    images = folder / "frames"
    images.mkdir(parents=True, exist_ok=True)
    for t, frame in enumerate(clip.frames):
        cv2.imwrite(str(images / f"{t:05d}.jpg"), cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
    save_palette_png(folder / "first_mask.png", clip.masks[0])
    return images, folder / "first_mask.png"
