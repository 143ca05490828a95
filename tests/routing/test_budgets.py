"""What a budget promises, with the router and the adapters that are shipped."""

import pandas as pd
import pytest

from rds_lib.core.errors import RDSInputError
from rds_lib.data.clips import generate_clip
from rds_lib.data.datasets import read_dataset, write_dataset
from rds_lib.model.track import track_sequence
from rds_lib.routing.build import build_rds_video_predictor
from rds_lib.routing.route_table import mean_active, routed_frames


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """Eight clips of four frames, of the kind that the thresholds were calibrated on."""
    root = tmp_path_factory.mktemp("budgets") / "set"
    drawn = [generate_clip(7, i, split="calibration", frames=4, height=256, width=384) for i in range(8)]
    write_dataset(root, drawn, layout="davis2017", split="val")
    return read_dataset(root, layout="davis2017", split="val")


def blocks(clips, budget, **options):
    """The routes of the routed frames, and how many blocks ran on each."""
    predictor = build_rds_video_predictor("mini", budget=budget, device="cpu", apply_postprocessing=False, **options)
    routes = [track_sequence(predictor, clip).routes.assign(sequence=clip.name) for clip in clips]
    routes = pd.concat(routes, ignore_index=True)
    routed = routes[routes["reason"] == "routed"]
    return routes, routed.groupby(["sequence", "frame_idx"])["active"].sum()


@pytest.mark.parametrize("budget, asked", [(0.95, 46), (0.9, 44), (0.85, 42), (0.7, 35), (0.5, 26)])
def test_a_budget_without_a_threshold_runs_the_blocks_that_it_asks_for(clips, budget, asked, caplog):
    _, counts = blocks(clips[:1], budget)
    assert len(counts) > 2 and set(counts) == {asked}
    assert abs(asked - (5 + 43 * budget)) <= 0.5
    said = [record.getMessage() for record in caplog.records if "budget" in record.getMessage()]
    assert said == [
        f"no threshold was calibrated for budget {budget:g} (calibrated: 0.4, 0.6, 0.8): "
        f"every routed frame runs exactly {asked} blocks"
    ]


def test_a_calibrated_budget_runs_them_on_average(clips, caplog):
    routes, counts = blocks(clips, 0.4)
    assert abs(mean_active(routed_frames(routes)) - 22.2) < 1 and len(counts) > 16
    assert not [record for record in caplog.records if "no threshold" in record.getMessage()]


def test_budget_1_runs_all_blocks_and_a_tau_is_obeyed_at_any_budget(clips):
    assert set(blocks(clips[:1], 1.0)[1]) == {48}
    assert set(blocks(clips[:1], 0.3, tau=0.0)[1]) == {48} and set(blocks(clips[:1], 0.9, tau=1.5)[1]) == {5}


def test_a_budget_below_the_lowest_is_refused_unless_it_is_counted(clips):
    with pytest.raises(RDSInputError, match="budget is 0.3; this router serves 0.4 to 1; give a budget in that range"):
        build_rds_video_predictor("mini", budget=0.3, device="cpu")
    assert set(blocks(clips[:1], 0.3, routing="top_n")[1]) == {18}
