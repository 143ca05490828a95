"""DINOv3 as a backbone: transformers' forward at full route, blocks that are skipped, files that are refused."""

import json

import pytest
import torch
from transformers import DINOv3ViTConfig, DINOv3ViTModel

from rds_lib.core.errors import RDSInputError
from rds_lib.dinov3.backbone import DinoBackbone, load_dinov3
from rds_lib.dinov3.propagation import DinoClips
from rds_lib.model.adapters import adapters_of, add_lora, merge_lora

CONFIG = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 5,
    "num_attention_heads": 2,
    "patch_size": 8,
    "image_size": 64,
    "num_register_tokens": 3,
}


@pytest.fixture
def vit():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return DINOv3ViTModel(DINOv3ViTConfig(**CONFIG)).eval().requires_grad_(False)


@pytest.fixture
def images():
    return torch.randn(2, 3, 40, 56, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("gated", [False, True])
def test_at_full_route_it_is_the_models_own_forward_bit_for_bit(gated, images):
    vit = DINOv3ViTModel(DINOv3ViTConfig(**CONFIG, use_gated_mlp=gated)).eval()
    backbone = DinoBackbone(vit.train())  # in training mode the position encoding would be rescaled at random
    with torch.no_grad():
        expected = vit(images).last_hidden_state
        found = backbone.run_blocks(backbone.embed(images))
        assert found.equal(expected) and found.shape == (2, 1 + 3 + 5 * 7, 32)
        assert found.equal(backbone.run_blocks(backbone.embed(images), [True] * 5))
        assert found.equal(backbone.run_blocks(backbone.embed(images), torch.ones(2, 5)))
        features = backbone.run(backbone.embed(images))
    assert features.shape == (2, 5, 7, 32)
    assert torch.allclose(features.flatten(1, 2), torch.nn.functional.normalize(expected[:, 4:], dim=-1))


def test_masked_and_skipped_agree_and_a_skipped_block_is_not_called(vit, images):
    backbone, calls = DinoBackbone(vit), []
    for i, block in enumerate(backbone.blocks):
        block.register_forward_hook(lambda *_, i=i: calls.append(i))
    tokens, route = backbone.embed(images), [True, False, True, False, True]
    skipped = backbone.run(tokens, route)
    assert calls == [0, 2, 4]
    masked = backbone.run(tokens, torch.tensor([route, [True] * 5]).float())
    assert (skipped[0] - masked[0]).abs().max() < 1e-5 and calls[3:] == [0, 1, 2, 3, 4]
    assert (masked[1] - backbone.run(tokens)[1]).abs().max() < 1e-5 and (masked[0] - masked[1]).abs().max() > 1e-3


def test_k_is_the_first_and_the_last_block_unless_it_is_named(vit):
    assert DinoBackbone(vit).always_on == (0, 4) and DinoBackbone(vit, always_on=[2]).always_on == (2,)
    assert DinoBackbone(vit).shape.stage_starts == (0,)


def test_macs_are_those_of_pytorchs_counter(vit, images):
    from torch.utils.flop_counter import FlopCounterMode

    backbone = DinoBackbone(vit)
    tokens = backbone.embed(images[:1])
    with FlopCounterMode(display=False) as counter:
        backbone.run(tokens)
    assert 1e9 * backbone.gmacs() == pytest.approx(counter.get_total_flops() / 2, rel=1e-3)
    assert backbone.gmacs([1, 0, 0, 0, 1]) == pytest.approx(0.4 * backbone.gmacs())


def test_adapters_go_on_and_merge(vit, images):
    clips = DinoClips(DinoBackbone(vit))
    before = clips.backbone.run(clips.backbone.embed(images))
    add_lora(clips, [1, 4], rank=2)
    layers = adapters_of(clips)
    assert len(layers) == 12 and {name.split(".")[0] for name in layers} == {"1", "4"}
    for layer in layers.values():
        torch.nn.init.normal_(layer.lora_B["default"].weight)
    changed = clips.backbone.run(clips.backbone.embed(images))
    assert (changed - before).abs().max() > 1e-2
    merge_lora(clips)
    assert torch.allclose(clips.backbone.run(clips.backbone.embed(images)), changed, atol=1e-5)


def test_a_checkpoint_in_the_hubs_format_is_loaded_in_float32(vit, images, tmp_path):
    vit.half().save_pretrained(tmp_path / "saved")
    loaded = load_dinov3(tmp_path / "saved")
    assert loaded.dtype == torch.float32 and not any(p.requires_grad for p in loaded.parameters())
    assert loaded.embeddings.cls_token.equal(vit.embeddings.cls_token.float())
    assert loaded.config.num_hidden_layers == 5


def test_what_is_no_whole_dinov3_is_refused(vit, tmp_path):
    for name in ("none", tmp_path / "nowhere"):
        with pytest.raises(RDSInputError, match="could not be loaded.*config.json"):
            load_dinov3(tmp_path / "x" / str(name))
    vit.save_pretrained(tmp_path / "saved")
    config = json.loads((tmp_path / "saved" / "config.json").read_text())
    (tmp_path / "saved" / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 6}))
    with pytest.raises(RDSInputError, match="weights are missing, .*layer.5"):
        load_dinov3(tmp_path / "saved")
    (tmp_path / "saved" / "config.json").write_text(json.dumps({"model_type": "vit"}))
    with pytest.raises(RDSInputError, match="of type 'vit'; give a 'dinov3_vit' checkpoint"):
        load_dinov3(tmp_path / "saved")
