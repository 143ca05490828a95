"""benchmarks/gpu.sh: its order and time boxes, what it says of steps that fail or are cut, and one step for real."""

import os
import re
import subprocess

import pandas as pd
import pytest

from rds_lib.core import paths

SCRIPT = paths.ROOT / "benchmarks" / "gpu.sh"
MINUTES = 9
FAKE = """#!/usr/bin/env bash
echo "$*" >> "$CALLS"
case "$*" in
  *$SLOW*) sleep 30 ;;
  *$BROKEN*) echo "no such kernel" >&2; exit 3 ;;
esac
echo "$TORCHINDUCTOR_CACHE_DIR" >> "$CALLS.cache"
[ -z "$EMPTY" ] && touch "$(sed 's/.*--out \\([^ ]*\\).*/\\1/' <<< "$*")/speed.csv"
exit 0
"""


@pytest.fixture
def call(tmp_path):
    """Run the script with a stand-in for Python that notes its arguments and leaves a table."""
    fake = tmp_path / "python"
    fake.write_text(FAKE)
    fake.chmod(0o755)

    def run(**variables):
        names = {"CALLS": tmp_path / "calls", "SLOW": "--no-such", "BROKEN": "--no-such", "EMPTY": "", "PYTHON": fake}
        environment = os.environ | {name: str(value) for name, value in (names | variables).items()}
        done = subprocess.run(["bash", SCRIPT, tmp_path / "out"], env=environment, capture_output=True, text=True)
        return done, (tmp_path / "calls").read_text().splitlines()

    return run


def boxes():
    """Seconds of each step, in the script's order."""
    found = re.findall(r"^(?:step|latency) (\w+) (\d+) ", SCRIPT.read_text(encoding="utf-8"), re.MULTILINE)
    return {name: int(seconds) for name, seconds in found}


def test_the_time_boxes_add_up_to_nine_minutes_at_most():
    assert list(boxes()) == "parity eager engines vos_optimized importance slimsam adavit memory".split()
    assert sum(boxes().values()) <= 60 * MINUTES


def test_every_step_runs_in_order_with_a_cache_that_comes_back(call, tmp_path):
    done, calls = call()
    assert done.returncode == 0
    summary = (tmp_path / "out" / "summary.txt").read_text().splitlines()
    assert [line.partition(":")[0] for line in summary] == list(boxes())
    assert all(re.search(r": ended after \d+ s$", line) for line in summary)
    wanted = [
        *("engine_parity.*--engine all", "hiera_l", "hiera_l.*--engine all", "hiera_l.*--vos-optimized"),
        *("method_steps.py importance", "method_steps.py slimsam", "method_steps.py adavit", "hiera_l.*--parts videos"),
    ]
    assert all(re.search(word, line) for word, line in zip(wanted, calls, strict=True)), calls
    assert all("--device cuda --size 1024" in line for line in calls)
    assert set((tmp_path / "calls.cache").read_text().split()) == {str(tmp_path / "out" / "cache" / "inductor")}


def test_a_step_that_fails_or_is_cut_is_told_and_the_others_run(call, tmp_path):
    steps = {"STEPS": "importance slimsam adavit", "SLOW": "slimsam", "BROKEN": "adavit"}
    done, calls = call(**steps, BOX="2")
    assert done.returncode == 0 and len(calls) == 3
    first, second, third = done.stdout.splitlines()
    assert first.startswith("importance: ended") and second.startswith("slimsam: cut after 2 s")
    assert re.match(r"adavit: failed with exit code 3 after \d+ s: no such kernel", third)


def test_nothing_saved_is_a_failure(call):
    done, _ = call(EMPTY="1", STEPS="parity eager")
    assert done.returncode == 1


def test_a_step_runs_for_real_on_the_small_model(tmp_path):
    names = {"DEVICE": "cpu", "SIZE": "64", "CONFIG": "mini", "STEPS": "adavit memory", "STRETCH": "8"}
    done = subprocess.run(["bash", SCRIPT, tmp_path], env=os.environ | names, capture_output=True, text=True)
    logs = "".join(path.read_text() for path in tmp_path.glob("*.log"))
    assert re.fullmatch(r"adavit: ended after \d+ s\nmemory: ended after \d+ s\n", done.stdout), done.stdout + logs
    step = pd.read_csv(tmp_path / "steps.csv").iloc[0]
    assert (step[["method", "device", "size", "steps"]] == ["adavit", "cpu", 64, 2]).all() and step["result"] > 0
    assert len(pd.read_csv(tmp_path / "end_to_end.csv")) == 5
    assert "frames/s" in (tmp_path / "README.md").read_text()
