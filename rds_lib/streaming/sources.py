"""The frames of a video from any source, one by one, as they come."""

import operator
import os
from collections.abc import Iterable
from pathlib import Path
from threading import Event

import numpy as np

from rds_lib.core.errors import RDSInputError
from rds_lib.data.container import VIDEO_FORMATS, decode_video, video_rate
from rds_lib.data.images import list_frames, read_frame
from rds_lib.streaming.camera import Camera
from rds_lib.streaming.frames import Frames, Source
from rds_lib.streaming.growing import growing_folder
from rds_lib.streaming.growing_file import growing_file


def frames_of(
    source: str | os.PathLike | int | Iterable, follow: bool = False, patience: float = 10.0, ahead: int = 4
) -> Frames:
    """Open a source of frames; ``with frames_of(...) as frames: for frame in frames: ...``.

    Parameters
    ----------
    source : path, int, ndarray or iterable
        A folder of pictures, a video file, a camera (``"camera:0"`` or its number), an array (T, H, W, 3) uint8 RGB,
        or any iterable of such frames or of paths of pictures.
    follow : bool
        A folder or a Matroska file is still being written: wait for more. It need not be there yet.
    patience : float
        Seconds without a new frame after which a followed video ends, and a camera is taken for broken. May be
        infinite.
    ahead : int
        Frames that a thread reads before they are asked for; 0 reads each when it is asked for. From a camera a
        thread always takes every frame and keeps the newest alone: a slow consumer misses frames instead of lagging.

    Raises
    ------
    RDSInputError
        If there is no such source, it cannot be followed, or a number is out of range. What is wrong with a frame is
        raised where it would have come; ``docs/streaming.md`` has a table.
    """
    _check_numbers(patience, ahead)
    stopped = Event()
    if isinstance(source, str) and source.startswith("camera:"):
        source = _camera_number(source)
    if isinstance(source, (str, os.PathLike)):
        opened = _growing(Path(source), patience, stopped) if follow else _on_disk(Path(source))
    elif isinstance(source, (int, np.integer)) and not isinstance(source, bool):
        opened = _camera(_camera_number(source), stopped)
    else:
        opened = _given(source)
    return Frames(opened, patience, ahead, stopped)


def _check_numbers(patience, ahead):
    if isinstance(patience, bool) or not isinstance(patience, (int, float, np.number)) or not patience > 0:
        raise RDSInputError(f"patience = {patience!r}; expected seconds above 0")
    try:
        is_count = not isinstance(ahead, bool) and operator.index(ahead) >= 0
    except TypeError:
        is_count = False
    if not is_count:
        raise RDSInputError(f"ahead = {ahead!r}; expected a number of frames, 0 or more")


def _camera_number(source):
    number = str(source).removeprefix("camera:")
    if not number.isascii() or not number.isdigit():
        raise RDSInputError(f"camera {number!r}; expected the number of a camera, as in camera:0")
    return int(number)


def _on_disk(path):
    if path.is_dir():
        paths = list_frames(path)
        return Source(str(path), ((read_frame(p), p) for p in paths), length=len(paths))
    if not path.exists():
        raise RDSInputError(f"{path}: no such file or folder")
    return Source(str(path), _decoded(path), rate=lambda: _rate(path), ends=True)


def _decoded(path):
    for _, frame in decode_video(path):
        yield np.ascontiguousarray(frame), None
        del frame


def _rate(path):
    """Of a file that may be damaged or not there yet, which its first frame will say better."""
    try:
        return video_rate(path)
    except RDSInputError:
        return None


def _growing(path, patience, stopped):
    is_file = path.is_file() or (not path.exists() and path.suffix.lower() in VIDEO_FORMATS)
    if not is_file:
        return Source(str(path), growing_folder(path, patience, stopped), live=True)
    frames = growing_file(path, patience, stopped)
    return Source(str(path), ((frame, None) for frame in frames), rate=lambda: _rate(path), live=True)


def _camera(index, stopped):
    camera = Camera(index)
    items = ((frame, None) for frame in camera.frames(stopped))
    return Source(camera.name, items, rate=lambda: camera.rate, live=True, camera=camera)


def _given(source):
    """Frames or paths of pictures from the user's own hands."""
    if isinstance(source, np.ndarray) and (source.ndim != 4 or source.shape[3] != 3 or source.dtype != np.uint8):
        raise RDSInputError(f"an array {source.shape} {source.dtype}; expected frames (T, H, W, 3) uint8 RGB")
    try:
        items = iter(source)
        length = len(source) if hasattr(source, "__len__") else None
    except TypeError as cause:
        raise RDSInputError(
            f"{type(source).__name__} is no source of frames; give a folder, a file, camera:0, an array or an iterable"
        ) from cause
    return Source("the frames given", _taken(items), length=length)


def _taken(items):
    """Copies, as a generator may draw its next frame into the same array."""
    for t, item in enumerate(items):
        if isinstance(item, (str, os.PathLike)):
            yield read_frame(item), Path(item)
            continue
        try:
            frame = np.array(item)
        except Exception as cause:
            raise RDSInputError(f"frame {t}: {type(item).__name__}; expected (H, W, 3) uint8 RGB") from cause
        yield frame, None
