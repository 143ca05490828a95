"""Each block of the encoder recorded as one CUDA graph that overwrites the tokens of its stage.

One launch then stands for all kernels of a block, and any route is a choice of graphs to replay.

A stage has one static buffer. The graph of a block reads it, and writes it, or writes the next stage's buffer where the
block enters that stage. So a skipped block is a graph that is not replayed, and nothing is copied on its behalf.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

WARM_UP = 3  # calls before a recording: kernels are chosen and compiled in them

Record = Callable[[Callable[[], None]], Callable[[], None]]  # a step without arguments -> what repeats it


class GraphedBlock:
    """What a block's call becomes: replay, for tokens of the recorded kind in inference mode; else the block itself.

    Outside of that mode a caller may blend what a block returns with what it took, as training does, so that the block
    must not overwrite it.
    """

    def __init__(self, inner: Callable, source: Tensor, target: Tensor, record: Record):
        self.inner, self.source, self.target = inner, source, target
        self._replay = record(self._step)

    def _step(self):
        self.target.copy_(self.inner(self.source))

    def __call__(self, x: Tensor) -> Tensor:
        is_recorded = (x.shape, x.dtype, x.device) == (self.source.shape, self.source.dtype, self.source.device)
        if not is_recorded or not torch.is_inference_mode_enabled():
            return self.inner(x)
        if x.data_ptr() != self.source.data_ptr():
            self.source.copy_(x)  # the tokens of a new frame
        self._replay()
        return self.target


@torch.inference_mode()
def graph_blocks(blocks: Sequence[nn.Module], tokens: Tensor, record: Record | None = None) -> None:
    """Record every block, in place. Call it under the autocast that tracking runs under.

    A call on tokens of the shape and type of ``tokens`` then returns a buffer of the model: its values last until the
    next frame, long enough for SAM2's neck, which makes tensors of its own of them.

    Parameters
    ----------
    blocks : sequence of Module
        Compiled or not.
    tokens : Tensor, shape (1, h, w, C)
        What enters block 0; only shape and type matter.
    record : callable, optional
        How to record; as CUDA graphs in one pool of memory by default.
    """
    record = record or _cuda_recorder(tokens.device)
    source = tokens.clone()
    for block in blocks:
        inner = vars(block).get("_compiled_call_impl") or block.forward
        made = inner(source)
        is_entry = (made.shape, made.dtype) != (source.shape, source.dtype)
        target = torch.empty_like(made, memory_format=torch.contiguous_format) if is_entry else source
        block._compiled_call_impl = GraphedBlock(inner, source, target, record)
        source = target


def ungraph_blocks(blocks: Sequence[nn.Module]) -> None:
    """Undo `graph_blocks`."""
    for block in blocks:
        if isinstance(graphed := vars(block).get("_compiled_call_impl"), GraphedBlock):
            block._compiled_call_impl = None if graphed.inner == block.forward else graphed.inner


def _cuda_recorder(device: torch.device) -> Record:
    """Record as CUDA graphs. They may share a pool, in any order: nothing of a graph's own outlives its replay."""
    pool = torch.cuda.graph_pool_handle()

    def record(step):
        with torch.cuda.device(device):
            aside = torch.cuda.Stream()
            aside.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(aside):
                for _ in range(WARM_UP):
                    step()
            torch.cuda.current_stream().wait_stream(aside)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, pool=pool):
                step()
        return graph.replay

    return record
