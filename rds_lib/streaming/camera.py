"""A camera, by its number, through OpenCV."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event

import cv2
import numpy as np

from rds_lib.core.errors import RDSInputError
from rds_lib.streaming.patience import POLL


class Camera:
    """A camera that is open until `close`, or until `frames` ends.

    Parameters
    ----------
    index : int
        OpenCV's number of the camera; the first one is 0.
    capture : callable, optional
        What opens it: like ``cv2.VideoCapture``, which it is by default.

    Attributes
    ----------
    rate : float or None
        Frames a second as the camera says, None if it does not.

    Raises
    ------
    RDSInputError
        If the camera cannot be opened.
    """

    def __init__(self, index: int, capture: Callable | None = None):
        self.name = f"camera {index}"
        try:
            with _quiet():
                self._device = (capture or cv2.VideoCapture)(index)
                is_open = self._device.isOpened()
        except cv2.error as cause:
            raise RDSInputError(f"{self.name}: cannot be opened ({cause.err})") from cause
        if not is_open:
            self.close()
            raise RDSInputError(
                f"{self.name}: cannot be opened; see that it is plugged in, that no other program has it, and that "
                "its number is right (the first one is 0)"
            )
        rate = self._device.get(cv2.CAP_PROP_FPS)
        self.rate = float(rate) if 0 < rate < 1000 else None

    def frames(self, stopped: Event, poll: float = POLL) -> Iterator[np.ndarray]:
        """Yield frames, (H, W, 3) uint8 RGB, for as long as the camera gives any.

        A frame that fails is tried again; for how long is the business of whoever waits for it.

        Raises
        ------
        RDSInputError
            If the camera was closed or unplugged, as far as OpenCV tells.
        """
        try:
            while not stopped.is_set():
                there, frame = self._device.read()
                if there:
                    yield _rgb(frame)
                elif self._device.isOpened():
                    stopped.wait(poll)
                else:
                    raise RDSInputError(f"{self.name}: is gone; see that it is still plugged in")
        except cv2.error as cause:
            raise RDSInputError(f"{self.name}: cannot be read ({cause.err})") from cause
        finally:
            self.close()

    def close(self) -> None:
        """Let go of the camera; a second time does nothing."""
        self._device.release()


@contextmanager
def _quiet():
    """Keep OpenCV's own words on what it tried to itself; the error says what matters."""
    logs = cv2.utils.logging
    before = logs.getLogLevel()
    logs.setLogLevel(logs.LOG_LEVEL_ERROR)
    try:
        yield
    finally:
        logs.setLogLevel(before)


def _rgb(frame):
    """OpenCV's blue, green, red turned round; what is no picture with three colours is left to be refused."""
    return cv2.cvtColor(frame, cv2.COLOR_BGR2RGB) if frame.ndim == 3 and frame.shape[2] == 3 else frame
