"""Threads fit the model in our own processes, and what the user has set stays."""

import os
import subprocess
import sys

import pytest

from rds_lib.core.paths import ROOT
from rds_lib.core.threads import THREADS, WORKERS, cpu_count, fit_threads, thread_variables
from rds_lib.model.sam2 import SHIPPED


@pytest.mark.parametrize("config", SHIPPED)
def test_a_small_model_gets_one_thread_and_a_process_per_cpu(config):
    assert thread_variables(config, {}) == {THREADS: "1", WORKERS: str(cpu_count())}


def test_a_large_model_keeps_torch_s_own_threads():
    assert thread_variables("configs/sam2.1/sam2.1_hiera_l.yaml", {}) == {}


def test_what_the_user_sets_stays(monkeypatch):
    monkeypatch.setenv(THREADS, "3")
    monkeypatch.delenv(WORKERS, raising=False)
    fit_threads("mini")
    assert os.environ[THREADS] == "3" and WORKERS not in os.environ


@pytest.mark.parametrize(
    ("set_by_user", "expected"), [({}, f"1 {cpu_count()}"), ({THREADS: "2"}, "2 2"), ({WORKERS: "5"}, "1 5")]
)
def test_a_process_of_ours_has_these_threads_and_workers(set_by_user, expected):
    code = (
        "from rds_lib.core.threads import fit_threads; fit_threads('mini')\n"
        "import torch; from rds_lib.work.parallel import cpu_workers\n"
        "print(torch.get_num_threads(), cpu_workers())"
    )
    clean = {name: value for name, value in os.environ.items() if name not in (THREADS, WORKERS, "MKL_NUM_THREADS")}
    environment = clean | set_by_user | {"PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == expected.split()


def test_commands_import_torch_only_after_the_threads_are_set():
    code = "import sys, rds_lib.__main__, rds_lib.pipeline.params; print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert done.stdout.strip() == "False"
