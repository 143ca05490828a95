"""Two processes under torchrun train as one does, end together when one is killed, and go on where they were."""

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from rds_lib.work.finished import digest

WORKER = Path(__file__).with_name("worker.py")
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
STEPS = 3  # of 4 clips; saved after 2 and after 3
CLOSE = 1e-4  # of rates of 1e-3 at these steps: Adam divides by the root of the square of gradients that may be noise


@pytest.fixture(scope="module")
def small(davis_root, mini_weights):
    """Run small trainings: ``(out, names, *options, start)``, ``start`` being what comes before the script."""

    def run(out, names, *options, start=(sys.executable,)):
        common = ["--root", davis_root, "--checkpoint", mini_weights, "--steps", STEPS]
        command = [*start, WORKER, "small", out, *names, *common, *options]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1"}
        asked = {"capture_output": True, "text": True, "env": environment, "timeout": 300}
        return subprocess.run(list(map(str, command)), **asked)

    return run


@pytest.fixture(scope="module")
def two(small, tmp_path_factory):
    """The folder of an undisturbed run of two processes, and what they printed."""
    out = tmp_path_factory.mktemp("two")
    done = small(out, ["rds", "dyt", "adavit"], start=TORCHRUN)
    assert done.returncode == 0, done.stderr
    return out, done


@pytest.fixture(scope="module")
def one(small, tmp_path_factory):
    """The folder of the same run of one process."""
    out = tmp_path_factory.mktemp("one")
    done = small(out, ["rds", "dyt", "adavit"])
    assert done.returncode == 0, done.stderr
    return out


def trained(path) -> dict[str, torch.Tensor]:
    """All tensors of the modules that a process trained."""
    return torch.load(path, weights_only=True)


def apart(ours, theirs) -> float:
    """Largest absolute difference of what two processes ended with."""
    ours, theirs = trained(ours), trained(theirs)
    assert ours.keys() == theirs.keys() and len(ours) > 10
    return max((ours[name] - theirs[name]).abs().max().item() for name in ours)


def weights(out):
    return digest(out / "rds" / "weights.safetensors")


@pytest.mark.parametrize("name", ["rds", "dyt", "adavit"])
def test_two_processes_end_alike_and_where_one_does(name, one, two):
    out, _ = two
    assert apart(out / name / "0.pt", out / name / "1.pt") == 0
    assert 0 < apart(out / name / "0.pt", one / name / "0.pt") < CLOSE
    logs = [(folder / name / "log.csv").read_text().splitlines() for folder in (out, one)]
    assert len(logs[0]) == len(logs[1]) == STEPS + 1 and logs[0][0] == logs[1][0]
    for ours, theirs in zip(*(rows[1:] for rows in logs)):
        assert [float(x) for x in ours.split(",")[:3]] == pytest.approx(
            [float(x) for x in theirs.split(",")[:3]], abs=2e-3
        )


@pytest.mark.parametrize("name", ["rds", "dyt", "adavit"])
def test_micro_batches_end_where_the_whole_batch_does(name, one, small, tmp_path):
    done = small(tmp_path, [name], "--accumulate", 2)
    assert done.returncode == 0, done.stderr
    assert apart(tmp_path / name / "0.pt", one / name / "0.pt") < CLOSE


def test_recomputed_blocks_end_at_the_same_bytes(one, small, tmp_path):
    assert small(tmp_path, ["rds"], "--recompute").returncode == 0
    assert weights(tmp_path) == weights(one)


def test_bfloat16_trains_on_a_cpu_too_and_nears_float32(one, small, tmp_path):
    done = small(tmp_path, ["rds", "dyt"], "--precision", "bfloat16")
    assert done.returncode == 0, done.stderr
    for name in ("rds", "dyt"):
        half, whole = ((folder / name / "log.csv").read_text().splitlines()[1].split(",") for folder in (tmp_path, one))
        assert 0 < abs(float(half[1]) - float(whole[1])) < 0.05 * float(whole[1]), "the loss of the first step"
        assert apart(tmp_path / name / "0.pt", one / name / "0.pt") > CLOSE


def test_one_process_alone_logs(two):
    _, done = two
    assert done.stderr.count("rds is done") == 1
    assert done.stderr.count(f"step {STEPS} of {STEPS}") == 3, "one line a training"


@pytest.mark.parametrize("rank", [0, 1])
def test_a_killed_process_ends_all_with_one_error_and_the_same_command_goes_on(rank, two, small, tmp_path):
    step = random.randrange(STEPS)
    killed = small(tmp_path, ["rds"], "--disturbance", f"{rank}:{step}:kill", start=TORCHRUN)
    assert killed.returncode != 0 and not (tmp_path / "rds" / "weights.safetensors").exists(), step
    errors = [line for line in killed.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and f"all 2 end after step {step} of {STEPS}; the same command goes on" in errors[0]
    assert "Exception ignored" not in killed.stderr and killed.stderr.count("Traceback") == 1, "torchrun's own"
    again = small(tmp_path, ["rds"], "--disturbance", f"{rank}:{step}:kill", start=TORCHRUN)
    assert again.returncode == 0, again.stderr
    assert ("resumed at step 2" in again.stderr) == (step == 2)
    assert weights(tmp_path) == weights(two[0])
    assert (tmp_path / "rds" / "log.csv").read_bytes() == (two[0] / "rds" / "log.csv").read_bytes()


def test_torchrun_itself_starts_again_and_goes_on(two, small, tmp_path):
    start = [*TORCHRUN, "--max-restarts", "1"]
    done = small(tmp_path, ["rds"], "--disturbance", "1:2:kill", start=start)
    assert done.returncode == 0 and "resumed at step 2" in done.stderr, done.stderr
    assert weights(tmp_path) == weights(two[0])


def test_a_gradient_that_is_not_finite_in_one_process_leaves_the_step_out_in_all(two, small, tmp_path):
    done = small(tmp_path, ["rds"], "--disturbance", "1:1:nan", start=TORCHRUN)
    assert done.returncode == 0 and done.stderr.count("step left out") == 1, done.stderr
    assert apart(tmp_path / "rds" / "0.pt", tmp_path / "rds" / "1.pt") == 0
    assert all(tensor.isfinite().all() for tensor in trained(tmp_path / "rds" / "0.pt").values())
    assert apart(tmp_path / "rds" / "0.pt", two[0] / "rds" / "0.pt") > CLOSE


def test_clips_that_cannot_be_shared_evenly_are_refused_in_one_line(small, tmp_path):
    done = small(tmp_path, ["rds"], "--accumulate", 3, start=TORCHRUN)
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert done.returncode != 0 and len(errors) == 1
    assert "batch is 4" in errors[0] and "2 processes with 3 micro-batches" in errors[0] and "6" in errors[0]
