"""Video files: which container and stream, which way up, how fast, and whether the end is missing."""

import itertools
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import av
import numpy as np

from rds_lib.core.errors import RDSInputError
from rds_lib.data.images import MAX_PIXELS

# only these containers: a playlist that calls itself a video must not open other files
VIDEO_FORMATS = {".mp4": "mov", ".m4v": "mov", ".mov": "mov", ".mkv": "matroska", ".webm": "matroska", ".avi": "avi"}
_SIGNS = {  # container -> place and bytes that tell it, whatever the file is called
    "mov": (4, b"ftyp"),
    "matroska": (0, b"\x1aE\xdf\xa3"),
    "avi": (8, b"AVI "),
}
_OTHERS = {  # what else is found under such names, by its first bytes
    b"\xff\xd8\xff": "a JPEG picture",
    b"\x89PNG": "a PNG picture",
    b"GIF8": "a GIF",
    b"OggS": "Ogg",
    b"FLV": "Flash video",
    b"0&\xb2u": "Windows Media",
    b"\0\0\1\xba": "MPEG",
    b"G": "MPEG-TS",
    b"<": "a web page",
}
_NO_FILM = av.stream.Disposition.attached_pic | av.stream.Disposition.timed_thumbnails


def decode_video(path: str | Path, start: int = 0, stop: int | None = None) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (t, frame) of a video file, upright, (H, W, 3) uint8 RGB, for ``start <= t < stop``.

    Of several video streams it is FFmpeg's choice; covers and thumbnails are none.

    Raises
    ------
    RDSInputError
        If the file is no video or cannot be decoded.

    Warns
    -----
    UserWarning
        If the end of the file is missing.
    """
    path, count = Path(path), 0
    try:
        with _opened(path) as (container, stream):
            if stream.codec_context.width * stream.codec_context.height > MAX_PIXELS:
                raise RDSInputError(f"{path}: frames of more than {MAX_PIXELS // 10**6} megapixels; scale it down")
            stream.thread_type = "AUTO"
            for t, frame in enumerate(itertools.islice(container.decode(stream), stop)):
                count = t + 1
                if t >= start:
                    yield t, upright(path, frame)
            announced = _announced(container, stream)
    except av.FFmpegError as cause:
        advice = "its end is missing; get it again" if _is_cut(path) else "encode it again, as H.264 mp4"
        raise RDSInputError(f"{path}: cannot be decoded after {count} frames ({cause.strerror}); {advice}") from cause
    if stop is None and (count < announced or _is_cut(path)):
        of = f" of {announced}" if announced else ""
        warnings.warn(f"{path}: {count}{of} frames could be decoded; the file may be cut short", stacklevel=3)


def video_rate(path: str | Path) -> float | None:
    """Frames per second of a video file, the mean if they vary; None where it does not say."""
    try:
        with _opened(Path(path)) as (_, stream):
            rate = stream.average_rate or stream.guessed_rate
    except av.FFmpegError as cause:
        raise RDSInputError(f"{path}: cannot be read ({cause.strerror}); encode it again, as H.264 mp4") from cause
    return float(rate) if rate and 0 < rate < 1000 else None


@contextmanager
def _opened(path):
    """The container and its film."""
    if not path.exists():
        raise RDSInputError(f"{path}: no such file or folder")
    if path.suffix.lower() not in VIDEO_FORMATS or not path.is_file():
        raise RDSInputError(
            f"{path}: not a video; expected a folder of frames or a file ending in {', '.join(VIDEO_FORMATS)}"
        )
    with av.open(str(path), format=_container(path)) as container:
        if (stream := film_of(container)) is None:
            why = ", as its end is missing; get it again" if _is_cut(path) else ""
            raise RDSInputError(f"{path}: has no video stream{why}")
        yield container, stream


def film_of(container):
    """FFmpeg's choice of the video streams that are no cover and no thumbnail; None if there is none."""
    films = [stream for stream in container.streams.video if not stream.disposition & _NO_FILM]
    best = container.streams.best("video")
    return best if best in films else films[0] if films else None


def _container(path):
    """FFmpeg's name of a file's container, by its first bytes; by its suffix if they tell nothing."""
    head = _head(path, 16)
    for name, (place, sign) in _SIGNS.items():
        if head[place:].startswith(sign):
            return name
    for sign, name in _OTHERS.items():
        if head.startswith(sign):
            raise RDSInputError(f"{path}: is {name} by its content; convert it to mp4, mkv, webm or avi")
    return VIDEO_FORMATS[path.suffix.lower()]


def _head(path, n):
    try:
        with path.open("rb") as file:
            return file.read(n)
    except OSError as cause:
        raise RDSInputError(f"{path}: cannot be read ({cause.strerror})") from cause


def upright(path: str | Path, frame: av.VideoFrame) -> np.ndarray:
    """Pixels (H, W, 3) as a player shows them: turned and mirrored by the whole display matrix."""
    pixels, matrix = frame.to_ndarray(format="rgb24"), frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return pixels
    # x' = a x + c y and y' = b x + d y, for columns x and rows y
    a, b, _, c, d = np.frombuffer(bytes(matrix), np.int32)[:5].tolist()
    straight, turned = max(abs(a), abs(d)), max(abs(b), abs(c))
    if min(straight, turned) > max(straight, turned) / 100 or not a * d - b * c:
        raise RDSInputError(f"{path}: is to be shown aslant, by matrix {a, b, c, d}; encode it upright")
    if turned > straight:
        pixels, a, d = pixels.transpose(1, 0, 2), c, b
    return pixels[:: 1 if d > 0 else -1, :: 1 if a > 0 else -1]


def _announced(container, stream):
    """How many frames an mp4's index has but for those its edit list hides; 0 for others, whose headers only guess."""
    if not container.format.name.startswith("mov"):
        return 0
    return sum(entry.size > 0 and not entry.is_discard for entry in stream.index_entries)


def _is_cut(path):
    """Whether the file is shorter than its container says."""
    size, kind = path.stat().st_size, _container(path)
    with path.open("rb") as file:
        if kind == "matroska":
            return _end_of_segment(file) > size
        place = 0
        while place + 8 <= size:
            file.seek(place)
            head = file.read(16)
            if kind == "avi":
                length = int.from_bytes(head[4:8], "little") + 8 if head[:4] == b"RIFF" else 0
            else:
                length = int.from_bytes(head[:4], "big") if head[4:8].isalnum() else 0
                length = int.from_bytes(head[8:16], "big") if length == 1 else length
            if length < 8:
                return False  # to the end of the file, or nothing that we know
            place += length
    return place > size


def _end_of_segment(file):
    """Where the segment that holds all of a Matroska file should end; 0 if it was written without a length."""
    file.seek(4)
    head = _vint(file)
    file.seek(head or 0, os.SEEK_CUR)
    if head is None or file.read(4) != b"\x18S\x80g":
        return 0
    length = _vint(file)
    return 0 if length is None else file.tell() + length


def _vint(file):
    """A number of variable length; None if it is cut, or all ones, which stand for unknown."""
    first = file.read(1)
    if not first or not first[0]:
        return None
    n = 8 - first[0].bit_length()
    bits, rest = first[0] & ((1 << (7 - n)) - 1), file.read(n)
    value = int.from_bytes(bytes([bits]) + rest, "big")
    return None if len(rest) < n or value == (1 << (7 * (n + 1))) - 1 else value
