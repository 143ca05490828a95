"""What a baseline's encoder costs: the MACs of what it runs, against PyTorch's own counter."""

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from rds_lib.methods import METHODS
from rds_lib.methods.activity import activity, watch_gates
from rds_lib.methods.adavit import DecidedBlock
from rds_lib.methods.gates import gated
from rds_lib.methods.slimsam import fuse_attention, prune, save_slim, split_attention
from rds_lib.model.hiera_macs import block_macs
from rds_lib.model.sam2 import build_model


def _flops(model, image):
    trunk = model.image_encoder.trunk
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        trunk(image)
    return counter.get_total_flops() - 2 * trunk.patch_embed.proj.weight.numel() * (model.image_size // 4) ** 2


@pytest.mark.parametrize("method, level", [("slimsam", 6), ("pbd", 0.5), ("dyt", 0.5), ("adavit", 0.5)])
def test_macs_of_what_a_baseline_runs_equal_the_flop_counter(method, level, baselines_folder, scored_slim):
    model = build_model("mini", False)
    path = scored_slim if method == "slimsam" else baselines_folder / method / f"{level}.safetensors"
    model = METHODS[method].load(model, path)
    image = torch.randn(1, 3, 192, 192, generator=torch.Generator().manual_seed(0))
    flops = _flops(model, image)
    with torch.inference_mode(), watch_gates(model) as seen:
        model.forward_image(image)
    ran, kept = activity(model, seen[0])
    if method in ("dyt", "adavit"):
        assert 0.1 < kept.mean() < 0.9
    decisions = sum(block.policy[1].weight.numel() for block in gated(model) if isinstance(block, DecidedBlock))
    assert 2 * (ran @ np.array(block_macs(model.image_encoder.trunk, 192, kept)) + decisions) == pytest.approx(flops)


@pytest.fixture(scope="module")
def scored_slim(tmp_path_factory):
    """A model pruned to 6/9 in both phases by random gradients."""
    model = build_model("mini", False)
    split_attention(model)
    kept = {}
    for phase in ("width", "bottleneck"):
        for p in model.image_encoder.parameters():
            p.grad = torch.randn(p.shape, generator=torch.Generator().manual_seed(1))
        kept |= prune(model, phase, 6 / 9)
    fuse_attention(model)
    path = tmp_path_factory.mktemp("slim") / "6.safetensors"
    save_slim(path, model, kept)
    return path
