"""Speeds drawn from frame times: what is drawn together, and what an interval holds."""

import numpy as np
import pandas as pd
import pytest

from rds_lib.core.errors import RDSInputError
from rds_lib.metrics.speed import Draws, frame_times, realised, speedup, spread

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
    times = Draws(frames(busy, busy / 1.5), seed=0).times
    assert np.ptp(times[SLOW]) > 3 and times[SLOW] / times[FAST] == pytest.approx(1.5)


def test_frames_are_drawn_within_their_pass():
    """The second pass is ten times as slow; half of the frames come from it in every resample."""
    times = Draws(frames([1.0] * 5 + [10.0] * 5, [1.0] * 10), seed=0, n=50).times
    assert set(times[SLOW]) == {5.5}


def test_an_interval_narrows_with_the_number_of_frames():
    rng = np.random.default_rng(1)

    def width(n):
        times = Draws(frames(rng.normal(20, 1, n), rng.normal(15, 1, n)), seed=0).times
        low, high = spread(20 / 15, times[SLOW] / times[FAST])[1:]
        assert low < 20 / 15 < high
        return high - low

    assert width(400) < 0.5 * width(24)


def test_an_arm_that_lacks_frames_is_named():
    table = frames([1.0] * 4, [1.0] * 4).iloc[:-1]
    with pytest.raises(RDSInputError, match="RDS 0.4 lack frames"):
        frame_times(table)


def on_clips(saved_by_clip):
    """Two clips of four frames; SAM2 takes 20 ms on each, RDS what it saves less, and one frame of each hiccups."""
    rows = []
    for clip, saved in saved_by_clip.items():
        for method, level, ms in ((*SLOW, 20.0), (*FAST, 20.0 - saved)):
            rows += [(method, level, clip, 0, t, ms + 50 * (t == 3), saved * (method == "RDS")) for t in range(4)]
    return pd.DataFrame(rows, columns=["method", "level", "clip", "pass", "frame", "ms", "saved_ms"])


def test_a_run_is_the_mean_of_its_clips_and_a_clip_the_median_of_its_frames():
    assert Draws(on_clips({"easy": 10.0, "hard": 2.0}), seed=0).typical == {SLOW: 20.0, FAST: 14.0}


def test_an_interval_covers_clips_on_which_a_method_saves_more_or_less():
    """Without hiccups frames of a clip are alike: all of the width comes from the clips that a resample holds."""
    table = on_clips({"easy": 10.0, "hard": 2.0})
    draws = Draws(table[table["frame"] < 3], seed=0, n=400)
    assert speedup(draws, FAST, over=SLOW) == pytest.approx((20 / 14, 20 / 18, 20 / 10))
    assert realised(draws, FAST, over=SLOW) == pytest.approx((1, 1, 1)), "saved and seen on the same clips"
    alike = Draws(on_clips({"easy": 6.0, "hard": 6.0}).query("frame < 3"), seed=0, n=400)
    assert speedup(alike, FAST, over=SLOW) == pytest.approx((20 / 14,) * 3)


def test_a_resample_in_which_nothing_is_skipped_has_no_share():
    """On one of two clips nothing is skipped; a quarter of the resamples hold that clip alone."""
    draws = Draws(on_clips({"easy": 10.0, "hard": 0.0}).query("frame < 3"), seed=0, n=400)
    assert realised(draws, FAST, over=SLOW) == pytest.approx((1, 1, 1))


def test_nothing_is_realised_where_nothing_is_skipped():
    assert np.isnan(realised(Draws(on_clips({"easy": 1.0}), seed=0), SLOW, over=SLOW)).all()
