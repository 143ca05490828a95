"""What a frame costs, seen from outside: times of named parts, and reads of device tensors by the host."""

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

_READS = frozenset(
    {
        Tensor.cpu,
        Tensor.item,
        Tensor.tolist,
        Tensor.numpy,
        Tensor.__bool__,
        Tensor.__float__,
        Tensor.__int__,
        Tensor.__index__,
        Tensor.__array__,
    }
)


class Stopwatch:
    """Times of named calls within a frame: CUDA events on a GPU, which wait for nothing, and the clock on a CPU."""

    def __init__(self, device):
        self.device = torch.device(device)
        self.enabled = False
        self._spans = []

    @contextmanager
    def watching(self, owner, attribute: str, name: str) -> Iterator[None]:
        """Time the calls of ``owner.attribute`` under ``name`` while ``enabled``; afterwards the owner is as before."""
        inner, own = getattr(owner, attribute), vars(owner).get(attribute)

        def timed(*args, **kwargs):
            if not self.enabled:
                return inner(*args, **kwargs)
            start = self._mark()
            result = inner(*args, **kwargs)
            self._spans.append((name, start, self._mark()))
            return result

        setattr(owner, attribute, timed)
        try:
            yield
        finally:
            delattr(owner, attribute) if own is None else setattr(owner, attribute, own)

    @property
    def is_free(self) -> bool:
        """Whether watching costs no time worth mentioning: on a GPU, events take their share of the launches."""
        return self.device.type != "cuda"

    def synchronise(self) -> None:
        """Wait until the device has done all its work."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def read(self) -> dict[str, float]:
        """Milliseconds by name since the last reading, calls of one name added up."""
        self.synchronise()
        totals = defaultdict(float)
        for name, start, stop in self._spans:
            totals[name] += start.elapsed_time(stop) if self.device.type == "cuda" else 1e3 * (stop - start)
        self._spans.clear()
        return dict(totals)

    def _mark(self):
        if self.device.type != "cuda":
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event


class HostReads(TorchFunctionMode):
    """Count how often the host asks for the values of a tensor that the device computed.

    Works alike on a GPU and on a CPU, where nothing is copied: what comes out of a read, and whatever is made of such
    values alone, lies on the host, and reading it again is free.
    """

    def __init__(self):
        super().__init__()
        self.count = 0
        self._host = {}  # id -> tensor, which keeps the id in use

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        inputs = _tensors((args, kwargs))
        on_host = all(id(x) in self._host for x in inputs)
        is_read = func in _READS or _leaves_device(inputs, result)
        self.count += is_read and not on_host
        if is_read or on_host:
            self._host |= {id(x): x for x in _tensors(result)}
        return result


def _tensors(tree):
    return [x for x in tree_leaves(tree) if isinstance(x, Tensor)]


def _leaves_device(inputs, result):
    return isinstance(result, Tensor) and result.is_cpu and any(not x.is_cpu for x in inputs)
