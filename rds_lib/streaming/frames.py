"""What reads a source one frame after the other, whatever it is: all of one size, each error at its frame."""

import math
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Event

import numpy as np

from rds_lib.core.errors import RDSInputError
from rds_lib.streaming.ahead import Ahead
from rds_lib.streaming.camera import Camera


@dataclass
class Source:
    """What `Frames` reads from."""

    name: str  # in errors
    items: Iterator[tuple[np.ndarray, Path | None]]  # frames, each with its picture if it is read from one
    rate: Callable[[], float | None] = lambda: None
    length: int | None = None  # frames, where that is known without reading
    ends: bool = False  # it may be read ahead of time to see where it ends
    live: bool = False
    camera: Camera | None = None


class Frames:
    """The frames of a source, (H, W, 3) uint8 RGB, all of one size: an iterator and a context manager.

    Made by `frames_of`. `close`, which the end of the ``with`` block calls, stops the thread that reads ahead and
    lets go of files and cameras. The end and every error do so too.

    Attributes
    ----------
    file : Path or None
        The picture that the last frame was read from, None if it was none.
    count : int
        Frames given so far.
    live : bool
        Whether the source is one that goes on: a camera, or a folder or file that is followed.
    """

    def __init__(self, source: Source, patience: float, ahead: int, stopped: Event):
        self.file, self.count, self.live = None, 0, source.live
        self._source, self._patience, self._ahead, self._stopped = source, patience, ahead, stopped
        self._reader = None  # once reading began
        self._coming, self._end = deque(), None  # items that were looked at, and what came after the last one
        self._length, self._size, self._closed = source.length, None, False
        if source.camera:
            self._start()  # so that what it sees before the first frame is asked for is dropped

    @property
    def rate(self) -> float | None:
        """Frames a second as the source says, None where it does not (yet)."""
        return self._source.rate()

    def shorter_than(self, n: int) -> int | None:
        """Number of frames of the video, those already given among them, if it is known to be below ``n``.

        Looks at up to ``n`` frames of a video file, which stay in memory until they are given. None for a longer
        video, and for sources whose end only waiting shows: cameras, what is followed, generators.
        """
        if self._length is None and self._source.ends and not self._closed:
            while self._end is None and self.count + len(self._coming) < n:
                self._look()
            if isinstance(self._end, StopIteration):
                self._length = self.count + len(self._coming)
        return self._length if self._length is not None and self._length < n else None

    def close(self) -> None:
        """Stop reading and let go of everything; there are no more frames. A second time does nothing."""
        self._closed = True
        self._stopped.set()
        self._coming.clear()
        if isinstance(self._reader, Ahead):
            self._reader.close()  # its thread closes the source
        else:
            self._source.items.close()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()

    def __iter__(self):
        return self

    def __next__(self) -> np.ndarray:
        if self._closed:
            raise StopIteration
        if not self._coming and self._end is None:
            self._look()
        try:
            if not self._coming:
                raise self._last()
            frame, self.file = self._coming.popleft()
            self._check(frame)
        except Exception:
            self.close()
            raise
        self.count += 1
        return frame

    def _start(self):
        self._reader = self._source.items
        if self._ahead or self._source.camera:
            newest = self._source.camera is not None
            self._reader = Ahead(self._source.items, self._ahead, self._stopped, newest=newest)

    def _look(self):
        """Read one item, or learn why there is none."""
        if self._reader is None:
            self._start()
        try:
            # a camera may hang for ever; what is followed has patience of its own
            is_bounded = self._source.camera and self._patience < math.inf
            self._coming.append(self._reader.get(self._patience) if is_bounded else next(self._reader))
        except Exception as end:
            self._end = end

    def _last(self):
        """What to raise where the frames end."""
        name = self._source.name
        if isinstance(self._end, TimeoutError) and self._source.camera:
            return RDSInputError(
                f"{name}: gave no frame for {self._patience:g} s, after {self.count} frames; see that it is still "
                "plugged in and that no other program has it, or have more patience"
            )
        if isinstance(self._end, StopIteration) and not self.count:
            return RDSInputError(f"{name}: no frames; give at least one")
        return self._end

    def _check(self, frame):
        """Refuse what is no frame, or has another size than the first one."""
        name = f"{self.file or self._source.name}: frame {self.count}"
        if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3 or not frame.size:
            raise RDSInputError(f"{name} is {frame.shape} {frame.dtype}; expected (H, W, 3) uint8 RGB")
        height, width = frame.shape[:2]
        self._size = self._size or (height, width)
        if (height, width) != self._size:
            first = f"{self._size[1]}x{self._size[0]}"
            raise RDSInputError(
                f"{name} is {width}x{height} px, but the first frame has {first}; give all frames one size"
            )
