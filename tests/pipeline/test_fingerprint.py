"""The cache key of trainings: it changes with all that shapes a training, and with nothing else."""

import os

import pytest

from rds_lib.core import paths
from rds_lib.pipeline.fingerprint import training_key
from rds_lib.pipeline.params import load_params

ROOMS = ("data", "training", "pipeline/training_runs.py")


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """A repository in miniature, at which the key looks."""
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    monkeypatch.setattr(paths, "MINI_SAM2", tmp_path / "assets" / "mini_sam2")
    files = (
        "rds_lib/data/images.py",
        "rds_lib/training/rds.py",
        "rds_lib/pipeline/training_runs.py",
        "rds_lib/show/paint.py",
        "rds_lib/pipeline/figures.py",
        "assets/mini_sam2/mini_sam2.yaml",
        "assets/mini_sam2/mini_sam2.safetensors",
        "assets/mini_sam2/rds.safetensors",
        "data.dvc",
        "weights.pt",
        "davis/JPEGImages/0.jpg",
        "sav/list.txt",
    )
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"first {name}")
    return tmp_path


@pytest.fixture
def params():
    return load_params("mini")


def change(path):
    path.write_text("second" + path.read_text()[5:])  # as long as it was


def test_the_key_is_short_and_repeatable(tree, params):
    key = training_key(params, ROOMS, 0.6)
    assert len(key) == 12 and key == training_key(load_params("mini"), ROOMS, 0.6)


@pytest.mark.parametrize(
    "name",
    [
        "rds_lib/data/images.py",
        "rds_lib/training/rds.py",
        "rds_lib/pipeline/training_runs.py",
        "assets/mini_sam2/mini_sam2.yaml",
        "assets/mini_sam2/mini_sam2.safetensors",
    ],
)
def test_the_key_changes_with_code_and_model(tree, params, name):
    before = training_key(params, ROOMS)
    change(tree / name)
    assert training_key(params, ROOMS) != before


def test_the_key_changes_with_a_new_or_renamed_module(tree, params):
    keys = [training_key(params, ROOMS)]
    (tree / "rds_lib/data/layouts.py").write_text("")
    keys.append(training_key(params, ROOMS))
    (tree / "rds_lib/data/layouts.py").rename(tree / "rds_lib/data/lists.py")
    keys.append(training_key(params, ROOMS))
    assert len(set(keys)) == 3


@pytest.mark.parametrize(
    "name",
    [
        "rds_lib/show/paint.py",
        "rds_lib/pipeline/figures.py",
        "assets/mini_sam2/rds.safetensors",
        "sav/list.txt",
        "weights.pt",
    ],
)
def test_the_key_ignores_other_rooms_and_files(tree, params, name):
    before = training_key(params, ROOMS)
    change(tree / name)
    assert training_key(params, ROOMS) == before


def test_the_key_ignores_compiled_code_and_times(tree, params):
    before = training_key(params, ROOMS)
    (tree / "rds_lib/data/__pycache__").mkdir()
    (tree / "rds_lib/data/__pycache__/images.cpython-311.pyc").write_bytes(b"\0")
    os.utime(tree / "rds_lib/data/images.py", (0, 0))
    assert training_key(params, ROOMS) == before


def test_the_key_changes_with_parameters_and_not_with_those_of_other_stages(tree, params):
    base = training_key(params, ROOMS, 0.6, [1, 2])
    others = [
        training_key(params, ROOMS, 0.4, [1, 2]),
        training_key(params, ROOMS, 0.6, [1, 3]),
        training_key(params.with_section("clips", frames=21), ROOMS, 0.6, [1, 2]),
        training_key(params.with_section("model", config="mini_half"), ROOMS, 0.6, [1, 2]),
    ]
    assert len({base, *others}) == 5
    for name in ("seed", "train", "calibration", "changing_train", "changing_calibration"):
        others.append(training_key(params.with_section("clips", **{name: 90}), ROOMS, 0.6, [1, 2]))
    assert len({base, *others}) == 10
    wider = params.with_section("clips", val=99, sav=9, wide=8, ytvos=7, changing=6, photographs="BSDS500")
    assert training_key(wider, ROOMS, 0.6, [1, 2]) == base, "what validates is no part of a training"
    same = params.with_section("evaluation", bootstrap=7).with_section("data", preview_clips=1, sav_root="sav")
    assert training_key(same, ROOMS, 0.6, [1, 2]) == base


def test_a_checkpoint_takes_the_place_of_the_shipped_weights(tree, params):
    params = params.with_section("model", checkpoint="weights.pt")
    before = training_key(params, ROOMS)
    change(tree / "assets/mini_sam2/mini_sam2.safetensors")
    assert training_key(params, ROOMS) == before
    change(tree / "weights.pt")
    changed = training_key(params, ROOMS)
    assert changed != before
    change(tree / "assets/mini_sam2/mini_sam2.yaml")
    assert training_key(params, ROOMS) != changed, "the config counts with any checkpoint"


def test_real_training_data_count_by_their_files(tree, params):
    params = params.with_section("data", generated=False, davis_root="davis", sav_root="sav")
    before = training_key(params, ROOMS)
    change(tree / "data.dvc")
    change(tree / "sav/list.txt")
    assert training_key(params, ROOMS) == before
    (tree / "davis/JPEGImages/1.jpg").write_text("")
    assert training_key(params, ROOMS) != before


def test_a_room_that_is_not_there_is_an_error(tree, params):
    with pytest.raises(FileNotFoundError, match="baselines.*no such code"):
        training_key(params, (*ROOMS, "baselines"))
