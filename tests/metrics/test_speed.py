"""Speeds drawn from frame times: what is drawn together, and what an interval holds."""

import numpy as np
import pandas as pd
import pytest

from rds_lib.core.errors import RDSInputError
from rds_lib.metrics.speed import drawn_times, frame_times, spread

SLOW, FAST = ("SAM2", 1.0), ("RDS", 0.4)


def frames(slow, fast, passes=2):
    """Times in ms, (passes, frames) each, as the benchmark's table has them."""
    rows = [
        (*arm, p, t, ms)
        for arm, times in ((SLOW, slow), (FAST, fast))
        for p, one in enumerate(np.reshape(times, (passes, -1)))
        for t, ms in enumerate(one)
    ]
    return pd.DataFrame(rows, columns=["method", "level", "pass", "frame", "ms"])


def test_what_slows_the_machine_cancels_in_a_ratio():
    """Frames that take up to twice as long, for both arms alike: each alone is uncertain, and their ratio is not."""
    busy = np.random.default_rng(0).uniform(10, 20, 24)
    times = drawn_times(frames(busy, busy / 1.5), seed=0)
    assert np.ptp(times[SLOW]) > 3 and times[SLOW] / times[FAST] == pytest.approx(1.5)


def test_frames_are_drawn_within_their_pass():
    """The second pass is ten times as slow; half of the frames come from it in every resample."""
    times = drawn_times(frames([1.0] * 5 + [10.0] * 5, [1.0] * 10), seed=0, n=50)
    assert set(times[SLOW]) == {5.5}


def test_an_interval_narrows_with_the_number_of_frames():
    rng = np.random.default_rng(1)

    def width(n):
        times = drawn_times(frames(rng.normal(20, 1, n), rng.normal(15, 1, n)), seed=0)
        low, high = spread(20 / 15, times[SLOW] / times[FAST])[1:]
        assert low < 20 / 15 < high
        return high - low

    assert width(400) < 0.5 * width(24)


def test_an_arm_that_lacks_frames_is_named():
    table = frames([1.0] * 4, [1.0] * 4).iloc[:-1]
    with pytest.raises(RDSInputError, match="RDS 0.4 lack frames"):
        frame_times(table)
