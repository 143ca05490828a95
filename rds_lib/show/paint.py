"""Draw masks over frames, and write the result as a video."""

import itertools
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

from rds_lib.core.artifacts import atomic_write
from rds_lib.core.errors import RDSInputError
from rds_lib.data.images import davis_palette, read_frame


def overlay(frame: np.ndarray, labels: np.ndarray, *, alpha: float = 0.5) -> np.ndarray:
    """Blend palette colours over a frame (H, W, 3) uint8 where ``labels`` (H, W) is not 0, with solid contours."""
    colours = davis_palette()[labels]
    inside = labels > 0
    thickness = np.ones((3, 3), np.uint8)
    contour = inside & (cv2.erode(labels, thickness) != cv2.dilate(labels, thickness))
    weight = np.where(contour, 1.0, alpha * inside)[..., None]
    return np.rint(frame * (1 - weight) + colours * weight).astype(np.uint8)


def write_overlay_video(path: str | Path, frames: Iterable, label_maps: Iterable, *, fps: float, alpha: float = 0.5) -> None:
    """Write an H.264 mp4 of frames with their masks drawn over them.

    Parameters
    ----------
    path : path
        Written whole or not at all.
    frames : iterable of (H, W, 3) uint8 arrays or of paths
    label_maps : iterable of (H, W) uint8, one per frame
    fps : float
        Frames per second.
    alpha : float
        Opacity of the masks in [0, 1]; contours are opaque. An odd side gains one px (yuv420p needs even sides).

    Raises
    ------
    RDSInputError
        If there are no frames, more of one than of the other, or a mask of another size.
    """
    if not 0 < fps < 1000:
        raise RDSInputError(f"fps {fps}: expected more than 0 and less than 1000 frames per second")
    with atomic_write(path) as temporary, av.open(str(temporary), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001))
        stream.pix_fmt, stream.options = "yuv420p", {"crf": "18"}
        pictures = _drawn(frames, label_maps, alpha)
        first = next(pictures, None)
        if first is None:
            raise RDSInputError(f"{path}: no frames to write")
        stream.height, stream.width = first.shape[:2]
        for picture in itertools.chain([first], pictures):
            if picture.shape != first.shape:
                raise RDSInputError(f"{path}: frames of {picture.shape[:2]} and {first.shape[:2]} px; give all frames one size")
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


def _drawn(frames, label_maps, alpha):
    for t, (frame, labels) in enumerate(itertools.zip_longest(frames, label_maps)):
        if frame is None or labels is None:
            raise RDSInputError(f"{'frames' if frame is None else 'label maps'} end at {t}; give one label map per frame")
        frame = frame if isinstance(frame, np.ndarray) else read_frame(frame)
        if labels.shape != frame.shape[:2]:
            raise RDSInputError(f"frame {t}: a label map of shape {labels.shape} for a frame of {frame.shape[:2]}")
        height, width = labels.shape
        yield np.pad(overlay(frame, labels, alpha=alpha), ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
