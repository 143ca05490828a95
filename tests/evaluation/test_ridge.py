"""The ridge test: it finds what features say of routes on held-out videos, and nothing where they say nothing."""

import numpy as np
import pytest

from rds_lib.evaluation.headroom_names import BY_FRAME, BY_VIDEO
from rds_lib.evaluation.ridge import ridge_gains

ROUTES, VIDEOS, FRAMES, COPIES, FEATURES = 8, 60, 4, 2, 5


def world(seed, *, by_video=1.0, by_frame=0.0, noise=0.3):
    """Features, and measures that follow them linearly."""
    rng = np.random.default_rng(seed)
    features = by_video * rng.normal(size=(VIDEOS, 1, 1, FEATURES))
    features = features + by_frame * rng.normal(size=(VIDEOS, FRAMES, 1, FEATURES)) + np.zeros((1, FRAMES, COPIES, 1))
    values = np.einsum("vtcf,fr->rvtc", features, rng.normal(size=(FEATURES, ROUTES)))
    return values + noise * rng.normal(size=values.shape) + 5 * rng.normal(size=(1, VIDEOS, FRAMES, COPIES)), features


def mean_gains(values, features):
    return {name: won.mean() for name, won in ridge_gains(values, features, seed=0).items()}


def test_a_linear_world_is_predicted_on_videos_that_were_held_out():
    values, features = world(0)
    best = (values.mean((2, 3)).max(0) - values.mean((2, 3))[values.mean((1, 2, 3)).argmax()]).mean()
    won = mean_gains(values, features)
    assert 0.9 * best < won[BY_VIDEO] <= best + 1e-9
    assert won[BY_FRAME] == pytest.approx(won[BY_VIDEO], rel=0.1), "nothing changes within a video"


def test_frames_that_differ_are_told_apart():
    won = mean_gains(*world(1, by_video=0.5, by_frame=1.0))
    assert won[BY_FRAME] > 1.5 * won[BY_VIDEO] > 0


def test_features_that_say_nothing_win_nothing():
    told, shuffled = [], []
    for seed in range(30):
        values, features = world(seed)
        told.append(mean_gains(values, features)[BY_VIDEO])
        shuffled.append(mean_gains(values, np.random.default_rng(1000 + seed).permutation(features)))
    assert np.mean(told) > 1.5
    for name in (BY_VIDEO, BY_FRAME):
        assert abs(np.mean([won[name] for won in shuffled])) < 0.1, name


def test_a_constant_feature_and_two_videos_are_no_trouble():
    values, features = world(2)
    features[..., 0] = 1.0
    won = ridge_gains(values[:, :2], features[:2], seed=0)
    assert all(np.isfinite(gain).all() and gain.shape == (2,) for gain in won.values())
