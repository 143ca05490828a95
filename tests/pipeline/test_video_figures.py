"""Command `figures`: the paper's figures of single videos on a set of one's own, its numbers, weights and cautions."""

import json
import re
import shutil

import pytest
from typer.testing import CliRunner

from rds_lib.__main__ import app
from rds_lib.core import paths
from rds_lib.core.artifacts import read_json
from rds_lib.data.clips import generate_clip
from rds_lib.data.datasets import write_dataset
from rds_lib.data.origin import Origin, file_sha256
from rds_lib.data.output import MANIFEST
from rds_lib.model.sam2 import MINI_WEIGHTS, weights_of
from rds_lib.pipeline.params import load_params
from rds_lib.pipeline.video_figures import CAUTION, choose_videos, numbered, rds_weights, trained_on
from rds_lib.pipeline.weights import weights_file
from rds_lib.routing.build import MINI_RDS
from rds_lib.show.figures import OF_COMPARED, OF_VIDEOS

NAMES = ("parkour", "dog", "dogs-jump", "lone")  # of the clips that stand for videos
FIGURES = ["figure_17.png", "figure_18.svg", "figure_21.png", "figure_22.svg", "figure_24.png"]
OTHERS = [MANIFEST, ".gitignore", "index.html", "model.json", "plotly.min.js"]


@pytest.fixture(scope="module")
def real_root(tmp_path_factory):
    """Four clips of three frames, 64x96 px, under names of real videos; the third has two objects. No truth of dog."""
    root = tmp_path_factory.mktemp("real") / "set"
    clips = [
        generate_clip(5, i, split="val", frames=3, height=64, width=96, difficulty="plain", n_objects=1 + (i == 2))
        for i in range(len(NAMES))
    ]
    write_dataset(root, clips, layout="davis2017", split="val")
    for clip, name in zip(clips, NAMES):
        for kind in ("JPEGImages", "Annotations"):
            (root / kind / "480p" / clip.name).rename(root / kind / "480p" / name)
    for path in sorted((root / "Annotations" / "480p" / "dog").glob("*.png"))[1:]:
        path.unlink()
    (root / "ImageSets" / "2017" / "val.txt").write_text("\n".join(NAMES) + "\n")
    return root


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs the command with products of its own, of which there are none."""
    monkeypatch.setenv("RDS_WORKDIR", str(tmp_path / "runs"))
    monkeypatch.setenv("RDS_CPU_WORKERS", "1")

    def run(*arguments, profile="smoke"):
        return CliRunner().invoke(app, ["figures", "--profile", profile, *map(str, arguments)])

    return run


@pytest.fixture(scope="module")
def drawn(real_root, tmp_path_factory):
    """The folder that the command leaves of the paper's videos, in a folder that was not there, and what it said."""
    out = tmp_path_factory.mktemp("drawn") / "new" / "figures"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RDS_WORKDIR", str(out.parent / "runs"))
        patch.setenv("RDS_CPU_WORKERS", "1")
        done = CliRunner().invoke(app, ["figures", "--profile", "smoke", "--data", str(real_root), "--out", str(out)])
    assert done.exit_code == 0, done.output
    return out, done.output


def test_the_papers_videos_that_are_there_have_its_numbers(drawn):
    out, said = drawn
    pages = [re.sub(r"\.\w+$", ".html", name) for name in FIGURES]
    assert sorted(path.name for path in out.iterdir()) == sorted([*FIGURES, *pages, *OTHERS])
    assert ", ".join(FIGURES) in said and "index.html" in said
    assert (out / ".gitignore").read_text() == "*\n"
    for name, question in zip(pages, ("each frame of parkour", "block run in parkour", "each frame of dog?")):
        assert question in (out / name).read_text(), name
    assert "a frame of dogs-jump" in (out / pages[-1]).read_text()


def test_both_arms_tracked_the_video_that_a_page_steps_through(drawn):
    data = json.loads((drawn[0] / "figure_24.html").read_text().partition('id="data">')[2].partition("</script>")[0])
    sam2, rds = data["runs"]["dogs-jump"]["runs"]
    assert (sam2["name"], rds["name"]) == ("SAM2", "RDS 0.4") and set(sam2["reasons"]) == {"full"}
    assert set(rds["reasons"][1:]) == {"routed"} and rds["mean"] < 30 < sam2["active"].count("1") / 3
    assert all(value > 0.3 for one in (sam2, rds) for value in one["quality"]["1"][1:]), "the shipped weights track"


def test_a_video_that_trained_the_weights_is_never_shown_as_a_test_of_them(drawn):
    out, _ = drawn
    index = (out / "index.html").read_text()
    assert "Caution: the weights were trained on parkour; what these show is no test of them." in index
    rows = dict(re.findall(r"<tr>\s*<td>([\w-]+)</td>(.*?)</tr>", index, re.S))
    assert [name for name in rows if "so it is no test" in rows[name]] == ["parkour"]
    for number, is_seen in ((17, True), (18, True), (21, False), (22, False), (24, False)):
        assert (CAUTION in (out / f"figure_{number}.html").read_text()) == is_seen, number


def test_weights_are_named_with_their_hashes_and_scores_where_there_is_truth(drawn, real_root):
    out, _ = drawn
    found, index = read_json(out / "model.json"), (out / "index.html").read_text()
    assert found["model"] == weights_of("mini").as_dict() and found["rds"]["sha256"] == file_sha256(MINI_RDS)
    assert file_sha256(MINI_WEIGHTS) in index and file_sha256(MINI_RDS) in index
    page = (out / "figure_24.html").read_text()
    small = [f"{path.name} (SHA-256 {file_sha256(path)[:12]})" for path in (MINI_WEIGHTS, MINI_RDS)]
    assert f"Data: set val, profile smoke. Made by command figures from {', '.join(small)}." in page
    rows = dict(re.findall(r"<tr>\s*<td>([\w-]+)</td>(.*?)</tr>", index, re.S))
    scores = {name: re.findall(r"<td>(.*?)</td>", cells)[2:4] for name, cells in rows.items() if name in NAMES}
    assert scores["dog"] == ["–", "–"] and all(float(value) > 30 for value in scores["dogs-jump"])
    assert not any(str(real_root) in text for text in (index, page, (out / "model.json").read_text()))


def test_an_earlier_output_is_replaced_when_asked_and_nothing_else_ever(drawn, real_root, run, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(drawn[0], out)
    before = sorted(path.name for path in out.iterdir())
    for change, words in ((None, "add --overwrite"), ("mine.txt", "mine.txt is not of the earlier output")):
        if change:
            (out / change).write_text("mine")
        done = run("--data", real_root, "--out", out, *(["--overwrite"] if change else []))
        assert done.exit_code == 2 and words in done.output
    (out / "mine.txt").unlink()
    assert sorted(path.name for path in out.iterdir()) == before
    done = run("--data", real_root, "--out", out, "--overwrite", "--videos", "lone", "--budget", "0.8")
    assert done.exit_code == 0, done.output
    pages = {path.stem for path in out.glob("figure_*")}
    assert pages == {"figure_13", "figure_14", "figure_23"} and "RDS 0.8" in (out / "figure_23.html").read_text()


@pytest.mark.parametrize(
    "options, words",
    [
        (["--videos", "nowhere"], "no video 'nowhere'; it has: parkour, dog, dogs-jump, lone"),
        (["--compared", "dog,nowhere"], "no video 'nowhere'"),
        (["--videos", "a,b,c,d,e,f"], "--videos names 6 videos; the paper's figures have numbers for 5"),
        (["--videos", "dog", "--compared", "a,b,c,d"], "--compared names 4 videos; the paper's figures"),
        (["--split", "test"], "no split 'test' here; there is: val"),
        (["--budget", "0.2"], "this router serves 0.4 to 1"),
        (["--budget", "nan"], "budget is nan"),
        (["--data", "no/such/folder"], "no/such/folder/ImageSets/2017/val.txt: missing"),
    ],
)
def test_bad_input_is_refused_in_one_line_before_anything_is_tracked(
    real_root, run, tmp_path, monkeypatch, options, words
):
    monkeypatch.setattr("rds_lib.pipeline.video_figures.evaluate_arms", None)
    data = [] if "--data" in options else ["--data", real_root]
    done = run(*data, *options, "--out", tmp_path / "out")
    assert done.exit_code == 2 and words in done.output and len(done.output.strip().splitlines()) == 1, done.output
    assert list(tmp_path.iterdir()) == []


def test_sets_without_masks_or_videos_of_the_papers_are_refused(real_root, run, tmp_path):
    def changed(name):
        shutil.copytree(real_root, tmp_path / name)
        return tmp_path / name

    shutil.rmtree(changed("bare") / "Annotations")
    (changed("other") / "ImageSets" / "2017" / "val.txt").write_text("lone\n")
    for path in sorted((changed("short") / "JPEGImages" / "480p" / "lone").iterdir())[1:]:
        path.unlink()
        (tmp_path / "short" / "Annotations" / "480p" / "lone" / f"{path.stem}.png").unlink()
    for name, options, words in (
        ("bare", [], "4 of its 4 sequences lack a folder"),
        ("other", [], "list val has none of the paper's own videos, so name some: --videos; it has: lone"),
        ("short", ["--videos", "lone"], "lone has 1 frame; the figures need videos of at least 2"),
    ):
        done = run("--data", tmp_path / name, "--out", tmp_path / "out", *options)
        assert done.exit_code == 2 and words in done.output, done.output
        assert not (tmp_path / "out").exists()


def test_a_folder_with_other_files_is_refused(real_root, run, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    done = run("--data", real_root, "--out", tmp_path)
    assert done.exit_code == 2 and "holds other files, such as notes.txt" in done.output
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_the_papers_videos_keep_its_numbers_and_others_take_what_is_left(real_root):
    own = ("india", "soapbox", "dog")
    assert numbered(["dog", "other", "soapbox"], own, OF_VIDEOS) == {13: "other", 15: "soapbox", 17: "dog"}
    assert numbered([], own, OF_COMPARED) == {}
    source, videos, compared = choose_videos(real_root, "val", ["lone", "dog", "lone"], None)
    assert videos == {13: "lone", 21: "dog"} and compared == {23: "lone", 24: "dog"}
    assert [sequence.name for sequence in source.sequences()] == ["lone", "dog"], "each is tracked once"
    assert choose_videos(real_root, "val", None, ["parkour"])[1:] == ({17: "parkour", 21: "dog"}, {23: "parkour"})


def test_a_profiles_own_weights_go_before_the_shipped_ones(rds_file, tmp_path):
    params, train = load_params("smoke"), tmp_path / "train"
    assert rds_weights(params, tmp_path, 0.6) == MINI_RDS
    train.mkdir()
    for name in ("any", "0.5"):
        shutil.copyfile(rds_file, weights_file(train, name))
        assert rds_weights(params, tmp_path, 0.5) == weights_file(train, name)
    assert rds_weights(params, tmp_path, 0.6) == weights_file(train, "any")


def test_a_profile_without_weights_is_refused_with_what_makes_them(real_root, run, tmp_path):
    done = run("--data", real_root, "--out", tmp_path / "out", profile="paper")
    assert done.exit_code == 2 and "profile paper: no weights of RDS in" in done.output
    assert "dvc exp run -S profile=paper" in done.output and list(tmp_path.iterdir()) == []


def test_the_videos_that_trained_the_shipped_weights_are_those_of_their_card():
    card = (paths.MINI_SAM2 / "MODEL_CARD.md").read_text()
    named = re.search(r"windows of five real DAVIS 2017 sequences \(([^)]*)\)", card)[1]
    assert named.split(", ") == list(paths.MINI_SAM2_VIDEOS)
    for config in ("mini", "mini_half"):
        assert trained_on(weights_of(config)) == paths.MINI_SAM2_VIDEOS
    assert trained_on(Origin("mini", "other.pt", "0" * 64, "0" * 64)) == ()


def test_the_papers_videos_are_videos_of_davis():
    """Their names as DAVIS 2017 has them in its validation list: the supplement once writes another."""
    section = load_params("paper").figures
    assert section.videos == ("india", "soapbox", "parkour", "bmx-trees", "dog")
    assert section.compared == ("drift-straight", "dogs-jump", "scooter-black")
