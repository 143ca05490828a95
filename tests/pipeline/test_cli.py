"""The command line: what it refuses, in one line and with exit code 2, and what its commands write."""

import hashlib
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch.distributed.run import get_args_parser
from typer.testing import CliRunner

from rds_lib.__main__ import app
from rds_lib.core.artifacts import read_table
from rds_lib.data.clips import generate_clip
from rds_lib.data.datasets import read_dataset, write_dataset
from rds_lib.data.generate import generate_datasets
from rds_lib.data.images import read_labels
from rds_lib.data.output import MANIFEST
from rds_lib.methods import METHODS
from rds_lib.model.backbone import backbone_of
from rds_lib.model.sam2 import build_model
from rds_lib.pipeline.params import load_params
from rds_lib.routing.router import PredictionAwareRouter
from rds_lib.routing.weights import save_rds
from rds_lib.work.locks import claim

OFFICIAL = "configs/sam2.1/sam2.1_hiera_l.yaml"


def _params(**clips):
    """The smoke profile with numbers that these tests know."""
    known = {"train": 2, "calibration": 1, "val": 2, "sav": 1, "ytvos": 1, "frames": 6, "height": 128, "width": 192}
    params = load_params("smoke")
    return params.model_copy(update={"clips": params.clips.model_copy(update=known | clips)})


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Data sets written by the command."""
    out = tmp_path_factory.mktemp("cli") / "clips"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rds_lib.pipeline.params.load_params", {"smoke": _params()}.get)
        result = _run("data", "generate", "--profile", "smoke", "--out", out)
    assert result.exit_code == 0, result.output
    return out


@pytest.fixture(scope="module")
def model_options(tmp_path_factory):
    """Command-line options for a random mini SAM2 that sees something everywhere, and a random router."""
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    model = build_model("mini", False)
    torch.nn.init.constant_(model.sam_mask_decoder.pred_obj_score_head.layers[-1].bias, 10.0)
    save_file({name: value.clone() for name, value in model.state_dict().items()}, folder / "mini.safetensors")
    router = PredictionAwareRouter.for_backbone(backbone_of(model))
    save_rds(folder / "rds.safetensors", router, model, budgets=[0.5], taus={0.5: 0.5})
    return ["--checkpoint", folder / "mini.safetensors", "--device", "cpu", "--rds", folder / "rds.safetensors"]


@pytest.fixture(scope="module")
def video(root):
    return read_dataset(root / "val" / "davis2017", layout="davis2017")[0]


@pytest.fixture
def mask(root, video):
    return root / "val" / "davis2017" / "Annotations" / "480p" / video.name / "00000.png"


def _run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def _assert_refused(result, out, *words):
    assert result.exit_code == 2, result.output
    assert result.stderr.startswith("error: ") and len(result.stderr.strip().splitlines()) == 1
    for word in words:
        assert word in result.stderr
    assert not out.exists() and not list(out.parent.glob(".tmp-*"))


COMMANDS = (
    "track",
    "evaluate",
    "data",
    "train",
    "baselines",
    "pretrain",
    "stage",
    "benchmark",
    "headroom",
    "figures",
    "report",
    "check",
    "publish",
    "notebook",
)


def test_help_names_the_commands_and_loads_no_torch():
    code = (
        "import sys, rds_lib.__main__ as m; m.app(['--help'], standalone_mode=False); sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert all(f" {name} " in done.stdout for name in COMMANDS)


@pytest.mark.parametrize(
    "command",
    [
        ["train", "0.6", "--profile", "paper"],
        ["baselines", "--profile", "paper", "--method", "dyt", "--level", "0.4"],
        ["pretrain", "--profile", "paper", "--model", "mini_half"],
        ["stage", "evaluation", "--profile", "paper"],
    ],
)
def test_torchrun_leaves_the_options_of_a_training_alone(command):
    """It takes an option that begins as several of its own do for a mistake: `--run` was one."""
    options = get_args_parser().parse_args(["--standalone", "--nproc-per-node", "8", "-m", "rds_lib", *command])
    assert options.training_script_args == command


def test_a_command_that_torchrun_cannot_share_out_is_refused_there(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    done = _run("report", "--profile", "smoke")
    assert done.exit_code == 2 and "torchrun starts train, baselines, pretrain or stage" in done.output


def test_a_stage_is_made_ahead(monkeypatch, tmp_path):
    calls = []
    monkeypatch.setenv("RDS_WORKDIR", str(tmp_path))
    monkeypatch.setattr("rds_lib.pipeline.kept.make_ahead", lambda name, params, folder: calls.append((name, folder)))
    assert _run("stage", "evaluation", "--profile", "smoke").exit_code == 0
    assert calls == [("evaluation", tmp_path)]


def test_trainings_are_started_with_what_was_asked_for(monkeypatch, tmp_path):
    calls = []
    monkeypatch.setenv("RDS_WORKDIR", str(tmp_path))
    monkeypatch.setattr(
        "rds_lib.pipeline.train.train_run", lambda params, folder, run: calls.append((params.profile, folder, run))
    )
    monkeypatch.setattr("rds_lib.pipeline.baselines.train_level", lambda params, folder, *row: calls.append(row))
    monkeypatch.setattr("rds_lib.pipeline.pretrain.train_model", lambda params, name: calls.append(name))
    for command in (
        ["train", "any"],
        ["baselines", "--method", "pbd"],
        ["baselines"],
        ["pretrain", "--model", "mini_half"],
        ["baselines", "--method", "dyt", "--level", 0.4],
    ):
        assert _run(*command, "--profile", "smoke").exit_code == 0
    section = load_params("smoke").baselines
    every = [(name, level) for name, method in METHODS.items() for level in method.levels(section)]
    assert calls == [("smoke", tmp_path, "any"), ("pbd", 0.4), *every, "mini_half", ("dyt", 0.4)]


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["train", "0.7"], ["run '0.7' is unknown", "0.8, 0.4, any, full"]),
        (["baselines", "--method", "pdb"], ["'pdb'", "pbd"]),
        (["baselines", "--method", "pbd", "--level", 0.7], ["0.7", "0.4"]),
        (["baselines", "--level", 0.4], ["name the method"]),
        (["report", "--profile", "mini"], ["is missing; make it with: dvc repro evaluation"]),
        (["check", "--profile", "mini"], ["report is missing; make it with: dvc repro report"]),
        (["publish", "--profile", "mini"], ["report is missing; make it with: dvc repro report"]),
        (["publish"], ["profile smoke is for tests"]),
        (["notebook", "run", "08_more"], ["notebook '08_more' has no section"]),
        (["data", "generate", "--out", "x", "--profile", "smole"], ["unknown profile 'smole'"]),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(command, words, monkeypatch, tmp_path):
    monkeypatch.setenv("RDS_WORKDIR", str(tmp_path / "none"))
    profile = [] if "--profile" in command or command[0] == "notebook" else ["--profile", "smoke"]
    _assert_refused(_run(*command, *profile), tmp_path / "none", *words)


def test_generated_sets_have_their_layouts_and_share_no_clip(root):
    sets = {"train": "davis2017", "calibration": "davis2017"}
    found = {name: read_dataset(root / name, layout=layout, split=name) for name, layout in sets.items()}
    found |= {layout: read_dataset(root / "val" / layout, layout=layout) for layout in ("davis2017", "sav", "ytvos")}
    assert {name: len(sequences) for name, sequences in found.items()} == {
        "train": 2,
        "calibration": 1,
        "davis2017": 2,
        "sav": 1,
        "ytvos": 1,
    }
    digests = [hashlib.md5(s.frame(3).tobytes()).hexdigest() for sequences in found.values() for s in sequences]
    assert len(set(digests)) == 7
    assert all(len(s) == 6 and s.size == (128, 192) for sequences in found.values() for s in sequences)


def test_generation_does_not_depend_on_the_number_of_processes(tmp_path):
    params = _params(frames=2, height=32, width=32, train=6)
    trees = []
    for workers in (1, 2):
        generate_datasets(params, tmp_path / str(workers), workers=workers)
        files = [path for path in (tmp_path / str(workers)).rglob("*") if path.is_file()]
        trees.append({path.relative_to(tmp_path / str(workers)): path.read_bytes() for path in files})
    assert len(trees[0]) > 40 and trees[0] == trees[1]


def test_generate_refuses_to_replace_what_it_did_not_write(root, tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    result = _run("data", "generate", "--profile", "smoke", "--out", tmp_path, "--overwrite")
    assert result.exit_code == 2 and "holds other files" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_describe_prints_a_line_per_sequence(root, video):
    result = _run("data", "describe", root / "val" / "davis2017")
    assert result.exit_code == 0 and video.name in result.stdout and "192x128" in result.stdout
    assert len(result.stdout.strip().splitlines()) == 3


def test_track_writes_masks_routes_page_and_overlay(video, mask, model_options, tmp_path):
    out = tmp_path / "out"
    result = _run("track", video.frame_paths[0].parent, "--mask", mask, "--out", out, "--budget", 0.5, *model_options)
    assert result.exit_code == 0, result.output
    assert all(words in result.stdout for words in ("6 frames", f"{len(video.obj_ids)} object", "of 48 blocks"))
    assert sorted(path.name for path in out.iterdir()) == [MANIFEST] + [f"{t:05d}.png" for t in range(6)] + [
        "inspector.html",
        "model.json",
        "overlay.mp4",
        "routes.csv",
    ]
    assert all(read_labels(out / f"{t:05d}.png").shape == (128, 192) for t in range(6))
    assert set(np.unique(read_labels(out / "00000.png"))) <= {0, *video.obj_ids}
    routes = read_table(out / "routes.csv")
    assert list(routes.columns) == ["frame_idx", "block", "active", "keep_prob", "reason"] and len(routes) == 6 * 48
    active = routes[routes["reason"] == "routed"].groupby("frame_idx")["active"].sum()
    assert len(active) == 5 and (active < 48).all()
    page = (out / "inspector.html").read_text()
    data = json.loads(page.partition('id="data">')[2].partition("</script>")[0])
    (run,) = data["runs"][data["menu"][0]]["runs"]
    assert data["menu"] == [video.name] and len(data["videos"][video.name]["frames"]) == 6 and data["routing"] == {}
    assert run["name"] == "RDS 0.5" and len(run["active"]) == 6 * 48
    assert run["reasons"] == ["first_frame"] + 5 * ["routed"]


def test_a_name_that_is_no_text_is_tracked_and_shown(video, model_options, tmp_path):
    odd = tmp_path / os.fsdecode(b"clip-\xff")
    shutil.copytree(video.frame_paths[0].parent, odd)
    out = tmp_path / os.fsdecode(b"out-\xfe")
    result = _run("track", odd, "--box", "10,10,60,60", "--out", out, *model_options, "--routing", "full")
    assert result.exit_code == 0 and "out-\\udcfe" in result.stdout, result.output
    assert (out / "inspector.html").is_file() and len(list(out.glob("*.png"))) == 6


def test_an_extra_that_fails_costs_no_masks(video, model_options, tmp_path, monkeypatch):
    """Of a frame that no video encoder takes, or a disk that is full when the page is written."""

    def fail(*_, **__):
        raise OSError(28, "No space left on device")

    for name in ("OverlayVideo", "inspector_page"):
        monkeypatch.setattr(f"rds_lib.pipeline.track_files.{name}", fail)
    out, frames = tmp_path / "out", video.frame_paths[0].parent
    result = _run("track", frames, "--box", "10,10,60,60", "--out", out, *model_options, "--routing", "full")
    assert result.exit_code == 0, result.output
    for name in ("overlay.mp4", "inspector.html"):
        assert f"warning: {name} could not be written (OSError: [Errno 28] No space left" in result.stderr
    assert not (out / "overlay.mp4").exists() and not (out / "inspector.html").exists()
    assert len(list(out.glob("*.png"))) == 6 and len(read_table(out / "routes.csv")) == 6 * 48


def test_a_device_whose_memory_is_full_is_one_line(monkeypatch, tmp_path):
    def full(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.\nmore")

    monkeypatch.setattr("rds_lib.data.generate.generate_datasets", full)
    result = _run("data", "generate", "--profile", "smoke", "--out", tmp_path / "clips")
    assert result.exit_code == 2 and result.stderr == "error: the device's memory is full (CUDA out of memory)\n"


@pytest.mark.parametrize("command", [["headroom", "--data", "x"], ["benchmark", "--profile", "smoke"]])
def test_every_command_with_a_device_refuses_one_that_is_not_there(command, root, monkeypatch, tmp_path):
    monkeypatch.setenv("RDS_WORKDIR", str(tmp_path))
    command = [root / "val" / "davis2017" if part == "x" else part for part in command]
    result = _run(*command, "--device", "cuda:99", "--out", tmp_path / "out")
    _assert_refused(result, tmp_path / "out", "device cuda:99: not usable here; found cpu")


@pytest.mark.parametrize("command", ["benchmark", "report", "check"])
def test_a_stages_command_puts_nothing_over_files_of_the_user(command, monkeypatch, tmp_path):
    def write(params, *places, **_):
        out = places[-1]
        out.mkdir(exist_ok=True)
        (out / "table.csv").write_text("new")
        return []

    monkeypatch.setenv("RDS_WORKDIR", str(tmp_path / "products"))
    monkeypatch.setattr("rds_lib.pipeline.stages.Stage.build", lambda stage, *arguments: write(*arguments))
    monkeypatch.setattr("rds_lib.pipeline.benchmark.time_profile", write)
    out = tmp_path / "out"
    out.mkdir()
    (out / "table.csv").write_text("mine")
    result = _run(command, "--profile", "smoke", "--out", out)
    assert result.exit_code == 2 and "holds other files, such as table.csv" in result.stderr
    assert [path.name for path in out.iterdir()] == ["table.csv"] and (out / "table.csv").read_text() == "mine"
    (out / "table.csv").unlink()
    for _ in range(2):  # its own earlier output it replaces
        _run(command, "--profile", "smoke", "--out", out)
        assert command == "report" or (out / "table.csv").read_text() == "new"


def test_faults_of_the_disk_are_one_line(monkeypatch, tmp_path):
    def full(*_, **__):
        raise OSError(28, "No space left on device", str(tmp_path / "clips"))

    monkeypatch.setattr("rds_lib.data.generate.generate_datasets", full)
    result = _run("data", "generate", "--profile", "smoke", "--out", tmp_path / "clips")
    assert result.exit_code == 2 and result.stderr == f"error: {tmp_path / 'clips'}: No space left on device\n"


@pytest.mark.parametrize("command", [["report"], ["check"], ["benchmark"], ["train", "any"], ["baselines"]])
def test_a_place_that_cannot_be_written_is_refused_before_the_work(command, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("RDS_WORKDIR", str(tmp_path / "file"))
    monkeypatch.setattr("rds_lib.core.paths.CACHE", tmp_path / "file" / "cache")
    result = _run(*command, "--profile", "smoke")
    assert result.exit_code == 2 and "cannot be written (Not a directory)" in result.stderr


@pytest.mark.parametrize("command", ["report", "check", "benchmark", "headroom"])
def test_a_stages_folder_that_another_run_writes_is_refused_in_one_line(command, monkeypatch, tmp_path):
    monkeypatch.setenv("RDS_WORKDIR", str(tmp_path))
    with claim(tmp_path / command):
        result = _run(command, "--profile", "smoke")
    assert result.exit_code == 2 and f"{command}: in use by process" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1 and list(tmp_path.iterdir()) == []


def test_track_takes_one_box_per_object_and_a_later_start(video, model_options, tmp_path):
    out = tmp_path / "out"
    result = _run(
        "track",
        video.frame_paths[0].parent,
        "--box",
        "10,10,60,60",
        "--box",
        "80,20,120,90",
        "--start-frame",
        4,
        "--no-overlay",
        "--out",
        out,
        *model_options,
        "--routing",
        "full",
    )
    assert result.exit_code == 0, result.output
    assert "2 objects, 48.0 of 48 blocks" in result.stdout and not (out / "overlay.mp4").exists()
    assert not read_labels(out / "00003.png").any() and read_labels(out / "00004.png").any()
    assert set(read_table(out / "routes.csv")["frame_idx"]) == {4, 5}


def test_track_replaces_only_its_own_output_and_only_when_asked(video, mask, model_options, tmp_path):
    out = tmp_path / "out"
    command = [
        "track",
        video.frame_paths[0].parent,
        "--mask",
        mask,
        "--no-overlay",
        "--out",
        out,
        *model_options,
        "--routing",
        "full",
    ]
    assert _run(*command).exit_code == 0
    first = (out / "routes.csv").stat().st_ino
    refused = _run(*command)
    assert refused.exit_code == 2 and "--overwrite" in refused.stderr
    (out / "notes.txt").write_text("mine")
    refused = _run(*command, "--overwrite")
    assert refused.exit_code == 2 and "notes.txt is not of the earlier output" in refused.stderr
    assert (out / "notes.txt").read_text() == "mine" and (out / "routes.csv").stat().st_ino == first
    (out / "notes.txt").unlink()
    assert _run(*command, "--overwrite").exit_code == 0
    assert len(read_table(out / "routes.csv")) == 6 * 48 and (out / "routes.csv").stat().st_ino != first


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"video": "nowhere", "--box": "1,2,30,40"}, ["nowhere", "no such file"]),
        ({"--box": "1,2,3"}, ["--box '1,2,3'", "4 numbers"]),
        ({"--box": "60,10,20,30"}, ["x0 < x1"]),
        ({"--click": "500,5"}, ["outside the image"]),
        ({"--mask": "small.png"}, ["small.png", "8x8", "192x128"]),
        ({"--mask": "empty.png"}, ["empty.png", "empty"]),
        ({"--box": "1,2,30,40", "--click": "3,4"}, ["in one way"]),
        ({}, ["say what to track"]),
        ({"--box": "1,2,30,40", "--start-frame": "6"}, ["0 to 5"]),
        ({"--box": "1,2,30,40", "--budget": "1.5"}, ["1.5", "(0, 1]"]),
        ({"--box": "1,2,30,40", "--routing": "luck"}, ["'luck'", "threshold"]),
        ({"--box": "1,2,30,40", "--checkpoint": "none.pt"}, ["none.pt", "does not exist"]),
        ({"--box": "1,2,30,40", "--budget": "0.3"}, ["--budget 0.3", "0.5 to 1", "--tau"]),
        ({"--box": "1,2,30,40", "--tau": "3"}, ["tau is 3.0", "0 (all blocks) to 1"]),
        ({"--box": "1,2,30,40", "--rds": "none.safetensors"}, ["none.safetensors", "no such RDS file"]),
        ({"--box": "1,2,30,40", "--config": "minni"}, ["'minni'", "use 'mini'"]),
        ({"--box": "1,2,30,40", "--config": "mini_half"}, ["mini_half"]),
        ({"--box": "1,2,30,40", "--device": "cuda:99"}, ["--device cuda:99", "found cpu"]),
        ({"--box": "1,2,30,40", "--device": "gpu"}, ["--device gpu", "found cpu"]),
        ({"--box": "1,2,30,40", "--device": "meta"}, ["--device meta", "found cpu"]),
        ({"--box": "1,2,30,40", "--device": "xpu"}, ["--device xpu", "found cpu"]),
        ({"--box": "1,2,30,40", "--device": ""}, ["--device", "found cpu"]),
        ({"--box": "1,2,30,40", "--fps": "0"}, ["fps 0", "less than 1000"]),
        ({"--box": "1,2,30,40", "--fps": "nan"}, ["fps nan", "less than 1000"]),
    ],
)
@pytest.mark.filterwarnings("ignore:.*the mask is empty")
def test_track_refuses_bad_input_in_one_line_and_writes_nothing(
    change, words, video, model_options, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    Image.new("L", (8, 8), 1).save("small.png")
    Image.new("L", (192, 128), 0).save("empty.png")
    options = {"--budget": "0.5", **change}
    source = options.pop("video", video.frame_paths[0].parent)
    out = tmp_path / "out"
    result = _run("track", source, "--out", out, *model_options, *(part for pair in options.items() for part in pair))
    _assert_refused(result, out, *words)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--config", OFFICIAL], [f"--config {OFFICIAL}", "give --checkpoint"]),
        (["--config", OFFICIAL, "--checkpoint", "some.pt", "--budget", 0.6], ["no router ships with", "give --rds"]),
        (["--rds", "some.safetensors"], ["--rds does nothing without --budget"]),
        (["--tau", 0.5], ["--tau does nothing without --budget"]),
    ],
)
def test_options_that_do_not_go_together_are_refused_by_their_names(options, words, root, video, tmp_path):
    data, out = root / "val" / "davis2017", tmp_path / "out"
    for command in (["track", video.frame_paths[0].parent, "--click", "9,9"], ["evaluate", "--data", data]):
        _assert_refused(_run(*command, "--out", out, *options), out, *words)


def test_a_threshold_of_ones_own_meets_a_budget_below_the_calibrated_ones(video, model_options, tmp_path):
    out = tmp_path / "out"
    frames = video.frame_paths[0].parent
    options = ["--budget", 0.3, "--tau", 1.01, "--no-overlay", "--out", out, *model_options]
    assert _run("track", frames, "--box", "1,2,30,40", *options).exit_code == 0
    routes = read_table(out / "routes.csv")
    assert set(routes[routes["reason"] == "routed"].groupby("frame_idx")["active"].sum()) == {5}


def test_evaluate_tracks_and_scores_as_scoring_the_files_does(root, model_options, tmp_path):
    out, data = tmp_path / "out", root / "val" / "ytvos"
    ran = _run("evaluate", "--data", data, "--layout", "ytvos", "--out", out, "--budget", 0.5, *model_options)
    assert ran.exit_code == 0, ran.output
    scored = _run("evaluate", "--gt", data, "--pred", out / "masks", "--protocol", "ytvos")
    assert scored.exit_code == 0, scored.output
    headline, speed = ran.stdout.strip().splitlines()
    assert headline == scored.stdout.strip() and headline.startswith("protocol ytvos") and "G " in headline
    assert "frames a second" in speed and "blocks active" in speed
    assert len(read_table(out / "scores.csv")) == len(read_dataset(data, layout="ytvos")[0].obj_ids)
    assert {"sequence", "reason"} <= set(read_table(out / "routes.csv").columns)


def test_evaluate_wants_one_of_its_two_forms(root, tmp_path):
    for arguments in (["--gt", root], ["--data", root], ["--gt", root, "--pred", root, "--data", root]):
        _assert_refused(_run("evaluate", *arguments), tmp_path / "out", "either --gt and --pred")


def test_evaluate_writes_masks_where_ground_truth_is_kept_back_or_damaged(model_options, tmp_path):
    """As YouTube-VOS publishes valid; and with a mask of the wrong size, which is found when it is scored."""
    data = tmp_path / "data"
    clip = generate_clip(3, 0, split="val", frames=11, height=64, width=96, difficulty="plain", n_objects=1)
    write_dataset(data, [clip], layout="ytvos")
    (sequence,) = read_dataset(data, layout="ytvos")
    later = set(sequence.annotated) - set(sequence.prompt_frame.values())
    command = ["evaluate", "--data", data, "--layout", "ytvos", *model_options, "--budget", 0.5, "--out"]
    for t in later:
        Image.new("L", (8, 8), 1).save(sequence.mask_paths[t][None])
    damaged = _run(*command, tmp_path / "damaged")
    assert damaged.exit_code == 2 and f"{sequence.name!r}: " in damaged.stderr and "8x8" in damaged.stderr
    for t in later:
        sequence.mask_paths[t][None].unlink()
    hidden = _run(*command, tmp_path / "hidden")
    assert hidden.exit_code == 0 and "nothing to score" in hidden.stdout, hidden.output
    for out in ("damaged", "hidden"):
        assert len(list((tmp_path / out / "masks" / sequence.name).iterdir())) == 11
        assert (tmp_path / out / "routes.csv").is_file() and f"{tmp_path / out / 'masks'}" in (
            hidden.stdout + damaged.stderr
        )
    alone = _run("evaluate", "--gt", data, "--pred", tmp_path / "hidden" / "masks", "--protocol", "ytvos")
    assert alone.exit_code == 2 and "no frame counts in ytvos" in alone.stderr


def test_codes_in_a_name_that_a_terminal_would_obey_are_spelt_out(tmp_path):
    video = tmp_path / "\x1b[2Jclip\r\u202e"
    video.mkdir()
    result = _run("track", video, "--box", "0,0,9,9", "--out", tmp_path / "out")
    assert result.exit_code == 2 and "\\x1b[2Jclip\\r\\u202e" in result.stderr
    assert not any(code in result.output for code in "\x1b\r\u202e")
