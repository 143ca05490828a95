"""A straight line through points: how time follows the number of blocks that run."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.stats import linregress, t

from rds_lib.core.errors import RDSInputError
from rds_lib.metrics.statistics import LEVEL


class Line(NamedTuple):
    """``y = intercept + slope x`` by least squares; ``reach`` is half the width of the slope's 95 % interval."""

    slope: float
    intercept: float
    r2: float
    reach: float


def fit_line(x: Sequence[float], y: Sequence[float]) -> Line:
    """Fit a line.

    Raises
    ------
    RDSInputError
        Unless there are three points or more, at two places or more.
    """
    x, y = np.asarray(x, float), np.asarray(y, float)
    if len(x) < 3 or len(np.unique(x)) < 2:
        raise RDSInputError(f"a line through {len(x)} points at {len(np.unique(x))} places; give 3 points at 2 places")
    found = linregress(x, y)
    reach = found.stderr * t.ppf((1 + LEVEL) / 2, len(x) - 2)
    return Line(float(found.slope), float(found.intercept), float(found.rvalue**2), float(reach))
