"""Cameras, all of them made up: opened, read, too slow a consumer, and what goes wrong."""

import threading
from threading import Event

import cv2
import numpy as np
import pytest

from rds_lib.core.errors import RDSInputError
from rds_lib.streaming.camera import Camera
from rds_lib.streaming.sources import frames_of


class Device:
    """Like ``cv2.VideoCapture``; ``script`` has a frame number, a size, or what else happens, for each reading."""

    def __init__(self, *script, opens=True, rate=30.0):
        self.script, self.is_open, self.rate, self.reads = list(script), opens, rate, 0
        self.released, self.let_go = [], Event()

    def __call__(self, index):
        self.index = index
        return self

    def isOpened(self):
        return self.is_open

    def get(self, what):
        assert what == cv2.CAP_PROP_FPS
        return self.rate

    def release(self):
        self.released.append(threading.current_thread().name)

    def read(self):
        act = self.script[min(self.reads, len(self.script) - 1)]
        self.reads += 1
        if isinstance(act, str):
            if act == "hang":
                self.let_go.wait(20)
            self.is_open = act != "unplugged"
            return False, None
        if isinstance(act, Exception):
            raise act
        act = act() if callable(act) else act
        if isinstance(act, np.ndarray):
            return True, act
        return True, np.full((4, 6, 3), (act, 100, 200), np.uint8)  # blue, green, red


@pytest.fixture
def plug(monkeypatch):
    """``plug(device)``: what OpenCV finds."""
    return lambda device: monkeypatch.setattr(cv2, "VideoCapture", device) or device


def stepped(n):
    """A script of n frames, each given once it is released."""
    go_on = threading.Semaphore(0)
    return go_on, [lambda t=t: go_on.acquire(timeout=20) and t for t in range(n)]


@pytest.mark.parametrize("source", ["camera:2", 2, np.int64(2)])
def test_a_camera_gives_upright_red_green_blue(plug, source):
    device = plug(Device(7))
    with frames_of(source) as frames:
        assert frames.live and frames.rate == 30 and frames.shorter_than(16) is None
        frame = next(frames)
        assert frame.dtype == np.uint8 and frame.shape == (4, 6, 3) and frame[0, 0].tolist() == [200, 100, 7]
        assert frames.file is None and device.index == 2
    assert device.released == ["frames ahead"]


@pytest.mark.parametrize("rate", [0.0, -1.0, float("nan"), 1e6])
def test_a_camera_may_not_know_its_rate(rate):
    assert Camera(0, Device(0, rate=rate)).rate is None


def test_a_camera_that_cannot_be_opened_is_an_error_at_once(plug):
    device = plug(Device(0, opens=False))
    with pytest.raises(RDSInputError, match="camera 3: cannot be opened; see that it is plugged in"):
        frames_of("camera:3")
    assert device.released and device.reads == 0


def test_a_slow_consumer_gets_the_newest_frame(plug, until):
    go_on, script = stepped(50)
    device = plug(Device(*script))
    with frames_of(0) as frames:
        for _ in range(10):
            go_on.release()
        until(lambda: device.reads == 11)  # ten are read and the eleventh is waited for
        assert next(frames)[0, 0, 2] == 9
        go_on.release()
        assert next(frames)[0, 0, 2] == 10  # none twice
        for _ in range(7):
            go_on.release()
        until(lambda: device.reads == 19)
        assert next(frames)[0, 0, 2] == 17 and frames.count == 3
        go_on.release(5)


def test_frames_before_the_first_one_is_asked_for_are_dropped(plug, until):
    go_on, script = stepped(9)
    device = plug(Device(*script))
    frames = frames_of(0, ahead=0)
    go_on.release(5)
    until(lambda: device.reads == 6)
    assert next(frames)[0, 0, 2] == 4
    go_on.release(5)
    frames.close()


@pytest.mark.parametrize("how", ["fail", "hang"])
def test_a_camera_that_stalls_is_an_error_with_the_number_of_frames(plug, how, until):
    go_on, script = stepped(3)
    device = plug(Device(*script, how))
    with frames_of(1, patience=0.05) as frames:
        for _ in range(3):
            go_on.release()
            next(frames)
        threading.Timer(0.2, device.let_go.set).start()  # a driver that hangs ends at last
        with pytest.raises(RDSInputError, match="camera 1: gave no frame for 0.05 s, after 3 frames; see that"):
            next(frames)
        assert list(frames) == []
    assert device.released == ["frames ahead"]


def test_a_camera_that_fails_once_goes_on(plug):
    device = plug(Device("fail", "fail", 5))
    with frames_of(0, patience=20) as frames:
        assert next(frames)[0, 0, 2] == 5 and device.reads >= 3


def test_a_camera_that_is_unplugged_is_an_error(plug):
    device = plug(Device("unplugged"))
    with frames_of(0) as frames, pytest.raises(RDSInputError, match="camera 0: is gone; see that it is still plugged"):
        next(frames)
    assert device.released


def test_errors_of_opencv_name_the_camera(plug):
    plug(Device(cv2.error("grab failed")))
    with frames_of(0) as frames, pytest.raises(RDSInputError, match="camera 0: cannot be read"):
        next(frames)


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (np.zeros((8, 6, 3), np.uint8), "camera 0: frame 1 is 6x8 px, but the first frame has 6x4"),
        (np.zeros((4, 6), np.uint8), r"camera 0: frame 1 is \(4, 6\) uint8; expected \(H, W, 3\) uint8 RGB"),
    ],
)
def test_another_kind_of_frame_is_an_error(plug, frame, message):
    go_on, script = stepped(2)
    plug(Device(script[0], lambda: script[1]() and frame, "fail"))
    with frames_of(0) as frames:
        go_on.release()
        next(frames)
        go_on.release()
        with pytest.raises(RDSInputError, match=message):
            next(frames)


def test_a_camera_is_let_go_though_nothing_was_read(plug):
    device = plug(Device("fail"))
    frames_of(0).close()
    assert device.released == ["frames ahead"]
