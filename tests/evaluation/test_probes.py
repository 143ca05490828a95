"""Reads of device values are counted once."""

import torch

from rds_lib.evaluation import probes


def test_host_reads_count_each_copy_once_and_nothing_twice():
    x = torch.arange(6.0)
    with probes.HostReads() as reads:
        y = (x * 2).view(2, 3).sum(0)
        assert reads.count == 0
        values = y.cpu()
        assert bool(values[0] > 0) and values.tolist() and float(values.max())
        assert reads.count == 1
        (x + 1).amax().item()
    assert reads.count == 2
