"""How each effect on speed is measured: always over SAM2's frame of the same run, with intervals over timed frames."""

import numpy as np

from rds_lib.evaluation.names import RDS, SAM2, run_name
from rds_lib.metrics.speed import speedup, spread
from rds_lib.metrics.statistics import Interval
from rds_lib.report.evidence import Evidence, Measure


def speed_ratio(method: str, level: float, *, over: str = SAM2, divided_by: float = 1.0) -> Measure:
    """Frames a second of a method over those of a whole model, as the benchmark timed both.

    ``divided_by`` is a ratio to compare with, such as the paper's own.
    """

    def measure(evidence):
        slow, fast = evidence.timed(over), evidence.timed(method, level)
        found = Interval(slow["frame_ms"] / fast["frame_ms"])
        if not evidence.frames.empty:
            drawn = speedup(evidence.draws(), (method, level), over=(over, 1.0))
            found = Interval(found.effect, drawn.low, drawn.high)
        return Interval(*(value / divided_by for value in found))

    return measure


def speed_at_equal_quality(rival: str) -> Measure:
    """Speed of RDS over a rival's where RDS is as good: the geometric mean over the rival's levels.

    For each level of the rival, RDS's fastest budget whose J&F is at least the rival's; levels that no budget reaches
    are left out. Sequences and timed frames are resampled, each on their own; see `Evidence.fps`.
    """

    def measure(evidence):
        levels, budgets = evidence.timed_levels(rival), evidence.timed_levels(RDS)
        if not levels or not budgets:
            raise LookupError(rival)
        arms = [*((rival, each) for each in levels), *((RDS, each) for each in budgets)]
        speeds, sums = {arm: evidence.fps(*arm) for arm in arms}, {arm: evidence.sums(*arm) for arm in arms}

        def ratio(names, speeds=speeds):
            logs = [
                np.log(np.max([speeds[RDS, budget] for budget in enough], axis=0) / speeds[rival, level])
                for level, enough in _as_good(sums, names, rival, levels, budgets)
            ]
            return np.exp(np.mean(logs, axis=0)) if logs else np.nan

        names = sums[RDS, budgets[0]].index
        of_quality = evidence.resample(names, ratio)
        if np.isnan(of_quality.effect):
            return of_quality
        return together(of_quality, spread(of_quality.effect, ratio(names, evidence.drawn_fps(arms))))

    return measure


def levels_compared(rival: str, evidence: Evidence) -> tuple[int, int]:
    """On how many levels of a rival some budget of RDS is as good, and how many there are."""
    levels, budgets = evidence.timed_levels(rival), evidence.timed_levels(RDS)
    arms = [*((rival, each) for each in levels), *((RDS, each) for each in budgets)]
    sums = {arm: evidence.sums(*arm) for arm in arms}
    names = next(iter(sums.values())).index if sums else []
    return len(list(_as_good(sums, names, rival, levels, budgets))), len(levels)


def _as_good(sums, names, rival, levels, budgets):
    """Each of the rival's levels that RDS reaches, with the budgets that do."""
    quality = {budget: _mean(sums[RDS, budget], names) for budget in budgets}
    for level in levels:
        enough = [budget for budget in budgets if quality[budget] >= _mean(sums[rival, level], names)]
        if enough:
            yield level, enough


def _mean(sums, names):
    return sums.loc[names, "sum"].sum() / sums.loc[names, "count"].sum()


def together(first: Interval, second: Interval) -> Interval:
    """One interval of an effect that has two from independent sources: their reaches add as deviations do."""
    low, high = (np.hypot(first.effect - a, first.effect - b) for a, b in zip(first[1:], second[1:], strict=True))
    return Interval(first.effect, first.effect - low, first.effect + high)


def realisation(rival: str, level: float) -> Measure:
    """The share of the skipped blocks' time that RDS really saves, minus the rival's (``eta`` of the benchmark)."""

    def measure(evidence):
        rows = {(method, level): evidence.timed(method, level) for method in (RDS, rival)}
        for arm, row in rows.items():
            if np.isnan(row["eta"]):
                raise LookupError(run_name(*arm))
        own, other = rows.values()
        effect = own["eta"] - other["eta"]
        if evidence.frames.empty:
            return Interval(float(effect))
        drawn = evidence.draws()
        saved = {arm: row["saved_ms"] for arm, row in rows.items()}
        if "saved_ms" in evidence.frames:  # on the very frames that were drawn
            saved |= drawn.means("saved_ms")
        own, other = ((drawn.times[SAM2, 1.0] - drawn.times[arm]) / saved[arm] for arm in rows)
        return spread(effect, own - other)

    return measure
