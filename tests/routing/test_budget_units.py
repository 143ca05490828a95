"""Budgets in blocks, GMACs and milliseconds: what is read, what is refused, and what then runs."""

import numpy as np
import pytest

from rds_lib.core.errors import RDSInputError
from rds_lib.data.clips import generate_clip
from rds_lib.data.datasets import read_dataset, write_dataset
from rds_lib.dinov3.build import build_rds_dino_tracker
from rds_lib.model.track import track_sequence
from rds_lib.pipeline.chosen_model import predictor_of
from rds_lib.routing import budgets, build
from rds_lib.routing.budgets import Budget, parse_budget
from rds_lib.routing.build import build_rds_video_predictor
from rds_lib.routing.costs import Costs
from rds_lib.routing.weights import load_rds

ALL = {"device": "cpu", "apply_postprocessing": False}
MS = Costs(tuple(0.5 + i % 3 for i in range(48)), 4.0, 1.0, "ms")  # 72 ms of blocks, K's (0, 2, 8, 44, 47) 10.5


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    root = tmp_path_factory.mktemp("units") / "set"
    write_dataset(root, [generate_clip(7, 0, split="calibration", frames=4, height=128, width=192)], layout="davis2017")
    return read_dataset(root, layout="davis2017", split="val")[0]


@pytest.fixture
def timed(monkeypatch):
    """A machine whose blocks take what `MS` says."""
    asked = []
    monkeypatch.setattr(budgets, "milliseconds_of", lambda *given: asked.append(given) or MS)
    return asked


def routed(clip, budget, **options):
    """Active flags (T, L) of the routed frames."""
    routes = track_sequence(build_rds_video_predictor("mini", budget=budget, **ALL, **options), clip).routes
    routes = routes[routes["reason"] == "routed"]
    return routes.pivot(index="frame_idx", columns="block", values="active").to_numpy()


@pytest.mark.parametrize(
    "given, value, unit",
    [
        (0.6, 0.6, "share"),
        (1, 1, "share"),
        ("0.6", 0.6, "share"),
        (" 1e-1 ", 0.1, "share"),
        ("30 blocks", 30, "blocks"),
        ("1 block", 1, "blocks"),
        ("30BLOCKS", 30, "blocks"),
        ("0.25 GMACs", 0.25, "GMACs"),
        ("0.25gmacs", 0.25, "GMACs"),
        ("40 ms", 40, "ms"),
        ("2.5e1ms", 25, "ms"),
    ],
)
def test_what_is_read(given, value, unit):
    assert parse_budget(given) == Budget(value, unit)


def test_what_is_shown():
    assert [str(parse_budget(one)) for one in (0.6, "30 block", ".25 gmacs", "40ms")] == [
        *("0.6", "30 blocks", "0.25 GMACs", "40 ms")
    ]


@pytest.mark.parametrize(
    "given", ["", "blocks", "30 layers", "40 s", "-3 ms", "nan ms", "1.2.3 ms", "ten blocks", "0x1f"]
)
def test_a_text_that_is_no_budget(given):
    with pytest.raises(
        RDSInputError, match=f'budget is {given!r}; give a share .*"30 blocks", "0.25 GMACs" or "40 ms"'
    ):
        parse_budget(given)


@pytest.mark.parametrize("given", [0, 1.5, "1.5", "0", True, None, [0.4], float("nan")])
def test_a_share_outside_its_range(given):
    with pytest.raises(RDSInputError, match=r"give a number in \(0, 1\]"):
        parse_budget(given)


@pytest.mark.parametrize("given", ["0 ms", "0 blocks", "2.5 blocks", "1e999 ms"])
def test_a_number_that_no_frame_can_have(given):
    with pytest.raises(RDSInputError, match=f"budget is '{given}'; give a .*number of .* above 0"):
        parse_budget(given)


@pytest.mark.parametrize("given, says", [
    ("4 blocks", "runs 5 blocks (always on) to 48 (all); give a number of blocks in that range"),
    ("49 blocks", "runs 5 blocks (always on) to 48 (all)"),
    ("0.05 GMACs", "take 0.0539 GMACs (always on alone) to 0.387 GMACs (all) a frame"),
    ("0.4 GMACs", "take 0.0539 GMACs (always on alone) to 0.387 GMACs (all) a frame"),
    ("15 ms", "take 15.5 ms (with the blocks that are always on alone) to 77 ms (with all)"),
    ("77.5 ms", "patch embedding, router, blocks and neck take 15.5 ms"),
])  # fmt: skip
def test_a_budget_that_the_model_cannot_meet(given, says, timed):
    with pytest.raises(RDSInputError) as caught:
        build_rds_video_predictor("mini", budget=given, **ALL)
    assert says in str(caught.value) and f"budget is '{given}'" in str(caught.value)


@pytest.mark.parametrize("given", ["5 blocks", "48 blocks", "0.0539 GMACs", "0.387 GMACs", "15.5 ms", "77 ms"])
def test_the_bounds_that_are_named_are_met(given, timed):
    assert build_rds_video_predictor("mini", budget=given, **ALL).policy.mode in ("top_n", "within")


@pytest.mark.parametrize("count", [5, 17, 30, 48])
def test_so_many_blocks_run_on_every_routed_frame(clip, count):
    active = routed(clip, f"{count} blocks")
    assert len(active) == 3 and set(active.sum(1)) == {count} and active[:, [0, 2, 8, 44, 47]].all()


def test_as_many_blocks_as_of_a_share_are_the_same_blocks(clip):
    assert (routed(clip, "35 blocks") == routed(clip, 30 / 43, routing="top_n")).all()


@pytest.mark.parametrize("amount", [0.06, 0.2, 0.3])
def test_gmacs_are_kept_and_used_up(clip, amount):
    active = routed(clip, f"{amount} GMACs")
    costs = build_rds_video_predictor("mini", budget=f"{amount} GMACs", **ALL).policy.costs
    spent = active @ costs
    assert (spent <= amount).all() and (spent > amount - 0.0074).all(), "the smallest block has 0.00737"


@pytest.mark.parametrize("amount", [16.0, 40.0, 70.0])
def test_ms_are_of_the_whole_image_encoder(clip, amount, timed):
    active = routed(clip, f"{amount} ms")
    left = amount - (active @ MS.blocks + MS.fixed + MS.router)
    assert (left >= 0).all() and (left < np.where(active, np.inf, MS.blocks).min(1)).all() and len(timed) == 1


def test_nothing_is_timed_for_other_budgets(timed):
    for budget in (0.6, "0.6", "30 blocks", "0.25 GMACs"):
        build_rds_video_predictor("mini", budget=budget, **ALL)
    build_rds_video_predictor("mini", budget="40 ms", routing="full", **ALL)
    assert not timed


@pytest.mark.parametrize("budget", [0.4, 0.6, 0.5, 1])
def test_the_policy_of_a_share_is_what_it_was(budget):
    policy, weights = build_rds_video_predictor("mini", budget=budget, **ALL).policy, load_rds(build.MINI_RDS)
    mode, tau = weights.rule_for(budget)
    n_active = {0.4: 22, 0.6: 31, 0.5: 26, 1: 48}[budget]
    assert (policy.budget, policy.mode, policy.tau, policy.n_active) == (budget, mode, tau, n_active)
    as_text = build_rds_video_predictor("mini", budget=str(budget), **ALL).policy
    assert (as_text.budget, as_text.mode, as_text.tau) == (budget, mode, tau)


def test_less_than_the_router_was_trained_for_runs_with_a_warning(caplog):
    build_rds_video_predictor("mini", budget="18 blocks", **ALL)
    assert "'18 blocks' comes to a share of 0.30 of the blocks; this router was trained for 0.4 to 1" in caplog.text
    caplog.clear()
    build_rds_video_predictor("mini", budget="23 blocks", **ALL)
    assert not caplog.text


@pytest.mark.parametrize("options, says", [
    ({"budget": "30 blocks", "routing": "sample"}, "with routing 'sample'; give a share"),
    ({"budget": "40 ms", "routing": "top_n"}, "with routing 'top_n'; give a share"),
    ({"budget": "30 blocks", "tau": 0.5}, "needs no tau, 0.5; give a share"),
])  # fmt: skip
def test_one_rule_alone_decides_how_many_blocks_run(options, says):
    with pytest.raises(RDSInputError, match=says):
        build_rds_video_predictor("mini", **options, **ALL)


def test_a_command_takes_the_same_texts(timed):
    options = {"tau": None, "routing": "threshold", "device": "cpu"}
    assert predictor_of("mini", None, None, budget="30 blocks", **options).policy.n_active == 30
    assert predictor_of("mini", None, None, budget="0.6", **options).policy.budget == 0.6
    assert predictor_of("mini", None, None, budget="40 ms", **options).policy.allowance == 35.0


def test_dinov3_takes_shares_alone():
    with pytest.raises(RDSInputError, match="budget is '30 blocks'; DINOv3 takes a number in"):
        build_rds_dino_tracker("mini", budget="30 blocks")
