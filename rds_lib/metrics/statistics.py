"""Means, paired differences and their intervals: one way for every table and page.

Sequences are drawn, never objects or frames, and trainings too where an arm has several. Each end of an interval is the
outer one of two: Student's t, which is right for few sequences, and a bootstrap corrected for bias and skew (BCa,
Efron 1987, with the t quantiles of Hesterberg's expanded percentiles, 2015), which is right for lopsided ones. The
plain percentile bootstrap covers too little on as few and as skewed clips as ours; ``benchmarks/coverage.py`` shows how
much each covers. Over fewer than `FEWEST` sequences an interval would be the range of their numbers: it is left empty.

The random stream follows from the seed alone and sequences are taken in the order of their names, so two pages that ask
for the same effect, the page of results (`show.results_page`) and the ledger (`report.claims`), print the same
interval, whatever either of them computed before.
"""

import warnings
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.special import ndtr, ndtri, stdtrit

from rds_lib.core.errors import RDSInputError

RESAMPLES = 1000
LEVEL = 0.95  # coverage of every interval
FEWEST = 6  # sequences that an interval needs
NO_SEED = -1  # column of an arm that has no seed


class Interval(NamedTuple):
    """An effect and its interval; the bounds are NaN where there is none."""

    effect: float
    low: float = float("nan")
    high: float = float("nan")


def draws(size: int, *, seed: int, n: int = RESAMPLES) -> np.ndarray:
    """Indices of ``n`` resamples of ``size`` items, drawn with replacement, shape (n, size)."""
    return np.random.default_rng(seed).integers(size, size=(n, size))


def bootstrap_ci(values, *, seed: int, n: int = RESAMPLES, groups=None, level: float = LEVEL) -> tuple[float, float]:
    """Percentile bootstrap interval of a mean: the plain one, for explanations. Tables have `mean_interval`.

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
    sums, counts = _by_sequence(values, groups, n, level)
    drawn = draws(len(sums), seed=seed, n=n)
    low, high = np.quantile(_ratios(sums[drawn], counts[drawn]), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def mean_interval(values, *, seed: int, n: int = RESAMPLES, groups=None, level: float = LEVEL) -> Interval:
    """The mean over objects with its interval over sequences, and over trainings where there are several.

    Parameters
    ----------
    values : array, shape (N,) or (N, K)
        One row per object, a column per training; rows with a NaN are left out.
    seed, n, groups, level
        As for `bootstrap_ci`.
    """
    sums, counts = _by_sequence(values, groups, n, level)
    return interval_of(sums, counts, seed=seed, n=n, level=level, trainings=sums.shape[1] > 1)


def paired(a, b, *, groups, seed: int, n: int = RESAMPLES, level: float = LEVEL) -> Interval:
    """Mean of ``a - b`` with its interval: row i of both is the same object, ``groups[i]`` its sequence.

    Both are (N,), or (N, K) with a column per training. Rows in which a value is NaN are left out.
    """
    gaps = np.asarray(a, dtype=float) - np.asarray(b, dtype=float)
    return mean_interval(gaps, seed=seed, n=n, groups=groups, level=level)


def interval_of(
    sums, counts, *, seed: int, n: int = RESAMPLES, level: float = LEVEL, trainings: bool = False
) -> Interval:
    """A mean of ratios with its interval: the mean over columns g of sum over s of sums[s, g] / the same of counts.

    A mean over objects has one column; the G of YouTube-VOS has four, its groups; several trainings have one each.

    Parameters
    ----------
    sums, counts : array, shape (S, G)
        A row per sequence. A column that counts nothing is left out of the mean, in the data as in a draw.
    trainings : bool
        Columns are trainings of one method, which are drawn as sequences are. Their share of the variance has the
        degrees of freedom of so few (Satterthwaite), and what a training changes on single sequences counts once.
    """
    sums, counts = np.asarray(sums, dtype=float), np.asarray(counts, dtype=float)
    effect = float(_mean(_ratios(sums, counts)))
    if len(sums) < FEWEST:
        return Interval(effect)
    drawn = draws(len(sums), seed=seed, n=n)
    values = _ratios(sums[drawn], counts[drawn])  # (n, G)
    if trainings:
        columns = np.random.default_rng([seed, 1]).integers(sums.shape[1], size=values.shape)
        values = np.take_along_axis(values, columns, axis=1)
    left = _ratios((sums.sum(0) - sums)[:, None], (counts.sum(0) - counts)[:, None])  # (S, G), each without one
    extra = _of_trainings(_ratios(sums, counts), left) if trainings else None
    return Interval(effect, *_bounds(effect, _mean(values), _mean(left), level, extra))


def difference(
    objects: pd.DataFrame, arm: tuple[str, float], other: tuple[str, float], *, seed: int, n: int = RESAMPLES
) -> Interval:
    """J&F of one arm minus another's in points, paired object by object and training by training.

    Parameters
    ----------
    objects : DataFrame
        ``sequence, object, method, level, JF`` of one data set, as ``objects.csv`` of stage ``evaluation`` has them;
        with a column ``seed`` where arms were trained more than once. An arm without a seed meets every training of
        the other; of two with seeds those count that both have.
    arm, other : (method, level)

    Raises
    ------
    LookupError
        With the method that has no rows.
    RDSInputError
        If two arms have trainings and no seed in common.
    """
    first, second = matched(objects, arm, other)
    sequences = first.index.get_level_values("sequence")
    return paired(100 * first.to_numpy(), 100 * second.to_numpy(), groups=sequences, seed=seed, n=n)


def matched(
    objects: pd.DataFrame, arm: tuple[str, float], other: tuple[str, float]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The J&F of two arms on the objects that both have: a row per (sequence, object), a column per training.

    An arm without a seed has one column, named -1. Arguments and errors are those of `difference`.
    """
    first, second = (_by_training(objects, *key) for key in (arm, other))
    if NO_SEED not in first and NO_SEED not in second:
        common = first.columns.intersection(second.columns)
        if common.empty:
            raise RDSInputError(
                f"{arm[0]} {arm[1]:g} has the seeds {[*first]} and {other[0]} {other[1]:g} {[*second]}; "
                "train both with one seed at least"
            )
        first, second = first[common], second[common]
    return first.align(second, join="inner", axis=0)


def resample(names, statistic: Callable, *, seed: int, n: int = RESAMPLES, level: float = LEVEL) -> Interval:
    """``statistic(names)`` with its interval from drawing sequences; NaN draws are left out, NaN if all are."""
    names = np.sort(np.asarray(names))
    effect = float(statistic(names))
    if len(names) < FEWEST:
        return Interval(effect)
    values = np.array([statistic(names[drawn]) for drawn in draws(len(names), seed=seed, n=n)], dtype=float)
    if np.isnan(values).all() or np.isnan(effect):
        return Interval(float("nan"))
    left = np.array([statistic(np.delete(names, i)) for i in range(len(names))], dtype=float)
    return Interval(effect, *_bounds(effect, values, left, level))


def _by_sequence(values, groups, n, level):
    """Sums (S, K) and counts (S, K) over the objects of every sequence, in the order of the sequences' names."""
    values = np.asarray(values, dtype=float)
    values = values[:, None] if values.ndim == 1 else values
    keep = ~np.isnan(values).any(axis=1)
    if not keep.any() or n < 1 or not 0 < level < 1:
        raise RDSInputError(f"need at least one number, n >= 1 and 0 < level < 1; got {keep.sum()}, {n=}, {level=}")
    groups = np.arange(len(values)) if groups is None else np.asarray(groups)
    _, groups = np.unique(groups[keep], return_inverse=True)
    sums = np.zeros((groups.max() + 1, values.shape[1]))
    np.add.at(sums, groups, values[keep])
    return sums, np.broadcast_to(np.bincount(groups)[:, None], sums.shape)


def _ratios(sums, counts):
    """Ratio of the sums over sequences, (..., S, G) -> (..., G); NaN where nothing is counted."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return sums.sum(axis=-2) / counts.sum(axis=-2)


def _mean(ratios):
    """Mean over the last axis without NaN; NaN where all are."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of a mean of nothing
        return np.nanmean(ratios, axis=-1)


def _of_trainings(ratios, left):
    """What trainings (G) add to the variance, and its degrees of freedom; ``left`` (S, G) leaves out one sequence each.

    The variance of a mean over trainings x sequences is that of both main effects plus that of their interaction, which
    each of the two estimates holds once.
    """
    size, number = left.shape
    own = size * ratios - (size - 1) * left  # pseudo-values of every sequence under every training
    rest = own - own.mean(0) - own.mean(1, keepdims=True) + own.mean()
    interaction = (rest**2).sum() / ((size - 1) * (number - 1)) / (size * number)
    return max(ratios.var(ddof=1) / number - interaction, 0.0), number - 1


def _bounds(effect, drawn, left, level, extra=None):
    """At each end the outer one of Student's t, from leaving out one sequence each, and of the corrected bootstrap."""
    drawn, left = drawn[np.isfinite(drawn)], left[np.isfinite(left)]
    size = len(left)
    variance, freedom = (size - 1) / size * ((left - left.mean()) ** 2).sum(), size - 1
    low, high = _corrected(effect, drawn, left, level)
    if extra is not None and extra[0] > 0:
        total = variance + extra[0]
        freedom = total**2 / (variance**2 / freedom + extra[0] ** 2 / extra[1])
        variance = total
    reach = stdtrit(freedom, (1 + level) / 2) * np.sqrt(variance)
    return float(min(low, effect - reach)), float(max(high, effect + reach))


def _corrected(effect, drawn, left, level):
    """The expanded BCa interval; plain quantiles where every draw lies on one side of the effect."""
    size, ends = len(left), np.array([(1 - level) / 2, (1 + level) / 2])
    side = np.sign(np.round(drawn - effect, 10))
    below = (side < 0).mean() + (side == 0).mean() / 2
    if not 0 < below < 1:
        return np.quantile(drawn, ends)
    gaps, bias = left.mean() - left, ndtri(below)
    skew = (gaps**3).sum() / max(6 * (gaps**2).sum() ** 1.5, np.finfo(float).tiny)
    reach = bias + stdtrit(size - 1, ends) * np.sqrt(size / (size - 1))
    return np.quantile(drawn, ndtr(bias + reach / np.maximum(1 - skew * reach, 0.1)))


def _by_training(objects, method, level):
    rows = objects[(objects["method"] == method) & (objects["level"] == level)]
    if rows.empty:
        raise LookupError(method)
    seeds = rows["seed"].fillna(NO_SEED).astype(int) if "seed" in rows else NO_SEED
    return rows.assign(seed=seeds).pivot(index=["sequence", "object"], columns="seed", values="JF").sort_index()
