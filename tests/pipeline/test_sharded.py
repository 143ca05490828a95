"""Sharded stages leave the very bytes of a serial run, and what is kept of them is kept as long as nothing changed."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import sharded

from rds_lib.core import paths
from rds_lib.core.artifacts import write_json, write_table, write_text
from rds_lib.core.errors import RDSInputError
from rds_lib.core.threads import WORKERS
from rds_lib.evaluation import evaluate, scores
from rds_lib.methods.placement import PLACEMENTS
from rds_lib.pipeline import kept
from rds_lib.pipeline.kept import make_ahead, stage_key, take_or_make
from rds_lib.pipeline.params import load_params
from rds_lib.work.finished import LIST

K = (0, 2, 8, 44, 47)


@pytest.fixture(scope="module")
def params(mini_weights, davis_root, tmp_path_factory):
    """The smoke profile at one level, on three clips of two objects at most; random weights."""
    root = tmp_path_factory.mktemp("data") / "set"
    shutil.copytree(davis_root, root)
    names = (root / "ImageSets" / "2017" / "val.txt").read_text(encoding="utf-8")
    (root / "ImageSets" / "2017" / "train.txt").write_text(names, encoding="utf-8")
    return (
        load_params(profile="smoke")
        .with_section("model", checkpoint=str(mini_weights))
        .with_section("data", generated=False, davis_root=str(root))
        .with_section("train", budgets=[0.5], more_seeds=[3], calibration_frames=3)
        .with_section("baselines", levels=[0.5], ninths=[6], placement_budget=0.5)
        .with_section("evaluation", budgets=[0.5], fixed_routes=2, datasets=["davis"], smaller=[])
        .with_section("figures", budget=0.5)
        .with_section("inspect", runs=["SAM2", "RDS 0.5"])
    )


@pytest.fixture(scope="module")
def workdir(rds_file, baselines_folder, tmp_path_factory):
    """Products of the stages before, with the same weights for every training."""
    folder = tmp_path_factory.mktemp("stages")
    shutil.copytree(baselines_folder, folder / "baselines")
    shutil.copyfile(folder / "baselines/pbd/0.5.safetensors", folder / "baselines/pbd/0.5-seed3.safetensors")
    (folder / "train").mkdir()
    for name in ("0.5", "0.5-seed3", "any", "full"):
        shutil.copyfile(rds_file, folder / "train" / f"rds_{name}.safetensors")
    trained = pd.DataFrame({"run": ["0.5", "any", "full"], "parameters": [10, 20, 30]})
    write_table(folder / "train" / "trained.csv", trained)
    placed = pd.DataFrame({"placement": PLACEMENTS, "trained_params": 40})
    write_table(folder / "baselines" / "placement" / "placements.csv", placed)
    for name, level in (("slimsam", 6), ("pbd", 0.5), ("dyt", 0.5), ("adavit", 0.5)):
        write_table(folder / "baselines" / name / "levels.csv", pd.DataFrame({"level": [level], "trained_params": [7]}))
    score = np.where(np.isin(np.arange(48), K), np.nan, np.arange(48.0))
    ranking = pd.DataFrame({"block": range(48), "global_score": score, "local_score": score})
    write_table(folder / "importance" / "importance.csv", ranking)
    return folder


def files(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def serial(params, workdir, tmp_path_factory):
    """What one process leaves, and its cache."""
    folder = tmp_path_factory.mktemp("serial")
    with pytest.MonkeyPatch.context() as patch:
        for module, name in ((kept, "CACHE"), (sharded.evaluation, "arms"), (sharded.evaluation, "repeated_arms")):
            patch.setattr(module, name, getattr(module, name))  # which the run changes
        patch.setenv(WORKERS, "1")
        sharded.run(params, workdir, folder / "out", folder / "cache")
        yield folder


def test_forked_workers_and_ranks_leave_the_bytes_of_a_serial_run(params, workdir, serial, monkeypatch, tmp_path):
    whole = files(serial / "out")
    masks = [path for path in whole if path.match("evaluation/predictions/davis/*/*/*.png")]
    assert len(masks) == 2 * 3 * 5, "of SAM2 and RDS"
    tables = {"table.csv", "objects.csv", "comparisons.csv", "routes.csv", "spread.csv", "boxes.csv", "metrics.json"}
    assert tables < {path.name for path in whole if path.parts[0] == "evaluation"}
    monkeypatch.setenv(WORKERS, "2")
    sharded.run(params, workdir, tmp_path / "forked", tmp_path / "forked-cache")
    monkeypatch.setenv(WORKERS, "1")
    write_text(tmp_path / "profile.yaml", json.dumps(params.model_dump(exclude={"profile"})))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    given = [sharded.__file__, tmp_path / "profile.yaml", workdir, tmp_path / "ranks", tmp_path / "ranks-cache"]
    where = {**os.environ, "PYTHONPATH": str(paths.ROOT)}
    done = subprocess.run([*command, *map(str, given)], capture_output=True, text=True, env=where)
    assert done.returncode == 0, done.stderr
    for name in ("forked", "ranks"):
        found = files(tmp_path / name)
        assert found.keys() == whole.keys()
        assert [path for path, content in found.items() if content != whole[path]] == [], name
    kept_by = [{path for path in files(folder)} for folder in (serial / "cache", tmp_path / "ranks-cache")]
    assert kept_by[0] == kept_by[1], "under the same keys"


def test_a_second_run_finds_everything_and_leaves_the_same_bytes(params, workdir, serial, monkeypatch, tmp_path):
    for module, name in ((evaluate, "score_jobs"), (sharded.importance, "_measure"), (sharded.headroom, "measure")):
        monkeypatch.setattr(module, name, lambda *_, **__: pytest.fail("made again"))
    sharded.run(params, workdir, tmp_path / "again", serial / "cache")
    again, whole = files(tmp_path / "again"), files(serial / "out")
    assert again == whole


def test_a_stopped_evaluation_goes_on_where_it_was(params, workdir, serial, stopped_at, monkeypatch, tmp_path):
    done, jobs = [], evaluate.score_jobs
    shutil.copytree(serial / "cache", tmp_path / "cache")
    (arm,) = (tmp_path / "cache/evaluation").glob("*/first/RDS-0.5-*")
    shutil.rmtree(arm)
    shutil.rmtree(next((tmp_path / "cache/evaluation").glob("*/seed3/RDS-0.5-*")))
    with stopped_at(scores, "write_masks", 2):
        sharded.run(params, workdir, tmp_path / "out", tmp_path / "cache")
    assert not (arm / LIST).exists()
    monkeypatch.setattr(evaluate, "score_jobs", lambda *jobs_, label, **how: done.append(label) or jobs(*jobs_, **how))
    sharded.run(params, workdir, tmp_path / "out", tmp_path / "cache")
    assert done == ["RDS 0.5", "RDS 0.5"] and files(tmp_path / "out") == files(serial / "out")


@pytest.mark.parametrize("name", ["scores.npz", "masks/davis/RDS_0.5/val-0001-fast_motion/00003.png"])
def test_what_was_damaged_is_scored_again(name, params, workdir, serial, monkeypatch, tmp_path, caplog):
    shutil.copytree(serial / "cache/evaluation", tmp_path / "cache/evaluation")
    (arm,) = (tmp_path / "cache/evaluation").glob("*/first/RDS-0.5-*")
    (arm / name).write_bytes((arm / name).read_bytes()[:-9])
    monkeypatch.setattr(kept, "CACHE", tmp_path / "cache")
    sharded.evaluation.run(params, workdir, tmp_path / "out")
    assert "is not as it was finished; made again" in caplog.text
    assert files(tmp_path / "out") == files(serial / "out" / "evaluation")


@pytest.fixture
def tree(params, workdir, monkeypatch, tmp_path):
    """All that a key looks at, in copies that a test may change: the repository, the data set, the stages before."""
    root = tmp_path / "root"
    for name in ("rds_lib", "assets"):
        shutil.copytree(paths.ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("dvc.yaml", "data.dvc"):
        shutil.copyfile(paths.ROOT / name, root / name)
    shutil.copytree(params.data.davis_root, root / "davis")
    shutil.copyfile(params.model.checkpoint, root / "base.safetensors")
    shutil.copyfile(params.model.checkpoint, root / "small.safetensors")
    shutil.copytree(workdir, tmp_path / "runs", ignore=shutil.ignore_patterns("clips"))
    monkeypatch.setattr(paths, "ROOT", root)
    monkeypatch.setattr(paths, "MINI_SAM2", root / "assets" / "mini_sam2")
    own = params.with_section("data", davis_root="davis").with_section("model", checkpoint="base.safetensors")
    own = own.with_section("evaluation", smaller=[["mini_half", "small.safetensors"]])

    def key(params=own):
        return stage_key("evaluation", params, tmp_path / "runs", after=sharded.evaluation.AFTER)

    key.root, key.runs, key.params = root, tmp_path / "runs", own
    return key


CHANGED = (
    *(f"rds_lib/{room}/__init__.py" for room in ("data", "metrics", "model", "routing", "training", "evaluation")),
    *("rds_lib/methods/pbd.py", "rds_lib/pipeline/arms.py", "rds_lib/pipeline/evaluation.py"),
    *("base.safetensors", "small.safetensors", "assets/mini_sam2/mini_sam2.yaml"),
    *("assets/mini_sam2/mini_sam2_half.safetensors", "davis/Annotations/480p/val-0000-plain/00000.png"),
)
PRODUCTS = ("train/rds_0.5.safetensors", "baselines/pbd/0.5.safetensors", "importance/importance.csv")


def test_the_key_changes_with_every_file_that_scores_follow_from(tree):
    keys = {tree()}
    for file in [*(tree.root / name for name in CHANGED), *(tree.runs / name for name in PRODUCTS)]:
        file.write_bytes(file.read_bytes() + b"#")
        assert tree() not in keys, file
        keys.add(tree())
    (tree.runs / "baselines" / "more.csv").write_text("")
    assert tree() not in keys


def test_the_key_changes_with_the_sections_of_the_stage_and_no_others(tree):
    base, params = tree(), tree.params
    changed = [
        params.with_section("evaluation", seed=5),
        params.with_section("evaluation", fixed_routes=3),
        params.with_section("train", seed=5),
        params.with_section("baselines", adapter_width=8),
        params.with_section("model", config="mini_half"),
    ]
    assert base not in (keys := [tree(each) for each in changed]) and len(set(keys)) == len(changed)
    assert tree(params.with_section("figures", budget=0.5)) == base


def test_the_key_is_left_alone_by_what_shapes_no_score(tree):
    base = tree()
    for name in ("rds_lib/show/paint.py", "rds_lib/report/claims.py", "rds_lib/pipeline/figures.py"):
        (tree.root / name).write_text("")
    write_json(tree.runs / "train" / LIST, {"files": {}})
    assert tree() == base


def test_products_are_made_once_and_a_change_makes_them_anew(params, workdir, monkeypatch, tmp_path):
    made = []

    def make(params, workdir, out):
        made.append(1)
        write_text(out / "folder" / "table.csv", f"made {len(made)}")

    monkeypatch.setattr(kept, "CACHE", tmp_path / "cache")
    for n, own in enumerate((params, params, params.with_section("importance", seed=9))):
        take_or_make("importance", make, own, workdir, tmp_path / f"out{n}")
    texts = [(tmp_path / f"out{n}" / "folder" / "table.csv").read_text() for n in range(3)]
    assert texts == ["made 1", "made 1", "made 2"]
    (file,) = [path for path in (tmp_path / "cache").rglob("table.csv") if path.read_text() == "made 1"]
    file.write_text("made 7")
    take_or_make("importance", make, params, workdir, tmp_path / "out3")
    assert (tmp_path / "out3" / "folder" / "table.csv").read_text() == "made 3"


def test_a_stage_that_takes_nothing_cannot_be_made_ahead(params, tmp_path):
    with pytest.raises(RDSInputError, match="stage 'benchmark' cannot be made ahead; choose one of importance, "):
        make_ahead("benchmark", params, tmp_path)
