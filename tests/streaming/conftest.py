"""Pictures and videos as small as they get, and the watch over threads."""

import threading

import numpy as np
import pytest
from films import write_film
from PIL import Image

H, W = 24, 32


@pytest.fixture(autouse=True)
def no_thread_is_left():
    """Every test ends with the threads it began with."""
    yield
    assert [thread for thread in threading.enumerate() if thread.name == "frames ahead"] == []


@pytest.fixture(scope="session")
def picture():
    """``picture(t, height, width)``: a smooth coloured pattern that moves with t."""

    def make(t=0, height=H, width=W):
        y, x = np.mgrid[:height, :width]
        waves = [127 + 120 * np.sin((x + 3 * t) / 9 + c) * np.cos(y / 7 - c) for c in range(3)]
        return np.stack(waves, -1).astype(np.uint8)

    return make


@pytest.fixture(scope="session")
def save(picture):
    """``save(path, t)``: write a picture; returns its path."""

    def write(path, t=0, height=H, width=W, **options):
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(picture(t, height, width)).save(path, **options)
        return path

    return write


@pytest.fixture(scope="session")
def encode(picture):
    """``encode(path, n)``: a video file of n pictures; returns its path."""

    def write(path, n, codec="libx264", pix_fmt="yuv420p", **options):
        return write_film(path, map(picture, range(n)), codec=codec, pix_fmt=pix_fmt, **options)

    return write


@pytest.fixture
def until():
    """``until(condition)``: wait for what another thread is about to do."""

    def wait(condition):
        for _ in range(1000):
            if condition():
                return
            threading.Event().wait(0.005)
        pytest.fail("never came true")

    return wait
