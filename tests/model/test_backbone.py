"""SAM2's Hiera as a backbone: its encoding against SAM2's own, masked against skipped, and its layout."""

import copy
import gc
import pickle
import weakref

import pytest
import torch

from rds_lib.core.errors import RDSInputError
from rds_lib.model.backbone import HieraBackbone, backbone_of
from rds_lib.model.clip_tracking import SAM2Clips
from rds_lib.model.sam2 import build_model, set_image_size
from rds_lib.routing.algorithm1 import sample_route


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return build_model("mini", ckpt_path=False).requires_grad_(False)


@pytest.fixture(scope="module")
def backbone(model):
    return HieraBackbone(model)


@pytest.fixture(scope="module")
def tokens(backbone):
    return backbone.embed(torch.randn(2, 3, 128, 128, generator=torch.Generator().manual_seed(5)))


@pytest.fixture
def route(backbone):
    return sample_route(torch.full((48,), 0.5), backbone.always_on, torch.Generator().manual_seed(7))


def test_full_route_equals_sam2(model, backbone):
    image = torch.randn(2, 3, 128, 128, generator=torch.Generator().manual_seed(5))
    expected, got = model.forward_image(image), backbone.run(backbone.embed(image))
    assert got.keys() == expected.keys()
    for name in ("backbone_fpn", "vision_pos_enc"):
        assert len(got[name]) == len(expected[name])
        assert all(torch.equal(a, b) for a, b in zip(got[name], expected[name]))
    assert torch.equal(got["vision_features"], expected["vision_features"])


@pytest.mark.parametrize(
    "config, starts, always_on",
    [("mini", (0, 2, 8, 44), (0, 2, 8, 44, 47)), ("mini_half", (0, 1, 4, 22), (0, 1, 4, 22, 23))],
)
def test_stages_and_always_on_blocks_follow_from_the_model(config, starts, always_on):
    backbone = backbone_of(build_model(config, ckpt_path=False))
    assert (backbone.stage_starts, backbone.always_on) == (starts, always_on)
    assert backbone.depth == len(backbone.blocks) == always_on[-1] + 1
    shape = backbone.shape
    assert (shape.depth, shape.stage_starts, shape.always_on) == (backbone.depth, starts, always_on)


def test_sizes_are_those_of_the_tokens_also_after_the_model_was_resized(mini_model):
    backbone = HieraBackbone(mini_model)
    for size in (192, 64):
        set_image_size(mini_model, size)
        side = size // backbone.token_stride
        assert backbone.image_size == size
        assert backbone.embed(torch.zeros(1, 3, size, size)).shape == (1, side, side, backbone.embed_dim)


def test_adapters_find_their_layers_in_every_block(backbone):
    for block in backbone.blocks:
        assert all(isinstance(block.get_submodule(name), torch.nn.Linear) for name in backbone.lora_targets)


def test_masked_and_skipped_forward_agree_and_skipped_blocks_are_not_called(backbone, tokens, route):
    calls = []
    masked = backbone.run(tokens, torch.stack([route, route]))
    hooks = [block.register_forward_hook(lambda *_, i=i: calls.append(i)) for i, block in enumerate(backbone.blocks)]
    skipped = backbone.run(tokens, backbone.check_route(route))
    for hook in hooks:
        hook.remove()
    assert calls == route.nonzero().flatten().tolist() and len(calls) < 40
    for a, b in zip(masked["backbone_fpn"], skipped["backbone_fpn"]):
        assert (a - b).abs().max() < 1e-5


def test_each_frame_of_a_batch_follows_its_own_route(backbone, tokens, route):
    both = backbone.run(tokens, torch.stack([route, torch.ones(48)]))["backbone_fpn"]
    assert torch.allclose(both[2][:1], backbone.run(tokens[:1], route.tolist())["backbone_fpn"][2], atol=1e-5)
    assert torch.allclose(both[2][1:], backbone.run(tokens[1:])["backbone_fpn"][2], atol=1e-5)


def test_skipping_the_end_of_a_stage_keeps_its_level(backbone, tokens):
    outputs = backbone.run_blocks(tokens, [i not in (1, 7, 43) for i in range(48)])
    assert [tuple(x.shape[1:]) for x in outputs] == [(16, 32, 32), (32, 16, 16), (64, 8, 8), (128, 4, 4)]


def test_gradient_of_the_masked_form_is_the_block_update(backbone, tokens):
    route = torch.ones(2, 48)
    route[:, 2:] = 0
    route[:, [2, 8, 44]] = 1
    route.requires_grad_()
    backbone.run_blocks(tokens, route)[0].sum().backward()
    x = backbone.blocks[0](tokens)
    expected = (backbone.blocks[1](x) - x).sum((1, 2, 3))
    torch.testing.assert_close(route.grad[:, 1], expected, rtol=1e-3, atol=1e-3)


def test_a_checked_route_never_skips_what_has_to_run(backbone, tokens):
    flags = backbone.check_route([0] * 48)
    assert [i for i, flag in enumerate(flags) if flag] == [0, 2, 8, 44, 47] and all(
        type(flag) is bool for flag in flags
    )
    assert len(backbone.run(tokens, flags)["backbone_fpn"]) == 3


@pytest.mark.parametrize("entry", [2, 8, 44])
def test_a_masked_block_that_changes_shapes_cannot_be_skipped(backbone, tokens, entry):
    route = torch.ones(2, 48)
    route[1, entry] = 0
    with pytest.raises(RDSInputError, match=rf"{entry}.*keep these blocks on"):
        backbone.run(tokens, route)


@pytest.mark.parametrize(
    "route", [[True] * 47, [True] * 49, [True] * 47 + [0.5], torch.full((48,), 2), torch.ones(1, 48)]
)
def test_rejects_a_route_of_the_wrong_length_or_values(backbone, route):
    with pytest.raises(RDSInputError, match="route has"):
        backbone.check_route(route)


def test_rejects_a_mask_of_another_batch(backbone, tokens):
    with pytest.raises(RDSInputError, match=r"expected \(B, L\) = \(2, 48\)"):
        backbone.run(tokens, torch.ones(1, 48))


def test_gmacs_follow_what_ran_and_what_went_through_the_mlps(backbone):
    whole, without = (sum(backbone.block_macs([share] * 48)) / 1e9 for share in (1.0, 0.0))
    assert backbone.gmacs() == pytest.approx(whole) and 0 < without < whole
    assert backbone.gmacs(kept=[0.25] * 48) == pytest.approx(without + 0.25 * (whole - without))
    half = [i % 2 for i in range(48)]
    assert backbone.gmacs(half) == pytest.approx(sum(m for m, ran in zip(backbone.block_macs(), half) if ran) / 1e9)


def test_a_model_or_tracker_with_a_backbone_keeps_it(model):
    tracker = SAM2Clips(model)
    assert backbone_of(tracker) is tracker.backbone and isinstance(backbone_of(model), HieraBackbone)


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))], ids=["deepcopy", "pickle"])
def test_a_copied_predictor_has_a_backbone_of_its_own(mini_model, clone):
    from rds_lib.routing.build import build_rds_video_predictor

    first = build_rds_video_predictor("mini", False, device="cpu")
    second = clone(first)
    assert second.backbone.blocks is second.image_encoder.trunk.blocks is not first.image_encoder.trunk.blocks
    assert second.frame_router.backbone is second.backbone
    assert list(second.state_dict()) == list(mini_model.state_dict())


def test_a_predictor_is_freed_without_the_garbage_collector():
    from rds_lib.routing.build import build_rds_video_predictor

    gc.collect()
    gc.disable()
    try:
        predictor = build_rds_video_predictor("mini", False, device="cpu")
        alive = weakref.ref(predictor)
        del predictor
        assert alive() is None
    finally:
        gc.enable()
