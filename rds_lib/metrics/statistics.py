"""Means, paired differences and their intervals: one bootstrap over sequences for every table and page.

The random stream follows from the seed alone and sequences are taken in the order of their names, so two pages that ask
for the same effect, the page of results (`show.results_page`) and the ledger (`report.claims`), print the same
interval, whatever either of them computed before.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pandas as pd

from rds_lib.core.errors import RDSInputError

RESAMPLES = 1000
LEVEL = 0.95  # coverage of every interval


class Interval(NamedTuple):
    """An effect and its interval; the bounds are NaN where nothing was resampled."""

    effect: float
    low: float = float("nan")
    high: float = float("nan")


def draws(size: int, *, seed: int, n: int = RESAMPLES) -> np.ndarray:
    """Indices of ``n`` resamples of ``size`` items, drawn with replacement, shape (n, size)."""
    return np.random.default_rng(seed).integers(size, size=(n, size))


def bootstrap_ci(values, *, seed: int, n: int = RESAMPLES, groups=None, level: float = LEVEL) -> tuple[float, float]:
    """Percentile bootstrap interval of a mean.

    Parameters
    ----------
    values : array, shape (N,)
        One value per object; NaN is left out.
    seed : int
    n : int
        Number of resamples.
    groups : array, shape (N,), optional
        Sequence of each value. Whole sequences are drawn with replacement, since objects of one sequence are not
        independent; the mean is then over the drawn objects. Default: every value on its own.
    level : float
        Coverage, in (0, 1).
    """
    values = np.asarray(values, dtype=float)
    keep = ~np.isnan(values)
    if not keep.any() or n < 1 or not 0 < level < 1:
        raise RDSInputError(f"need at least one number, n >= 1 and 0 < level < 1; got {keep.sum()}, {n=}, {level=}")
    groups = np.arange(len(values)) if groups is None else np.asarray(groups)
    _, groups = np.unique(groups[keep], return_inverse=True)  # sorted by name
    sums, counts = np.bincount(groups, weights=values[keep]), np.bincount(groups)
    drawn = draws(len(counts), seed=seed, n=n)
    means = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def paired(a, b, *, groups, seed: int, n: int = RESAMPLES, level: float = LEVEL) -> Interval:
    """Mean of ``a - b`` with its interval: item i of both is the same object, ``groups[i]`` its sequence.

    Pairs in which either value is NaN are left out.
    """
    gaps = np.asarray(a, dtype=float) - np.asarray(b, dtype=float)
    low, high = bootstrap_ci(gaps, seed=seed, n=n, groups=groups, level=level)
    return Interval(float(np.nanmean(gaps)), low, high)


def difference(
    objects: pd.DataFrame, arm: tuple[str, float], other: tuple[str, float], *, seed: int, n: int = RESAMPLES
) -> Interval:
    """J&F of one arm minus another's in points, paired object by object.

    Parameters
    ----------
    objects : DataFrame
        ``sequence, object, method, level, JF`` of one data set, as ``objects.csv`` of stage ``evaluation`` has them.
    arm, other : (method, level)

    Raises
    ------
    LookupError
        With the method that has no rows.
    """
    first, second = (_scores(objects, *key) for key in (arm, other))
    first, second = first.align(second, join="inner")
    sequences = first.index.get_level_values("sequence")
    return paired(100 * first, 100 * second, groups=sequences, seed=seed, n=n)


def resample(names, statistic: Callable, *, seed: int, n: int = RESAMPLES, level: float = LEVEL) -> Interval:
    """``statistic(names)`` with its interval from drawing sequences; NaN draws are left out, NaN if all are."""
    names = np.sort(np.asarray(names))
    values = [statistic(names[drawn]) for drawn in draws(len(names), seed=seed, n=n)]
    if np.isnan(values).all():
        return Interval(float("nan"))
    low, high = np.nanquantile(values, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(statistic(names)), float(low), float(high))


def _scores(objects, method, level):
    rows = objects[(objects["method"] == method) & (objects["level"] == level)]
    if rows.empty:
        raise LookupError(method)
    return rows.set_index(["sequence", "object"])["JF"].sort_index()
