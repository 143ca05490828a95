"""The stage `benchmark`: which arms are timed with which weights, and the files that it leaves."""

import json

import pytest
import torch
from safetensors.torch import save_file

from rds_lib.core.artifacts import read_json, read_table
from rds_lib.core.errors import RDSInputError
from rds_lib.model.backbone import backbone_of
from rds_lib.model.sam2 import build_model
from rds_lib.pipeline import arms, benchmark
from rds_lib.pipeline.params import load_params
from rds_lib.routing.router import PredictionAwareRouter
from rds_lib.routing.weights import save_rds
from rds_lib.work.finished import digest

CLIPS = ["plain", "occlusion"]


def profile(checkpoint=""):
    """The smoke profile with numbers that these tests know."""
    return (
        load_params("smoke")
        .with_section("benchmark", budgets=[0.5], difficulties=CLIPS, frames=2, warmup=1, repeats=1, threads=1)
        .with_section("model", checkpoint=str(checkpoint))
        .with_section("baselines", levels=[0.5], ninths=[6])
    )


@pytest.fixture(scope="module")
def forced(tmp_path_factory):
    """A short benchmark of random weights, as on a machine that has no others."""
    out = tmp_path_factory.mktemp("benchmark")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(arms, "MINI_WEIGHTS", out / "absent.safetensors")
        benchmark.time_profile(profile(), out, device="cpu")
    return out


def test_without_weights_random_routes_keep_as_many_blocks_as_the_budget_asks_for(forced):
    table = read_table(forced / "table.csv")
    assert table[["method", "level", "kind"]].to_records(index=False).tolist() == [
        ("SAM2", 1.0, "none"),
        ("full", 1.0, "none"),
        ("RDS", 0.5, "forced"),
    ]
    assert list(table["active_blocks"]) == [48, 48, 26]  # 5 + 43 / 2 = 26.5
    assert (table[["counted_frames", "threads"]] == [4, 1]).all(axis=None)


def test_the_time_of_every_frame_is_left_behind(forced):
    frames = read_table(forced / "frames.csv", columns=("method", "level", "clip", "pass", "frame", "ms"))
    assert frames.groupby("clip").size().to_dict() == {"occlusion": 6, "plain": 6}
    assert frames.groupby(["method", "level"]).size().to_dict() == {("RDS", 0.5): 4, ("SAM2", 1.0): 4, ("full", 1.0): 4}
    assert (frames["ms"] > 0).all()


def test_random_weights_are_called_so(forced):
    found = read_json(forced / "model.json")
    assert (found["model"]["checkpoint"], found["model"]["sha256"]) == ("random weights", None)
    assert [row["checkpoint"] for row in found["smaller"]] == ["mini_sam2_half.safetensors"]


def test_metrics_are_one_flat_mapping_of_numbers(forced):
    metrics = json.loads((forced / "metrics.json").read_text())
    assert metrics["RDS_0.5_active_blocks"] == 26 and metrics["RDS_0.5_router_ms"] > 0
    assert all(isinstance(value, float) for value in metrics.values())
    assert "full_eta" not in metrics and {"RDS_0.5_eta", "SAM2_fps", "full_frame_ms"} <= metrics.keys()


def test_trained_weights_of_the_profile_are_used_where_present(tmp_path):
    model = build_model("mini", False)
    torch.nn.init.constant_(model.sam_mask_decoder.pred_obj_score_head.layers[-1].bias, 10.0)
    save_file({name: value.clone() for name, value in model.state_dict().items()}, tmp_path / "mini.safetensors")
    router = PredictionAwareRouter.for_backbone(backbone_of(model))
    save_rds(tmp_path / "train" / "rds_0.5.safetensors", router, model, budgets=[0.5], taus={0.5: 1.1})
    params = profile(tmp_path / "mini.safetensors")
    table = benchmark.time_profile(params, tmp_path / "out", workdir=tmp_path, device="cpu").set_index("method")
    assert table.loc["RDS", "kind"] == "learned"
    weights = read_json(tmp_path / "out" / "model.json")["model"]
    assert (weights["checkpoint"], weights["sha256"]) == ("mini.safetensors", digest(tmp_path / "mini.safetensors"))
    assert table.loc["RDS", "active_blocks"] == 5  # its threshold lets none but the always-on blocks through
    blocks = read_table(tmp_path / "out" / "blocks.csv")
    assert list(blocks[(blocks["method"] == "RDS") & (blocks["activation"] > 0)]["block"]) == [0, 2, 8, 44, 47]


def test_baselines_that_were_trained_take_part_at_their_levels(mini_weights, baselines_folder):
    found = arms.timed_arms(profile(mini_weights), baselines_folder.parent, device="cpu")
    assert [(arm.method, arm.level, arm.kind) for arm in found[3:]] == [
        ("SlimSAM", 0.667, "smaller"),
        ("PBD", 0.5, "smaller"),
        ("DyT", 0.5, "tokens"),
        ("AdaViT", 0.5, "blocks"),
        ("mini_half", 1.0, "smaller"),
    ]
    other = profile(mini_weights).with_section("baselines", levels=[0.6], ninths=[6])
    assert [arm.method for arm in arms.timed_arms(other, baselines_folder.parent)[3:]] == ["SlimSAM", "mini_half"]


def test_the_stage_asks_for_what_it_times(tmp_path):
    with pytest.raises(RDSInputError, match="train is missing; make it with: dvc repro train"):
        benchmark.run(profile().model_copy(update={"profile": "mini"}), tmp_path, tmp_path / "out")
