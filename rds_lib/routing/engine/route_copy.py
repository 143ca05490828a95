"""One small tensor a frame on its way from the device to the host, which has something else to do meanwhile."""

import torch
from torch import Tensor


class RouteCopy:
    """Copies without waiting: `start` it, do something else, then `read` it.

    On a GPU the values go into one pinned buffer, which is allocated on the first frame, and `read` waits for that copy
    alone, not for what was asked of the device since. On any other device `read` is ``tolist``.
    """

    def __init__(self):
        self._values: Tensor | None = None
        self._buffer: Tensor | None = None
        self._event = None

    def start(self, values: Tensor) -> None:
        """Let values (N,) begin their way; what was started before and not read is forgotten."""
        if not _is_far(values):
            self._values = values
            return
        if self._buffer is None or (self._buffer.shape, self._buffer.dtype) != (values.shape, values.dtype):
            with torch.inference_mode(False):  # a buffer that serves inside and outside of that mode
                self._buffer, self._event = _pinned_like(values), _new_event()
        self._buffer.copy_(values.detach(), non_blocking=True)
        self._event.record(_stream_of(values))
        self._values = self._buffer

    def read(self) -> list[float]:
        """The values; waits until they are there."""
        if self._values is self._buffer:
            self._event.synchronize()
        return self._values.tolist()


def _is_far(values: Tensor) -> bool:
    return values.is_cuda


def _pinned_like(values: Tensor) -> Tensor:
    return torch.empty(values.shape, dtype=values.dtype, pin_memory=True)  # of one dtype: no conversion on the host


def _new_event():
    return torch.cuda.Event()


def _stream_of(values: Tensor):
    return torch.cuda.current_stream(values.device)
