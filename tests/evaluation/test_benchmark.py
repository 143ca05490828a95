"""The timing protocol: what each arm ran, what its ratios follow from, and what is timed."""

from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image

from rds_lib.core.errors import RDSInputError
from rds_lib.evaluation import benchmark, runner
from rds_lib.evaluation.arm import Arm
from rds_lib.evaluation.runner import Runner
from rds_lib.methods import METHODS
from rds_lib.model.sam2 import build_model
from rds_lib.routing.build import build_rds_video_predictor


@pytest.fixture(scope="module")
def arms(mini_weights, rds_file, baselines_folder):
    """Stock SAM2, the full encoder, RDS, and a baseline of every kind, built when asked for."""

    def build(**options):
        return build_rds_video_predictor("mini", mini_weights, apply_postprocessing=False, device="cpu", **options)

    def baseline(name):
        return METHODS[name].load(build(routing="full"), baselines_folder / name / "0.5.safetensors")

    return [
        Arm("SAM2", 1.0, partial(build_model, "mini", mini_weights)),
        Arm("full", 1.0, partial(build, routing="full")),
        Arm("RDS", 0.5, partial(build, rds_path=rds_file, budget=0.5), kind="learned"),
        *(
            Arm(METHODS[name].label, 0.5, partial(baseline, name), kind=METHODS[name].kind)
            for name in ("pbd", "dyt", "adavit")
        ),
        Arm("half", 1.0, partial(build_rds_video_predictor, "mini_half", routing="full", device="cpu"), kind="smaller"),
    ]


@pytest.fixture(scope="module")
def timed(arms, sequences):
    """Table, blocks and frames of a short run on two clips, here the same five frames."""
    clips = {name: (sequences[0].frame_paths[0].parent, {1: sequences[0].prompt(1)}) for name in ("one", "other")}
    return benchmark.benchmark_predictors(arms, clips, warmup=1, frames=2, repeats=1)


def test_the_columns_name_method_level_and_kind(timed, arms):
    table, blocks, _ = timed
    assert list(table.columns[:4]) == ["method", "level", "kind", "objects"]
    assert list(zip(table["method"], table["level"], table["kind"])) == [
        (arm.method, arm.level, arm.kind) for arm in arms
    ]
    assert set(blocks["method"]) == {"SAM2", "full", "RDS", "DyT", "AdaViT"}, "the others have other blocks"
    assert (table[["device", "dtype", "objects", "counted_frames"]] == ["CPU", "float32", 1, 4]).all(axis=None)
    assert table["date"].str.fullmatch(r"\d{4}-\d\d-\d\d").all() and (table["torch"] == torch.__version__).all()


def test_active_blocks_and_work_are_those_of_the_timed_frames(timed):
    table = timed[0].set_index("method")
    active = table["active_blocks"]
    assert active[["SAM2", "full", "DyT", "PBD", "half"]].tolist() == [48, 48, 48, 28, 24]
    assert 5 < active["RDS"] < 48 and 5 < active["AdaViT"] < 48
    assert table.loc["RDS", "gmacs"] < table.loc["full", "gmacs"] == pytest.approx(table.loc["SAM2", "gmacs"])
    assert table.loc["PBD", "gmacs"] < table.loc["DyT", "gmacs"] and (table["fps"] > 0).all()


def test_a_predictor_that_routes_has_a_router_time_and_no_other_has(timed):
    table = timed[0].set_index("method")
    assert 0 < table.loc["RDS", "router_ms"] < table.loc["RDS", "encoder_ms"]
    assert (table["router_ms"].drop("RDS") == 0).all() and (table["encoder_ms"] > 0).all()


def test_routing_costs_one_copy_a_frame(timed):
    copies = timed[0].set_index("method")["copies_per_frame"]
    assert copies[["SAM2", "full", "RDS"]].tolist() == [0, 0, 1]


def test_ratios_follow_from_the_times_of_the_same_run(timed):
    table, blocks = timed[0].set_index("method"), timed[1]
    rds, whole = table.loc["RDS"], table.loc["SAM2"]
    own = blocks[blocks["method"] == "RDS"].set_index("block").drop([0, 2, 8, 44, 47])
    saved = ((1 - own["activation"]) * own["block_ms"]).sum()
    assert (own["block_ms"] > 0).all()
    assert rds["saved_ms"] == pytest.approx(saved)
    assert rds["eta"] == pytest.approx((whole["frame_ms"] - rds["frame_ms"]) / saved)
    assert rds["speedup"] == pytest.approx(whole["frame_ms"] / rds["frame_ms"])
    assert rds["speedup_ideal"] == pytest.approx(whole["frame_ms"] / (whole["frame_ms"] - saved))
    assert table.loc["full", "speedup"] == pytest.approx(whole["frame_ms"] / table.loc["full", "frame_ms"])
    assert rds["router_share"] == pytest.approx(rds["router_ms"] / rds["frame_ms"])
    assert table["eta"].notna().to_dict() == {
        "SAM2": False,
        "full": False,
        "RDS": True,
        "PBD": False,
        "DyT": False,
        "AdaViT": True,
        "half": False,
    }


def test_every_counted_frame_is_kept_and_the_ratios_intervals_follow_from_them(timed):
    table, _, frames = timed
    assert len(frames) == 4 * len(table) and set(zip(frames["clip"], frames["pass"], frames["frame"])) == {
        ("one", 0, 3),
        ("one", 0, 4),
        ("other", 0, 3),
        ("other", 0, 4),
    }
    medians = frames.groupby(["method", "clip"])["ms"].median().groupby("method").mean()
    assert table.set_index("method")["frame_ms"].to_dict() == pytest.approx(medians.to_dict())
    ran = frames.groupby("method")["active_blocks"].mean().to_dict()
    assert table.set_index("method")["active_blocks"].to_dict() == pytest.approx(ran)
    table = table.set_index("method")
    assert (table.loc["SAM2", ["speedup", "speedup_low", "speedup_high"]] == 1).all()
    for name in ("speedup", "eta"):
        found = table.loc["RDS", [name + end for end in ("_low", "", "_high")]].astype(float)
        assert found.is_monotonic_increasing and found.iloc[0] < found.iloc[2]
    assert table["eta_low"].notna().equals(table["eta"].notna())


def test_block_times_add_up_to_the_median_of_their_sum():
    frames = [{"block 0": 1.0, "block 1": 9.0}, {"block 0": 9.0, "block 1": 1.0}, {"block 0": 1.0, "block 1": 1.0}]
    one = Runner(None, None, None, probed=frames)
    assert list(benchmark._block_times(one, 2)) == [5.0, 5.0]  # their medians are 1 and 1, the median sum is 10


def test_every_timed_frame_is_read_with_its_own_gates(mini_model, monkeypatch):
    """Six frames were encoded since the prompt and the last three are timed; SAM2 encodes no prompted frame again."""
    one = Runner(Arm("AdaViT", 0.5, kind="blocks"), mini_model, None, gates=list(range(1, 7)))
    monkeypatch.setattr(runner, "activity", lambda _, gate: (np.full(48, gate), np.ones(48)))
    one.finish(range(4, 7))
    assert [active[0] for active in one.active] == [4, 5, 6]


def test_a_video_too_short_for_the_protocol_is_refused(mini_model, tmp_path):
    Image.new("RGB", (64, 64)).save(tmp_path / "00000.jpg")
    arm = Arm("full", 1.0, lambda: mini_model)
    with pytest.raises(RDSInputError, match="1 frames; 1 to warm up and 4 to time need 7"):
        benchmark.benchmark_predictors(
            [arm], {"short": (tmp_path, {1: np.ones((64, 64), bool)})}, warmup=1, frames=4, repeats=1
        )
