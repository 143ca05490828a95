"""The stage that trains the baselines and the other placements: its files, what they say of the encoder, no work twice.

On the mini model of half the depth, with made-up products of the stages before.
"""

from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch

from rds_lib import load_params
from rds_lib.core.artifacts import read_table, write_json, write_npz, write_table, write_text
from rds_lib.methods import METHODS, base
from rds_lib.methods.pbd import PBD
from rds_lib.model.adapters import add_lora
from rds_lib.model.backbone import backbone_of
from rds_lib.model.sam2 import build_model
from rds_lib.pipeline import baselines, kept_trainings
from rds_lib.routing.router import PredictionAwareRouter
from rds_lib.routing.weights import load_rds, save_rds

SELECTED = [0, 1, 3, 4, 5, 8, 9, 11, 13, 15, 22, 23]


@pytest.fixture(scope="module")
def params():
    return load_params("smoke").with_section("model", config="mini_half")


@pytest.fixture(scope="module")
def whole():
    return build_model("mini_half")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A smoke folder with the products of importance and train; trainings are kept there, not in the cache."""
    folder, model = tmp_path_factory.mktemp("stages") / "smoke", build_model("mini_half")
    rng = np.random.default_rng(0)
    write_json(folder / "importance" / "blocks.json", {"blocks": SELECTED})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        router = PredictionAwareRouter.for_backbone(backbone_of(model), hidden=64)
        add_lora(model, SELECTED, rank=4)
        save_rds(folder / "train" / "rds_0.4.safetensors", router, model, budgets=[0.4], taus={0.4: 0.5})
    write_npz(folder / "train" / "calibration_w.npz", **{"0.4/0.4": rng.random((20, 24))})
    rows = pd.DataFrame({"run": ["0.4", "any"], "budget": 0.4, "tau": 0.5, "calibration_active": 12.5})
    write_table(folder / "train" / "calibration.csv", rows)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kept_trainings, "CACHE", folder / "cache")
        for module in (base, baselines):
            patch.setattr(module, "calibration_images", partial(base.calibration_images, n=4))
        yield folder


@pytest.fixture(scope="module")
def trained(folder, params):
    baselines.run(params, folder, folder / "baselines")
    return folder / "baselines"


def test_every_row_of_the_profile_has_a_file_that_loads(trained, params):
    for name, method in METHODS.items():
        for level in method.levels(params.baselines):
            model = method.load(build_model("mini_half"), trained / name / f"{level:g}.safetensors")
            assert len(model.image_encoder.trunk.blocks) == (12 if name == "pbd" else 24)


def test_the_levels_say_what_is_left_of_the_encoder(trained, whole):
    tables = {name: read_table(trained / name / "levels.csv").iloc[0] for name in METHODS}
    assert all(row["disagreement"] < 1e-5 for row in tables.values())
    share = tables["slimsam"]["gmacs"] / backbone_of(whole).gmacs()
    assert share == pytest.approx(0.45, abs=0.04), "6/9 of both sides of every layer"
    assert tables["pbd"]["active_blocks"] == 12 and tables["adavit"]["active_blocks"] == pytest.approx(12, abs=3)
    assert tables["dyt"]["kept_tokens"] == pytest.approx(0.4, abs=0.15) and tables["dyt"]["active_blocks"] == 24
    own = sum(p.numel() for p in whole.image_encoder.parameters())
    pbd, adavit, dyt = (tables[name]["encoder_params"] for name in ("pbd", "adavit", "dyt"))
    assert pbd < 0.75 * own < own < adavit < dyt
    assert tables["slimsam"]["trained_params"] > 1e6 > tables["pbd"]["trained_params"]


def test_blocks_keep_their_numbers_in_the_whole_model(trained):
    tables = {name: read_table(trained / name / "blocks.csv") for name in METHODS}
    left = tables.pop("pbd")
    assert left["block"].tolist() == [*range(10), 22, 23] and (left["ran"] == 1).all()
    assert all(table["block"].tolist() == list(range(24)) for table in tables.values())


def test_the_log_names_the_parts_of_a_training(trained):
    parts = {name: read_table(trained / name / "log.csv").groupby("part").size().to_dict() for name in METHODS}
    assert parts.pop("slimsam") == {"width": 1, "bottleneck": 1, "tune": 2}
    assert all(part == {"train": 2} for part in parts.values())


def test_nothing_is_trained_twice_and_another_level_leaves_the_first_alone(trained, folder, params, monkeypatch):
    asked = []

    def train(self, level, setup, *, out, **_):
        asked.append(level)
        write_text(out, "")

    monkeypatch.setattr(PBD, "train", train)
    baselines.train_level(params, folder, "pbd", 0.4)
    more = params.with_section("baselines", levels=[0.8, 0.4])
    for level in (0.8, 0.4):
        baselines.train_level(more, folder, "pbd", level)
    assert asked == [0.8]
    baselines.train_level(params.with_section("train", steps=3), folder, "pbd", 0.4)
    assert asked == [0.8, 0.4], "more steps are another training"


def test_placements_are_trained_with_their_blocks_and_as_many_parameters(trained, params):
    table = read_table(trained / "placement" / "placements.csv").set_index("placement")
    assert table.index.tolist() == ["I-LoRA", "all", "random", "active", "none"]
    assert table["blocks"].tolist() == [12, 24, 12, 12, 0] and table["shared"].tolist()[:2] == [12, 12]
    same = table.loc[["I-LoRA", "random", "active"], "parameters"]
    assert same.nunique() == 1 and table.loc["all", "parameters"] == pytest.approx(same.iloc[0], rel=0.05)
    assert np.isfinite(table["calibration_active"]).all()
    none = load_rds(trained / "placement" / "rds_none.safetensors")
    assert none.router is not None and not none.lora and list(none.taus) == [params.baselines.placement_budget]
