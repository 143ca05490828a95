"""Speed ratios and their intervals, from the times of frames that all arms of a benchmark took in turn.

What slows the machine slows the arms of a frame alike, so frames are drawn together for all arms: first clips, since
what a method saves may follow the video, then frames within each pass of a clip. An interval tells what other clips and
frames would have given in the same run; another run of the same code moves ratios too.
"""

from functools import cached_property

import numpy as np
import pandas as pd

from rds_lib.core.errors import RDSInputError
from rds_lib.metrics.statistics import LEVEL, RESAMPLES, Interval

Arm = tuple[str, float]  # method, level
ONLY = "clip"  # the clip of a table that names none


def frame_times(frames: pd.DataFrame, column: str = "ms") -> pd.DataFrame:
    """A column of the frames, a row per frame of a pass of a clip and a column per (method, level).

    ``frames`` has ``method, level, pass, frame, ms``, as ``frames.csv`` of stage ``benchmark``, and may have ``clip``.

    Raises
    ------
    RDSInputError
        If an arm was not timed on every frame of the others.
    """
    frames = frames if "clip" in frames else frames.assign(clip=ONLY)
    table = frames.pivot(index=["clip", "pass", "frame"], columns=["method", "level"], values=column)
    lacking = [f"{method} {level:g}" for (method, level), is_short in table.isna().any().items() if is_short]
    if lacking:
        raise RDSInputError(f"frame times: {', '.join(lacking)} lack frames that other arms have; time all in one run")
    return table


class Draws:
    """Frames of a benchmark, and ``n`` resamples of them that are the same for every arm and every column.

    A clip's time is the median over its frames, which a hiccup of the machine does not move; that of a run is the mean
    over its clips, each of which counts alike.
    """

    def __init__(self, frames: pd.DataFrame, *, seed: int, n: int = RESAMPLES):
        self._frames, self._times, self.n = frames, frame_times(frames), n
        index, rng = self._times.index, np.random.default_rng(seed)
        names, passes = (index.get_level_values(name).to_numpy() for name in ("clip", "pass"))
        clips = [np.flatnonzero(names == name) for name in dict.fromkeys(names)]
        self._clips = clips
        self._drawn = []  # for each place in a resample and each clip there: resamples (m,), their frames (m, frames)
        for place in rng.integers(len(clips), size=(n, len(clips))).T:
            for number, rows in enumerate(clips):
                chosen = np.flatnonzero(place == number)
                parts = [rows[passes[rows] == one] for one in np.unique(passes[rows])]
                drawn = [part[rng.integers(len(part), size=(len(chosen), len(part)))] for part in parts]
                self._drawn.append((chosen, np.concatenate(drawn, axis=1)))

    @cached_property
    def typical(self) -> dict[Arm, float]:
        """ms of a frame, by arm."""
        values = {arm: self._times[arm].to_numpy() for arm in self._times}
        return {arm: float(np.mean([np.median(own[rows]) for rows in self._clips])) for arm, own in values.items()}

    @cached_property
    def times(self) -> dict[Arm, np.ndarray]:
        """ms of a frame in each resample, (n,) by arm."""
        return self._over(self._times, np.median)

    def mean(self, column: str) -> dict[Arm, float]:
        """Mean of another column over all frames, by arm."""
        return frame_times(self._frames, column).mean().to_dict()

    def means(self, column: str) -> dict[Arm, np.ndarray]:
        """Mean of another column in each resample, (n,) by arm."""
        return self._over(frame_times(self._frames, column), np.mean)

    def _over(self, table, statistic):
        found = {}
        for arm in table:
            values, total = table[arm].to_numpy(), np.zeros(self.n)
            for chosen, rows in self._drawn:
                total[chosen] += statistic(values[rows], axis=1)
            found[arm] = total / len(self._clips)
        return found


def speedup(draws: Draws, arm: Arm, *, over: Arm) -> Interval:
    """How many times as fast as another arm."""
    typical, times = draws.typical, draws.times
    return spread(typical[over] / typical[arm], times[over] / times[arm])


def realised(draws: Draws, arm: Arm, *, over: Arm) -> Interval:
    """Share of the skipped blocks' time by which an arm is faster than another; NaN where nothing is skipped.

    From the column ``saved_ms`` of the frames. A resample in which nothing is skipped does not count.
    """
    saved, drawn = draws.mean("saved_ms")[arm], draws.means("saved_ms")[arm]
    if not saved:
        return Interval(np.nan, np.nan, np.nan)
    typical, times = draws.typical, draws.times
    some = drawn > 0
    return spread((typical[over] - typical[arm]) / saved, (times[over] - times[arm])[some] / drawn[some])


def spread(effect: float, drawn: np.ndarray, *, level: float = LEVEL) -> Interval:
    """An effect with the interval that holds ``level`` of its values in resamples."""
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(effect), float(low), float(high))
