"""One run at a time, whatever its end; what a dead run left goes, what a living one has stays; products made once."""

import os
import signal
import subprocess
import sys
import time

import pytest

from rds_lib.core.artifacts import atomic_write, mark_of
from rds_lib.core.errors import RDSInputError
from rds_lib.work import locks, ranks
from rds_lib.work.locks import claim, holder, require, sweep

HOLD = """
import sys, time
from rds_lib.core.artifacts import atomic_write
from rds_lib.work.locks import claim
with claim(sys.argv[1]), atomic_write(sys.argv[1]) as temporary:
    temporary.write_text("half")
    print("held", flush=True)
    time.sleep(float(sys.argv[2]))
"""


@pytest.fixture
def hold():
    """Start a process that holds a place and has half written it; it is killed in the end."""
    started = []

    def start(place, seconds=60.0):
        command = [sys.executable, "-c", HOLD, str(place), str(seconds)]
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        assert started[-1].stdout.readline() == "held\n"
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_a_place_that_another_run_holds_is_refused_in_one_line_that_names_it(hold, tmp_path):
    process = hold(tmp_path / "out")
    with pytest.raises(RDSInputError, match=r"out: in use by process \d+ \(python -c .*\), since 20\d\d-") as caught:
        with claim(tmp_path / "out"):
            pass
    assert f"process {process.pid} " in str(caught.value) and "\n" not in str(caught.value)
    with claim(tmp_path / "other"):
        pass


def test_who_holds_a_place_can_be_asked_and_nothing_is_made(hold, tmp_path):
    assert holder(tmp_path / "no" / "folder") is None and list(tmp_path.iterdir()) == []
    process = hold(tmp_path / "out")
    assert holder(tmp_path / "out").startswith(f"process {process.pid} (python -c ")
    assert holder(tmp_path / "other") is None
    process.kill()
    process.wait()
    assert holder(tmp_path / "out") is None and len(list(tmp_path.glob(".lock-*"))) == 1


def test_a_killed_run_leaves_a_lock_that_the_next_one_takes_and_a_temporary_that_it_sweeps(hold, tmp_path):
    os.kill(hold(tmp_path / "out").pid, signal.SIGKILL)
    time.sleep(0.2)
    assert len(list(tmp_path.glob(".lock-*"))) == len(list(tmp_path.glob(".tmp-*"))) == 1
    with claim(tmp_path / "out"):
        sweep(tmp_path / "out")
        assert list(tmp_path.glob(".tmp-*")) == []
    assert list(tmp_path.iterdir()) == []


def test_a_second_run_waits_where_that_is_better_and_says_so(hold, tmp_path, caplog):
    hold(tmp_path / "out", 0.6)
    with claim(tmp_path / "out", wait=True):
        assert (tmp_path / "out").read_text() == "half", "the first one was done"
    assert "out: in use by process" in caplog.text and caplog.text.count("waiting for it") == 1


def test_the_temporaries_of_others_stay(hold, tmp_path):
    hold(tmp_path / "living")
    (tmp_path / ".tmp-mine").write_text("of the user's own")
    dead = tmp_path / f"{mark_of(tmp_path / 'out')}01234567"
    dead.mkdir()
    (dead / "0.png").write_text("half")
    with claim(tmp_path / "out"):
        sweep(tmp_path / "out")
    left = {path.name for path in tmp_path.iterdir() if not path.name.startswith(".lock-")}
    assert not dead.exists() and ".tmp-mine" in left and len(left) == 2


def test_a_whole_folder_is_swept_inside(tmp_path):
    with pytest.raises(KeyboardInterrupt), claim(tmp_path / "out"):
        (tmp_path / "out" / "part").mkdir(parents=True)
        (tmp_path / "out" / "part" / ".tmp-01234567-89abcdef.pt").write_text("half")
        (tmp_path / "out" / "log.csv").write_text("step")
        sweep(tmp_path / "out", whole=True)
        raise KeyboardInterrupt
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["log.csv"]


def test_a_lock_whose_holder_has_just_gone_is_not_taken_for_held(tmp_path, monkeypatch):
    """Its file may be removed between the opening and the locking of it."""
    real, calls = locks._is_still, []

    def late(lock, descriptor):
        if not calls:
            lock.unlink()
        calls.append(descriptor)
        return real(lock, descriptor)

    monkeypatch.setattr(locks, "_is_still", late)
    with claim(tmp_path / "out"):
        assert len(calls) == 2 and len(list(tmp_path.glob(".lock-*"))) == 1
        with pytest.raises(RDSInputError, match="in use by process"), claim(tmp_path / "out"):
            pass
    assert list(tmp_path.iterdir()) == []


def test_require_returns_what_is_there_without_building(tmp_path):
    (tmp_path / "importance").mkdir()

    def build(path):
        raise AssertionError("built although present")

    found = require("importance", tmp_path, build, stage="importance")
    assert found == tmp_path / "importance"


def test_require_builds_what_is_missing_or_names_the_stage_to_run(tmp_path):
    def build(path):
        path.mkdir()
        (path / "ranks.json").write_text("{}")

    built = require("importance", tmp_path, build, stage="importance")
    assert built == tmp_path / "importance" and (built / "ranks.json").is_file()
    with pytest.raises(RDSInputError, match="train is missing; make it with: dvc repro train"):
        require("train", tmp_path, stage="train")


def test_any_rank_of_torchrun_builds_as_if_it_were_alone(tmp_path, monkeypatch):
    """The rank that comes first has the lock, and what it builds asks who writes the files."""
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    said = {}

    def build(path):
        said["within"] = ranks.is_first(), ranks.world_size(), ranks.is_shared()
        path.write_text("built")

    assert require("product", tmp_path, build, stage="train").read_text() == "built"
    assert said["within"] == (True, 1, False) and not ranks.is_first() and ranks.world_size() == 2


def test_failed_build_leaves_nothing(tmp_path):
    def build(path):
        path.mkdir()
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError):
        require("importance", tmp_path, build, stage="importance")
    assert list(tmp_path.iterdir()) == []


def test_processes_that_miss_the_same_product_build_it_once(tmp_path):
    code = """
import os, pathlib, sys, time
from rds_lib.work.locks import require
def build(path):
    path.mkdir()
    time.sleep(0.2)  # long enough for the other process to ask
    (path / str(os.getpid())).touch()
print([file.name for file in require("clips", sys.argv[1], build, stage="clips").iterdir()])
"""
    asking = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    first, second = (process.communicate()[0] for process in asking)
    assert first == second and first.count("'") == 2
    assert [path.name for path in tmp_path.iterdir()] == ["clips"]


def test_what_a_killed_build_left_goes_with_the_next_one(tmp_path):
    with atomic_write(tmp_path / "clips") as temporary:
        left = temporary
        temporary.mkdir()
    (tmp_path / "clips").rename(left)
    require("clips", tmp_path, lambda path: path.mkdir(), stage="clips")
    assert [path.name for path in tmp_path.iterdir()] == ["clips"]
