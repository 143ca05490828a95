"""Timed calls add up and leave no trace."""

import torch

from rds_lib.model.stopwatch import Stopwatch


def test_stopwatch_adds_up_calls_and_leaves_no_trace():
    module = torch.nn.Identity()
    watch = Stopwatch("cpu")
    with watch.watching(module, "forward", "part"):
        module(1)
        assert watch.read() == {}
        watch.enabled = True
        module(1), module(2)
        times = watch.read()
    assert set(times) == {"part"} and times["part"] > 0
    assert "forward" not in vars(module)


def test_spans_and_blocks_are_timed_by_name():
    blocks = torch.nn.ModuleList([torch.nn.Identity(), torch.nn.Identity()])
    watch = Stopwatch("cpu")
    with watch.watching_blocks(blocks):
        with watch.span("off"):
            blocks[0](1)
        watch.enabled = True
        with watch.span("whole"):
            blocks[1](1)
    times = watch.read()
    assert set(times) == {"whole", "block 1"} and times["whole"] > times["block 1"]
