"""Thresholds that meet a budget on calibration videos."""

import numpy as np
import pandas as pd
import pytest

from rds_lib.model.track import track_sequence
from rds_lib.routing.algorithm1 import target_active
from rds_lib.routing.build import build_rds_video_predictor
from rds_lib.routing.calibration import calibrate, threshold_curve
from rds_lib.routing.route_table import mean_active, routed_frames

K = (0, 2, 8, 44, 47)


@pytest.fixture(scope="module")
def predictor(mini_weights, rds_file):
    return build_rds_video_predictor(
        "mini", mini_weights, rds_file, budget=0.5, device="cpu", apply_postprocessing=False
    )


def test_calibration_looks_at_the_frames_it_is_given(predictor, sequences):
    _, w = calibrate(predictor, sequences, target_active=24, frames=3)
    assert len(w) == 2 * len(sequences)


def test_a_fixed_threshold_is_obeyed_and_measured(predictor, sequences):
    before = predictor.policy
    for fixed, active in ((0.0, 48), (1.5, 5)):
        tau, w = calibrate(predictor, sequences[:1], target_active=24, frames=3, fixed=fixed)
        assert tau == predictor.policy.tau == fixed and predictor.policy.mode == "threshold" and len(w) == 2
        routes = track_sequence(predictor, sequences[0], frames=3).routes.assign(sequence="one")
        assert mean_active(routed_frames(routes)) == active
    predictor.set_policy(before)


def test_threshold_curve_falls_from_all_blocks_to_the_always_on_ones():
    w = np.random.default_rng(0).random((10, 48)) * 0.98 + 0.01
    taus, active = threshold_curve(w, K)
    assert len(taus) == 201 and active[0] == 48 and active[-1] == 5 and (np.diff(active) <= 0).all()
    free = np.delete(w, K, axis=1)
    assert threshold_curve(w, K, [0.3])[1][0] == pytest.approx(5 + (free >= 0.3).sum(1).mean())


def test_calibration_meets_the_target_within_one_block(predictor, sequences):
    before = predictor.policy
    goal = target_active(0.5, predictor.depth, predictor.always_on)
    tau, w = calibrate(predictor, sequences[:2], target_active=goal)
    assert w.shape == (8, 48) and predictor.policy.mode == "threshold" and predictor.policy.tau == tau
    assert abs(threshold_curve(w, predictor.always_on, [tau])[1][0] - goal) < 1
    tables = [track_sequence(predictor, s).routes.assign(sequence=s.name) for s in sequences[:2]]
    assert abs(mean_active(routed_frames(pd.concat(tables))) - goal) < 1, "and so it does when tracking"
    predictor.set_policy(before)
