"""Operations, bytes and least time of what runs, against counts by hand."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from rds_lib.evaluation.peaks import Peaks, measure_peaks
from rds_lib.evaluation.workload import REST, Workload, parameter_bytes

PEAKS = Peaks(1e9, 1e9, "made up")  # 1 GFLOP/s, 1 GB/s


class Model:
    """A product in a part, and another in a part within it."""

    def __init__(self):
        self.a, self.b = torch.ones(100, 50), torch.ones(50, 200)

    def outer(self):
        return self.inner() @ torch.ones(200, 10)

    def inner(self):
        return self.a @ self.b


def counted(work):
    return work.table().set_index("part").to_dict("index")


def test_each_product_counts_once_under_the_innermost_part():
    model, work = Model(), Workload(PEAKS)
    with work.naming(model, "outer", "encoder"), work.naming(model, "inner", "router"), work:
        model.outer()
        model.a @ model.b
    found = counted(work)
    first, second = 2 * 100 * 50 * 200, 2 * 100 * 200 * 10
    assert {part: row["gflops"] for part, row in found.items()} == pytest.approx(
        {"router": first / 1e9, "encoder": second / 1e9, REST: first / 1e9}
    )
    moved = 4 * (100 * 50 + 50 * 200 + 100 * 200)
    assert found["router"]["mbytes"] == pytest.approx(moved / 1e6)
    assert found["router"]["floor_ms"] == pytest.approx(1e3 * first / 1e9), "its operations take longer than its bytes"
    assert "outer" not in vars(model), "the model is as before"


def test_bytes_bound_a_product_of_little_work():
    work = Workload(PEAKS)
    with work:
        torch.ones(1, 1000) @ torch.ones(1000, 1)
    assert counted(work)[REST]["floor_ms"] == pytest.approx(1e3 * 4 * 2001 / 1e9)


@torch.inference_mode()
def test_linear_layers_attention_and_convolutions_are_counted_in_inference_mode():
    x = torch.ones(1, 2, 16, 8)
    linear, conv = nn.Linear(8, 4), nn.Conv2d(2, 3, 3, padding=1, bias=False)
    works = [Workload(PEAKS) for _ in range(3)]
    for work, run in zip(works, (linear, conv, lambda x: F.scaled_dot_product_attention(x, x, x)), strict=True):
        with work:
            run(x)
    flops = [1e9 * counted(work)[REST]["gflops"] for work in works]
    assert flops == pytest.approx([2 * 32 * 8 * 4, 2 * 3 * 2 * 9 * 16 * 8, 2 * 2 * 2 * 16 * 16 * 8])


def test_the_least_time_is_the_longer_of_the_two():
    peaks = Peaks(100.0, 10.0, "")
    assert peaks.least_seconds(200, 5) == 2 and peaks.least_seconds(200, 50) == 5


def test_a_machine_is_measured_where_no_data_sheet_is_known():
    peaks = measure_peaks(torch.device("cpu"), torch.float32, side=64, copied=2**12)
    assert peaks.flops > 1e6 and peaks.bytes > 1e6 and "timed" in peaks.source


def test_parameters_and_buffers_are_what_a_model_weighs():
    assert parameter_bytes(nn.BatchNorm1d(4).double()) == 8 * 4 * 4 + 8  # two parameters, two buffers and a counter
