"""What the paper's claims are judged by, and how each effect is measured, with a bootstrap over sequences."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from rds_lib.metrics import statistics
from rds_lib.metrics.statistics import Interval
from rds_lib.report.paper import paper_fps

OFTEN = 0.9  # share of frames from which on a block counts as part of the core
PAPER_FPS = {float(level): fps for level, fps in paper_fps("RDS").items()}
PAPER_SAM2_FPS = paper_fps("SAM2")["1"]


@dataclass(frozen=True)
class Evidence:
    """What the claims are judged by, for one data set.

    ``objects`` has sequence, object, JF, method and level; ``routes`` RDS's sequence, frame_idx, block, active, reason and level;
    ``importance`` is the stage's table, ``speed`` the benchmark's; ``active`` has the mean active blocks on these objects' videos
    by method and level. Levels are budgets.
    """

    objects: pd.DataFrame
    routes: pd.DataFrame
    importance: pd.DataFrame
    speed: pd.DataFrame
    active: pd.Series = field(default_factory=lambda: pd.Series(dtype=float))
    resamples: int = 1000
    seed: int = 0

    @classmethod
    def of_dataset(cls, dataset: str, section, *, scores: pd.DataFrame, objects: pd.DataFrame, routes: pd.DataFrame, importance: pd.DataFrame,
                   speed: pd.DataFrame) -> "Evidence":
        """Evidence on one data set from the tables of the stages, which hold all; ``section`` is a profile's ``evaluation``."""
        own = scores[scores["dataset"] == dataset].dropna(subset="active_blocks")
        return cls(objects[objects["dataset"] == dataset], routes[routes["dataset"] == dataset], importance, speed,
                   own.set_index(["method", "level"])["active_blocks"], resamples=section.bootstrap, seed=section.seed)

    def budgets(self) -> list[float]:
        """Budgets that RDS was evaluated at, rising."""
        return self.levels("RDS")

    def fps(self, method: str, level: float) -> float:
        """Frames a second at the number of blocks that a method runs on these videos, which is another on the benchmark's clip.

        Time is taken to fall in proportion to the blocks that are left out; without any, it is the benchmark's own.
        """
        arms = self.speed.set_index("arm")
        full, own = arms.loc["full"], arms.loc[f"{method}_{level}"]
        skipped, wanted = full["active_blocks"] - own["active_blocks"], full["active_blocks"] - self.active.get((method, level), own["active_blocks"])
        return 1e3 / (full["frame_ms"] - (full["frame_ms"] - own["frame_ms"]) * (wanted / skipped if skipped else 1.0))

    def levels(self, method: str) -> list[float]:
        """Levels that a method was evaluated at, rising."""
        return sorted(self.objects.loc[self.objects["method"] == method, "level"].unique())

    def sums(self, method: str, level: float) -> pd.DataFrame:
        """``sum`` of J&F in points and ``count`` of objects of every sequence, so that means over objects can be resampled."""
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


def difference(method: str, level: float, other: str, other_level: float | None = None) -> Callable[[Evidence], Interval]:
    """J&F of one arm minus another's, in points: the mean over objects, sequences resampled."""
    other_level = level if other_level is None else other_level
    return lambda evidence: statistics.difference(
        evidence.objects, (method, level), (other, other_level), seed=evidence.seed, n=evidence.resamples)


def speed_at_equal_quality(rival: str) -> Callable[[Evidence], Interval]:
    """Frames a second of RDS over a rival's where RDS is as good, the geometric mean over the rival's levels.

    For every level of the rival, RDS's fastest budget whose J&F is at least the rival's; levels that no budget reaches are left
    out, for there is no equal quality. Sequences are resampled, speeds are not; see ``Evidence.fps``.
    """
    def measure(evidence):
        arms = set(evidence.speed["arm"])
        levels = [level for level in evidence.levels(rival) if f"{rival}_{level}" in arms]
        budgets = [level for level in evidence.budgets() if f"RDS_{level}" in arms]
        if not levels or not budgets:
            raise LookupError(rival)
        speeds = {(method, level): evidence.fps(method, level) for method, all_of in ((rival, levels), ("RDS", budgets)) for level in all_of}
        theirs = {level: evidence.sums(rival, level) for level in levels}
        ours = {level: evidence.sums("RDS", level) for level in budgets}

        def ratio(names):
            quality = {level: _mean(ours[level], names) for level in budgets}
            logs = []
            for level in levels:
                enough = [speeds["RDS", b] for b in budgets if quality[b] >= _mean(theirs[level], names)]
                logs += [np.log(max(enough) / speeds[rival, level])] if enough else []
            return float(np.exp(np.mean(logs))) if logs else float("nan")

        return evidence.resample(ours[budgets[0]].index, ratio)

    return measure


def _mean(sums, names):
    return sums.loc[names, "sum"].sum() / sums.loc[names, "count"].sum()


def realisation(rival: str, level: float) -> Callable[[Evidence], Interval]:
    """The share of the time of skipped blocks that RDS really saves, minus the rival's (``eta`` of the benchmark)."""
    def measure(evidence):
        eta = evidence.speed.set_index("arm")["eta"]
        for arm in (f"RDS_{level}", f"{rival}_{level}"):
            if arm not in eta or np.isnan(eta[arm]):
                raise LookupError(arm)
        return Interval(float(eta[f"RDS_{level}"] - eta[f"{rival}_{level}"]))

    return measure


def extra_variation(plans, level: float) -> Callable[[Evidence], Interval]:
    """How much more the fixed plans' loss against SAM2 varies over sequences than RDS's: difference of standard deviations."""
    def measure(evidence):
        full = evidence.by_sequence("SAM2", 1.0)
        losses = [evidence.by_sequence(method, level) - full for method in plans]
        own = evidence.by_sequence("RDS", level) - full
        return evidence.resample(full.index, lambda names: np.mean([loss[names].std() for loss in losses]) - own[names].std())

    return measure


def beyond_the_prefix(level: float) -> Callable[[Evidence], Interval]:
    """Blocks that run on most frames although an earlier one does not: 0 for a contiguous prefix."""
    def measure(evidence):
        activity = evidence.activity(level)

        def count(names):
            runs = activity.loc[names].mean().sort_index().to_numpy() >= 0.5
            return float(runs[np.argmin(runs) :].sum()) if not runs.all() else 0.0

        return evidence.resample(activity.index, count)

    return measure


def stable_core(evidence: Evidence) -> Interval:
    """Share of the core at the lowest budget that is also core at the higher ones, beyond what chance would give."""
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
    """Spearman correlation of a block's activity, mean over budgets, with its rank in both importances together."""
    scores = evidence.importance.set_index("block")
    ranks = scores["global_score"].rank() + scores["local_score"].rank()
    tables = [evidence.activity(level) for level in evidence.budgets()]

    def correlation(names):
        activity = sum(table.loc[names].mean() for table in tables)
        return float(activity.corr(ranks[activity.index], method="spearman")) if activity.nunique() > 1 else float("nan")

    return evidence.resample(tables[0].index, correlation)


def speed_ratio(level: float) -> Callable[[Evidence], Interval]:
    """Frames per second against the full encoder, divided by the paper's ratio at the same budget."""
    def measure(evidence):
        speed = evidence.speed.set_index("arm")["speedup"]
        if f"RDS_{level}" not in speed:
            raise LookupError(f"RDS_{level}")
        return Interval(float(speed[f"RDS_{level}"]) / (PAPER_FPS[level] / PAPER_SAM2_FPS))

    return measure
