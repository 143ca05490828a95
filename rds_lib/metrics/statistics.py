"""Intervals of means: a bootstrap over sequences."""

import numpy as np
import pandas as pd

from rds_lib.core.errors import RDSInputError


def bootstrap_ci(values, *, generator, n=1000, groups=None, level=0.95) -> tuple[float, float]:
    """Percentile bootstrap interval of a mean.

    Parameters
    ----------
    values : array, shape (N,)
        One value per object; NaN is left out.
    generator : numpy.random.Generator
    n : int
        Number of resamples.
    groups : array, shape (N,), optional
        Sequence of each value. Whole sequences are drawn with replacement, since objects and frames of one sequence
        are not independent; the mean is then over the drawn objects. Default: every value on its own.
    level : float
        Coverage, in (0, 1).
    """
    values = np.asarray(values, dtype=float)
    keep = ~np.isnan(values)
    if not keep.any() or n < 1 or not 0 < level < 1:
        raise RDSInputError(f"need at least one number, n >= 1 and 0 < level < 1; got {keep.sum()}, {n=}, {level=}")
    groups = np.arange(len(values)) if groups is None else pd.factorize(np.asarray(groups))[0]
    _, groups = np.unique(groups[keep], return_inverse=True)
    sums, counts = np.bincount(groups, weights=values[keep]), np.bincount(groups)
    draws = generator.integers(len(counts), size=(n, len(counts)))
    means = sums[draws].sum(axis=1) / counts[draws].sum(axis=1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
