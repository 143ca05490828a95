"""Multiply-accumulates of Hiera's blocks, from their shapes alone: linear layers and both attention products."""

import math
from collections.abc import Sequence


def block_macs(trunk, image_size: int) -> list[int]:
    """MACs of every block for one square image.

    Analytic: the linear layers on the tokens they see (those that pad a window included), the products of queries with
    keys and of weights with values, and nothing else. Tools that pass over fused attention count the global blocks at
    about half. For Hiera-L at 1024 px the sum is 904.7 G.

    Parameters
    ----------
    trunk : sam2 Hiera
    image_size : int
        Side of the encoder's input in px.

    Returns
    -------
    list of int
        One number per block; patch embedding and neck are not in it.
    """
    side, counts = image_size // trunk.patch_embed.proj.stride[0], []
    for block in trunk.blocks:
        macs, side = _block_macs(block, side)
        counts.append(macs)
    return counts


def route_gmacs(trunk, image_size: int, activation: Sequence[float] | None = None) -> float:
    """GMACs of all blocks, each weighted by the share of frames on which it ran; by default all run."""
    counts = block_macs(trunk, image_size)
    return sum(share * macs for share, macs in zip(activation or [1.0] * len(counts), counts, strict=True)) / 1e9


def _block_macs(block, side):
    """MACs of one block on ``side`` x ``side`` tokens, and the side of its output."""
    stride = block.q_stride[0] if block.q_stride else 1
    window = block.window_size or side
    windows = math.ceil(side / window) ** 2
    keys, queries = window**2, (window // stride) ** 2  # in one window
    dim, dim_out = block.dim, block.dim_out
    qkv = windows * keys * dim * 3 * dim_out
    products = windows * queries * keys * 2 * dim_out
    projection = windows * queries * dim_out**2
    shortcut = side**2 * dim * dim_out if dim != dim_out else 0
    hidden = block.mlp.layers[0].out_features
    mlp = (side // stride) ** 2 * 2 * dim_out * hidden
    return qkv + products + projection + shortcut + mlp, side // stride
