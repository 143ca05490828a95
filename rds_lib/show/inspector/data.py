"""Recordings as the inspector's front end takes them: JPEG frames, deflated label maps, and numbers in lists."""

import math
import zlib

import cv2
import numpy as np

from rds_lib.evaluation.recordings import Recording, Run
from rds_lib.show.style import object_colour

LIVE_PIXELS = 50_000_000  # of all frames of a video together, since a browser keeps them decoded at 4 bytes each
SIDES = (854, 640, 480, 360, 240, 160, 96)  # px, of the longer side of a frame


def live_side(recording: Recording) -> int:
    """The longest side of frames, px, with which a video of this length stays below ``LIVE_PIXELS``."""
    fitting = (side for side in SIDES if len(recording) * math.prod(scaled(recording.size, side)) <= LIVE_PIXELS)
    return next(fitting, SIDES[-1])


def scaled(size: tuple[int, int], side: int) -> tuple[int, int]:
    """A size (H, W) in px scaled down so that no side is longer than ``side``."""
    scale = min(1.0, side / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def video_data(recording: Recording, side: int, *, quality: int = 80) -> dict:
    """What does not depend on a run: ``inspector.js`` lists the keys.

    Parameters
    ----------
    side : int
        Longest side of the frames in px; they are never enlarged.
    quality : int
        Of the JPEG frames, 1 to 100.
    """
    size = scaled(recording.size, side)
    frames = [jpeg(recording.frame(t), size, quality) for t in range(len(recording))]
    truth = None if recording.truth is None else _masks(recording.truth, size)
    return video_of_frames(recording, size, frames, truth)


def video_of_frames(recording: Recording, size: tuple[int, int], frames: list[bytes], truth: bytes | None) -> dict:
    """The same from JPEG frames of ``size`` (H, W) px, and the packed truth."""
    return {
        "name": recording.name,
        "width": size[1],
        "height": size[0],
        "depth": recording.depth,
        "frames": frames,
        "files": [path.name for path in recording.frame_paths],
        "objects": [{"id": obj_id, "colour": object_colour(obj_id)} for obj_id in recording.obj_ids],
        "truth": truth,
        "starts": list(recording.stage_starts),
        "always_on": list(recording.always_on),
    }


def runs_data(recording: Recording, side: int) -> dict:
    """The runs of a recording, with masks of the size that ``video_data`` gives the frames."""
    return {"name": recording.name, "runs": [_run(run, scaled(recording.size, side)) for run in recording.runs]}


def _run(run: Run, size) -> dict:
    def rounded(values):
        return [None if np.isnan(j) else round(float(j), 3) for j in values]

    return {
        "name": run.name,
        "masks": _masks(run.labels, size),
        "active": "".join("1" if flag else "0" for flag in run.active.ravel()),
        "keep": np.rint(1000 * run.keep_prob).astype(int).ravel().tolist(),
        "reasons": list(run.reasons),
        "quality": {str(obj_id): rounded(values) for obj_id, values in run.quality.items()},
        "mean": round(run.active_blocks, 2) if run.is_routed.any() else None,
    }


def jpeg(frame: np.ndarray, size: tuple[int, int], quality: int) -> bytes:
    """A frame (H, W, 3) uint8 RGB as JPEG of ``size`` (H, W) px."""
    small = cv2.resize(frame, size[::-1], interpolation=cv2.INTER_AREA)
    return cv2.imencode(".jpg", small[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


def small_labels(labels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A label map scaled to ``size`` (H, W) px."""
    return cv2.resize(labels, size[::-1], interpolation=cv2.INTER_NEAREST)


def _masks(labels, size):
    """Label maps, which may be read one by one, deflated as one piece."""
    packer = zlib.compressobj()
    return b"".join([*(packer.compress(small_labels(each, size).tobytes()) for each in labels), packer.flush()])
