"""I-LoRA: identity at the start, merging, and the file it shares with the router."""

import copy
import functools
import json
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from rds_lib.core.errors import RDSInputError
from rds_lib.model.adapters import add_lora, load_lora, lora_state_dict, merge_lora
from rds_lib.model.backbone import backbone_of
from rds_lib.model.sam2 import build_model
from rds_lib.routing.router import PredictionAwareRouter
from rds_lib.routing.weights import load_rds, save_rds, set_taus

BLOCKS = [0, 2, 12, 44]


@functools.cache
def base():
    torch.manual_seed(0)
    return build_model("mini", ckpt_path=False)


def build():
    return copy.deepcopy(base())


def randomise(model):
    for name, tensor in lora_state_dict(model).items():
        with torch.no_grad():
            tensor.copy_(torch.randn(tensor.shape, generator=torch.Generator().manual_seed(len(name))) * 0.1)
    return model


@pytest.fixture(scope="module")
def image():
    return torch.randn(1, 3, 128, 128, generator=torch.Generator().manual_seed(5))


@pytest.fixture(scope="module")
def adapted():
    return randomise(add_lora(build(), BLOCKS, rank=4, alpha=8))


@pytest.fixture
def saved(tmp_path, adapted):
    model, path = adapted, tmp_path / "rds.safetensors"
    router = PredictionAwareRouter(16, 48, (0, 2, 8, 44, 47), image_size=192, budget=0.4).half().float()
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data = parameter.data.half().float()  # what a file keeps as it is
    save_rds(path, router, model, budgets=[0.4], taus={0.4: 0.38}, blocks=BLOCKS, rank=4)
    return path, router, model


@torch.inference_mode()
def encode(model, image):
    backbone = backbone_of(model)
    return backbone.run(backbone.embed(image))["backbone_fpn"]


def test_fresh_adapters_are_the_identity_and_alone_ask_for_gradients(image):
    model = build()
    expected = encode(model, image)
    add_lora(model, BLOCKS, rank=4)
    assert all(torch.equal(a, b) for a, b in zip(encode(model, image), expected))
    trained = [name for name, p in model.image_encoder.trunk.blocks.named_parameters() if p.requires_grad]
    assert len(trained) == 2 * 4 * len(BLOCKS) and all("lora_" in name for name in trained)


def test_only_the_named_blocks_are_adapted():
    names = lora_state_dict(add_lora(build(), [1, 11], rank=2))
    assert {int(name.split("blocks.")[1].split(".")[0]) for name in names} == {1, 11}
    assert len(names) == 2 * 4 * 2


def test_merging_keeps_the_output_and_restores_the_keys_of_sam2(image):
    model = randomise(add_lora(build(), BLOCKS, rank=4, alpha=8))
    unmerged = encode(model, image)
    merge_lora(model)
    assert list(model.state_dict()) == list(base().state_dict())
    assert all((a - b).abs().max() < 1e-5 for a, b in zip(encode(model, image), unmerged))
    assert (encode(base(), image)[2] - unmerged[2]).abs().max() > 1e-3
    assert lora_state_dict(add_lora(model, [3], rank=1))  # adapters can be put on again


def test_weights_travel_between_models(image, adapted):
    other = load_lora(add_lora(build(), BLOCKS, rank=4, alpha=8), lora_state_dict(adapted))
    assert all(torch.equal(a, b) for a, b in zip(encode(other, image), encode(adapted, image)))


@pytest.mark.parametrize("blocks, rank", [([], 4), ([48], 4), ([-1], 4), ([3], 0), ([3], 1.5)])
def test_rejects_impossible_adapters(blocks, rank):
    with pytest.raises(RDSInputError, match="give"):
        add_lora(base(), blocks, rank=rank)


def test_file_restores_router_and_adapters(saved, image):
    path, router, model = saved
    weights = load_rds(path)
    assert (
        weights.blocks == tuple(BLOCKS)
        and weights.rank == 4
        and weights.taus == {0.4: 0.38}
        and weights.budgets == (0.4,)
    )
    assert weights.router.budget == 0.4 and not weights.router.training
    for name, tensor in router.state_dict().items():
        assert torch.equal(weights.router.state_dict()[name], tensor)
    folded, carried = weights.apply_to(build()), weights.apply_to(build(), merge=False)
    assert all((a - b).abs().max() < 1e-5 for a, b in zip(encode(folded, image), encode(model, image)))
    assert list(folded.state_dict()) == list(base().state_dict())
    assert all(torch.equal(a, b) for a, b in zip(encode(carried, image), encode(model, image)))


@pytest.mark.parametrize(
    "options, spread",
    [({"normalise": False}, 1.0), ({"logit_spread": 3.0}, 3.0), ({"learn_spread": True, "logit_spread": 2.0}, 5.4366)],
)
@torch.no_grad()
def test_a_file_keeps_how_the_router_rates_blocks(saved, options, spread):
    path, _, model = saved
    router = PredictionAwareRouter(16, 48, (0, 2, 8, 44, 47), image_size=192, **options)
    if router.learn_spread:
        router.log_spread.data += 1
    save_rds(path, router, model, budgets=[0.4])
    loaded = load_rds(path).router
    assert (loaded.normalise, loaded.learn_spread) == (router.normalise, router.learn_spread)
    assert float(loaded.spread) == pytest.approx(float(router.spread), rel=1e-3)
    assert float(router.spread) == pytest.approx(spread, abs=1e-4)


def test_a_file_from_before_there_were_modes_is_normalised(saved):
    path = saved[0]
    with safe_open(path, framework="pt") as file:
        meta = json.loads(file.metadata()["rds"])
    for name in ("normalise", "learn_spread"):
        del meta["router"][name]
    save_file(load_file(path), path, metadata={"rds": json.dumps(meta)})
    router = load_rds(path).router
    assert router.normalise and not router.learn_spread and router.spread == 1.0


def test_equal_weights_give_equal_bytes(saved):
    path, router, model = saved
    contents = set()
    for _ in range(6):
        save_rds(path, router, model, budgets=[0.4], taus={0.4: 0.38})
        contents.add(path.read_bytes())
    assert len(contents) == 1 and [file.name for file in path.parent.iterdir()] == [path.name]


def test_adapters_may_be_saved_without_a_router(saved):
    path, _, model = saved
    save_rds(path, None, model)
    weights = load_rds(path)
    assert weights.router is None and len(weights.lora) == 2 * 4 * len(BLOCKS)


def test_thresholds_can_be_stored_later(saved):
    path = saved[0]
    set_taus(path, {0.4: 0.3, 0.6: 0.5})
    assert load_rds(path).taus == {0.4: 0.3, 0.6: 0.5}
    with pytest.raises(RDSInputError, match="budget is 40"):
        set_taus(path, {40: 0.3})
    assert load_rds(path).taus == {0.4: 0.3, 0.6: 0.5}


def test_a_budget_without_a_threshold_is_met_by_counting(saved):
    weights = replace(load_rds(saved[0]), budgets=(0.5, 0.9), taus={0.4: 0.3, 0.6: 0.45, 1.0: 0.2})
    assert weights.rule_for(0.4) == ("threshold", 0.3) and weights.rule_for(0.6) == ("threshold", 0.45)
    assert weights.rule_for(1) == ("threshold", 0.0), "all blocks, whatever the file says"
    assert {weights.rule_for(budget) for budget in (0.41, 0.5, 0.7, 0.95)} == {("top_n", 0.5)}
    blind = replace(weights, taus={})
    assert blind.rule_for(0.5) == blind.rule_for(0.6) == ("top_n", 0.5) and blind.rule_for(1.0) == ("threshold", 0.0)
    assert replace(blind, budgets=()).rule_for(0.01) == ("top_n", 0.5)


@pytest.mark.parametrize("taus, budget, lowest", [({0.4: 0.3, 0.6: 0.5}, 0.39, "0.4"), ({}, 0.49, "0.5")])
def test_a_budget_below_the_lowest_is_refused(saved, taus, budget, lowest):
    weights = replace(load_rds(saved[0]), budgets=(0.5, 0.9), taus=taus)
    with pytest.raises(RDSInputError, match=rf"budget is {budget}; this router serves {lowest} to 1; give .* tau"):
        weights.rule_for(budget)


def test_rejects_missing_garbage_and_foreign_files(saved, tmp_path):
    with pytest.raises(RDSInputError, match="no such RDS file"):
        load_rds(tmp_path / "none.safetensors")
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(saved[0].read_bytes()[:-100])
    with pytest.raises(RDSInputError, match="not a readable RDS file"):
        load_rds(cut)
    save_file({"x": torch.zeros(1)}, cut)
    with pytest.raises(RDSInputError, match="format is None"):
        load_rds(cut)


@pytest.mark.parametrize(
    "damage, match",
    [
        (lambda tensors, meta: tensors.pop("router.alpha"), r"missing: router\.alpha"),
        (
            lambda tensors, meta: tensors["router.mlp.2.bias"].fill_(float("nan")),
            r"NaN or infinite: router\.mlp\.2\.bias",
        ),
        (lambda tensors, meta: tensors.update(extra=torch.zeros(1)), "unexpected: extra"),
        (lambda tensors, meta: meta["router"].update(depth=24, always_on=[0, 2]), r"other shape: router\.mlp\.2"),
        (lambda tensors, meta: meta.update(rank=2), r"other shape: lora\."),
        (lambda tensors, meta: meta.update(blocks=[0, 2, 12]), r"unexpected: lora\."),
        (lambda tensors, meta: meta.pop("blocks"), "header cannot be used"),
        (lambda tensors, meta: meta.update(router={"depth": 3}), "header cannot be used"),
    ],
)
def test_rejects_damaged_weights_and_lists_the_keys(saved, damage, match):
    path = saved[0]
    with safe_open(path, framework="pt") as file:
        meta = json.loads(file.metadata()["rds"])
    tensors = load_file(path)
    damage(tensors, meta)
    save_file(tensors, path, metadata={"rds": json.dumps(meta)})
    with pytest.raises(RDSInputError, match=match) as caught:
        load_rds(path)
    assert path.name in str(caught.value)


def test_a_router_that_may_skip_what_the_model_always_runs_is_refused_by_file(saved):
    weights = load_rds(saved[0])
    weights.router.always_on = (0, 3)
    with pytest.raises(RDSInputError, match=rf"{saved[0].name}: its always_on, \[0, 3\], lacks \[2, 8, 44, 47\]"):
        weights.apply_to(build())


def test_adapters_too_large_to_be_added_up_are_refused_by_file(saved):
    weights = load_rds(saved[0])
    huge = {name: torch.full_like(tensor, 1e30) for name, tensor in weights.lora.items()}
    with pytest.raises(RDSInputError, match=rf"{saved[0].name}: adapter weights of layer .* too large"):
        replace(weights, lora=huge).apply_to(build())


def test_rejects_a_model_of_another_depth_or_size(saved):
    weights = load_rds(saved[0])
    other = build_model(
        "mini",
        ckpt_path=False,
        overrides=["++model.image_encoder.trunk.stages=[2,3,7,3]", "++model.image_encoder.trunk.global_att_blocks=[7]"],
    )
    with pytest.raises(RDSInputError, match=rf"{saved[0].name}: for .*depth 48.*depth 15"):
        weights.apply_to(other)


def test_refuses_adapters_of_blocks_that_the_model_or_the_file_does_not_have(saved):
    path, _, model = saved
    save_rds(path, None, model)
    weights = load_rds(path)
    with pytest.raises(RDSInputError, match="for block 44; the model has blocks 0 to 23"):
        weights.apply_to(build_model("mini_half", ckpt_path=False))
    for merge in (True, False):
        with pytest.raises(RDSInputError, match=r"missing: image_encoder\.trunk\.blocks\.0\.attn"):
            replace(weights, lora={"none": torch.zeros(1)}).apply_to(build(), merge=merge)


def test_does_not_write_broken_weights_or_a_wrong_description(saved):
    path, router, model = saved
    before = path.read_bytes()
    with pytest.raises(RDSInputError, match="not rank 8"):
        save_rds(path, router, model, blocks=BLOCKS, rank=8)
    with torch.no_grad():
        router.alpha.fill_(float("inf"))
    with pytest.raises(RDSInputError, match=r"router\.alpha"):
        save_rds(path, router, model)
    assert path.read_bytes() == before
