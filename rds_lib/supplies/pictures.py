"""Sizes of frames and masks from their headers; whatever looks odd there is read as the readers of `data` read it."""

from pathlib import Path
from typing import NamedTuple

from PIL import Image

from rds_lib.data.images import MAX_PIXELS, read_frame, read_labels

_PNG_END = b"IEND\xaeB`\x82"
_JPEG_END = b"\xff\xd9"
_TAIL = 64  # bytes at a file's end in which its last mark must stand
_INDEXED = ("1", "L", "P")


class Header(NamedTuple):
    """What the first bytes of a picture say."""

    size: tuple[int, int]  # (H, W) in px, upright
    mode: str  # of Pillow
    kind: str  # PNG or JPEG


def frame_size(path: Path, *, deep: bool = False) -> tuple[int, int]:
    """(H, W) in px of a frame; an ``RDSInputError`` as of `read_frame` where it cannot be read.

    Without ``deep`` only a file whose header or end is odd is decoded.
    """
    head = None if deep else _header(path)
    return read_frame(path).shape[:2] if head is None else head.size


def mask_size(path: Path, *, deep: bool = False) -> tuple[int, int]:
    """(H, W) in px of a label PNG; an ``RDSInputError`` as of `read_labels`, such as for colours or a JPEG."""
    head = None if deep else _header(path)
    if head is None or head.kind != "PNG" or head.mode not in _INDEXED:
        return read_labels(path).shape
    return head.size


def _header(path: Path) -> Header | None:
    """None for whatever a closer look is to judge."""
    try:
        if not path.is_file():
            return None
        with path.open("rb") as file:
            start = file.read(25)
            file.seek(-min(_TAIL, path.stat().st_size), 2)
            end = file.read()
            file.seek(0)
            with Image.open(file, formats=("JPEG", "PNG")) as image:
                is_png = image.format == "PNG"
                is_odd = (_PNG_END if is_png else _JPEG_END) not in end or (is_png and start[24:25] == b"\x10")
                if is_odd or image.width * image.height > MAX_PIXELS:
                    return None
                turned = (not is_png or "exif" in image.info) and image.getexif().get(0x0112, 1) >= 5
                size = (image.width, image.height) if turned else (image.height, image.width)
                return Header(size, image.mode, image.format)
    except Exception:  # damaged files raise anything, and the reader says it better
        return None
