"""Reads of device tensors by the host, counted from outside."""

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
