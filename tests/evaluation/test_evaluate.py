"""Running arms: what they share, and what a control leaves behind."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from rds_lib.core.artifacts import read_table
from rds_lib.data import video
from rds_lib.data.sources import Source
from rds_lib.evaluation.arm import Arm
from rds_lib.evaluation.controls import CONTROLS, best_plan
from rds_lib.evaluation.evaluate import evaluate_arms, realised_gmacs
from rds_lib.evaluation.names import TOP_N
from rds_lib.model.track import copy_first_mask
from rds_lib.routing.build import build_rds_video_predictor
from rds_lib.routing.route_table import routed_frames


@pytest.fixture(scope="module")
def build(mini_weights, rds_file):
    """A predictor with a router, and how often it was asked for."""

    def make():
        make.calls += 1
        return build_rds_video_predictor(
            "mini", mini_weights, rds_file, budget=0.5, device="cpu", apply_postprocessing=False
        )

    make.calls = 0
    return make


@pytest.fixture(scope="module")
def run(build, davis_root, sequences, tmp_path_factory):
    """RDS, a control and RDS again, with one predictor, and the loads of frames that this took."""
    keep, loads, load = tmp_path_factory.mktemp("kept"), [], video._load
    rds, source = Arm("RDS", 0.5, build, kind="learned", keep_masks=True), Source("clips", davis_root, "davis2017")
    arms = [
        rds,
        replace(rds, method=TOP_N, route=CONTROLS[TOP_N], keep_masks=False),
        replace(rds, method="again"),
        Arm("still", 0.0, track=lambda _: copy_first_mask),
        replace(rds, method="best", combine=best_plan, keep_masks=False),
    ]
    ranking = pd.DataFrame({"global_score": np.arange(48.0), "local_score": np.arange(48.0)})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(video, "_load", lambda *args: loads.append(args[0]) or load(*args))
        results = evaluate_arms(arms, [source], keep=keep, ranking=ranking)
    return results["clips"], keep, loads


def test_arms_with_one_build_share_a_predictor_and_no_frame_is_decoded_twice(run, build, sequences):
    assert build.calls == 1 and len(run[2]) == len(sequences)


def test_a_control_takes_the_routers_place_and_leaves_no_trace(run):
    results = run[0]
    assert results["RDS", 0.5].routes.equals(results["again", 0.5].routes)
    assert results["RDS", 0.5].objects.equals(results["again", 0.5].objects)
    assert not results["RDS", 0.5].routes.equals(results[TOP_N, 0.5].routes)


def test_without_plans_nothing_is_made_of_them(run):
    assert ("best", 0.5) not in run[0] and ("still", 0.0) in run[0]


def test_masks_are_kept_of_the_arms_that_ask_for_it(run, sequences):
    index = read_table(run[1] / "clips" / "runs.csv")
    assert index["method"].tolist() == ["RDS", "again"] and index["folder"].is_unique
    assert sorted(path.name for path in (run[1] / "clips").iterdir()) == sorted([*index["folder"], "runs.csv"])
    assert len(list((run[1] / "clips" / index["folder"][0]).iterdir())) == len(sequences)


def test_work_follows_from_the_blocks_that_ran(build):
    predictor = build()
    rows = [("routed", block, block < 24, 0.5) for block in range(48)] + [
        ("first_frame", block, True, 1.0) for block in range(48)
    ]
    routes = pd.DataFrame(rows, columns=["reason", "block", "active", "keep_prob"])
    macs = np.array(predictor.backbone.block_macs()) / 1e9
    routed = routed_frames(routes)
    assert realised_gmacs(predictor, routed) == pytest.approx(macs[:24].sum())
    assert realised_gmacs(predictor, routes) == pytest.approx((macs[:24].sum() + macs.sum()) / 2), "every frame counts"
    everywhere = routed.assign(active=True)
    assert macs[:24].sum() < realised_gmacs(predictor, everywhere, by_share=True) < macs.sum(), "half the tokens"
    assert np.isnan(realised_gmacs(predictor, routes[:0]))


def test_scores_have_the_work_of_all_frames_and_of_the_routed_ones(run):
    scores = run[0]["RDS", 0.5]
    first = 3 / scores.routes.groupby(["sequence", "frame_idx"]).ngroups  # each of three clips begins with one
    assert scores.active == pytest.approx(first * 48 + (1 - first) * scores.active_routed)
    assert 5 < scores.active_routed < scores.active < 48
    assert scores.gmacs_routed < scores.gmacs
