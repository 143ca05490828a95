"""A throw-away baseline in one class, and all places that find it by themselves: evaluation, benchmark, Table 9."""

import numpy as np
import pandas as pd
import pytest

from rds_lib.data.sources import Source
from rds_lib.evaluation.benchmark import benchmark_predictors
from rds_lib.evaluation.evaluate import evaluate_arms
from rds_lib.evaluation.tables import compare_arms, objects_table, score_table
from rds_lib.methods import METHODS, Method, register
from rds_lib.methods.pbd import drop_blocks
from rds_lib.pipeline import arms
from rds_lib.pipeline.params import load_params
from rds_lib.report.table9 import as_page, measured_rows, paper_rows


class LastBlocksGone(Method):
    """Ten blocks before the last stage are dropped; there is nothing to train."""

    name, label = "last_gone", "Last blocks gone"

    def load(self, model, path):
        drop_blocks(model, range(34, 44))
        return model.eval()


@pytest.fixture(scope="module", autouse=True)
def method():
    yield register(LastBlocksGone())
    del METHODS[LastBlocksGone.name]


@pytest.fixture(scope="module")
def params(mini_weights):
    return (
        load_params("smoke")
        .with_section("model", checkpoint=str(mini_weights))
        .with_section("baselines", levels=[0.5])
        .with_section("benchmark", budgets=[0.5])
    )


@pytest.fixture(scope="module")
def workdir(rds_file, tmp_path_factory):
    """Its weights, an empty file, and RDS's."""
    folder = tmp_path_factory.mktemp("new")
    for path, content in (
        ("train/rds_0.5.safetensors", rds_file.read_bytes()),
        ("baselines/last_gone/0.5.safetensors", b""),
    ):
        (folder / path).parent.mkdir(parents=True)
        (folder / path).write_bytes(content)
    return folder


@pytest.fixture(scope="module")
def table(params, workdir, davis_root, tmp_path_factory):
    """The evaluation's table of RDS and of the new method."""
    found = [
        arm
        for arm in arms.arms(params.with_section("evaluation", budgets=[0.5]), workdir)
        if arm.method in ("RDS", LastBlocksGone.label)
    ]
    assert [(arm.method, arm.level) for arm in found] == [(LastBlocksGone.label, 0.5), ("RDS", 0.5)]
    results = evaluate_arms(found, [Source("clips", davis_root, "davis2017")], keep=tmp_path_factory.mktemp("masks"))
    against = compare_arms(objects_table(results), seed=0, n=20)["against"].tolist()
    assert against == [LastBlocksGone.label]
    return score_table(results, seed=0, n=20)


@pytest.fixture(scope="module")
def speed(params, workdir, sequences):
    """The benchmark's table."""
    found = arms.timed_arms(params, workdir, device="cpu")
    assert [arm.method for arm in found] == ["SAM2", "full", "RDS", LastBlocksGone.label, "mini_half"]
    return benchmark_predictors(
        found,
        {"clip": (sequences[0].frame_paths[0].parent, {1: sequences[0].prompt(1)})},
        warmup=1,
        frames=2,
        repeats=1,
    )[0]


def test_it_is_a_row_of_the_evaluation_with_the_work_it_does(table):
    own = table.set_index("method").loc[LastBlocksGone.label]
    assert own["active_blocks"] == 38 and own["level"] == 0.5 and 0 < own["gmacs"] and np.isfinite(own["value"])


def test_it_is_a_row_of_the_benchmark(speed):
    own = speed.set_index("method").loc[LastBlocksGone.label]
    assert own["kind"] == "smaller" and own["active_blocks"] == 38 and own["fps"] > 0


def test_it_is_a_row_of_table_9_with_its_speed(table, speed):
    rows = measured_rows(table, speed, profile="smoke")
    own = rows.set_index("method").loc[LastBlocksGone.label]
    assert own["level"] == "0.5" and own["fps"] == pytest.approx(
        speed.set_index("method").loc[LastBlocksGone.label, "fps"]
    )
    page = as_page(pd.concat([rows, paper_rows()], ignore_index=True))
    assert f"| {LastBlocksGone.label} | 0.5 |" in page.partition("lacks")[2]
