"""Find the threshold that meets a budget on calibration videos."""

from dataclasses import replace

import numpy as np
import pandas as pd
import torch

from rds_lib.model.track import track_sequence
from rds_lib.routing.algorithm1 import calibrate_threshold, threshold_route
from rds_lib.routing.route_table import keep_prob_matrix
from rds_lib.work.parallel import map_items


def calibrate(
    predictor,
    sequences,
    *,
    target_active: float,
    frames: int | None = None,
    passes: int = 2,
    fixed: float | None = None,
    workers: int = 1,
) -> tuple[float, np.ndarray]:
    """Threshold whose mean active count over the calibration videos is closest to ``target_active``.

    Routes change masks and masks change routes, so the videos are tracked again under the new threshold, ``passes``
    times in all; the first pass keeps the ``target_active`` most probable blocks of each frame. Routes differ between
    videos more than within one: take many videos, and the first ``frames`` of each. A threshold that is ``fixed`` is
    obeyed, and what routes it gives is measured.

    Returns
    -------
    tau : float
    w : ndarray, shape (N, L)
        Keep probabilities of the last pass. The predictor is left with ``tau`` set.
    """

    def routes_of(sequence):
        return track_sequence(predictor, sequence, frames=frames).routes.assign(sequence=sequence.name)

    policy = replace(predictor.policy, mode="top_n", n_active=round(target_active))
    for _ in range(passes):
        predictor.set_policy(policy)
        w = keep_prob_matrix(pd.concat(map_items(routes_of, sequences, workers=workers), ignore_index=True))
        tau = calibrate_threshold(torch.from_numpy(w), predictor.always_on, target_active) if fixed is None else fixed
        policy = replace(policy, mode="threshold", tau=tau)
    predictor.set_policy(policy)
    return tau, w


def threshold_curve(w: np.ndarray, always_on, taus=None) -> tuple[np.ndarray, np.ndarray]:
    """Mean active blocks of keep probabilities (N, L) at each threshold; by default 201 thresholds from 0 to 1."""
    taus = np.linspace(0, 1, 201) if taus is None else np.asarray(taus, float)
    w = torch.from_numpy(w)
    return taus, np.array([threshold_route(w, always_on, tau).sum(1).mean().item() for tau in taus])
