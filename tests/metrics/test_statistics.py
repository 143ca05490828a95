"""Intervals: what they cover, what they draw, and that nothing but the seed decides them."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from rds_lib.core.errors import RDSInputError
from rds_lib.metrics.statistics import (
    FEWEST,
    Interval,
    bootstrap_ci,
    difference,
    interval_of,
    matched,
    mean_interval,
    paired,
    resample,
)


def coverage(draw, interval, *, repeats, truth=0.0):
    """Share of made-up data sets whose interval holds the truth."""
    rng = np.random.default_rng(0)
    found = [interval(draw(rng), seed) for seed in range(repeats)]
    return np.mean([low <= truth <= high for low, high in found])


def skewed(rng, clips):
    """Differences of clips, one in six of which loses an object; their mean is 0."""
    return rng.normal(scale=3, size=clips) - (rng.random(clips) < 1 / 6) * rng.exponential(8, clips) + 8 / 6


@pytest.fixture(scope="module")
def covered():
    """Coverage of the plain percentiles and of ours, by number of skewed clips."""

    def both(clips):
        def plain(values, seed):
            return bootstrap_ci(values, seed=seed, n=200)

        def ours(values, seed):
            return mean_interval(values, seed=seed, n=200)[1:]

        return [coverage(lambda rng: skewed(rng, clips), interval, repeats=600) for interval in (plain, ours)]

    return {clips: both(clips) for clips in (18, 60)}


def test_intervals_over_sixty_skewed_clips_cover_what_they_say(covered):
    plain, ours = covered[60]
    assert plain < 0.925 < ours


def test_over_eighteen_skewed_clips_they_cover_more_than_percentiles_do(covered):
    plain, ours = covered[18]
    assert plain < 0.9 < ours


def trainings(rng, clips=60, number=3):
    """Differences under several trainings, which move all clips together and every clip by itself; their mean is 0."""
    parts = ((6.0, (clips, 1)), (1.5, (1, number)), (4.0, (clips, number)))
    return sum(rng.normal(scale=sd, size=size) for sd, size in parts)


def test_intervals_over_trainings_and_clips_cover_what_those_over_clips_alone_miss():
    alone = coverage(trainings, lambda d, seed: mean_interval(d.mean(1), seed=seed, n=200)[1:], repeats=250)
    both = coverage(trainings, lambda d, seed: mean_interval(d, seed=seed, n=200)[1:], repeats=250)
    assert alone < 0.87 and both > 0.91


def test_the_mean_of_three_trainings_is_no_surer_than_three_numbers_allow():
    """All clips move together, by -1, 0 and 1 under three trainings: Student's t of three numbers."""
    found = mean_interval(np.zeros((30, 1)) + [-1.0, 0.0, 1.0], seed=0)
    low, high = stats.t.interval(0.95, 2, 0, 1 / np.sqrt(3))
    assert found == pytest.approx(Interval(0, low, high), abs=0.02)


def test_what_trainings_change_on_single_clips_counts_once():
    """Every clip moves by itself under each training, and no training is better than another on the whole."""
    alone = np.random.default_rng(0).normal(size=(60, 3))
    alone -= alone.mean(0)
    both, mean = mean_interval(alone, seed=0), mean_interval(alone.mean(1), seed=0)
    assert 0.95 < (both.high - both.low) / (mean.high - mean.low) < 1.5


def test_trainings_that_agree_add_nothing_to_the_interval():
    clips = np.random.default_rng(0).normal(size=20)
    same = mean_interval(np.stack([clips] * 3, 1), seed=0)
    assert same == pytest.approx(mean_interval(clips, seed=0))


def test_an_interval_reaches_at_least_as_far_as_students_t():
    values = np.random.default_rng(3).normal(size=12)
    found = mean_interval(values, seed=0)
    low, high = stats.t.interval(0.95, 11, values.mean(), stats.sem(values))
    assert found.low <= low + 1e-9 and found.high >= high - 1e-9 and found.effect == pytest.approx(values.mean())


def test_a_skewed_sample_reaches_further_on_the_side_of_its_tail():
    values = np.r_[np.zeros(14) + np.linspace(-1, 1, 14), -20, -17, -10]
    found = mean_interval(values, seed=0)
    assert found.effect - found.low > 1.1 * (found.high - found.effect)


def test_an_even_sample_of_hundreds_has_the_textbook_interval():
    values = np.random.default_rng(4).normal(size=400)
    reach = 1.96 * values.std(ddof=1) / 20
    found = mean_interval(values, seed=0, n=4000)
    assert found[1:] == pytest.approx((values.mean() - reach, values.mean() + reach), abs=0.1 * reach)


def test_bootstrap_draws_whole_sequences():
    values, groups = np.r_[np.zeros(20), np.ones(20)], np.repeat(["a", "b"], 20)
    assert bootstrap_ci(values, seed=0, groups=groups) == (0, 1)
    low, high = bootstrap_ci(values, seed=0)
    assert 0.3 < low < 0.45 and 0.55 < high < 0.7


def test_objects_of_one_sequence_count_as_one_draw():
    values, groups = np.repeat(np.arange(8.0), 9), np.repeat(list("abcdefgh"), 9)
    whole, each = mean_interval(values, groups=groups, seed=0), mean_interval(values, seed=0)
    assert whole[1:] == pytest.approx(mean_interval(np.arange(8.0), seed=0)[1:])
    assert whole.high - whole.low > 2 * (each.high - each.low)


def test_bootstrap_is_repeatable_and_leaves_nan_out():
    values = np.random.default_rng(1).normal(size=30)
    for interval in (bootstrap_ci, lambda values, seed: mean_interval(values, seed=seed)[1:]):
        first = interval(values, seed=7)
        assert interval(np.r_[values, np.nan], seed=7) == first != interval(values, seed=8)
        assert first[0] < values.mean() < first[1]
        with pytest.raises(RDSInputError, match="at least one number"):
            interval([np.nan], seed=7)


def test_neither_the_order_of_the_rows_nor_an_earlier_draw_moves_an_interval():
    rng = np.random.default_rng(2)
    values, groups = rng.normal(size=40), np.array([f"s{n}" for n in rng.integers(9, size=40)])
    first = mean_interval(values, seed=3, groups=groups)
    mean_interval(values[:9], seed=3)
    order = rng.permutation(40)
    assert mean_interval(values[order], seed=3, groups=groups[order]) == pytest.approx(first, abs=1e-12)


def test_what_two_arms_share_cancels_out():
    hard = np.random.default_rng(4).normal(scale=30, size=12)
    groups = np.repeat(list("abcdef"), 2)
    found = paired(hard + 2, hard, groups=groups, seed=0)
    assert found == pytest.approx(Interval(2, 2, 2))
    holes = np.r_[hard + 2, np.nan], np.r_[hard, 5.0]
    assert paired(*holes, groups=np.r_[groups, ["g"]], seed=0) == pytest.approx(Interval(2, 2, 2))


def test_fewer_than_six_sequences_have_no_interval():
    values = np.arange(20.0)
    few = mean_interval(values, groups=np.arange(20) % (FEWEST - 1), seed=0)
    assert few.effect == pytest.approx(9.5) and np.isnan(few[1:]).all()
    assert np.isfinite(mean_interval(values, groups=np.arange(20) % FEWEST, seed=0)).all()
    assert np.isnan(resample(list("abcde"), len, seed=0)[1:]).all()


def test_a_mean_of_group_means_is_resampled_as_such():
    """Two groups of unlike size, one of them in few sequences: each counts for half, in the data and in every draw."""
    rng = np.random.default_rng(0)
    sums, counts = np.zeros((8, 2)), np.zeros((8, 2))
    counts[:, 0], counts[:2, 1] = 5, 1
    sums[:, 0], sums[:2, 1] = 5 * rng.normal(50, 1, 8), [10, 30]
    found = interval_of(sums, counts, seed=0)
    assert found.effect == pytest.approx((sums[:, 0].sum() / 40 + 20) / 2)
    alone = interval_of(sums[:, :1], counts[:, :1], seed=0)
    assert found.high - found.low > 4 * (alone.high - alone.low), "the small group decides"
    empty = interval_of(np.c_[sums, np.zeros(8)], np.c_[counts, np.zeros(8)], seed=0)
    assert empty == pytest.approx(found), "a group without objects is left out"


def objects(scores):
    rows = [(*key, jf) for key, jf in scores.items()]
    return pd.DataFrame(rows, columns=["method", "level", "sequence", "object", "JF"])


def test_differences_are_paired_by_object():
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
    assert difference(table, ("x", 0.4), ("x", 0.4), seed=0, n=50).effect == 0
    with pytest.raises(LookupError, match="z"):
        difference(table, ("x", 0.4), ("z", 0.4), seed=0)


def trained(method, seeds, scores, level=0.4):
    """Rows of an arm that was trained with these seeds; ``scores`` has a row per sequence and a column per seed."""
    scores = np.asarray(scores, dtype=float)
    rows = [(method, level, f"s{n}", 1, scores[n, k], seed) for k, seed in enumerate(seeds) for n in range(len(scores))]
    return pd.DataFrame(rows, columns=["method", "level", "sequence", "object", "JF", "seed"])


def test_several_trainings_of_an_arm_are_averaged_and_widen_its_interval():
    rng = np.random.default_rng(0)
    base = rng.random((12, 1))
    one, three = base + 0.01 * rng.normal(size=(12, 1)), base + [[-0.03, 0.0, 0.03]] + 0.01 * rng.normal(size=(12, 3))
    table = pd.concat([trained("SAM2", [np.nan], base, 1.0), trained("RDS", (0, 1, 2), three), trained("X", (1,), one)])
    found = difference(table, ("RDS", 0.4), ("SAM2", 1.0), seed=0)
    assert found.effect == pytest.approx(100 * (three - base).mean())
    single = difference(table[table["seed"].isin([1]) | table["seed"].isna()], ("RDS", 0.4), ("SAM2", 1.0), seed=0)
    assert found.high - found.low > 3 * (single.high - single.low)
    against = difference(table, ("RDS", 0.4), ("X", 0.4), seed=0)
    assert against.effect == pytest.approx(100 * (three[:, 1:2] - one).mean()), "the seed that both have"


def test_trainings_are_paired_by_their_seeds():
    rng = np.random.default_rng(0)
    base, moves = rng.random((12, 3)), np.array([[-0.2, 0.0, 0.2]])
    table = pd.concat(
        [trained("A", (0, 1, 2), base + moves + 0.05), trained("B", (2, 0, 1), (base + moves)[:, [2, 0, 1]])]
    )
    assert difference(table, ("A", 0.4), ("B", 0.4), seed=0) == pytest.approx(Interval(5, 5, 5))
    assert [frame.columns.tolist() for frame in matched(table, ("A", 0.4), ("B", 0.4))] == [[0, 1, 2]] * 2
    other = pd.concat([table, trained("C", (7,), base[:, :1])])
    with pytest.raises(RDSInputError, match=r"A 0.4 has the seeds \[0, 1, 2\] and C 0.4 \[7\]"):
        difference(other, ("A", 0.4), ("C", 0.4), seed=0)


def test_any_statistic_is_resampled_as_a_mean_is():
    values = pd.Series(np.random.default_rng(5).normal(size=8), index=list("hgfedcba"))
    found = resample(values.index, lambda names: values[names].mean(), seed=6, n=200)
    assert found == pytest.approx(mean_interval(values, groups=values.index, seed=6, n=200))
    assert np.isnan(resample(values.index, lambda names: np.nan, seed=6, n=20)).all()
