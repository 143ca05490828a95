"""What the paper's claims are judged by, and how each effect on quality and on routes is measured.

Effects on speed are in `speeds`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from rds_lib.evaluation.names import RDS, SAM2, run_name
from rds_lib.metrics import statistics
from rds_lib.metrics.speed import Draws
from rds_lib.metrics.statistics import Interval

OFTEN = 0.9  # a block that runs on this share of the frames is part of the core
FRAMES = ("method", "level", "pass", "frame", "ms")  # of the benchmark's table of frames


def _no_numbers() -> pd.Series:
    return pd.Series(dtype=float)


@dataclass(frozen=True)
class Evidence:
    """The tables that claims are judged by, for one data set.

    ``objects`` has sequence, object, JF, method, level, and seed where arms were trained more than once; ``routes``
    RDS's sequence, frame_idx, block, active, reason and level; ``importance`` is the stage's table, ``speed`` the
    benchmark's and ``frames`` its times of every frame. By method and level, on these videos: ``active``, mean blocks
    on routed frames, as the benchmark times them, and ``gmacs``, mean over all frames. ``headroom`` is the summary of
    that stage, of videos of its own.
    """

    objects: pd.DataFrame
    routes: pd.DataFrame
    importance: pd.DataFrame
    speed: pd.DataFrame
    frames: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=FRAMES))
    active: pd.Series = field(default_factory=_no_numbers)
    gmacs: pd.Series = field(default_factory=_no_numbers)
    headroom: Mapping | None = None
    resamples: int = 1000
    seed: int = 0

    @classmethod
    def of_dataset(
        cls,
        dataset: str,
        section,
        *,
        scores: pd.DataFrame,
        objects: pd.DataFrame,
        routes: pd.DataFrame,
        importance: pd.DataFrame,
        speed: pd.DataFrame,
        frames: pd.DataFrame,
        headroom: Mapping | None = None,
    ) -> "Evidence":
        """Evidence on one data set, from the stages' tables of all; ``section`` is a profile's ``evaluation``."""
        own = scores[scores["dataset"] == dataset].set_index(["method", "level"])
        return cls(
            objects[objects["dataset"] == dataset],
            routes[routes["dataset"] == dataset],
            importance,
            speed,
            frames,
            own["active_blocks_routed"].dropna(),
            own["gmacs"].dropna(),
            headroom,
            resamples=section.bootstrap,
            seed=section.seed,
        )

    def budgets(self) -> list[float]:
        """Budgets that RDS was evaluated at, rising; LookupError without any."""
        found = self.levels(RDS)
        if not found:
            raise LookupError(RDS)
        return found

    def levels(self, method: str) -> list[float]:
        """Levels that a method was evaluated at, rising."""
        return sorted(self.objects.loc[self.objects["method"] == method, "level"].unique())

    def timed(self, method: str, level: float = 1.0) -> pd.Series:
        """The benchmark's row of a method at a level; LookupError without one."""
        rows = self.speed[(self.speed["method"] == method) & (self.speed["level"] == level)]
        if rows.empty:
            raise LookupError(run_name(method, level))
        return rows.iloc[0]

    def timed_levels(self, method: str) -> list[float]:
        """Levels of a method that were both evaluated and timed, rising."""
        timed = set(self.speed.loc[self.speed["method"] == method, "level"])
        return [level for level in self.levels(method) if level in timed]

    def fps(self, method: str, level: float) -> float:
        """Frames a second at the number of blocks that a method runs on these videos; LookupError if it was not timed.

        The benchmark's own clips may need other blocks. Time is taken to fall in proportion to the blocks left out.
        """
        whole, own = self.timed(SAM2)["frame_ms"], self.timed(method, level)["frame_ms"]
        return 1e3 / (whole - (whole - own) * self._scale(method, level))

    def drawn_fps(self, arms) -> dict[tuple[str, float], np.ndarray]:
        """The same for each (method, level) in resamples of the timed frames, (n,); NaN without times of frames."""
        if self.frames.empty:
            return {arm: np.full(1, np.nan) for arm in arms}
        drawn = self.draws()
        whole, own = drawn.times[SAM2, 1.0], dict.fromkeys(arms)
        if "active_blocks" in self.frames:  # of the very frames that were drawn
            own |= drawn.means("active_blocks")
        return {arm: 1e3 / (whole - (whole - drawn.times[arm]) * self._scale(*arm, own[arm])) for arm in arms}

    def draws(self) -> Draws:
        """Resamples of the timed clips and frames."""
        return Draws(self.frames, seed=self.seed, n=self.resamples)

    def _scale(self, method, level, own=None):
        """Blocks left out on these videos over those left out on the benchmark's clips, ``own`` of which ran there."""
        whole, mean = (self.timed(*arm)["active_blocks"] for arm in ((SAM2,), (method, level)))
        here, own = self.active.get((method, level), mean), mean if own is None else own
        return (whole - here) / (whole - own) if np.all(whole != own) else 1.0

    def sums(self, method: str, level: float) -> pd.DataFrame:
        """``sum`` of J&F in points and ``count`` of objects by sequence: what means over objects are resampled from."""
        rows = self.objects[(self.objects["method"] == method) & (self.objects["level"] == level)]
        if rows.empty:
            raise LookupError(method)
        return (100 * rows.set_index("sequence")["JF"]).groupby(level=0).agg(["sum", "count"])

    def by_sequence(self, method: str, level: float) -> pd.Series:
        """Mean J&F of every sequence, in points."""
        table = self.sums(method, level)
        return table["sum"] / table["count"]

    def activity(self, level: float) -> pd.DataFrame:
        """Share of the routed frames on which each block outside K ran, sequences x blocks."""
        routes = self.routes[(self.routes["reason"] == "routed") & (self.routes["level"] == level)]
        free = self.importance.loc[~self.importance["always_on"].astype(bool), "block"]
        return routes[routes["block"].isin(free)].groupby(["sequence", "block"])["active"].mean().unstack()

    def resample(self, names, statistic: Callable) -> Interval:
        """``statistic(names)`` with a 95 % interval from drawing sequences with replacement."""
        return statistics.resample(names, statistic, seed=self.seed, n=self.resamples)


Measure = Callable[[Evidence], Interval]


def difference(method: str, level: float, other: str, other_level: float | None = None) -> Measure:
    """J&F of one arm minus another's, in points: the mean over objects; sequences and trainings resampled."""
    other_level = level if other_level is None else other_level
    return lambda evidence: statistics.difference(
        evidence.objects, (method, level), (other, other_level), seed=evidence.seed, n=evidence.resamples
    )


def relative_loss(method: str, level: float, other: str, other_level: float) -> Measure:
    """J&F that one arm loses against another, in % of the other's; resampled as `difference` is."""

    def measure(evidence):
        own, whole = statistics.matched(evidence.objects, (method, level), (other, other_level))
        complete = own.notna().all(axis=1) & whole.notna().all(axis=1)
        sums, counts = (table[complete].groupby(level="sequence").sum().to_numpy() for table in (own, whole))
        sums, counts = np.broadcast_arrays(100 * sums, counts)
        kept = statistics.interval_of(
            sums, counts, seed=evidence.seed, n=evidence.resamples, trainings=sums.shape[1] > 1
        )
        return Interval(100 - kept.effect, 100 - kept.high, 100 - kept.low)

    return measure


def extra_variation(plans, level: float) -> Measure:
    """Standard deviation over sequences of the loss against SAM2: the mean of fixed plans' minus RDS's."""

    def measure(evidence):
        full = evidence.by_sequence(SAM2, 1.0)
        losses = [evidence.by_sequence(method, level) - full for method in plans]
        own = evidence.by_sequence(RDS, level) - full
        return evidence.resample(
            full.index, lambda names: np.mean([loss[names].std() for loss in losses]) - own[names].std()
        )

    return measure


def beyond_the_prefix(level: float) -> Measure:
    """Blocks that run on most frames although an earlier one does not: 0 for a contiguous prefix."""

    def measure(evidence):
        activity = evidence.activity(level)

        def count(names):
            runs = activity.loc[names].mean().sort_index().to_numpy() >= 0.5
            return float(runs[np.argmin(runs) :].sum()) if not runs.all() else 0.0

        return evidence.resample(activity.index, count)

    return measure


def stable_core(evidence: Evidence) -> Interval:
    """Share of the lowest budget's core that is core at the higher ones too, beyond what chance would give."""
    lowest, *higher = evidence.budgets()
    if not higher:
        raise LookupError("a second budget")
    tables = {level: evidence.activity(level) for level in (lowest, *higher)}

    def excess(names):
        core = {level: table.loc[names].mean() >= OFTEN for level, table in tables.items()}
        if not core[lowest].any():
            return float("nan")
        return float(np.mean([core[level][core[lowest]].mean() - core[level].mean() for level in higher]))

    return evidence.resample(tables[lowest].index, excess)


def frequency_against_importance(evidence: Evidence) -> Interval:
    """Spearman correlation of a block's activity, mean over budgets, with the sum of its two ranks of importance."""
    scores = evidence.importance.set_index("block")
    ranks = scores["global_score"].rank() + scores["local_score"].rank()
    tables = [evidence.activity(level) for level in evidence.budgets()]

    def correlation(names):
        activity = sum(table.loc[names].mean() for table in tables)
        return (
            float(activity.corr(ranks[activity.index], method="spearman")) if activity.nunique() > 1 else float("nan")
        )

    return evidence.resample(tables[0].index, correlation)
