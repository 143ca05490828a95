"""Command `headroom`: a mini model on two clips of three frames under three routes, and what it refuses."""

import pytest
from typer.testing import CliRunner

from rds_lib.__main__ import app
from rds_lib.core.artifacts import read_json, read_table
from rds_lib.data.clips import generate_clip
from rds_lib.data.datasets import read_dataset, write_dataset
from rds_lib.data.images import read_frame
from rds_lib.data.output import MANIFEST
from rds_lib.evaluation.headroom import Measured
from rds_lib.evaluation.headroom_names import CHOICES
from rds_lib.pipeline.headroom import profile_sequences
from rds_lib.pipeline.params import load_params
from rds_lib.show.headroom_figure import headroom_picture

FILES = ["headroom.csv", "headroom.json", "headroom.md", "headroom.png", "measured.npz"]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Two clips of three frames, 64x96 px, and a list of one of them."""
    folder = tmp_path_factory.mktemp("headroom") / "set"
    clips = [generate_clip(5, i, split="val", frames=3, height=64, width=96, difficulty="plain") for i in range(2)]
    write_dataset(folder, clips, layout="davis2017", split="val")
    (folder / "ImageSets" / "2017" / "one.txt").write_text(clips[0].name + "\n")
    return folder


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs the command with a working folder of its own."""
    monkeypatch.setenv("RDS_WORKDIR", str(tmp_path))

    def run(*arguments, profile="smoke"):
        options = [str(argument) for argument in arguments]
        return CliRunner().invoke(app, ["headroom", "--profile", profile, "--device", "cpu", *options])

    return run


def test_the_command_measures_and_writes(root, run, tmp_path):
    done = run("--data", root, "--routes", 3, "--frames", 2)
    assert done.exit_code == 0, done.output
    out = tmp_path / "headroom"
    assert sorted(path.name for path in out.iterdir()) == [MANIFEST, *FILES]
    summary, table, found = read_json(out / FILES[1]), read_table(out / FILES[0]), Measured.read(out / FILES[4])
    assert summary["sentence"] in done.output and done.output.startswith((out / FILES[2]).read_text())
    assert found.damage.shape == found.iou.shape == (3, 2, 2, 2) and (found.routes.sum(1) == 22).all()
    assert list(found.videos) == [sequence.name for sequence in read_dataset(root, layout="davis2017")]
    assert (summary["model"], summary["data"], summary["blocks"], summary["videos"]) == ("mini", "set val", 22, 2)
    assert set(CHOICES) <= set(table["quantity"]) and set(table["measure"]) == {"damage", "iou"}
    assert 0 < found.damage.min() and found.full_iou.mean() > 0.3, "the shipped weights track"
    assert str(tmp_path) not in (out / FILES[1]).read_text() + (out / FILES[2]).read_text()
    assert read_frame(out / FILES[3]).std() > 0

    assert headroom_picture(out).figure.axes
    assert "--overwrite" in run("--data", root).output
    shorter = run("--data", root, "--routes", 2, "--frames", 2, "--blocks", 6, "--no-mirror", "--overwrite")
    assert shorter.exit_code == 0, shorter.output
    found = Measured.read(out / FILES[4])
    assert found.damage.shape == (2, 2, 2, 1) and (found.routes.sum(1) == 6).all()


@pytest.mark.parametrize(
    "options, words",
    [
        (["--routes", 1], "routes = 1: at least 2"),
        (["--blocks", 4], "n_active is 4; allowed: 5"),
        (["--blocks", 6, "--budget", 0.5], "give one of the two"),
        (["--budget", 0], "budget is 0.0"),
        (["--frames", 3], "2 annotated frames after the first mask"),
        (["--frames", 1], "frames = 1: at least 2"),
        (["--split", "one"], "1 video: at least 2"),
        (["--split", "none"], "no split 'none' here; there is: one, val"),
        (["--config", "configs/sam2.1/sam2.1_hiera_l.yaml"], "give --checkpoint"),
    ],
)
def test_bad_input_is_refused_in_one_line(root, run, tmp_path, options, words):
    done = run("--data", root, "--frames", 2, *options)
    assert done.exit_code == 2 and words in done.output and len(done.output.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_an_empty_folder_is_refused(run, tmp_path):
    (tmp_path / "empty").mkdir()
    done = run("--data", tmp_path / "empty")
    assert done.exit_code == 2 and "missing; it lists the sequences" in done.output


def test_without_data_the_profiles_own_clips_are_measured(root, monkeypatch, tmp_path):
    params = load_params("smoke").with_section("data", generated=False, davis_root=str(root))
    (root / "ImageSets" / "2017" / "train.txt").write_text((root / "ImageSets" / "2017" / "val.txt").read_text())
    first, second = read_dataset(root, layout="davis2017", split="train")
    assert profile_sequences(params, tmp_path, "calibration") == [first]
    assert profile_sequences(params, tmp_path, "train") == [second]
    with pytest.raises(ValueError, match="split 'val': a profile has train and calibration"):
        profile_sequences(params, tmp_path, "val")


@pytest.fixture
def given(monkeypatch):
    """What `run_headroom` is called with; it ends the command."""
    options = {}

    def stand_in(tracker, videos, out, /, **named):
        options.update(named, videos=videos, out=out)
        raise SystemExit(3)

    monkeypatch.setattr("rds_lib.pipeline.headroom.run_headroom", stand_in)
    return options


def test_the_defaults_for_ones_own_data_are_the_studys(root, given, run, tmp_path):
    assert run("--data", root).exit_code == 3
    assert (given["n_active"], given["routes"], given["frames"], given["mirror"]) == (22, 24, 6, True)
    assert (given["length"], given["data"], given["model"]) == (None, "set val", "mini")
    assert given["out"] == tmp_path / "headroom" and len(given["videos"]) == 2


def test_the_stage_spreads_its_clips_over_the_profiles_split(monkeypatch, given, run):
    monkeypatch.setattr("rds_lib.pipeline.headroom.profile_sequences", lambda params, folder, split: [split] * 2 + [1])
    section = load_params("smoke").headroom
    assert run().exit_code == 3
    assert given["videos"] == [section.split, 1] and given["data"] == f"profile smoke, {section.split}"
    assert [given[name] for name in ("routes", "frames", "length")] == [section.routes, section.frames, section.length]


def test_options_change_the_profiles_own_values_and_its_model_is_its_own(monkeypatch, given, run):
    monkeypatch.setattr("rds_lib.pipeline.headroom.profile_sequences", lambda params, folder, split: [split] * 2)
    options = ("--routes", 7, "--frames", 3, "--length", 5, "--seed", 4, "--split", "calibration", "--no-mirror")
    assert run(*options, "--blocks", 9).exit_code == 3
    assert [given[name] for name in ("routes", "frames", "length", "seed", "mirror")] == [7, 3, 5, 4, False]
    assert given["n_active"] == 9 and given["videos"] == ["calibration"] * 2
    done = run("--checkpoint", "some.safetensors")
    assert done.exit_code == 2 and "only with --data" in done.output
    done = run("--routes", 1)
    assert done.exit_code == 2 and "headroom.routes" in done.output
