"""A throw-away baseline in one class: what a new method has to say, and what then finds it by itself."""

import numpy as np
import pytest

from rds_lib import load_params
from rds_lib.core.artifacts import read_tensors, write_json
from rds_lib.core.errors import RDSInputError
from rds_lib.methods import METHODS, Method, register
from rds_lib.methods.pbd import drop_blocks
from rds_lib.model.adapters import add_lora
from rds_lib.model.backbone import backbone_of
from rds_lib.model.sam2 import build_model
from rds_lib.pipeline import baselines, kept_trainings

LEFT = [*range(0, 48, 2), 47]


class EveryOther(Method):
    """Every other block outside K is dropped, and the rest is adapted."""

    name, label = "every_other", "Every other block"

    def prepare(self, model, level, *, blocks, rank, **_):
        backbone = backbone_of(model)
        dropped = set(range(1, backbone.depth, 2)) - set(backbone.always_on)
        add_lora(model, [i for i in range(backbone.depth) if i not in dropped], rank=rank)
        drop_blocks(model, dropped)


@pytest.fixture(scope="module", autouse=True)
def method():
    before = list(METHODS)
    yield register(EveryOther())
    del METHODS[EveryOther.name]
    assert list(METHODS) == before


@pytest.fixture(scope="module")
def params():
    return load_params("smoke").with_section("train", steps=1)


@pytest.fixture(scope="module")
def trained(params, tmp_path_factory):
    """A smoke folder, and in it the weights after one step; the blocks to adapt are made up."""
    folder = tmp_path_factory.mktemp("method") / "smoke"
    write_json(folder / "importance" / "blocks.json", {"blocks": [0, 12, 44]})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kept_trainings, "CACHE", folder / "cache")
        yield folder, baselines.train_level(params, folder, EveryOther.name, 0.4)


def test_it_is_trained_and_stored_and_comes_back(trained, method):
    path = trained[1]
    tensors, header = read_tensors(path)
    assert (header["method"], header["level"], header["threshold"]) == ("every_other", 0.4, 0)
    assert any(tensor.any() for name, tensor in tensors.items() if "lora_B" in name), "a step was made"
    model = method.load(build_model("mini"), path)
    assert len(model.image_encoder.trunk.blocks) == len(LEFT)
    assert method.trained_parameters(model, path) == sum(tensor.numel() for tensor in tensors.values())


def test_the_stage_describes_what_is_left(params, trained):
    facts, blocks = baselines.describe_level(params, trained[0], EveryOther.name, 0.4, trained[1])
    assert facts["active_blocks"] == len(LEFT) and facts["kept_tokens"] == 1 and facts["disagreement"] == 0
    assert blocks["block"].tolist() == LEFT and np.all(blocks[["ran", "kept"]] == 1)


def test_errors_name_the_method_and_its_level(params, trained, method, monkeypatch):
    with pytest.raises(RDSInputError, match=r"Every other block has no level 0\.7 in profile smoke; choose one of 0\."):
        baselines.train_level(params, trained[0], EveryOther.name, 0.7)
    monkeypatch.setattr(EveryOther, "prepare", lambda self, model, level, **_: 1 / 0)
    other = params.with_section("train", lora_rank=3)
    with pytest.raises(RuntimeError, match="Every other block at level 0.4: division by zero"):
        baselines.train_level(other, trained[0], EveryOther.name, 0.4)
