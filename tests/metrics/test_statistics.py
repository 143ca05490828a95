"""One bootstrap for all tables and pages: what it draws, and that nothing but the seed decides it."""

import numpy as np
import pandas as pd
import pytest

from rds_lib.core.errors import RDSInputError
from rds_lib.metrics.statistics import Interval, bootstrap_ci, difference, paired, resample


def test_bootstrap_draws_whole_sequences():
    values, groups = np.r_[np.zeros(20), np.ones(20)], np.repeat(["a", "b"], 20)
    assert bootstrap_ci(values, seed=0, groups=groups) == (0, 1)
    low, high = bootstrap_ci(values, seed=0)
    assert 0.3 < low < 0.45 and 0.55 < high < 0.7


def test_bootstrap_is_repeatable_and_leaves_nan_out():
    values = np.random.default_rng(1).normal(size=30)
    first = bootstrap_ci(values, seed=7)
    assert bootstrap_ci(np.r_[values, np.nan], seed=7) == first != bootstrap_ci(values, seed=8)
    assert first[0] < values.mean() < first[1]
    with pytest.raises(RDSInputError, match="at least one number"):
        bootstrap_ci([np.nan], seed=7)


def test_neither_the_order_of_the_rows_nor_an_earlier_draw_moves_an_interval():
    rng = np.random.default_rng(2)
    values, groups = rng.normal(size=40), np.array([f"s{n}" for n in rng.integers(9, size=40)])
    first = bootstrap_ci(values, seed=3, groups=groups)
    bootstrap_ci(values[:5], seed=3)
    order = rng.permutation(40)
    assert bootstrap_ci(values[order], seed=3, groups=groups[order]) == pytest.approx(first, abs=1e-12)


def test_what_two_arms_share_cancels_out():
    hard = np.random.default_rng(4).normal(scale=30, size=12)
    groups = np.repeat(list("abcdef"), 2)
    found = paired(hard + 2, hard, groups=groups, seed=0)
    assert found == pytest.approx(Interval(2, 2, 2))
    assert paired([1.0, np.nan, 3.0], [0.0, 0.0, np.nan], groups=["a", "a", "b"], seed=0) == Interval(1, 1, 1)


def objects(scores):
    rows = [(*key, jf) for key, jf in scores.items()]
    return pd.DataFrame(rows, columns=["method", "level", "sequence", "object", "JF"])


def test_differences_are_paired_by_object_and_resampled_by_sequence():
    table = objects(
        {
            ("x", 0.4, "a", 1): 0.9,
            ("x", 0.4, "a", 2): 0.7,
            ("x", 0.4, "b", 1): 0.5,
            ("y", 1.0, "b", 1): 0.4,
            ("y", 1.0, "a", 2): 0.7,
            ("y", 1.0, "a", 1): 0.8,
            ("y", 1.0, "c", 1): 0.1,
        }
    )
    found = difference(table, ("x", 0.4), ("y", 1.0), seed=0, n=500)
    assert found.effect == pytest.approx(100 * 0.2 / 3)
    assert found[1:] == pytest.approx((5, 10)), "sequence means are 5 and 10"
    assert difference(table, ("x", 0.4), ("x", 0.4), seed=0, n=50) == Interval(0, 0, 0)
    with pytest.raises(LookupError, match="z"):
        difference(table, ("x", 0.4), ("z", 0.4), seed=0)


def test_any_statistic_is_resampled_as_a_mean_is():
    values = pd.Series(np.random.default_rng(5).normal(size=8), index=list("hgfedcba"))
    found = resample(values.index, lambda names: values[names].mean(), seed=6, n=200)
    assert found[1:] == pytest.approx(bootstrap_ci(values, groups=values.index, seed=6, n=200))
    assert found.effect == pytest.approx(values.mean())
    assert np.isnan(resample(values.index, lambda names: np.nan, seed=6, n=20)).all()
