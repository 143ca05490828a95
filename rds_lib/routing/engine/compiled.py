"""Parts of the model compiled by ``torch.compile``, each with shapes that do not change from frame to frame.

The encoder is compiled block by block, so that every route runs the same code: blocks of one kind share a graph, and 8
graphs serve the 48 blocks of Hiera-L, as long as their adapters are merged.
"""

from collections.abc import Iterable

import torch
from torch import nn

RECOMPILE_LIMIT = 64  # of one piece of code; torch's own 8 is just what the blocks of Hiera-L need


def compile_blocks(blocks: Iterable[nn.Module]) -> None:
    """Compile each block of an encoder, in place, when it is first called."""
    _allow_variants()
    for block in blocks:
        block.compile(dynamic=False, fullgraph=True)


def compile_router(router: nn.Module) -> None:
    """Compile a deployed router into one graph, in place. It reads one map, however many objects there are."""
    _allow_variants()
    router.compile(dynamic=False, fullgraph=True)


def compile_tail(model) -> None:
    """Compile what SAM2 runs once for each object: memory attention, mask decoder and memory encoder, in place.

    Without the autotuning of SAM2's ``vos_optimized``, which takes minutes. The number of memories grows over the first
    frames, so memory attention is compiled for any; another number of objects in a batch compiles the others anew. The
    prompt encoder, whose input while tracking is an empty point, stays as it is.
    """
    _allow_variants()
    model.memory_attention.compile(dynamic=True)
    for module in (model.sam_mask_decoder, model.memory_encoder):
        module.compile(dynamic=False)


def _allow_variants():
    """Raise the limit of ``torch._dynamo``, which is the process's and which blocks of all kinds share."""
    torch._dynamo.config.recompile_limit = max(RECOMPILE_LIMIT, torch._dynamo.config.recompile_limit)
