"""LiveInspector: the routing inspector of a video that is being tracked, with each frame as it comes."""

import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from rds_lib.core.errors import RDSInputError
from rds_lib.data.labels import present_labels
from rds_lib.evaluation.recordings import Recording, Run
from rds_lib.model.shape import EncoderShape
from rds_lib.routing.route_table import FrameRoute
from rds_lib.show.inspector.data import jpeg, runs_data, scaled, small_labels, video_of_frames
from rds_lib.show.inspector.front import InspectorWidget
from rds_lib.show.inspector.picture import routing_picture
from rds_lib.show.picture import Picture

KEPT = 300  # frames
SIDE = 480  # px, the longest side of the frames that are kept
PAUSE = 1.0  # seconds at least between two updates of the view
SHARE = 0.1  # of the time, at most, goes into updates


class _Kept(NamedTuple):
    frame: bytes  # JPEG
    labels: np.ndarray  # (h, w) uint8
    route: FrameRoute


@dataclass(frozen=True)
class _InMemory(Recording):
    """A recording of frames that are no files."""

    frames: tuple[bytes, ...] = ()

    @property
    def size(self):
        return self.frame(0).shape[:2]

    def frame(self, t):
        return cv2.imdecode(np.frombuffer(self.frames[t], np.uint8), cv2.IMREAD_COLOR)[..., ::-1]


class LiveInspector(InspectorWidget):
    """Show frames, masks and blocks of a video while it is being tracked: display it, then add frame after frame.

    It keeps the last 300 frames, scaled down, and tells the front end about new ones about once a second. A view of
    the last frame goes on to the newest; one of an earlier frame stays there. A viewer without a kernel shows the
    picture of what had come when it was displayed.

    Parameters
    ----------
    title : str
        Of the video.
    shape : EncoderShape
        Of the encoder: ``predictor.backbone.shape``.
    run : str
        Names the run, such as "RDS 0.6".
    kept : int
        Frames to keep, 1 or more.

    Attributes
    ----------
    count : int
        Frames added so far.
    """

    def __init__(self, title: str, shape: EncoderShape, *, run: str = "live", kept: int = KEPT):
        if kept < 1:
            raise RDSInputError(f"kept is {kept}; give the number of frames to keep, 1 or more")
        self.count, self._shape, self._kept, self._size = 0, shape, deque(maxlen=kept), None
        self._run, self._told, self._next = run, 0, 0.0
        super().__init__(menu=[title], sequence=title, shown=[run, ""])

    def add(self, frame: np.ndarray, labels: np.ndarray, route: FrameRoute | None = None) -> None:
        """Add the next frame.

        Parameters
        ----------
        frame : ndarray, shape (H, W, 3), uint8
            RGB, all of one size.
        labels : ndarray, shape (H, W), uint8
        route : FrameRoute, optional
            None where no block ran.

        Raises
        ------
        RDSInputError
            If the frame is of another size than the first one, or the label map than the frame.
        """
        self._size = self._size or frame.shape[:2]
        for name, size in (("frame", frame.shape[:2]), ("label map", labels.shape)):
            if size != self._size:
                raise RDSInputError(f"a {name} of {size} px in a video of {self._size}; give all frames one size")
        size = scaled(self._size, SIDE)
        route = route or FrameRoute((False,) * self._shape.depth, (0.0,) * self._shape.depth, "not tracked")
        self._kept.append(_Kept(jpeg(frame, size, 75), small_labels(labels, size), route))
        self.count += 1
        if (began := time.monotonic()) >= self._next:
            self.update()
            took = time.monotonic() - began
            self._next = began + took + max(PAUSE, took * (1 / SHARE - 1))

    def update(self) -> None:
        """Show what was added since the last update, now."""
        if self._told == self.count:
            return
        self._told, recording = self.count, self._recording()
        size, frames = recording.size, list(recording.frames)
        more = {"first": self._first, "live": True}
        with self.hold_sync():
            self.video = video_of_frames(recording, size, frames, None) | more
            self.runs = runs_data(recording, max(size))

    def picture(self) -> Picture | None:
        """The last frame and all blocks as a figure, None before the first frame."""
        self.update()
        if not self._kept:
            return None
        return routing_picture(self._recording(), [self._run], len(self._kept) - 1, repr(self), first=self._first)

    def __repr__(self):
        last = f"the last {len(self._kept)} of " if self._first else ""
        frames = f"{self._shape.depth} blocks x {last}{self.count} frames" if self.count else "no frames yet"
        return f"LiveInspector({' '.join(self.sequence.split())}: {frames})"

    @property
    def _first(self):
        """Index of the first frame that is kept."""
        return self.count - len(self._kept)

    def _recording(self) -> _InMemory:
        frames, labels, routes = zip(*self._kept)
        names = tuple(Path(f"{self._first + t:05d}") for t in range(len(frames)))
        active = np.array([route.active for route in routes], bool)
        keep_prob = np.array([route.keep_prob for route in routes], float)
        run = Run(self._run, np.stack(labels), active, keep_prob, tuple(route.reason for route in routes), {})
        obj_ids = tuple(present_labels(run.labels))
        return _InMemory(self.sequence, names, obj_ids, self._shape, (run,), frames=frames)
