"""A command's folder: where it may be, what of it is replaced, and what is left when something fails."""

import json
import os

import pytest

from rds_lib.core.artifacts import atomic_write, mark_of
from rds_lib.core.errors import RDSInputError
from rds_lib.data import output
from rds_lib.data.output import MANIFEST, check_output, check_writable, output_folder

MARKER = "routes.csv"


def write(out, overwrite=False, marker=MARKER, **files):
    """Write an output with a marker and ``files``: text by name."""
    with output_folder(out, overwrite=overwrite, marker=marker) as stage:
        (stage / "masks").mkdir()
        for name, text in {marker: "new", "masks/0.png": "mask", **files}.items():
            (stage / name).write_text(text)


def content(folder):
    """Text of all files but the manifest."""
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return {name: path.read_text() for name, path in files.items() if name != MANIFEST}


NEW = {MARKER: "new", "masks/0.png": "mask"}


@pytest.mark.parametrize("kind", ["new", "nested", "empty", "here", "link", "name of 255 bytes"])
def test_an_output_goes_into_a_new_or_an_empty_folder_or_a_link_to_one(kind, tmp_path, monkeypatch):
    real = tmp_path / {"nested": "a/b/c", "name of 255 bytes": 127 * "ü" + "."}.get(kind, "real")
    if kind in ("empty", "here", "link"):
        real.mkdir()
    (tmp_path / "link").symlink_to(real)
    if kind == "here":
        monkeypatch.chdir(real)
    inode = real.stat().st_ino if real.exists() else None
    write({"here": ".", "link": tmp_path / "link"}.get(kind, real))
    assert content(real) == NEW and inode in (None, real.stat().st_ino)
    assert sorted(path.name for path in real.iterdir()) == [MANIFEST, "masks", MARKER]
    assert (tmp_path / "link").is_symlink() and not list(tmp_path.rglob(".tmp-*"))


def test_names_of_255_bytes_are_written_whole(tmp_path):
    for name in ("o" * 255, "o" * 100 + "." + "s" * 154):
        with atomic_write(tmp_path / name) as temporary:
            temporary.write_text("x")
        assert (tmp_path / name).read_text() == "x"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("file", "is not a folder"),
        ("file/out", "Not a directory"),
        ("loop", "is not a folder"),
        ("loop/out", "symbolic links"),
        ("o" * 256, "File name too long"),
        ("/proc/out", "cannot be written"),
    ],
)
def test_a_place_that_cannot_be_written_is_one_line_before_the_work(name, words, tmp_path):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "loop").symlink_to("loop")
    place = tmp_path / name
    for check in (lambda: check_output(place, marker=MARKER), lambda: write(place)):
        with pytest.raises(RDSInputError, match=words) as caught:
            check()
        assert "\n" not in str(caught.value) and str(place) in str(caught.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "loop"]


def test_a_writable_place_is_left_as_it_was(tmp_path):
    check_writable(tmp_path / "a" / "b")
    assert list(tmp_path.iterdir()) == []


def test_an_earlier_output_is_replaced_where_that_is_asked_for(tmp_path):
    out = tmp_path / "out"
    write(out, **{"masks/1.png": "more", "page.html": "old"})
    with pytest.raises(RDSInputError, match="holds an earlier output.*--overwrite"):
        write(out)
    assert content(out)["page.html"] == "old"
    write(out, overwrite=True, **{"note.md": "new"})
    assert content(out) == NEW | {"note.md": "new"}
    (out / MARKER).unlink()  # nothing is lost by what the user removed
    write(out, overwrite=True)
    assert content(out) == NEW and not list(tmp_path.rglob(".tmp-*"))


def foreign(out):
    """What a user may have in a folder, by kind: how it comes there, and the words of the refusal."""
    return {
        "a file more": (lambda: (out / "notes.txt").write_text("mine"), "notes.txt is not of the earlier output"),
        "a file more, inside": (lambda: (out / "masks/notes").write_text("mine"), "masks/notes is not of the earlier"),
        "a hidden file": (lambda: (out / ".notes").write_text("mine"), ".notes is not of the earlier output"),
        "a link": (lambda: (out / "link").symlink_to("/nowhere"), "link is not of the earlier output"),
        "a mask drawn over": (lambda: (out / "masks/0.png").write_text("mine"), "masks/0.png was changed since"),
        "no manifest": (lambda: (out / MANIFEST).unlink(), "holds other files, such as masks/0.png"),
        "a damaged manifest": (lambda: (out / MANIFEST).write_text("{"), "cannot be read"),
        "a manifest that leads out": (
            lambda: (out / MANIFEST).write_text(json.dumps({"schema": 1, "output": MARKER, "files": {"../x": ""}})),
            "is damaged",
        ),
    }


@pytest.mark.parametrize("kind", foreign(None))
def test_nothing_is_replaced_that_is_not_ours(kind, tmp_path):
    out = tmp_path / "out"
    write(out)
    put, words = foreign(out)[kind]
    put()
    before = content(out)
    with pytest.raises(RDSInputError, match=words):
        write(out, overwrite=True, **{"routes.csv": "newer"})
    assert content(out) == before and sorted(path.name for path in tmp_path.iterdir()) == ["out"]


def test_a_folder_of_the_users_that_holds_the_marker_and_another_commands_output_are_refused(tmp_path):
    (tmp_path / "own" / "train").mkdir(parents=True)
    (tmp_path / "own" / "train" / "thesis.tex").write_text("mine")
    with pytest.raises(RDSInputError, match="holds other files, such as train/thesis.tex"):
        write(tmp_path / "own", overwrite=True, marker="train.csv")
    write(tmp_path / "other", marker="scores.csv")
    with pytest.raises(RDSInputError, match="holds the output of another command"):
        write(tmp_path / "other", overwrite=True)
    assert content(tmp_path / "own") == {"train/thesis.tex": "mine"}


def test_a_stage_that_dvc_runs_has_no_manifest_among_its_products(tmp_path, monkeypatch):
    """Its outputs are hashed by DVC, and data.dvc holds the hash of the generated clips."""
    monkeypatch.setenv("DVC_STAGE", "clips")
    write(tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["masks", MARKER]
    (tmp_path / "empty").mkdir()
    write(tmp_path / "empty")
    assert content(tmp_path / "empty") == NEW


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_the_old_result_stays_where_the_new_one_fails(error, tmp_path):
    write(tmp_path / "out", **{"note.md": "old"})
    before = content(tmp_path / "out")
    with pytest.raises(type(error)), output_folder(tmp_path / "out", overwrite=True, marker=MARKER) as stage:
        (stage / MARKER).write_text("half of the ne")
        raise error
    assert content(tmp_path / "out") == before
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [MANIFEST, "masks", "note.md", MARKER]


@pytest.mark.parametrize("call", [1, 2, 3])
def test_a_kill_while_the_new_result_moves_in_is_mended_by_the_next_run(call, tmp_path, stopped_at):
    out = tmp_path / "out"
    write(out, **{"old.md": "old"})
    with stopped_at(output.os, "replace", call + 1):  # the first one writes the manifest
        write(out, overwrite=True, **{MARKER: "newer"})
    with pytest.raises(RDSInputError, match="holds an earlier output"):
        check_output(out, marker=MARKER)
    assert content(out) == NEW | {MARKER: "newer"} and not (out / "old.md").exists()
    assert check_output(out, overwrite=True, marker=MARKER) == out


def test_a_result_that_finds_its_place_taken_is_kept_beside_it(tmp_path):
    out = tmp_path / "out"
    with pytest.raises(RDSInputError, match="the result is whole, and kept in .*out-1"):
        with output_folder(out, marker=MARKER) as stage:
            (stage / MARKER).write_text("new")
            out.mkdir()
            (out / "notes.txt").write_text("mine")
    assert content(out) == {"notes.txt": "mine"} and content(tmp_path / "out-1") == {MARKER: "new"}
    assert sorted(os.listdir(tmp_path)) == ["out", "out-1"]


@pytest.mark.parametrize("kind", ["new", "empty", "earlier output"])
def test_a_second_run_in_the_same_place_is_refused_before_its_work(kind, tmp_path):
    out = tmp_path / "out"
    if kind == "empty":
        out.mkdir()
    if kind == "earlier output":
        write(out)
    with output_folder(out, overwrite=True, marker=MARKER) as stage:
        (stage / MARKER).write_text("of the first")
        for check in (lambda: check_output(out, overwrite=True, marker=MARKER), lambda: write(out, overwrite=True)):
            with pytest.raises(RDSInputError, match="out: in use by process .* since .*wait until it ends") as caught:
                check()
            assert "\n" not in str(caught.value)
    assert content(out) == {MARKER: "of the first"}
    write(out, overwrite=True)
    assert content(out) == NEW and sorted(os.listdir(tmp_path)) == ["out"]
    assert sorted(os.listdir(out)) == [MANIFEST, "masks", MARKER]


@pytest.mark.parametrize("place", ["new", "empty"])
def test_what_a_killed_run_left_goes_with_the_next_one_and_nothing_else(place, tmp_path):
    out, of_another = tmp_path / "out", f"{mark_of(tmp_path / 'other')}01234567"
    if place == "empty":
        out.mkdir()
    home = out if place == "empty" else tmp_path
    for name in (f"{mark_of(out)}01234567", of_another):
        (home / name).mkdir()
        (home / name / MARKER).write_text("half")
    write(out, overwrite=True)
    assert content(out) | NEW == content(out) and [path.name for path in home.glob(".tmp-*")] == [of_another]
