"""Oracles: the naive one gains from pure noise, the honest one does not; what is really there, it finds."""

import numpy as np
import pytest

from rds_lib.core.errors import RDSInputError
from rds_lib.evaluation.headroom_names import (
    BETWEEN,
    FIXED,
    FIXED_HONEST,
    FRAME_HONEST,
    MEAN,
    NAIVE_BETWEEN,
    NAIVE_WITHIN,
    TOTAL,
    VIDEO,
    WITHIN,
    WORST,
)
from rds_lib.evaluation.oracles import choices, gains

SHAPE = (12, 40, 6, 2)  # routes, videos, frames, copies


def noise(seed, std=1.0, shape=SHAPE):
    return std * np.random.default_rng(seed).normal(size=shape)


def mean_gains(values):
    return {name: won.mean() for name, won in gains(choices(values)).items()}


def test_pure_noise_flatters_the_naive_oracle_alone():
    found = [mean_gains(noise(seed)) for seed in range(60)]
    mean = {name: np.mean([won[name] for won in found]) for name in found[0]}
    assert mean[NAIVE_BETWEEN] > 0.5 and mean[NAIVE_WITHIN] > 0.8
    assert max(abs(mean[name]) for name in (BETWEEN, WITHIN, TOTAL)) < 0.02


def test_noise_that_lasts_through_a_video_is_no_gain_either():
    """A tracker that loses an object by chance loses it for all frames: only the mirrored copy tells."""
    worlds = [noise(seed, shape=(12, 40, 1, 2)) + noise(100 + seed, 0.1) for seed in range(60)]
    honest, without_mirror = (
        [mean_gains(each)[BETWEEN] for each in some] for some in (worlds, [w[..., :1] for w in worlds])
    )
    assert abs(np.mean(honest)) < 0.06
    assert np.mean(without_mirror) > 1, "without a mirrored copy it looks like a gain"


def test_what_videos_and_frames_need_is_found_below_the_noise():
    by_video, by_frame = noise(2, 2.0, (12, 40, 1, 1)), noise(3, 2.0, (12, 40, 6, 1))
    truth = by_video + by_frame
    won = mean_gains(truth + noise(4, 0.5))
    best_a_video, best_a_frame = truth.mean((2, 3)).max(0).mean(), truth.max(0).mean()
    fixed = choices(truth)[FIXED_HONEST].mean()
    assert won[TOTAL] == pytest.approx(best_a_frame - fixed, rel=0.1)
    assert 0.7 * (best_a_video - fixed) < won[BETWEEN] < best_a_video - fixed
    assert won[BETWEEN] + won[WITHIN] == pytest.approx(won[TOTAL])


def test_videos_alone_leave_nothing_within_them():
    won = mean_gains(noise(5, 2.0, (12, 40, 1, 1)) + noise(6, 0.2))
    assert won[BETWEEN] > 2 and abs(won[WITHIN]) < 0.05


def test_a_better_route_for_all_is_no_gain():
    values = noise(7, 3.0, (12, 1, 1, 1)) + noise(8, 0.5)
    assert mean_gains(values) == pytest.approx(
        {NAIVE_BETWEEN: 0, NAIVE_WITHIN: 0, BETWEEN: 0, WITHIN: 0, TOTAL: 0}, abs=0.1
    )


def test_two_routes_by_hand():
    """Route 0 is better on the first video by 2, route 1 on the others; all frames and copies agree."""
    by_video = np.array([[3.0, 0.0, 0.0], [1.0, 1.0, 1.0]])
    found = choices(np.broadcast_to(by_video[:, :, None, None], (2, 3, 4, 2)))
    assert found[MEAN].tolist() == [2, 0.5, 0.5] and found[VIDEO].tolist() == [3, 1, 1]
    assert found[FIXED].tolist() == [3, 0, 0] and found[WORST].tolist() == [3, 0, 0], "their means are both 1"
    assert found[FIXED_HONEST].tolist() == [1, 0, 0], "chosen on the other two videos"


def test_one_copy_has_no_honest_choice_by_frame():
    found = choices(noise(9)[..., :1])
    assert FRAME_HONEST not in found and not {WITHIN, TOTAL} & gains(found).keys()


def test_too_little_is_refused():
    with pytest.raises(RDSInputError, match="at least 2 routes"):
        choices(noise(0, shape=(1, 3, 3, 2)))
