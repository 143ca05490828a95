"""The measurement at full size, on the mini model: who takes part, what each part leaves, and the page of it."""

import numpy as np
import pandas as pd
import pytest

from rds_lib.core.artifacts import read_table
from rds_lib.core.errors import RDSInputError
from rds_lib.data.clips import write_timing_clip
from rds_lib.evaluation import full_size
from rds_lib.evaluation.peaks import Peaks
from rds_lib.evaluation.whole_videos import whole_videos
from rds_lib.pipeline.params import load_params
from rds_lib.routing.engine import steps


@pytest.fixture(scope="module")
def arms():
    return full_size.full_size_arms(128, device="cpu", budgets=[0.4], smaller={"half": "mini_half"}, config="mini")


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clip")
    return folder, write_timing_clip(folder, load_params("smoke").clips, frames=15, n_objects=2)


@pytest.fixture(scope="module")
def measured(arms, clip):
    found = {}

    def after(runners):
        found["work"] = full_size.count_work(runners, Peaks(1e10, 1e10, "made up"))
        found["routes"] = full_size.sweep_routes(runners, 7)

    protocol = {"warmup": 1, "frames": 1, "repeats": 3, "dtype": "float32", "after": after}
    tables = full_size.time_frames(arms, clip, **protocol)
    return found | dict(zip(("speed", "blocks", "frames"), tables, strict=True))


def test_all_arms_take_part_with_their_parts(measured):
    table = measured["speed"].set_index("method")
    assert list(table.index) == ["SAM2", "full", "RDS", "half"]
    assert table["active_blocks"].tolist() == [48, 48, 22, 24] and (table["objects"] == 2).all()
    assert (table["image_size"] == 128).all()
    assert (table[["encoder_ms", "memory_attention_ms", "decoder_ms", "memory_encoder_ms"]] > 0).all(axis=None)


def test_a_pass_is_the_next_frames_of_the_clip(measured):
    frames = measured["frames"]
    assert sorted(set(zip(frames["pass"], frames["frame"]))) == [(0, 3), (1, 4), (2, 5)]


def test_the_limit_leaves_out_every_block_that_may_be(measured):
    table, blocks = measured["speed"].set_index("method"), measured["blocks"]
    free = blocks[(blocks["method"] == "full") & ~blocks["block"].isin([0, 2, 8, 44, 47])]["block_ms"].sum()
    whole = table.loc["SAM2", "frame_ms"]
    assert table.loc["RDS", "speedup_limit"] == pytest.approx(whole / (whole - free))
    assert table.loc["RDS", "speedup_limit"] > table.loc["RDS", "speedup_ideal"] and np.isnan(table.loc["SAM2", "eta"])


def test_work_is_that_of_the_blocks_that_ran_and_grows_with_the_objects(measured, arms):
    work = measured["work"].pivot(index="method", columns="part", values="gflops")
    assert work.loc["SAM2", "encoder"] == pytest.approx(work.loc["full", "encoder"])
    assert work.loc["RDS", "encoder"] < 0.7 * work.loc["full", "encoder"] and work.loc["RDS", "router"] > 0
    assert work.loc["RDS", "memory_attention"] == pytest.approx(work.loc["full", "memory_attention"])
    assert work.loc["full", "encoder"] > 2 * arms[1].build().backbone.gmacs(), "2 FLOPs each, and the neck"


def test_forced_routes_have_all_sizes(measured):
    routes = measured["routes"]
    assert sorted(routes["active_blocks"]) == [5, 12, 19, 27, 34, 41, 48]
    assert routes["frame"].tolist() == list(range(8, 15)), "the first routed frame after the timed ones is a warm-up"
    assert (routes["encoder_ms"] > 0).all() and routes["gmacs"].corr(routes["active_blocks"]) > 0.9


def test_whole_videos_are_timed_from_disk_to_disk(arms, clip):
    table = whole_videos(arms[:2], clip, dtype="float32", repeats=1)
    assert table["method"].tolist() == ["SAM2", "full"] and (table["frames"] == 15).all() and (table["fps"] > 0).all()
    assert table["peak_mib"].isna().all(), "not measured on a CPU"


def test_rows_of_a_part_replace_those_that_were_there(tmp_path):
    path, one, two = tmp_path / "speed.csv", pd.DataFrame({"objects": 9, "ms": [1.0, 2.0]}), pd.DataFrame({"ms": [3.0]})
    full_size.keep_rows(path, one, run="eager", objects=1)
    full_size.keep_rows(path, one, run="eager", objects=2)
    full_size.keep_rows(path, two, run="eager", objects=1)
    assert list(read_table(path)) == ["run", "objects", "ms"]
    assert read_table(path).to_numpy().tolist() == [["eager", 2, 1.0], ["eager", 2, 2.0], ["eager", 1, 3.0]]


def test_the_engines_are_those_of_the_builder():
    assert full_size.ENGINES == tuple(steps.ENGINES)


def test_engines_are_named_one_by_one_or_all_together():
    assert full_size.engines_of(["eager", "all"], "cuda") == ["eager", "cast", "compiled", "graphs"]
    assert full_size.engines_of(["last"], "cuda") == ["graphs"]
    assert full_size.engines_of(["last"], "cpu") == ["compiled"]
    with pytest.raises(RDSInputError, match="engine 'graphs' on cpu; choose from eager, cast, compiled, all"):
        full_size.engines_of(["graphs"], "cpu")
