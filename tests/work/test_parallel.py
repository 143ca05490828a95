"""Work shared out among processes: the same results in the same order, errors that come through, one thread each."""

import gc
import os
import signal
import sys
import time
from functools import partial
from multiprocessing import active_children
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from rds_lib.core.artifacts import atomic_write
from rds_lib.core.errors import RDSInputError
from rds_lib.core.threads import WORKERS
from rds_lib.work.parallel import cpu_workers, item_name, map_items
from rds_lib.work.processes import begin_command


@pytest.mark.parametrize("workers", [1, 2, 9])
def test_results_come_in_the_order_of_the_items(workers):
    offset = 10  # a closure: nothing but the results is pickled
    assert map_items(lambda x: x + offset, iter(range(5)), workers=workers) == [10, 11, 12, 13, 14]
    assert map_items(lambda x: x, [], workers=workers) == []


def test_every_worker_is_a_process_of_one_thread():
    before = torch.get_num_threads()
    seen = map_items(lambda _: (os.getpid(), torch.get_num_threads()), range(4), workers=2)
    assert os.getpid() not in {pid for pid, _ in seen} and {threads for _, threads in seen} == {1}
    assert {pid for pid, _ in map_items(lambda _: (os.getpid(), 0), range(4))} == {os.getpid()}
    assert torch.get_num_threads() == before


def test_an_error_in_a_worker_comes_through():
    def fail(x):
        if x == 2:
            raise ValueError("no item 2")
        return x

    with pytest.raises(ValueError, match="no item 2"):
        map_items(fail, range(4), workers=2)


def test_of_two_errors_the_first_items_is_raised_whichever_came_first():
    def fail(x):
        time.sleep(0.3 if x == 0 else 0)
        raise ValueError(f"no item {x}")

    with pytest.raises(ValueError, match="no item 0") as caught:
        map_items(fail, range(4), workers=2)
    assert "in fail" in caught.value.__notes__[0], "where it was raised in the worker"


@pytest.mark.parametrize(
    ("item", "name"),
    [("any", "any"), (0.4, "0.4"), (partial(print, Path("runs"), "pbd", 0.4, (0.4,)), "pbd 0.4"), (object(), "")],
)
def test_items_have_names_that_a_person_knows(item, name):
    assert item_name(item) == name


def test_a_killed_worker_is_one_line_that_names_its_item():
    def work(item):
        if item == "0.4":
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(0.05)

    words = r"training: the process at work on item 2 of 4 0\.4 was killed \(-9\), perhaps for want of memory"
    with pytest.raises(RDSInputError, match=words) as caught:
        map_items(work, ["0.8", "0.4", "any", "full"], workers=2, label="training")
    assert "\n" not in str(caught.value) and not active_children()


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize(("told", "code"), [(signal.SIGKILL, -9), (signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_workers_end_with_their_parent_and_tidy_up_where_they_can(told, code, tmp_path):
    ours, theirs = os.pipe()

    def work(n):
        with atomic_write(tmp_path / f"{n}.pt") as half:
            half.write_text("half")
            os.write(theirs, b"%8d" % os.getpid())
            time.sleep(60)

    parent = os.fork()
    if parent == 0:
        begin_command()
        try:
            map_items(work, range(4), workers=2)
        except SystemExit as end:
            os._exit(end.code)
        except KeyboardInterrupt:
            os._exit(130)
    workers = [int(os.read(ours, 8)) for _ in range(2)]
    os.kill(parent, told)
    assert os.waitstatus_to_exitcode(os.waitpid(parent, 0)[1]) == code
    end = time.monotonic() + 4
    while any(Path(f"/proc/{pid}").exists() for pid in workers) and time.monotonic() < end:
        time.sleep(0.05)
    assert [pid for pid in workers if Path(f"/proc/{pid}").exists()] == []
    assert told == signal.SIGKILL or list(tmp_path.iterdir()) == []


def test_a_model_gives_the_same_in_a_worker(mini_model):
    torch.randn(300, 300) @ torch.randn(300, 300)  # the parent's threads exist before it forks
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))

    @torch.inference_mode()
    def encode(n):
        return mini_model.forward_image(images[n : n + 1])["backbone_fpn"][-1].numpy()

    for alone, shared in zip(map_items(encode, range(2)), map_items(encode, range(2), workers=2)):
        assert abs(alone - shared).max() < 1e-5


def test_opencv_works_in_a_worker_after_its_threads_ran_in_the_parent():
    image = np.random.default_rng(0).integers(0, 255, (900, 900, 3), np.uint8)
    before = cv2.getNumThreads()
    cv2.setNumThreads(2)
    alone = cv2.GaussianBlur(image, (31, 31), 5)
    first, second = map_items(lambda _: cv2.GaussianBlur(image, (31, 31), 5), range(2), workers=2)
    assert np.array_equal(first, alone) and np.array_equal(second, alone) and cv2.getNumThreads() == 2
    cv2.setNumThreads(before)


def test_a_gpu_is_not_shared(monkeypatch):
    monkeypatch.delenv(WORKERS, raising=False)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 7)
    assert cpu_workers() == 7
    monkeypatch.setenv(WORKERS, "3")
    assert cpu_workers() == 3
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert cpu_workers() == 1


class Decoder:
    """Stands for what has threads: cleared up in a forked child, it would wait for them for ever."""

    def __init__(self, log):
        self.log, self.ring = log, self

    def __del__(self):
        with open(self.log, "a") as file:
            file.write(f"{os.getpid()}\n")


def test_no_worker_clears_up_what_it_was_forked_with(tmp_path):
    log, kept = tmp_path / "log", [Decoder(tmp_path / "log")]
    gc.disable()
    try:
        Decoder(log)  # a ring, so garbage until somebody collects it
        map_items(lambda _: (kept.clear(), gc.collect()), [0, 1], workers=2)
    finally:
        gc.enable()
    gc.collect()
    assert log.read_text().split() == [str(os.getpid())]
