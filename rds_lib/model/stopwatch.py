"""Time on a device: named parts of a frame, seen from outside, and a clock that waits for the device."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

import numpy as np
import torch


class Stopwatch:
    """Times of named calls within a frame: CUDA events on a GPU, which wait for nothing, and the clock on a CPU."""

    def __init__(self, device):
        self.device = torch.device(device)
        self.enabled = False
        self._spans = []

    @contextmanager
    def watching(self, owner, attribute: str, name: str) -> Iterator[None]:
        """Time the calls of ``owner.attribute`` under ``name`` while ``enabled``; afterwards the owner is as before.

        Several attributes, with spaces between them, are timed as one.
        """
        with wrapping(owner, attribute, lambda inner: self._timed(inner, name)):
            yield

    def _timed(self, inner, name):
        def timed(*args, **kwargs):
            if not self.enabled:
                return inner(*args, **kwargs)
            start = self._mark()
            result = inner(*args, **kwargs)
            self._spans.append((name, start, self._mark()))
            return result

        return timed

    @contextmanager
    def span(self, name: str) -> Iterator[None]:
        """Time a block of code under ``name`` while ``enabled``."""
        start = self._mark() if self.enabled else None
        yield
        if start is not None:
            self._spans.append((name, start, self._mark()))

    @contextmanager
    def watching_blocks(self, blocks) -> Iterator[None]:
        """Time each of an encoder's blocks as "block 0", "block 1" and so on, compiled ones too."""
        with ExitStack() as stack:
            for i, block in enumerate(blocks):
                is_compiled = getattr(block, "_compiled_call_impl", None) is not None
                stack.enter_context(
                    self.watching(block, "_compiled_call_impl" if is_compiled else "forward", f"block {i}")
                )
            yield

    @property
    def is_free(self) -> bool:
        """Whether watching costs no time worth mentioning: on a GPU, events take their share of the launches."""
        return self.device.type != "cuda"

    def synchronise(self) -> None:
        """Wait until the device has done all its work."""
        synchronise(self.device)

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


@contextmanager
def wrapping(owner, attributes: str, wrap: Callable[[Callable], Callable]) -> Iterator[None]:
    """Put ``wrap(method)`` in the place of methods, named with spaces between; afterwards the owner is as before."""
    with ExitStack() as stack:
        for name in attributes.split():
            own = vars(owner).get(name)
            stack.callback(partial(delattr, owner, name) if own is None else partial(setattr, owner, name, own))
            setattr(owner, name, wrap(getattr(owner, name)))
        yield


def synchronise(device: torch.device) -> None:
    """Wait until a device has done all its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def clock_of(device: torch.device) -> Callable[[], float]:
    """Return a clock in seconds that first waits for the device, so that work counts where it was asked for."""
    if device.type != "cuda":
        return time.perf_counter

    def clock():
        synchronise(device)
        return time.perf_counter()

    return clock


def typical(times: np.ndarray) -> np.ndarray:
    """Medians (L,) over frames (N, L), scaled to add up to the median sum, as medians of skewed times do not."""
    medians = np.median(times, axis=0)
    return medians * np.median(times.sum(1)) / medians.sum()
