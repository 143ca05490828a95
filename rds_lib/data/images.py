"""Pictures on disk: list frames, read frames and label maps, write palette PNGs. Every refusal names the file."""

import io
import logging
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from rds_lib.core.artifacts import atomic_write
from rds_lib.core.errors import RDSInputError
from rds_lib.data.names import frame_files

SUFFIXES = (".jpg", ".jpeg", ".png")
MAX_PIXELS = 2**26  # twice an 8K frame; anything larger is refused from its header, before decoding
VOID = 255  # DAVIS's "do not care" label, read as background
IMAGE_MEAN = (0.485, 0.456, 0.406)  # of ImageNet, in [0, 1], as SAM2 uses them
IMAGE_STD = (0.229, 0.224, 0.225)
_COLOUR_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")
_logger = logging.getLogger(__name__)


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


def squeeze(frame: np.ndarray | Image.Image, size: int) -> np.ndarray:
    """Resize an RGB frame to a square of ``size`` px, uint8 (S, S, 3): the one way for training and for tracking.

    Pillow's bicubic filter, as ``sam2.utils.misc.load_video_frames``.
    """
    image = frame if isinstance(frame, Image.Image) else Image.fromarray(frame)
    return np.asarray(image.resize((size, size)))


def image_size(path: str | Path) -> tuple[int, int]:
    """(H, W) in px of a picture as `read_frame` gives it."""
    image = _decode(path, pixels=False)
    turned = image.getexif().get(0x0112, 1) >= 5  # EXIF orientations 5 to 8 swap the sides
    return (image.width, image.height) if turned else (image.height, image.width)


def read_labels(path: str | Path) -> np.ndarray:
    """Read a label PNG as (H, W) uint8, palette indices (or grey values) as they stand in the file.

    Raises
    ------
    RDSInputError
        If the file is no PNG (JPEG blurs labels) or has colours instead of one index a pixel.
    """
    return _indexed(path)[0]


def read_mask(path: str | Path, size: tuple[int, int] | None = None) -> np.ndarray:
    """Read a first-frame mask as a label map.

    Parameters
    ----------
    path : path
        A palette or grey PNG of object ids, or a black-and-white one (0 and 255), which is one object with id 1.
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
    elif values == [255]:
        labels = (labels == 255).astype(np.uint8)
    elif 255 in values:
        raise RDSInputError(
            f"{path}: grey values {values[:4]}... are neither object ids nor black and white; "
            "save it without smoothing, as 0 and 255 or as a palette PNG with one index per object"
        )
    if not labels.any():
        warnings.warn(f"{path}: the mask is empty, there is no object to track", stacklevel=2)
    return labels


def present_labels(labels: np.ndarray, *, void: int | None = VOID) -> list[int]:
    """The ids in a uint8 label map, sorted, without background and void."""
    counts = np.bincount(labels.ravel(), minlength=256)
    return [int(i) for i in np.flatnonzero(counts) if i not in (0, void)]


def davis_palette() -> np.ndarray:
    """DAVIS's colours, (256, 3) uint8: label i's bits dealt in turn to red, green and blue, highest bit first."""
    ids = np.arange(256)[:, None] >> np.arange(3)
    bits = (ids[..., None] >> (3 * np.arange(3))) & 1  # (256, RGB, 3)
    return (bits << np.array([7, 6, 5])).sum(-1).astype(np.uint8)


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
    image = _decode(path)
    if image.format != "PNG":
        raise RDSInputError(f"{path}: a mask coded as {image.format}, which blurs labels; save it as PNG")
    if image.mode not in ("P", "L", "1"):
        raise RDSInputError(f"{path}: a mask of mode {image.mode!r}; save it as a palette PNG, one index per object")
    return np.array(image).astype(np.uint8), image.mode == "P"


def _decode(path, *, pixels=True):
    """Open by content, JPEG or PNG, upright; the size is checked before any pixel is decoded."""
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as cause:
        raise RDSInputError(f"{path}: cannot be read ({cause.strerror})") from cause
    if not data:
        raise RDSInputError(f"{path}: the file is empty (0 bytes)")
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
