"""The stages that train the baselines and the other placements: their files, what they say of the encoder, and no work twice."""

import logging

import numpy as np
import pytest

from rds_lib import load_params
from rds_lib.core.artifacts import read_table
from rds_lib.evaluation.baseline_products import LABELS, baseline_predictor, levels_of, rows
from rds_lib.evaluation.products import predictor_for
from rds_lib.model.macs import block_macs
from rds_lib.pipeline import baselines as stage_baselines, placement as stage_placement, train as stage_train
from rds_lib.pipeline.baselines import matching_rate, run_baseline
from rds_lib.pipeline.placement import run_placement
from rds_lib.routing.weights import load_rds


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    """A smoke folder of its own; trainings are kept there and not in the repository's cache."""
    folder = tmp_path_factory.mktemp("stages") / "smoke"
    with pytest.MonkeyPatch.context() as patch:
        for module in (stage_train, stage_baselines):
            patch.setattr(module, "CACHE", folder / "cache")
        yield folder


@pytest.fixture(scope="module")
def params():
    return load_params("smoke")


@pytest.fixture(scope="module")
def trained(workdir, params):
    for method in LABELS:
        run_baseline(params, workdir, method, workdir / "baselines" / method)
    return workdir


def test_every_row_of_the_profile_has_a_file_that_tracks(trained, params):
    found = list(rows(params))
    assert [label for _, label, _, _ in found] == ["SlimSAM", "PBD", "DyT", "AdaViT"] and found[0][2] == pytest.approx(2 / 3, abs=1e-3)
    for method, _, _, file in found:
        path = trained / "baselines" / method / file
        assert path.is_file() and len(baseline_predictor(params, method, path).image_encoder.trunk.blocks) == (24 if method == "pbd" else 48)


def test_the_levels_say_what_became_of_the_encoder(trained, params):
    tables = {method: read_table(trained / "baselines" / method / "levels.csv").iloc[0] for method in LABELS}
    model = predictor_for(params, routing="full")
    whole = sum(block_macs(model.image_encoder.trunk, model.image_size)) / 1e9
    assert all(row["disagreement"] < 1e-5 for row in tables.values())
    assert tables["slimsam"]["gmacs"] / whole == pytest.approx(0.45, abs=0.03), "6/9 of both sides of every layer"
    assert tables["pbd"]["active_blocks"] == 24 and tables["adavit"]["active_blocks"] == pytest.approx(24, abs=4)
    assert tables["dyt"]["kept_tokens"] == pytest.approx(0.4, abs=0.15) and tables["dyt"]["active_blocks"] == 48
    own = sum(p.numel() for p in model.image_encoder.parameters())
    assert tables["pbd"]["encoder_params"] < 0.75 * own < own < tables["adavit"]["encoder_params"] < tables["dyt"]["encoder_params"]
    blocks = read_table(trained / "baselines" / "pbd" / "blocks.csv")
    assert blocks["block"].tolist() == [*range(22), 44, 47] and (blocks["ran"] == 1).all()
    steps = read_table(trained / "baselines" / "slimsam" / "log.csv").groupby("part").size()
    assert steps.to_dict() == {"width": 1, "bottleneck": 1, "tune": 2}


def test_nothing_is_trained_twice_and_another_level_leaves_the_first_alone(trained, params, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(stage_baselines, "train_baseline", lambda method, level, *, out, **_: asked.append(level) or out)
    stage_baselines.train_level(params, trained, "pbd", 0.4)
    more = params.with_section("baselines", levels=[0.8, 0.4])
    assert levels_of(more, "pbd") == (0.8, 0.4)
    for level in (0.8, 0.4):
        stage_baselines.train_level(more, trained, "pbd", level)
    assert asked == [0.8]
    stage_baselines.train_level(params.with_section("train", steps=3), trained, "pbd", 0.4)
    assert asked == [0.8, 0.4], "more steps are another training"


def test_dyt_matches_the_work_of_rds_or_says_that_it_cannot(params, caplog):
    model = predictor_for(params, routing="full")
    plain = sum(block_macs(model.image_encoder.trunk, model.image_size))
    rate = matching_rate(params, 0.8)
    stage_baselines.dyt.add_dispatchers(model, width=params.baselines.adapter_width)
    work = sum(block_macs(model.image_encoder.trunk, model.image_size, kept=[rate] * 48))
    assert work / plain == pytest.approx((5 + 43 * 0.8) / 48) and not caplog.records
    with caplog.at_level(logging.WARNING):
        assert matching_rate(params, 0.1) == stage_baselines.SMALLEST_RATE
    assert "cannot do as little as RDS 0.1" in caplog.text


def test_placements_are_trained_with_their_blocks_and_as_many_parameters(trained, params):
    run_placement(params, trained, trained / "placement")
    table = read_table(trained / "placement" / "placements.csv").set_index("placement")
    assert table.index.tolist() == ["I-LoRA", "all", "random", "active", "none"]
    assert table["blocks"].tolist() == [24, 48, 24, 24, 0] and table["shared"].tolist()[:2] == [24, 24]
    same = table.loc[["I-LoRA", "random", "active"], "parameters"]
    assert same.nunique() == 1 and table.loc["all", "parameters"] == pytest.approx(same.iloc[0], rel=0.05)
    assert np.isfinite(table["calibration_active"]).all()
    none = load_rds(trained / "placement" / "rds_none.safetensors")
    assert none.router is not None and not none.lora and list(none.taus) == [params.baselines.placement_budget]
