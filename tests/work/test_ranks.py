"""Work shared out under torchrun: every rank has all results, trainings are done together, and ranks end together."""

import json
import os
import re
import subprocess
import sys
import time

import pytest

from rds_lib.work import ranks
from rds_lib.work.parallel import map_items

BEGIN = """
import json, os, signal, sys, time
from pathlib import Path
from rds_lib.core.errors import RDSInputError
from rds_lib.work import ranks
from rds_lib.work.finished import once
from rds_lib.work.locks import require
from rds_lib.work.parallel import map_items
from rds_lib.work.processes import begin_command

begin_command()
rank, folder = int(os.environ["RANK"]), Path(sys.argv[1])
"""
WORK = """
def nested(x):
    return map_items(lambda y: 10 * x + y, range(3))

def build(path):
    path.mkdir()
    (path / "seen").write_text(str(map_items(str, range(3))))

def write():
    made.append(rank)
    if rank == 0:
        (folder / "once" / "file").parent.mkdir(exist_ok=True)
        (folder / "once" / "file").write_text("made")

made = []
found = {"alone": map_items(lambda x: rank, range(3))}
with ranks.shared():
    found["shared"] = map_items(lambda x: (x, rank), range(5))
    found["forked"] = map_items(lambda x: (x, rank), range(5), workers=2)
    found["none"] = map_items(lambda x: x, [])
    found["nested"] = map_items(nested, range(3))
    found["together"] = map_items(lambda x: (x, rank), range(3), together=True)
    found["built"] = (require("built", folder, build, stage="any") / "seen").read_text()
    for _ in range(2):
        once(folder / "once", "file", write)
    with ranks.written_by_first(folder / "own") as place:
        place.mkdir()
        (place / f"{rank}").write_text("mine")
found["after"], found["made"] = map_items(lambda x: rank, range(3)), made
(folder / f"found-{rank}.json").write_text(json.dumps(found))
"""
FAILS = """
try:
    with ranks.shared():
        map_items(lambda x: END if x == 1 else x, range(4))
except RDSInputError as error:
    print(f"rank {rank} ends: {error}", flush=True)
    sys.exit(2)
"""


def torchrun(script, *arguments, processes=2):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    done = subprocess.run([*command, script, *map(str, arguments)], capture_output=True, text=True, timeout=300)
    return done.returncode, done.stdout + done.stderr


def test_every_rank_has_all_results_and_does_its_part(tmp_path):
    (tmp_path / "work.py").write_text(BEGIN + WORK)
    code, said = torchrun(tmp_path / "work.py", tmp_path)
    assert code == 0, said
    first, second = (json.loads((tmp_path / f"found-{rank}.json").read_text()) for rank in (0, 1))
    for name in ("shared", "forked"):
        assert first[name] == second[name] == [[0, 0], [1, 1], [2, 0], [3, 1], [4, 0]]
    assert first["nested"] == second["nested"] == [[0, 1, 2], [10, 11, 12], [20, 21, 22]]
    assert first["none"] == second["none"] == []
    for rank, found in enumerate((first, second)):
        assert found["together"] == [[x, rank] for x in range(3)], "a training is every rank's"
        assert found["alone"] == found["after"] == [rank] * 3, "nothing is shared out before or after"
        assert found["built"] == "['0', '1', '2']" and found["made"] == [rank]
    assert [path.name for path in (tmp_path / "own").iterdir()] == ["0"]


@pytest.mark.parametrize(
    ("end", "words"),
    [("sys.exit('no such frame')", "no such frame"), ("os.kill(os.getpid(), signal.SIGKILL)", r"exitcode\s*: -9")],
    ids=["error", "killed"],
)
def test_a_rank_that_ends_early_ends_all_with_one_line_each(end, words, tmp_path):
    (tmp_path / "work.py").write_text(BEGIN + FAILS.replace("END", end))
    before = time.monotonic()
    code, said = torchrun(tmp_path / "work.py", tmp_path)
    assert code != 0 and re.search(words, said), said
    assert time.monotonic() - before < 120, "and not after the patience of days that a slow rank is given"
    lines = [line for line in said.splitlines() if line.startswith("rank ")]
    assert len(lines) <= 1, said
    assert not lines or lines[0].startswith("rank 0 ends: rank 0: another rank ended before its work was done")


def test_without_torchrun_nothing_is_shared_out(monkeypatch, tmp_path):
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    with ranks.shared():
        assert not ranks.is_shared() and ranks.is_first() and ranks.agreed("mine") == "mine"
        assert map_items(lambda x: (x, os.getpid()), range(3), together=True) == [(x, os.getpid()) for x in range(3)]
        with ranks.written_by_first(tmp_path) as place:
            assert place == tmp_path


def test_a_users_own_torchrun_is_left_alone(monkeypatch):
    """Whose first rank may well be the only one that scores."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    assert map_items(lambda x: x, range(3)) == [0, 1, 2]
