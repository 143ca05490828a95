"""What a router could win, from what routes did: one summary with intervals, its table, its sentence.

The summary is described in `headroom_names`. Intervals are bootstraps over videos.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from rds_lib.evaluation.headroom import Measured
from rds_lib.evaluation.headroom_names import BETWEEN, FULL, UNITS, VARIANCE, WITHIN
from rds_lib.evaluation.oracles import choices, gains
from rds_lib.evaluation.ridge import ridge_gains
from rds_lib.metrics.statistics import RESAMPLES, Interval, bootstrap_ci
from rds_lib.metrics.variance import route_components


def summarise(measured: Measured, *, seed: int = 0, n: int = RESAMPLES, **about) -> dict:
    """The summary of what was measured; ``about`` goes in front, and says of which model, data and routes it is.

    Parameters
    ----------
    seed, n : int
        Of every bootstrap, and its number of resamples.
    """
    measures = {"damage": _quantities(measured.damage, -1, measured.seen, 0 * measured.damage[0], seed, n)}
    if len(measured.iou):
        measures["iou"] = _quantities(100 * measured.iou, 1, measured.seen, 100 * measured.full_iou, seed, n)
    routes, videos, frames, copies = measured.damage.shape
    shape = {"routes": routes, "blocks": int(measured.routes[0].sum()), "depth": measured.routes.shape[1]}
    about |= shape | {"videos": videos, "frames": frames, "mirrored": copies == 2, "seed": seed}
    return about | {"measures": measures, "sentence": sentence(about, measures)}


def as_table(summary: Mapping) -> pd.DataFrame:
    """The table of a summary: ``measure, quantity, value, ci_low, ci_high, unit``, a row per quantity."""
    rows = [
        (measure, quantity, *bounds, f"({UNITS[measure]})^2" if quantity.startswith(VARIANCE) else UNITS[measure])
        for measure, quantities in summary["measures"].items()
        for quantity, bounds in quantities.items()
    ]
    return pd.DataFrame(rows, columns=["measure", "quantity", "value", "ci_low", "ci_high", "unit"])


def sentence(about: Mapping, measures: Mapping) -> str:
    """How much a router could win over the best static plan, between and within videos."""
    parts = []
    for measure, found in reversed(measures.items()):
        unit = "IoU points" if measure == "iou" else "of damage"
        within = _won(found[WITHIN], unit) if WITHIN in found else "an unknown amount (no mirrored copy was measured)"
        parts.append(f"{_won(found[BETWEEN], unit)} between videos and {within} within them")
    return (
        f"With {about['blocks']} of {about['depth']} blocks, on {about.get('model', 'this model')} and these "
        f"{about['videos']} videos, a router that chooses among {about['routes']} routes could win over the best "
        f"static one of them: {'; '.join(parts)}."
    )


def _quantities(values, sign, seen, full, seed, n) -> dict[str, list]:
    """All quantities of one measure, ``sign`` 1 where larger is better; levels have its sign, gains are above 0."""
    values = values.astype(float)
    found = choices(sign * values)
    won = gains(found) | ridge_gains(sign * values, seen.astype(float), seed=seed)

    def mean(of_videos):
        return Interval(float(of_videos.mean()), *bootstrap_ci(of_videos, seed=seed, n=n))

    levels = {FULL: full.mean((1, 2))} | {name: sign * of_videos for name, of_videos in found.items()}
    variances = route_components(values, seed=seed, n=n)
    intervals = {name: mean(of_videos) for name, of_videos in levels.items()}
    intervals |= {VARIANCE + name: interval for name, interval in variances.items()}
    intervals |= {name: mean(won[name]) for name in won}
    return {name: [_plain(bound) for bound in interval] for name, interval in intervals.items()}


def _plain(value):
    return float(f"{value:.6g}") if np.isfinite(value) else None


def _won(bounds, unit) -> str:
    value, low, high = bounds
    is_iou = unit.startswith("IoU")
    digits = 1 if is_iou else 3
    if low <= 0:
        written = f"{value:+.{digits}f}, {low:+.{digits}f} to {high:+.{digits}f}"
        return f"nothing{' measurable' if high >= 0 else ''} in {unit.split()[0 if is_iou else -1]} ({written})"
    return f"{value:.{digits}f} {unit} ({low:+.{digits}f} to {high:+.{digits}f})"
