"""Track the objects of one video: prompts in, a folder of masks, routes, an overlay video and a page to look at out."""

import os
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from tqdm import tqdm

from rds_lib.core.artifacts import write_table, write_text
from rds_lib.core.errors import RDSInputError
from rds_lib.data.clips import generate_clip
from rds_lib.data.container import video_rate
from rds_lib.data.images import image_size, list_frames, read_mask, save_palette_png, write_palette_png
from rds_lib.data.labels import check_labels, present_labels
from rds_lib.data.output import output_folder
from rds_lib.data.video import extract_frames
from rds_lib.evaluation.recordings import Recording, make_run
from rds_lib.model.backbone import backbone_of
from rds_lib.model.track import separate
from rds_lib.show.inspector.page import inspector_page
from rds_lib.show.paint import check_fps, write_overlay_video

MARKER = "routes.csv"
FPS = 24.0  # of an overlay video whose frames do not say when they were taken


@dataclass(frozen=True)
class Summary:
    """What a run of `track_video` did."""

    frames: int
    objects: int
    active_blocks: float  # mean over the frames that were routed; over all tracked frames if none was
    depth: int
    seconds: float  # prompts and propagation

    def __str__(self) -> str:
        return (
            f"{self.frames} frames, {self.objects} {'object' if self.objects == 1 else 'objects'}, "
            f"{self.active_blocks:.1f} of {self.depth} blocks active, {self.seconds:.1f} s"
        )


def first_prompts(
    size: tuple[int, int], *, mask: str | Path = "", box=(), click=(), frames: Sequence[Path] = ()
) -> dict[int, dict]:
    """Prompts for `track_video` from one of a mask file, a box or a click.

    Parameters
    ----------
    size : (int, int)
        Height and width of the video, px.
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


@contextmanager
def open_frames(video: str | Path) -> Iterator[list[Path]]:
    """Yield the frames of a folder, or those of a video file, extracted for as long as the block lasts."""
    if Path(video).is_dir():
        yield list_frames(video)
        return
    with tempfile.TemporaryDirectory() as folder:
        yield extract_frames(video, Path(folder) / "frames")


def track_video(
    predictor,
    video: str | Path,
    prompts: Mapping[int, Mapping],
    out: str | Path,
    *,
    start_frame: int = 0,
    overlay_video: bool = True,
    fps: float | None = None,
    overwrite: bool = False,
    progress: bool = False,
) -> Summary:
    """Track objects from one frame to the end and write the result as a folder.

    Writes one palette PNG per frame (empty ones before ``start_frame``), ``routes.csv``, ``inspector.html`` and
    ``overlay.mp4``. The folder appears whole or not at all; the last two may be missing, with a warning.

    Parameters
    ----------
    predictor : RDSVideoPredictor
    video : path
        A folder of JPEG or PNG frames, or a video file.
    prompts : mapping
        Object id (1 to 254) -> ``{"mask": (H, W) bool}``, or ``{"box": ...}`` or ``{"points": ..., "labels": ...}`` in
        (x, y) px of the video; see `first_prompts`.
    start_frame : int
        The frame the prompts are on, counted from 0.
    fps : float
        Of the overlay video; by default the video's own, and 24 for a folder of frames.
    overwrite : bool
        Replace an earlier output.

    Raises
    ------
    RDSInputError
        For a video, prompt or output folder that cannot be used; nothing is written then.
    """
    check_labels(prompts, "prompts")
    fps = _rate(video) if fps is None else fps
    if overlay_video:
        check_fps(fps)
    with output_folder(out, overwrite=overwrite, marker=MARKER) as stage, open_frames(video) as frame_paths:
        labels, routes, seconds = _propagate(predictor, frame_paths, prompts, start_frame, progress)
        for file, label_map in zip(frame_paths, labels):
            write_palette_png(stage / f"{file.stem}.png", label_map)
        write_table(stage / MARKER, routes)
        recording = _recording(predictor, video, frame_paths, list(prompts), labels, routes, start_frame)
        tracked = recording.runs[0].active[start_frame:].sum(1)
        is_routed = recording.runs[0].is_routed[start_frame:]
        active = float(tracked[is_routed if is_routed.any() else slice(None)].mean())
        summary = Summary(len(labels), len(prompts), active, recording.depth, seconds)
        with _extra("inspector.html"):
            page = inspector_page([recording], (), title=recording.name, summary=f"{summary}.")
            write_text(stage / "inspector.html", page)
        if overlay_video:
            with _extra("overlay.mp4"):
                write_overlay_video(stage / "overlay.mp4", frame_paths, labels, fps=fps)
    return summary


def _rate(video):
    own = None if Path(video).is_dir() else video_rate(video)
    return own or FPS


@contextmanager
def _extra(name: str) -> Iterator[None]:
    """Let a file fail that only shows the result, so that the result is not lost with it."""
    try:
        yield
    except Exception as error:
        why = str(error).partition("\n")[0]
        warnings.warn(f"{name} could not be written ({type(error).__name__}: {why}); all else was", stacklevel=3)


def _propagate(predictor, frame_paths, prompts, start_frame, progress) -> tuple[list[np.ndarray], pd.DataFrame, float]:
    """Label map of every frame, route table, seconds."""
    state = predictor.init_state(frame_paths)
    labels = [np.zeros(image_size(frame_paths[0]), np.uint8) for _ in frame_paths]
    began = time.perf_counter()
    for obj_id, prompt in prompts.items():
        if "mask" in prompt:
            predictor.add_new_mask(state, start_frame, obj_id, prompt["mask"])
        else:
            predictor.add_new_points_or_box(state, start_frame, obj_id, **prompt)
    steps = predictor.propagate_in_video(state, start_frame)
    bar = {"total": len(labels) - start_frame, "unit": "frame", "disable": None if progress else True}
    for t, obj_ids, logits in tqdm(steps, **bar):
        for obj_id, mask in separate(obj_ids, logits).items():
            labels[t][mask] = obj_id
    seconds = time.perf_counter() - began
    routes = predictor.route_table(state)
    return labels, routes[routes["frame_idx"] >= start_frame].reset_index(drop=True), seconds


def _recording(predictor, video, frame_paths, obj_ids, labels, routes, start_frame) -> Recording:
    """What happened; nothing ran on the frames before the prompts."""
    name = "full encoder" if predictor.policy is None else f"RDS {predictor.policy.budget:g}"
    run = make_run(name, np.stack(labels), routes, depth=predictor.depth)
    run.active[:start_frame], run.keep_prob[:start_frame] = False, 0
    run = replace(run, reasons=("not tracked",) * start_frame + run.reasons[start_frame:])
    title = os.fsencode(Path(video).resolve().name).decode(errors="replace")  # a page is UTF-8, a name may be anything
    return Recording(title, tuple(frame_paths), tuple(obj_ids), backbone_of(predictor).shape, (run,))


def sample_video(folder: Path, *, frames: int = 16, height: int = 180, width: int = 320) -> tuple[Path, Path]:
    """Write a generated clip as JPEG frames, and the mask of its first frame, for want of a video; returns both."""
    clip = generate_clip(11, 3, split="val", frames=frames, height=height, width=width, difficulty="plain", n_objects=2)
    images = folder / "frames"
    images.mkdir(parents=True, exist_ok=True)
    for t, frame in enumerate(clip.frames):
        cv2.imwrite(str(images / f"{t:05d}.jpg"), cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
    save_palette_png(folder / "first_mask.png", clip.masks[0])
    return images, folder / "first_mask.png"
