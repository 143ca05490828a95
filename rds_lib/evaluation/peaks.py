"""What a device can do at best: dense operations a second and bytes a second.

Of known GPUs NVIDIA's data sheets say so, for dense bfloat16 and without sparsity; elsewhere a large product and a
large copy are timed, which shows what can be reached with the threads at hand.
"""

from dataclasses import dataclass

import torch

from rds_lib.model.stopwatch import clock_of

H100_SHEET = "NVIDIA H100 data sheet (resources.nvidia.com/en-us-tensor-core)"
H200_SHEET = "NVIDIA H200 data sheet (nvidia.com/en-us/data-center/h200)"
SHEETS = {  # name of the device -> dense bfloat16 FLOP/s, bytes/s, source
    "NVIDIA H100 80GB HBM3": (989.4e12, 3.35e12, H100_SHEET),
    "NVIDIA H100 PCIe": (756e12, 2.0e12, H100_SHEET),
    "NVIDIA H200": (989.4e12, 4.8e12, H200_SHEET),
}
MEASURED = "a large product and a large copy, timed in the same run"
COPIED = 2**26  # elements
TRIES = 5


@dataclass(frozen=True)
class Peaks:
    """The best that a device reaches, and where the numbers are from."""

    flops: float  # a second
    bytes: float  # a second, read and written together
    source: str

    def least_seconds(self, flops: float, moved: float) -> float:
        """The time below which no piece of work can come: its operations or its bytes alone, whichever take longer."""
        return max(flops / self.flops, moved / self.bytes)


def peaks_of(device: str | torch.device, dtype: torch.dtype) -> Peaks:
    """From the data sheet of a GPU that has one here, for bfloat16; else measured."""
    device = torch.device(device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    if name in SHEETS and dtype == torch.bfloat16:
        return Peaks(*SHEETS[name])
    return measure_peaks(device, dtype)


def measure_peaks(device: torch.device, dtype: torch.dtype, *, side: int | None = None, copied: int = COPIED) -> Peaks:
    """Time a product of two matrices of ``side`` rows, and a copy of ``copied`` elements; the best of some tries."""
    side = side or (8192 if device.type == "cuda" else 2048)
    a = torch.randn(side, side, device=device).to(dtype)
    source = torch.randn(copied, device=device).to(dtype)
    target = torch.empty_like(source)
    product = _least(lambda: a @ a, device)
    copy = _least(lambda: target.copy_(source), device)
    return Peaks(2 * side**3 / product, 2 * source.numel() * source.element_size() / copy, MEASURED)


def _least(work, device) -> float:
    clock, seconds = clock_of(device), []
    for _ in range(TRIES):
        began = clock()
        work()
        seconds.append(clock() - began)
    return min(seconds)
