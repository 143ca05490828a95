"""Speed ratios and their intervals, from the times of frames that all arms of a benchmark took in turn.

What slows the machine slows the arms of a frame alike, so frames are drawn together for all arms, within their pass.
An interval tells what other frames of the same run would have given; another run of the same code moves ratios too.
"""

import numpy as np
import pandas as pd

from rds_lib.core.errors import RDSInputError
from rds_lib.metrics.statistics import LEVEL, RESAMPLES, Interval

Arm = tuple[str, float]  # method, level


def frame_times(frames: pd.DataFrame) -> pd.DataFrame:
    """Times in ms, a row per frame of a pass and a column per (method, level).

    ``frames`` has ``method, level, pass, frame, ms``, as ``frames.csv`` of stage ``benchmark``.

    Raises
    ------
    RDSInputError
        If an arm was not timed on every frame of the others.
    """
    table = frames.pivot(index=["pass", "frame"], columns=["method", "level"], values="ms")
    lacking = [f"{method} {level:g}" for (method, level), is_short in table.isna().any().items() if is_short]
    if lacking:
        raise RDSInputError(f"frame times: {', '.join(lacking)} lack frames that other arms have; time all in one run")
    return table


def drawn_times(frames: pd.DataFrame, *, seed: int, n: int = RESAMPLES) -> dict[Arm, np.ndarray]:
    """Median ms of a frame in ``n`` resamples, (n,) by arm; every arm's value of a resample is of the same frames."""
    table, rng = frame_times(frames), np.random.default_rng(seed)
    passes = table.index.get_level_values("pass").to_numpy()
    rows = [np.flatnonzero(passes == one) for one in np.unique(passes)]
    drawn = np.concatenate([own[rng.integers(len(own), size=(n, len(own)))] for own in rows], axis=1)
    return {arm: np.median(table[arm].to_numpy()[drawn], axis=1) for arm in table}


def spread(effect: float, drawn: np.ndarray, *, level: float = LEVEL) -> Interval:
    """An effect with the interval that holds ``level`` of its values in resamples."""
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(effect), float(low), float(high))
