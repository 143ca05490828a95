"""Work shared out among processes: the same results in the same order, errors that come through, one thread each."""

import gc
import os
from concurrent.futures.process import BrokenProcessPool

import cv2
import numpy as np
import pytest
import torch

from rds_lib.core import parallel
from rds_lib.core.parallel import cpu_workers, map_items
from rds_lib.core.threads import WORKERS


@pytest.mark.parametrize("workers", [1, 2, 9])
def test_results_come_in_the_order_of_the_items(workers):
    offset = 10  # a closure: nothing but the results is pickled
    assert map_items(lambda x: x + offset, iter(range(5)), workers=workers) == [10, 11, 12, 13, 14]
    assert map_items(lambda x: x, [], workers=workers) == []
    assert parallel._job is None


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
    assert parallel._job is None


def test_a_killed_worker_ends_the_call():
    with pytest.raises(BrokenProcessPool):
        map_items(lambda x: os._exit(1), range(4), workers=2)


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
