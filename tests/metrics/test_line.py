"""A line through points: known answers, and what cannot be fitted."""

import numpy as np
import pytest

from rds_lib.core.errors import RDSInputError
from rds_lib.metrics.line import fit_line


def test_a_straight_line_is_found_exactly():
    assert fit_line([5, 20, 48], [3 + 0.5 * n for n in (5, 20, 48)]) == pytest.approx((0.5, 3, 1, 0), abs=1e-12)


def test_noise_lowers_r2_and_the_slope_lies_within_its_interval():
    rng, x = np.random.default_rng(0), np.linspace(5, 48, 60)
    y = 10 + 0.4 * x + rng.normal(0, 1, 60)
    line = fit_line(x, y)
    assert abs(line.slope - 0.4) < line.reach < 0.05 and line.r2 == pytest.approx(np.corrcoef(x, y)[0, 1] ** 2)


def test_points_in_one_place_have_no_line():
    with pytest.raises(RDSInputError, match="a line through 4 points at 1 places; give 3 points at 2 places"):
        fit_line([7, 7, 7, 7], [1, 2, 3, 4])
