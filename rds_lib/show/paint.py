"""Pixels: masks over frames, as arrays and as a video; smaller images; palettes of few colours.

An object's colour is `style.object_colour` here, in overlay.mp4 and in the inspector alike.
"""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from PIL import Image

from rds_lib.core.artifacts import atomic_write
from rds_lib.core.errors import RDSInputError
from rds_lib.data.images import read_frame
from rds_lib.data.labels import present_labels
from rds_lib.show.style import object_colour, rgb

ALPHA = 0.4  # of masks; `paintMasks` of inspector.js has the same


def overlay(frame: np.ndarray, masks: np.ndarray | Mapping[int, np.ndarray], *, alpha: float = ALPHA) -> np.ndarray:
    """Paint objects over a copy of a frame, as the inspector does: their colour inside, a solid outline.

    Parameters
    ----------
    frame : ndarray, shape (H, W, 3), uint8
        RGB.
    masks : ndarray, shape (H, W), uint8, or mapping
        A label map (0 and 255 are left alone), or a bool mask (H, W) by object id; masks may overlap.
    alpha : float
        Opacity inside, in [0, 1].
    """
    if isinstance(masks, np.ndarray):
        masks = {obj_id: masks == obj_id for obj_id in present_labels(masks)}
    image, reach = frame.astype(np.float32), max(1, round(frame.shape[1] / 400))
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (2 * reach + 1, 2 * reach + 1))
    colours = {obj_id: np.array(rgb(object_colour(obj_id)), np.float32) for obj_id in masks}
    for obj_id, mask in masks.items():
        image[mask] += alpha * (colours[obj_id] - image[mask])
    for obj_id, mask in masks.items():
        inner = cv2.erode(mask.astype(np.uint8), cross, borderType=cv2.BORDER_CONSTANT, borderValue=0)
        image[mask & (inner == 0)] = colours[obj_id]
    return image.round().astype(np.uint8)


def fitted(image: np.ndarray, side: int) -> np.ndarray:
    """An image no longer than ``side`` px; it is never enlarged."""
    scale = min(1.0, side / max(image.shape[:2]))
    size = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def few_colours(image: Image.Image, exact: Sequence[tuple[int, int, int]] = ()) -> Image.Image:
    """An RGB image with a palette of 256 colours, a third of the size as PNG; the ``exact`` ones stay as they are."""
    codes = np.asarray(image).astype(np.uint32) @ (1 << 16, 1 << 8, 1)
    found = set(np.unique(codes).tolist())
    kept = [code for red, green, blue in exact if (code := (red << 16) + (green << 8) + blue) in found]
    others = image.quantize(256 - len(kept), kmeans=2).getpalette()
    colours = [value for code in kept for value in code.to_bytes(3)] + others[: 768 - 3 * len(kept)]
    palette = Image.new("P", (1, 1))
    palette.putpalette(colours)
    indices = np.array(image.quantize(palette=palette, dither=Image.Dither.NONE))
    for n, code in enumerate(kept):  # Pillow looks colours up four by four, and takes a neighbour's
        indices[codes == code] = n
    packed = Image.fromarray(indices)
    packed.putpalette(colours)
    return packed


def check_fps(fps: float) -> None:
    """Raise unless a video can have this many frames a second."""
    if not 0.001 <= fps < 1000:
        raise RDSInputError(f"fps {fps}: expected 0.001 or more and less than 1000 frames per second")


class OverlayVideo:
    """An H.264 mp4 of frames with their masks drawn over them, written frame by frame; closed, it plays.

    Parameters
    ----------
    path : path
        Written as frames come; see `write_overlay_video` for whole or not at all.
    fps : float
        Frames per second.
    alpha : float
        Opacity of the masks in [0, 1]; contours are opaque. An odd side gains one px (yuv420p needs even sides).
    """

    def __init__(self, path: str | Path, *, fps: float, alpha: float = ALPHA):
        check_fps(fps)
        self.count, self._path, self._alpha, self._size = 0, path, alpha, None
        self._container = av.open(str(path), "w", format="mp4")
        self._stream = self._container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001))
        self._stream.pix_fmt, self._stream.options = "yuv420p", {"crf": "18"}

    def add(self, frame: np.ndarray, labels: np.ndarray) -> None:
        """Write one frame (H, W, 3) uint8 with its label map (H, W) uint8.

        Raises
        ------
        RDSInputError
            If the label map is of another size than the frame, or the frame than the first one.
        """
        if labels.shape != frame.shape[:2]:
            raise RDSInputError(
                f"frame {self.count}: a label map of shape {labels.shape} for a frame of {frame.shape[:2]}"
            )
        height, width = labels.shape
        if self._size is None:
            self._size = self._stream.height, self._stream.width = height + height % 2, width + width % 2
        edges = (0, height % 2), (0, width % 2), (0, 0)
        picture = np.pad(overlay(frame, labels, alpha=self._alpha), edges, mode="edge")
        if picture.shape[:2] != self._size:
            raise RDSInputError(
                f"{self._path}: frames of {picture.shape[:2]} and {self._size} px; give all frames one size"
            )
        self._container.mux(self._stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        self.count += 1

    def close(self) -> None:
        """Write what the encoder holds back and the index, without which no player opens the file."""
        try:
            if self.count:
                self._container.mux(self._stream.encode())
        finally:
            self._container.close()

    def __enter__(self) -> "OverlayVideo":
        return self

    def __exit__(self, *_) -> None:
        self.close()


def write_overlay_video(
    path: str | Path, frames: Iterable, label_maps: Iterable, *, fps: float, alpha: float = ALPHA
) -> None:
    """Write a whole `OverlayVideo`.

    Parameters
    ----------
    path : path
        Written whole or not at all.
    frames : iterable of (H, W, 3) uint8 arrays or of paths
    label_maps : iterable of (H, W) uint8, one per frame
    fps, alpha : float
        As for `OverlayVideo`.

    Raises
    ------
    RDSInputError
        If there are no frames, more of one than of the other, or a mask of another size.
    """
    check_fps(fps)
    with atomic_write(path) as temporary, OverlayVideo(temporary, fps=fps, alpha=alpha) as video:
        for frame, labels in itertools.zip_longest(frames, label_maps):
            if frame is None or labels is None:
                short = "frames" if frame is None else "label maps"
                raise RDSInputError(f"{short} end at {video.count}; give one label map per frame")
            video.add(frame if isinstance(frame, np.ndarray) else read_frame(frame), labels)
        if not video.count:
            raise RDSInputError(f"{path}: no frames to write")
