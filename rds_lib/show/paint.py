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


def write_overlay_video(
    path: str | Path, frames: Iterable, label_maps: Iterable, *, fps: float, alpha: float = ALPHA
) -> None:
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
    check_fps(fps)
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
                raise RDSInputError(
                    f"{path}: frames of {picture.shape[:2]} and {first.shape[:2]} px; give all frames one size"
                )
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


def _drawn(frames, label_maps, alpha):
    for t, (frame, labels) in enumerate(itertools.zip_longest(frames, label_maps)):
        if frame is None or labels is None:
            short = "frames" if frame is None else "label maps"
            raise RDSInputError(f"{short} end at {t}; give one label map per frame")
        frame = frame if isinstance(frame, np.ndarray) else read_frame(frame)
        if labels.shape != frame.shape[:2]:
            raise RDSInputError(f"frame {t}: a label map of shape {labels.shape} for a frame of {frame.shape[:2]}")
        height, width = labels.shape
        yield np.pad(overlay(frame, labels, alpha=alpha), ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
