"""Multiply-accumulates of Hiera's blocks, counted from their shapes: linear layers and both attention products."""

import math
from collections.abc import Sequence

from torch import nn


def block_macs(trunk, image_size: int, kept: Sequence[float] | None = None) -> list[float]:
    """MACs of every block for one square image, also of pruned blocks and of those with a gate or an adapter.

    Counts the linear layers on the tokens they see (those that pad a window included), the products of queries with
    keys and of weights with values, and nothing else. Tools that miss fused attention count the global blocks at about
    half. For Hiera-L at 1024 px the sum is 904.7 G.

    Patch embedding and neck are not in it, nor a policy that decides over a whole block. ``kept`` is the share of the
    tokens that go through each block's MLP, where a dispatcher precedes it; all by default.
    """
    side, counts = image_size // trunk.patch_embed.proj.stride[0], []
    for block, share in zip(trunk.blocks, kept if kept is not None else [1.0] * len(trunk.blocks), strict=True):
        macs, side = _block_macs(getattr(block, "block", block), side, share)
        counts.append(macs)
    return counts


def _block_macs(block, side, share):
    """MACs of one block on ``side`` x ``side`` tokens, and the side of its output."""
    attention, stride = block.attn, block.q_stride[0] if block.q_stride else 1
    window = block.window_size or side
    windows = math.ceil(side / window) ** 2
    keys, queries = window**2, (window // stride) ** 2  # in one window
    qkv = windows * keys * _linear_macs(attention.qkv)
    products = windows * queries * keys * 2 * attention.proj.in_features  # the heads' channels
    projection = windows * queries * _linear_macs(attention.proj)
    shortcut = side**2 * _linear_macs(block.proj) if block.dim != block.dim_out else 0
    tokens = (side // stride) ** 2
    gated = getattr(block.mlp, "mlp", block.mlp)
    beside = _linear_macs(block.mlp) - _linear_macs(gated)
    return qkv + products + projection + shortcut + tokens * (share * _linear_macs(gated) + beside), side // stride


def _linear_macs(module) -> int:
    return sum(layer.weight.numel() for layer in module.modules() if isinstance(layer, nn.Linear))
