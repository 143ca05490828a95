"""What the paper's claims are judged by, and how each effect is measured."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from rds_lib.evaluation.names import FULL, RDS, SAM2, run_name
from rds_lib.metrics import statistics
from rds_lib.metrics.statistics import Interval
from rds_lib.report.paper import paper_fps

OFTEN = 0.9  # a block that runs on this share of the frames is part of the core
PAPER_FPS = {float(level): fps for level, fps in paper_fps(RDS).items()}
PAPER_SAM2_FPS = paper_fps(SAM2)["1"]


@dataclass(frozen=True)
class Evidence:
    """The tables that claims are judged by, for one data set.

    ``objects`` has sequence, object, JF, method and level; ``routes`` RDS's sequence, frame_idx, block, active, reason
    and level; ``importance`` is the stage's table, ``speed`` the benchmark's; ``active`` has the mean active blocks on
    these videos by method and level.
    """

    objects: pd.DataFrame
    routes: pd.DataFrame
    importance: pd.DataFrame
    speed: pd.DataFrame
    active: pd.Series = field(default_factory=lambda: pd.Series(dtype=float))
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
    ) -> "Evidence":
        """Evidence on one data set, from the stages' tables of all; ``section`` is a profile's ``evaluation``."""
        own = scores[scores["dataset"] == dataset].dropna(subset="active_blocks")
        return cls(
            objects[objects["dataset"] == dataset],
            routes[routes["dataset"] == dataset],
            importance,
            speed,
            own.set_index(["method", "level"])["active_blocks"],
            resamples=section.bootstrap,
            seed=section.seed,
        )

    def budgets(self) -> list[float]:
        """Budgets that RDS was evaluated at, rising."""
        return self.levels(RDS)

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

        The benchmark's own clip may need other blocks. Time is taken to fall in proportion to the blocks left out.
        """
        full, own = self.timed(FULL), self.timed(method, level)
        here = self.active.get((method, level), own["active_blocks"])
        skipped, wanted = full["active_blocks"] - own["active_blocks"], full["active_blocks"] - here
        saved = full["frame_ms"] - own["frame_ms"]
        return 1e3 / (full["frame_ms"] - saved * (wanted / skipped if skipped else 1.0))

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
    """J&F of one arm minus another's, in points: the mean over objects, sequences resampled."""
    other_level = level if other_level is None else other_level
    return lambda evidence: statistics.difference(
        evidence.objects, (method, level), (other, other_level), seed=evidence.seed, n=evidence.resamples
    )


def speed_at_equal_quality(rival: str) -> Measure:
    """Speed of RDS over a rival's where RDS is as good: the geometric mean over the rival's levels.

    For each level of the rival, RDS's fastest budget whose J&F is at least the rival's; levels that no budget reaches
    are left out. Sequences are resampled, speeds are not; see `Evidence.fps`.
    """

    def measure(evidence):
        levels, budgets = evidence.timed_levels(rival), evidence.timed_levels(RDS)
        if not levels or not budgets:
            raise LookupError(rival)
        speeds = {
            arm: evidence.fps(*arm) for arm in [*((rival, each) for each in levels), *((RDS, each) for each in budgets)]
        }
        theirs = {level: evidence.sums(rival, level) for level in levels}
        ours = {level: evidence.sums(RDS, level) for level in budgets}

        def ratio(names):
            quality = {level: _mean(ours[level], names) for level in budgets}
            logs = []
            for level in levels:
                enough = [speeds[RDS, b] for b in budgets if quality[b] >= _mean(theirs[level], names)]
                logs += [np.log(max(enough) / speeds[rival, level])] if enough else []
            return float(np.exp(np.mean(logs))) if logs else float("nan")

        return evidence.resample(ours[budgets[0]].index, ratio)

    return measure


def _mean(sums, names):
    return sums.loc[names, "sum"].sum() / sums.loc[names, "count"].sum()


def realisation(rival: str, level: float) -> Measure:
    """The share of the skipped blocks' time that RDS really saves, minus the rival's (``eta`` of the benchmark)."""

    def measure(evidence):
        etas = []
        for method in (RDS, rival):
            etas.append(evidence.timed(method, level)["eta"])
            if np.isnan(etas[-1]):
                raise LookupError(run_name(method, level))
        return Interval(float(etas[0] - etas[1]))

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


def speed_ratio(level: float) -> Measure:
    """Frames a second against the full encoder, divided by the paper's ratio at the same budget."""
    return lambda evidence: Interval(float(evidence.timed(RDS, level)["speedup"]) / (PAPER_FPS[level] / PAPER_SAM2_FPS))
