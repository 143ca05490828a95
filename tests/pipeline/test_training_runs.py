"""What the stages that train share: the settings that reach a router, and its thresholds."""

import shutil
from pathlib import Path

import pytest

from rds_lib import load_params
from rds_lib.core.artifacts import read_table, write_text
from rds_lib.pipeline import kept_trainings, train, training_runs
from rds_lib.pipeline.training_runs import calibrate_run, train_blocks
from rds_lib.pipeline.weights import training_runs as training_runs_of
from rds_lib.routing.weights import load_rds
from rds_lib.training.rds import Recipe


@pytest.fixture
def params(mini_weights):
    """The smoke profile on the tests' model, with a short look at each calibration video."""
    return (
        load_params("smoke")
        .with_section("model", checkpoint=str(mini_weights))
        .with_section("train", calibration_frames=3, steps=1, frames=2)
    )


@pytest.mark.parametrize("is_calibrated", [True, False])
def test_a_budget_gets_a_calibrated_threshold_or_the_papers(is_calibrated, params, rds_file, sequences, tmp_path):
    path = shutil.copy(rds_file, tmp_path / "rds.safetensors")
    params = params.with_section("router", calibrate=is_calibrated)
    (row,), w = calibrate_run(params, path, (0.4,), sequences)
    assert load_rds(path).taus == {0.4: row["tau"]} and w[0.4].shape == (2 * len(sequences), 48)
    assert (row["tau"] == 0.5) != is_calibrated and row["target_active"] == pytest.approx(22.2)
    assert (abs(row["calibration_active"] - 22.2) < 1) == is_calibrated
    assert (row["calibration_active"] == row["active_at_half"]) != is_calibrated


def test_weights_have_their_name_only_with_their_thresholds(params, rds_file, sequences, tmp_path, stopped_at):
    copy = shutil.copy(rds_file, tmp_path / "rds.safetensors")
    (tmp_path / "log.csv").write_text("step,loss\n0,1.0\n")
    params = params.with_section("train", budgets=[0.4])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "training_sequences", lambda *_: (sequences, sequences))
        patch.setattr(train, "adapted_blocks", lambda *_: [0])
        patch.setattr(train, "train_run", lambda *_: Path(copy))
        patch.setattr(train, "about", lambda _: {"shipped": False})
        with stopped_at(train, "calibrate_run", 1):
            train.run(params, tmp_path, tmp_path / "train")
        assert list((tmp_path / "train").iterdir()) == []
        train.run(params, tmp_path, tmp_path / "train")
    row = read_table(tmp_path / "train" / "calibration.csv").set_index("run").loc["0.4"]
    assert load_rds(tmp_path / "train" / "rds_0.4.safetensors").taus == {0.4: pytest.approx(row["tau"])}


def test_a_training_whose_weights_were_cut_is_finished_again_to_the_bit(params, sequences, tmp_path, monkeypatch):
    monkeypatch.setattr(kept_trainings, "CACHE", tmp_path)
    monkeypatch.setattr(training_runs, "training_sequences", lambda *_: (sequences, sequences))
    weights = train_blocks(params, tmp_path, "0.4", (0.4,), [0], 2)
    log, whole = weights.with_name("log.csv"), weights.read_bytes()
    lines = log.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    log.write_bytes(lines.partition(b"\n")[0] + b"\n")
    assert train_blocks(params, tmp_path, "0.4", (0.4,), [0], 2) == weights
    assert weights.read_bytes() == whole and log.read_bytes() == lines and lines.count(b"\n") == 2


def test_the_sections_router_and_train_reach_the_training(params, sequences, tmp_path, monkeypatch):
    monkeypatch.setattr(kept_trainings, "CACHE", tmp_path)
    monkeypatch.setattr(training_runs, "training_sequences", lambda *_: (sequences, sequences))
    settings = {"normalise": False, "logit_spread": 2.0, "learn_spread": True}
    taught = {"final_spread": 3.0, "deployed_share": 0.25}
    changed = params.with_section("router", preference_rate=7.0, **settings, **taught)
    told = {}

    def train_rds(tracker, *, out, **options):
        told.update(options)
        write_text(out, "")

    monkeypatch.setattr(training_runs, "train_rds", train_rds)
    out = train_blocks(changed, tmp_path, "0.4", (0.4,), [0], 2)
    assert told["router_options"] == settings | {"hidden": params.train.router_hidden}
    assert told["preference_rate"] == 7.0 and told["schedule"].steps == 1
    assert told["recipe"] == Recipe(**taught)
    assert training_runs.recipe_of(params.router, damage=0.5) == Recipe(damage=0.5), "0 is no final spread"
    assert out != train_blocks(params, tmp_path, "0.4", (0.4,), [0], 2), "another training"
    uncalibrated = changed.with_section("router", calibrate=False)
    assert out == train_blocks(uncalibrated, tmp_path, "0.4", (0.4,), [0], 2), "the same, deployed otherwise"
    asked = {"batch": 2, "accumulate": 2, "recompute_blocks": True}
    other = changed.with_section("train", **asked, precision="bfloat16")
    more = train_blocks(other, tmp_path, "0.4", (0.4,), [0], 2)
    assert vars(told["schedule"]).items() >= (asked | {"precision": "bfloat16"}).items() and more != out
    assert more == train_blocks(other.with_section("train", accumulate=1), tmp_path, "0.4", (0.4,), [0], 2)
    assert more != train_blocks(other.with_section("train", precision="auto"), tmp_path, "0.4", (0.4,), [0], 2)


def test_more_seeds_repeat_the_trainings_per_budget_and_nothing_else(params, sequences, tmp_path, monkeypatch):
    params = params.with_section("train", seed=5, budgets=[0.8, 0.4], more_seeds=[6])
    runs = training_runs_of(params.train)
    assert list(runs) == ["0.8", "0.4", "any", "full", "0.8-seed6", "0.4-seed6"]
    assert runs["0.4-seed6"] == ((0.4,), 6) and {run.seed for name, run in runs.items() if "seed" not in name} == {5}
    monkeypatch.setattr(kept_trainings, "CACHE", tmp_path)
    monkeypatch.setattr(training_runs, "training_sequences", lambda *_: (sequences, sequences))
    monkeypatch.setattr(train, "adapted_blocks", lambda *_: [0])
    seeds, weights = [], {}

    def train_rds(tracker, *, out, schedule, **_):
        seeds.append(schedule.seed)
        write_text(out, "")

    monkeypatch.setattr(training_runs, "train_rds", train_rds)
    for name in ("0.4", "0.4-seed6"):
        weights[name] = train.train_run(params, tmp_path, name)
    assert seeds == [5, 6] and weights["0.4"] != weights["0.4-seed6"]
    fewer = params.with_section("train", more_seeds=[])
    assert train.train_run(fewer, tmp_path, "0.4") == weights["0.4"], "other seeds change no training"
