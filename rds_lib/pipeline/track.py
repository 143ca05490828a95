"""Track the objects of one video and write masks, routes, an overlay video and a page to look at."""

import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from rds_lib.core.artifacts import atomic_write, output_folder, write_table
from rds_lib.data.images import image_size, write_palette_png
from rds_lib.data.video import extract_frames, list_frames
from rds_lib.evaluation.recordings import Recording, make_run
from rds_lib.model.backbone import backbone_of
from rds_lib.model.track import separate
from rds_lib.show.inspector.page import inspector_page
from rds_lib.show.paint import write_overlay_video

MARKER = "routes.csv"


@dataclass(frozen=True)
class Summary:
    """What a run of `track_video` did."""

    frames: int
    objects: int
    active_blocks: float  # mean over the frames that were routed; over all frames if none was
    depth: int
    seconds: float  # prompts and propagation

    def __str__(self) -> str:
        return (f"{self.frames} frames, {self.objects} {'object' if self.objects == 1 else 'objects'}, "
                f"{self.active_blocks:.1f} of {self.depth} blocks active, {self.seconds:.1f} s")


@contextmanager
def open_frames(video: str | Path) -> Iterator[list[Path]]:
    """Yield the frames of a folder, or those of a video file, extracted for as long as the block lasts."""
    if Path(video).is_dir():
        yield list_frames(video)
        return
    with tempfile.TemporaryDirectory() as folder:
        yield extract_frames(video, Path(folder) / "frames")


def track_video(
    predictor, video: str | Path, prompts: Mapping[int, Mapping], out: str | Path, *, start_frame: int = 0,
    overlay_video: bool = True, fps: float = 24.0, overwrite: bool = False, progress: bool = False,
) -> Summary:
    """Track objects from one frame to the end and write the result as a folder.

    Writes one palette PNG per frame (empty ones before ``start_frame``), ``routes.csv``, ``inspector.html`` and
    ``overlay.mp4``. The folder appears whole or not at all.

    Parameters
    ----------
    predictor : RDSVideoPredictor
    video : path
        A folder of JPEG or PNG frames, or a video file.
    prompts : mapping
        Object id (1 to 254) -> ``{"mask": (H, W) bool}``, or ``{"box": ...}`` or ``{"points": ..., "labels": ...}`` in
        (x, y) px of the video.
    start_frame : int
        The frame the prompts are on, counted from 0.
    fps : float
        Of the overlay video.
    overwrite : bool
        Replace an earlier output.

    Raises
    ------
    RDSInputError
        For a video, prompt or output folder that cannot be used; nothing is written then.
    """
    with output_folder(out, overwrite=overwrite, marker=MARKER) as stage, open_frames(video) as frame_paths:
        labels, routes, seconds = _propagate(predictor, frame_paths, prompts, start_frame, progress)
        for file, label_map in zip(frame_paths, labels):
            write_palette_png(stage / f"{file.stem}.png", label_map)
        write_table(stage / MARKER, routes)
        per_frame = routes.groupby("frame_idx")["active"].sum()
        routed = per_frame[routes.groupby("frame_idx")["reason"].first() == "routed"]
        summary = Summary(len(labels), len(prompts), float((routed if len(routed) else per_frame).mean()),
                          int(routes["block"].max()) + 1, seconds)
        recording = _recording(predictor, video, frame_paths, list(prompts), labels, routes, start_frame)
        with atomic_write(stage / "inspector.html") as temporary:
            temporary.write_text(inspector_page([recording], (), title=recording.name, summary=f"{summary}."), encoding="utf-8")
        if overlay_video:
            write_overlay_video(stage / "overlay.mp4", frame_paths, labels, fps=fps)
    return summary


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
    for t, obj_ids, logits in tqdm(steps, total=len(labels) - start_frame, unit="frame", disable=None if progress else True):
        for obj_id, mask in separate(obj_ids, logits).items():
            labels[t][mask] = obj_id
    seconds = time.perf_counter() - began
    routes = predictor.route_table(state)
    return labels, routes[routes["frame_idx"] >= start_frame].reset_index(drop=True), seconds


def _recording(predictor, video, frame_paths, obj_ids, labels, routes, start_frame) -> Recording:
    """What happened, with frames before the prompts as frames on which nothing ran."""
    name = "full encoder" if predictor.policy is None else f"RDS {predictor.policy.budget:g}"
    run = make_run(name, np.stack(labels), routes, depth=predictor.depth)
    run.active[:start_frame], run.keep_prob[:start_frame] = False, 0
    run = replace(run, reasons=("not tracked",) * start_frame + run.reasons[start_frame:])
    return Recording(Path(video).resolve().name, tuple(frame_paths), tuple(obj_ids), backbone_of(predictor).shape, (run,))
