"""The stage `dinov3` on a tiny ViT: the files of four chapters, and their way into report and ledger."""

import shutil
from pathlib import Path

import pandas as pd
import pytest
import torch
from transformers import DINOv3ViTConfig, DINOv3ViTModel

from rds_lib.core.artifacts import read_json, read_table
from rds_lib.data.sources import validation_sources
from rds_lib.evaluation.names import DINO, DINO_ADAPTED, DINO_RDS, OWN_MEAN, RANDOM, RDS, TOP_N
from rds_lib.evaluation.recordings import read_recordings, read_shape
from rds_lib.pipeline import dinov3, dinov3_runs, kept_trainings
from rds_lib.pipeline.params import load_params
from rds_lib.pipeline.report import _with_dinov3
from rds_lib.report import table8
from rds_lib.routing.weights import load_rds

FILES = (
    *("importance.csv", "blocks.json", "train_log.csv", "trained.csv", "calibration.csv", "table.csv", "objects.csv"),
    *(
        "comparisons.csv",
        "routes.csv",
        "spread.csv",
        "encoder.json",
        "model.json",
        "speed.csv",
        "blocks.csv",
        "frames.csv",
    ),
    *("rds_0.5.safetensors", "rds_0.5-seed3.safetensors", "rds_full.safetensors", "predictions"),
)


@pytest.fixture(scope="module")
def params(davis_root, tmp_path_factory):
    """The smoke profile at one level, on a ViT of four blocks and one clip."""
    folder = tmp_path_factory.mktemp("dinov3")
    config = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 4, "num_attention_heads": 2}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        vit = DINOv3ViTModel(DINOv3ViTConfig(**config, patch_size=8, image_size=64, num_register_tokens=1))
    vit.save_pretrained(folder / "vit")
    shutil.copytree(davis_root, folder / "set")
    (folder / "set" / "ImageSets" / "2017" / "val.txt").write_text("val-0001-fast_motion\n", encoding="utf-8")
    return (
        load_params("smoke")
        .with_section("data", generated=False, davis_root=str(folder / "set"))
        .with_section("dinov3", checkpoint=str(folder / "vit"), short_side=64, budgets=[0.5], k_sel=3, more_seeds=[3])
        .with_section("evaluation", datasets=["davis"])
        .with_section("train", calibration_frames=3)
        .with_section("benchmark", frames=2, warmup=1, repeats=1)
    )


@pytest.fixture(scope="module")
def folder(params, sequences, tmp_path_factory):
    out = tmp_path_factory.mktemp("products") / "dinov3"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dinov3, "training_sequences", lambda *_: (sequences, sequences))
        patch.setattr(kept_trainings, "CACHE", out.parent / "cache")
        dinov3.run(params, out.parent, out)
    return out


def test_a_training_is_made_again_for_another_router_and_for_other_weights_of_the_same_name(params, tmp_path):
    folder = shutil.copytree(params.dinov3.checkpoint, tmp_path / "vit")
    params = params.with_section("dinov3", checkpoint=str(folder))
    keys = [dinov3_runs._key(params, (0.5,), [1]), dinov3_runs._key(params, (0.5,), [1])]
    keys.append(dinov3_runs._key(params.with_section("router", preference_rate=2.0), (0.5,), [1]))
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\0")
    keys.append(dinov3_runs._key(params, (0.5,), [1]))
    assert keys[0] == keys[1] and len(set(keys)) == 3


def test_it_writes_the_files_of_four_chapters(folder):
    assert {path.name for path in folder.iterdir()} == set(FILES)
    assert read_shape(folder).depth == 4 and read_shape(folder).always_on == (0, 3)
    assert len(read_json(folder / "blocks.json")["blocks"]) == 3
    weights = read_json(folder / "model.json")["model"]
    assert weights["checkpoint"] == "vit" and len(weights["sha256"]) == 64
    for run in ("0.5", "full"):
        assert load_rds(folder / f"rds_{run}.safetensors").base_sha256 == weights["tensors_sha256"]
    assert set(read_table(folder / "train_log.csv")["run"].astype(str)) == {"0.5", "0.5-seed3", "full"}


def test_every_arm_is_scored_and_rds_keeps_its_budget(folder):
    table = read_table(folder / "table.csv").set_index("method")
    assert list(table.index) == ["copy first mask", DINO, DINO_ADAPTED, RDS, RANDOM, TOP_N, OWN_MEAN]
    assert table.loc[[DINO, DINO_ADAPTED], "active_blocks"].tolist() == [4, 4]
    assert 2 <= table.loc[RDS, "active_blocks_routed"] <= 4 and table.loc[RDS, "gmacs"] <= table.loc[DINO, "gmacs"]
    assert set(read_table(folder / "comparisons.csv")["against"]) == {DINO, DINO_ADAPTED, RANDOM, TOP_N, OWN_MEAN}


def test_a_further_seed_is_another_training_in_the_mean_and_the_intervals(folder):
    first, other = (folder / f"rds_0.5{name}.safetensors" for name in ("", "-seed3"))
    assert first.read_bytes() != other.read_bytes()
    trainings = read_table(folder / "table.csv").set_index("method")["trainings"]
    assert trainings[[RDS, RANDOM, TOP_N, OWN_MEAN]].eq(2).all() and trainings[[DINO, DINO_ADAPTED]].eq(1).all()
    assert set(read_table(folder / "objects.csv").query("method == @RDS")["seed"]) == {0, 3}


def test_a_profile_that_does_not_calibrate_runs_the_papers_threshold(params, folder, sequences, tmp_path):
    weights = shutil.copy(folder / "rds_0.5.safetensors", tmp_path)
    fixed = params.with_section("router", calibrate=False)
    rows, _ = dinov3.calibrate_run(fixed, Path(weights), (0.5,), sequences, build=dinov3.tracker)
    assert [row["tau"] for row in rows] == [0.5]


def test_recordings_of_it_open(folder, params):
    (source,) = validation_sources(params, folder.parent)
    (recording,) = read_recordings(folder, source)
    assert [run.name for run in recording.runs] == [DINO, "RDS 0.5"] and recording.depth == 4
    assert recording.run("RDS 0.5").reasons[0] == "first_frame"


def test_speed_is_over_the_whole_model(folder):
    speed = read_table(folder / "speed.csv").set_index("method")
    assert speed.loc[DINO, "speedup"] == 1 and set(speed.index) == {DINO, "full", RDS}
    assert speed.loc[RDS, "active_blocks"] <= 4 and speed.loc["full", "active_blocks"] == 4
    assert set(read_table(folder / "frames.csv")["method"]) == set(speed.index)


def test_the_ledgers_evidence_gets_it_under_names_of_its_own(folder, params):
    none = pd.DataFrame(columns=["method", "level"])
    found = _with_dinov3({name: none for name in ("objects", "speed", "frames")}, params, folder.parent)
    assert all(set(table["method"]) == {DINO, DINO_RDS} for table in found.values())


def test_the_page_has_a_row_an_arm_and_none_of_the_papers_numbers(folder):
    tables = {name: read_table(folder / f"{name}.csv") for name in ("table", "comparisons", "speed")}
    rows = table8.measured_rows(tables["table"], tables["speed"])
    assert rows[rows["method"] == RDS]["fps"].notna().all() and rows[rows["method"] == RANDOM]["fps"].isna().all()
    page = table8.as_page(rows, tables["comparisons"], profile="smoke", depth=4)
    names = [line.split("|")[1].strip() for line in page.splitlines() if line.startswith("| ")]
    assert {DINO, f"{DINO_RDS} 0.5", f"{RANDOM} 0.5", f"{DINO_RDS} 0.5 minus {DINO}"} <= set(names)
    assert "none stand" in page
