"""Variance components: those that made the numbers come back, and noise is told from what videos and frames do."""

import numpy as np
import pytest

from rds_lib.core.errors import RDSInputError
from rds_lib.metrics.variance import COMPONENTS, ROUTE, ROUTE_FRAME, ROUTE_VIDEO, route_components

STD = dict(zip(COMPONENTS, (2.0, 1.0, 0.7, 0.9, 1.2), strict=True))


def made_up(seed=0, *, routes=60, videos=60, frames=6, copies=2, **other):
    """Measures (R, V, T, C) with a known standard deviation of every component; videos and frames differ a lot."""
    rng, std = np.random.default_rng(seed), STD | other
    parts = ((routes, 1, 1, 1), (routes, videos, 1, 1), (routes, videos, frames, 1), (routes, videos, 1, copies))
    shapes = dict(zip(COMPONENTS, (*parts, (routes, videos, frames, copies)), strict=True))
    effects = sum(std[name] * rng.normal(size=shape) for name, shape in shapes.items())
    return effects + 20 * rng.normal(size=(1, videos, 1, 1)) + 10 * rng.normal(size=(1, videos, frames, copies))


def test_the_components_that_made_the_numbers_come_back():
    values = made_up()
    found = route_components(values, seed=0, n=300)
    assert list(found) == list(COMPONENTS)
    routes = found.pop(ROUTE)
    assert routes.effect == pytest.approx(4, rel=0.5), "60 routes say little about the variance of routes"
    for name, interval in found.items():
        assert interval.effect == pytest.approx(STD[name] ** 2, rel=0.15), name
        assert interval.low < STD[name] ** 2 < interval.high, name


def test_components_that_are_not_there_are_zero():
    quiet = dict.fromkeys((ROUTE, ROUTE_VIDEO, ROUTE_FRAME), 0.0)
    found = route_components(made_up(1, **quiet), seed=0, n=300)
    for name in quiet:
        assert abs(found[name].effect) < 0.05 and found[name].low < 0.02, name


def test_one_copy_leaves_the_noise_in_what_videos_and_frames_do():
    found = route_components(made_up(2)[..., :1], seed=0, n=50)
    assert list(found) == [ROUTE, ROUTE_VIDEO, ROUTE_FRAME]
    assert found[ROUTE_VIDEO].effect == pytest.approx(1.0**2 + 0.9**2, rel=0.15)
    assert found[ROUTE_FRAME].effect == pytest.approx(0.7**2 + 1.2**2, rel=0.15)


def test_neither_hard_videos_nor_hard_frames_count():
    values = made_up(3, routes=5, videos=4, frames=3)
    harder = values + 100 * np.random.default_rng(9).normal(size=(1, *values.shape[1:]))
    assert route_components(harder, seed=0, n=20) == {
        name: pytest.approx(interval, abs=1e-6) for name, interval in route_components(values, seed=0, n=20).items()
    }


def test_few_videos_still_have_the_right_mean():
    """Unbiased: the mean over many small measurements is the truth, also for a variance near 0."""
    small = [route_components(made_up(seed, routes=8, videos=3, frames=2), seed=0, n=1) for seed in range(400)]
    for name, std in STD.items():
        assert np.mean([found[name].effect for found in small]) == pytest.approx(std**2, rel=0.15), name


@pytest.mark.parametrize("shape", [(1, 3, 3, 1), (3, 1, 3, 1), (3, 3, 1, 1), (3, 3, 3, 3), (3, 3, 3)])
def test_too_little_to_tell_apart_is_refused(shape):
    with pytest.raises(RDSInputError, match="at least 2 routes, 2 videos and 2 frames"):
        route_components(np.zeros(shape), seed=0)


def test_numbers_that_are_none_are_refused():
    values = made_up(routes=3, videos=3, frames=2)
    values[0, 0, 0, 0] = np.nan
    with pytest.raises(RDSInputError, match="NaN"):
        route_components(values, seed=0)
