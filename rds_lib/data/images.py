"""Pictures on disk: list frames, read frames and label maps, write palette PNGs. Every refusal names the file."""

import io
import math
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps

from rds_lib.core.artifacts import atomic_write
from rds_lib.core.errors import RDSInputError
from rds_lib.data.labels import VOID, by_colour, davis_palette, is_binary, present_labels
from rds_lib.data.names import frame_files

SUFFIXES = (".jpg", ".jpeg", ".png")
MAX_PIXELS = 2**26  # twice an 8K frame; anything larger is refused from its header, before decoding
MAX_BYTES = 2**29  # of a file
IMAGE_MEAN = (0.485, 0.456, 0.406)  # of ImageNet, in [0, 1], as SAM2 uses them
IMAGE_STD = (0.229, 0.224, 0.225)
_COLOUR_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")


def list_frames(folder: str | Path) -> list[Path]:
    """List a folder's frames in time order.

    Frames are the ``.jpg``, ``.jpeg`` and ``.png`` files; hidden files (``._00001.jpg``) and anything else
    (``Thumbs.db``) are passed over, links are followed. The order is that of `names.in_time_order`.

    Raises
    ------
    RDSInputError
        If the folder is missing or holds no frame, two names carry the same number (``1.jpg``, ``00001.jpg``), or it
        holds two series of pictures, such as frames and masks.

    Warns
    -----
    UserWarning
        If a picture is left out because its name is unlike all others. If numbers are missing from an otherwise even
        sequence: the frames after a gap move up.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise RDSInputError(f"{folder}: no such folder of frames")
    paths, gap = frame_files(folder, SUFFIXES)
    if not paths:
        raise RDSInputError(f"{folder}: holds no frames; expected files ending in {', '.join(SUFFIXES)}")
    if gap:
        warnings.warn(
            f"{folder}: no frames between {gap[0]} and {gap[1]}; frames are counted as they come", stacklevel=2
        )
    return paths


def read_frame(path: str | Path) -> np.ndarray:
    """Read one picture as (H, W, 3) uint8 RGB.

    The content decides between JPEG and PNG, not the name. Grey, CMYK and palette pictures become RGB, transparency
    is dropped. An EXIF orientation is applied: the array is upright, which stock SAM2's loader does not do.

    Raises
    ------
    RDSInputError
        If the file is missing, empty, damaged, of 16 bits a channel, or larger than ``MAX_PIXELS``. Flipped bits in
        a JPEG that still decode cannot be told from a picture.
    """
    return np.array(open_rgb(path))


def open_rgb(path: str | Path) -> Image.Image:
    """Read one picture as `read_frame` does, as a PIL image."""
    image = _decode(path)
    if image.mode not in _COLOUR_MODES:
        raise RDSInputError(f"{path}: pixels of mode {image.mode!r}; save it as 8-bit RGB or grey")
    return image if image.mode == "RGB" else image.convert("RGB")


class ShortSide(NamedTuple):
    """A size that keeps a frame's shape: the short side in px, both sides rounded up to a multiple of ``stride``."""

    px: int
    stride: int

    def of(self, width: int, height: int) -> tuple[int, int]:
        """Width and height of a frame of this size."""
        scale = self.px / min(width, height)
        return tuple(self.stride * math.ceil(round(side * scale, 6) / self.stride) for side in (width, height))


def squeeze(frame: np.ndarray | Image.Image, size: int | ShortSide) -> np.ndarray:
    """Resize an RGB frame to a square of ``size`` px, uint8 (S, S, 3): the one way for training and for tracking.

    Pillow's bicubic filter, as ``sam2.utils.misc.load_video_frames``. With a `ShortSide` the frame keeps its shape.
    """
    image = frame if isinstance(frame, Image.Image) else Image.fromarray(frame)
    return np.asarray(image.resize(size.of(*image.size) if isinstance(size, ShortSide) else (size, size)))


def image_size(path: str | Path) -> tuple[int, int]:
    """(H, W) in px of a picture as `read_frame` gives it."""
    image = _decode(path, pixels=False)
    turned = image.getexif().get(0x0112, 1) >= 5  # EXIF orientations 5 to 8 swap the sides
    return (image.width, image.height) if turned else (image.height, image.width)


def read_labels(path: str | Path, *, binary: bool = False) -> np.ndarray:
    """Read a label PNG as (H, W) uint8, palette indices (or grey values) as they stand in the file.

    A palette of black and white alone makes white object 1, whatever the indices. ``binary``: the file is one of 0 and
    255, as those of DAVIS 2016, where 255 is object 1 and no void.

    Raises
    ------
    RDSInputError
        If the file is no PNG (JPEG blurs labels), has colours instead of one index a pixel, shows black, but not as
        index 0, or has another label than 0, 1 and 255 although it is ``binary``.
    """
    labels, _ = _indexed(path)
    if not binary:
        return labels
    if others := [i for i in present_labels(labels) if i != 1]:
        raise RDSInputError(f"{path}: label {others[0]} in a mask of black and white, whose values are 0 and 255")
    return (labels > 0).astype(np.uint8)


def are_binary(paths: Iterable[Path]) -> bool:
    """Whether the label PNGs of a video are black and white: 255 is the only label in all of them."""
    found = False
    for labels in map(read_labels, paths):
        if labels.any() and not is_binary(labels):
            return False
        found = found or labels.any()
    return bool(found)


def read_mask(path: str | Path, size: tuple[int, int] | None = None) -> np.ndarray:
    """Read a first-frame mask as a label map.

    Parameters
    ----------
    path : path
        A palette or grey PNG of object ids, or a black-and-white one, which is one object with id 1.
    size : (H, W), optional
        The video's size in px.

    Returns
    -------
    ndarray, shape (H, W), uint8
        0 is background. 255 in a palette PNG is DAVIS's void label and read as background.

    Raises
    ------
    RDSInputError
        As `read_labels`; also if the size is not the video's, or a grey PNG mixes 255 with other values.
    """
    labels, is_palette = _indexed(path)
    if size is not None and labels.shape != tuple(size):
        (h, w), (height, width) = labels.shape, size
        raise RDSInputError(
            f"{path}: the mask is {w}x{h} px, the video {width}x{height} px; draw it at the video's size"
        )
    values = present_labels(labels, void=None)
    if is_palette:
        labels = np.where(labels == VOID, 0, labels).astype(np.uint8)
    elif is_binary(labels):
        labels = (labels == VOID).astype(np.uint8)
    elif VOID in values:
        raise RDSInputError(
            f"{path}: grey values {values[:4]}... are neither object ids nor black and white; "
            "save it without smoothing, as 0 and 255 or as a palette PNG with one index per object"
        )
    if not labels.any():
        warnings.warn(f"{path}: the mask is empty, there is no object to track", stacklevel=2)
    return labels


def save_palette_png(path: str | Path, labels: np.ndarray) -> None:
    """Write a (H, W) uint8 label map as a PNG with the DAVIS palette, whole or not at all."""
    labels = np.asarray(labels)
    if labels.dtype != np.uint8 or labels.ndim != 2:
        raise RDSInputError(f"{path}: a label map is (H, W) uint8, not {labels.shape} {labels.dtype}")
    with atomic_write(path) as temporary:
        write_palette_png(temporary, labels)


def write_palette_png(path: Path, labels: np.ndarray) -> None:
    """The same without the care, for files inside a folder that is moved into place as a whole."""
    image = Image.fromarray(labels)
    image.putpalette(davis_palette().tobytes())
    image.save(path, format="PNG")


def _indexed(path):
    """Label map, and whether its numbers are those of a palette."""
    image = _decode(path)
    if image.format != "PNG":
        raise RDSInputError(f"{path}: a mask coded as {image.format}, which blurs labels; save it as PNG")
    if image.mode in ("RGB", "RGBA", "LA") and _is_black_and_white(image):
        image = image.convert("L")
    if image.mode not in ("P", "L", "1"):
        raise RDSInputError(f"{path}: a mask of mode {image.mode!r}; save it as a palette PNG, one index per object")
    labels = np.array(image).astype(np.uint8)
    if image.mode == "P":
        labels = by_colour(labels, np.array(image.getpalette("RGB"), np.uint8).reshape(-1, 3), path)
    return labels, image.mode == "P"


def _is_black_and_white(image):
    """Whether a picture with colours shows only black and white, and nothing through."""
    is_opaque = "A" not in image.getbands() or image.getchannel("A").getextrema() == (255, 255)
    colours = image.convert("RGB").getcolors(2) if is_opaque else None
    return colours is not None and {colour for _, colour in colours} <= {(0, 0, 0), (255, 255, 255)}


def _content(path):
    """The bytes of a file; what never ends (a pipe, a device) is refused, and 16 bits, of which Pillow drops half."""
    try:
        if not path.is_file() and path.exists():
            raise RDSInputError(f"{path}: is no file with a picture in it")
        if path.stat().st_size > MAX_BYTES:
            raise RDSInputError(f"{path}: more than {MAX_BYTES // 2**20} MiB; no frame is that large")
        data = path.read_bytes()
    except OSError as cause:
        raise RDSInputError(f"{path}: cannot be read ({cause.strerror})") from cause
    if not data:
        raise RDSInputError(f"{path}: the file is empty (0 bytes)")
    if data.startswith(b"\x89PNG") and data[24:25] == b"\x10":
        raise RDSInputError(f"{path}: 16 bits a channel; save it as 8-bit RGB or grey")
    return data


def _decode(path, *, pixels=True):
    """Open by content, JPEG or PNG, upright; the size is checked before any pixel is decoded."""
    data = _content(Path(path))
    try:
        image = Image.open(io.BytesIO(data), formats=("JPEG", "PNG"))
        is_large = image.width * image.height > MAX_PIXELS
        if pixels and not is_large:
            image.load()
            ImageOps.exif_transpose(image, in_place=True)
    except Image.DecompressionBombError:
        is_large = True
    except Image.UnidentifiedImageError as cause:
        raise RDSInputError(f"{path}: neither JPEG nor PNG; convert it to one of them") from cause
    except Exception as cause:  # damaged files raise anything, down to struct.error
        raise RDSInputError(f"{path}: a damaged image ({cause}); write the file again") from cause
    if is_large:
        raise RDSInputError(f"{path}: more than {MAX_PIXELS // 10**6} megapixels; scale it down")
    return image
