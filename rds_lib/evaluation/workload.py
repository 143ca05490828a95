"""What a frame asks of a device: operations and traffic of every matrix product, by part, and the least time for both.

Counted on the operations that really ran, so of an eager model. Elementwise work is taken to be fused into its
neighbours, and what a product reads or writes to pass through memory once: no device is faster than that floor unless
it keeps tensors in its cache from one product to the next.
"""

from collections import defaultdict
from contextlib import ExitStack

import pandas as pd
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from rds_lib.evaluation.peaks import Peaks
from rds_lib.evaluation.runner import parts_of
from rds_lib.model.stopwatch import wrapping

REST = "rest"  # of a frame, outside all parts


class Workload(TorchDispatchMode):
    """FLOPs (two per multiply-accumulate), bytes and least time of all products while it is entered, by part."""

    def __init__(self, peaks: Peaks):
        super().__init__()
        self.peaks, self._parts = peaks, [REST]
        self._sums = defaultdict(lambda: [0.0, 0.0, 0.0])

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func._overloadpacket not in flop_registry:
            with self:
                result = func.decompose(*args, **kwargs)
            if result is not NotImplemented:
                return result
        result = func(*args, **kwargs)
        if (count := flop_registry.get(func._overloadpacket)) is not None:
            flops, traffic = count(*args, **kwargs, out_val=result), _bytes((args, kwargs)) + _bytes(_first(result))
            sums = self._sums[self._parts[-1]]
            for i, value in enumerate((flops, traffic, self.peaks.least_seconds(flops, traffic))):
                sums[i] += value
        return result

    def naming(self, owner, methods: str, name: str):
        """Count what the methods of an owner do under a part's name, in a context; the innermost part counts."""
        return wrapping(owner, methods, lambda inner: self._named(inner, name))

    def _named(self, inner, name):
        def named(*args, **kwargs):
            self._parts.append(name)
            try:
                return inner(*args, **kwargs)
            finally:
                self._parts.pop()

        return named

    def table(self) -> pd.DataFrame:
        """A row per part: ``part, gflops, mbytes, floor_ms``."""
        rows = [(part, flops / 1e9, moved / 1e6, 1e3 * s) for part, (flops, moved, s) in self._sums.items()]
        return pd.DataFrame(rows, columns=["part", "gflops", "mbytes", "floor_ms"])


def frame_work(predictor, steps, peaks: Peaks) -> pd.DataFrame:
    """Count the next frame of a predictor's generator ``steps``; the encoder is without its router."""
    work = Workload(peaks)
    with ExitStack() as stack:
        for name, (owner, methods) in parts_of(predictor).items():
            stack.enter_context(work.naming(owner, methods, name))
        stack.enter_context(work)
        next(steps)
    return work.table()


def _first(result):
    """An operation's own result; attention returns statistics for its gradient beside it."""
    return result[0] if isinstance(result, tuple | list) else result


def _bytes(tree) -> int:
    return sum(x.numel() * x.element_size() for x in tree_leaves(tree) if isinstance(x, Tensor))


def parameter_bytes(model: torch.nn.Module) -> int:
    """Bytes of a model's parameters and buffers."""
    return _bytes([*model.parameters(), *model.buffers()])
