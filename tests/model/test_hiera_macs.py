"""Analytic MACs of Hiera's blocks against PyTorch's own counter, and those of Hiera-L."""

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from torch.utils.flop_counter import FlopCounterMode

from rds_lib.model.hiera_macs import block_macs
from rds_lib.model.sam2 import load_config

HIERA_L = "configs/sam2.1/sam2.1_hiera_l.yaml"


def _trunk_on_meta(config, monkeypatch):
    linspace = torch.linspace  # Hiera asks its drop-path rates for their values
    monkeypatch.setattr(torch, "linspace", lambda *args, **kwargs: linspace(*args, **kwargs, device="cpu"))
    with torch.device("meta"):
        return instantiate(load_config(config).model.image_encoder.trunk)


@pytest.mark.parametrize("size", [160, 128])  # at 160 px the windows are padded in two stages
def test_block_macs_equal_the_flop_counter(size, monkeypatch):
    trunk = _trunk_on_meta("mini", monkeypatch)
    counts = block_macs(trunk, size)
    tokens = torch.empty(1, size // 4, size // 4, trunk.blocks[0].dim, device="meta")
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        for block in trunk.blocks:
            tokens = block(tokens)
    assert 2 * sum(counts) == counter.get_total_flops()


def test_hiera_l_macs_are_those_of_the_specification(monkeypatch):
    trunk = _trunk_on_meta(HIERA_L, monkeypatch)
    gmacs = np.array(block_macs(trunk, 1024)) / 1e9
    transitions, global_ones = [2, 8, 44], [23, 33, 43]
    ordinary = np.delete(gmacs, transitions + global_ones)
    assert gmacs.sum() == pytest.approx(904.7, abs=0.05)
    assert gmacs[global_ones] == pytest.approx(35.6, abs=0.05)
    assert ((23 < gmacs[transitions]) & (gmacs[transitions] < 24)).all()
    assert ((16.4 < ordinary) & (ordinary < 17.6)).all()
