"""A video file that is still being written: Matroska alone can be read before its end is there."""

import logging
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from threading import Event

import av
import numpy as np

from rds_lib.core.errors import RDSInputError
from rds_lib.data.container import VIDEO_FORMATS, film_of, upright
from rds_lib.data.images import MAX_PIXELS
from rds_lib.streaming.patience import POLL, Patience

_SIGN = b"\x1aE\xdf\xa3"  # with which Matroska begins
_logger = logging.getLogger(__name__)


def growing_file(path: str | Path, patience: float, stopped: Event, poll: float = POLL) -> Iterator[np.ndarray]:
    """The frames of a Matroska file as they become whole, those that `decode_video` gives of the finished file.

    ``patience`` seconds without a new byte are the end; a frame that is not whole by then is none. How soon frames
    come depends on whoever writes: FFmpeg writes clusters of up to 5 s unless told otherwise.

    Raises
    ------
    RDSInputError
        If the file is not named or not made as Matroska, cannot be decoded, or no frame came at all.
    """
    path = Path(path)
    if VIDEO_FORMATS.get(path.suffix.lower()) != "matroska":
        raise RDSInputError(
            f"{path}: cannot be followed; of files only Matroska (.mkv) can be read before its end is written, so "
            "record to .mkv, or do not follow and wait until it is done"
        )
    return _frames(path, patience, stopped, poll)


def _frames(path, patience, stopped, poll):
    count = 0
    tail = _Tail(path, Patience(patience, stopped, poll))
    try:
        with closing(tail), av.open(tail, format="matroska") as container:
            for frame in container.decode(_film(path, container)):
                if stopped.is_set():
                    return
                yield np.ascontiguousarray(upright(path, frame))
                del frame
                count += 1
                tail.waiting.renew()
    except av.FFmpegError as cause:
        if not tail.at_end:
            raise RDSInputError(f"{path}: cannot be decoded after {count} frames ({cause.strerror})") from cause
    if tail.error is not None:
        raise tail.error
    if stopped.is_set():
        return
    if not count:
        raise RDSInputError(f"{path}: no frame came in {patience:g} s; {tail.state()}")
    _logger.info("%s: not longer for %g s, the video ends after %d frames", path, patience, count)


class _Tail:
    """A file as a stream whose end may move: reading there waits. It cannot be searched, so FFmpeg reads on and on."""

    def __init__(self, path, waiting):
        self.path, self.waiting, self.at_end = path, waiting, False
        self.error = None  # to be raised outside of FFmpeg, which would swallow Ctrl-C
        self._file, self._head = None, b""

    def read(self, size):
        """Up to ``size`` bytes; none at the end, which is where patience ends."""
        try:
            while not self.at_end:
                data = self._more(size)
                if data:
                    self.waiting.renew()
                    return data
                self.at_end = not self.waiting.again()
        except BaseException as error:
            self.error, self.at_end = error, True
        return b""

    def state(self):
        """Why there is no frame, in words."""
        return "it does not exist" if self._file is None else f"it holds {self.path.stat().st_size} bytes"

    def close(self):
        """Let go of the file."""
        if self._file is not None:
            self._file.close()

    def _more(self, size):
        try:
            self._file = self._file or self.path.open("rb")
            data = self._file.read(size)
        except FileNotFoundError:
            return b""
        except OSError as cause:
            raise RDSInputError(f"{self.path}: cannot be read ({cause.strerror})") from cause
        if len(self._head) < len(_SIGN):
            self._head += data[: len(_SIGN) - len(self._head)]
            if not _SIGN.startswith(self._head):
                raise RDSInputError(f"{self.path}: is no Matroska by its content; record to .mkv")
        return data


def _film(path, container):
    """The stream that `decode_video` reads, set up to give each frame as soon as it is there."""
    if (stream := film_of(container)) is None:
        raise RDSInputError(f"{path}: has no video stream")
    if stream.codec_context.width * stream.codec_context.height > MAX_PIXELS:
        raise RDSInputError(f"{path}: frames of more than {MAX_PIXELS // 10**6} megapixels; scale it down")
    stream.thread_type = "SLICE"  # threads that take a frame each give it later
    return stream
