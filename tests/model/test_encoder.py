"""The routed encoder against SAM2's own, and masked against skipped."""

import pytest
import torch

from rds_lib.core.errors import RDSInputError
from rds_lib.model.encoder import always_on_blocks, embed_patches, encode_image, run_blocks
from rds_lib.model.sam2 import build_model
from rds_lib.routing.algorithm1 import sample_route


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return build_model("mini", ckpt_path=False).requires_grad_(False)


@pytest.fixture(scope="module")
def image():
    return torch.randn(2, 3, 128, 128, generator=torch.Generator().manual_seed(5))


@pytest.fixture
def route(model):
    w = torch.full((48,), 0.5)
    return sample_route(w, always_on_blocks(model.image_encoder.trunk), torch.Generator().manual_seed(7))


def test_full_route_equals_sam2(model, image):
    expected, got = model.forward_image(image), encode_image(model, image)
    assert got.keys() == expected.keys()
    for name in ("backbone_fpn", "vision_pos_enc"):
        assert len(got[name]) == len(expected[name])
        assert all(torch.equal(a, b) for a, b in zip(got[name], expected[name]))
    assert torch.equal(got["vision_features"], expected["vision_features"])


def test_always_on_blocks_follow_from_the_stages(model):
    assert always_on_blocks(model.image_encoder.trunk) == (0, 2, 8, 44, 47)


def test_masked_and_skipped_forward_agree_and_skipped_blocks_are_not_called(model, image, route):
    trunk, calls = model.image_encoder.trunk, []
    masked = encode_image(model, image, torch.stack([route, route]))
    hooks = [block.register_forward_hook(lambda *_, i=i: calls.append(i)) for i, block in enumerate(trunk.blocks)]
    skipped = encode_image(model, image, route.bool().tolist())
    for hook in hooks:
        hook.remove()
    assert calls == route.nonzero().flatten().tolist() and len(calls) < 40
    for a, b in zip(masked["backbone_fpn"], skipped["backbone_fpn"]):
        assert (a - b).abs().max() < 1e-5


def test_each_frame_of_a_batch_follows_its_own_route(model, image, route):
    both = encode_image(model, image, torch.stack([route, torch.ones(48)]))["backbone_fpn"]
    assert torch.allclose(both[2][:1], encode_image(model, image[:1], route)["backbone_fpn"][2], atol=1e-5)
    assert torch.allclose(both[2][1:], encode_image(model, image[1:])["backbone_fpn"][2], atol=1e-5)


def test_skipping_the_end_of_a_stage_keeps_its_level(model, image):
    trunk = model.image_encoder.trunk
    outputs = run_blocks(trunk, embed_patches(trunk, image), [i not in (1, 7, 43) for i in range(48)])
    assert [tuple(x.shape[1:]) for x in outputs] == [(16, 32, 32), (32, 16, 16), (64, 8, 8), (128, 4, 4)]


def test_gradient_of_the_masked_form_is_the_block_update(model, image):
    trunk = model.image_encoder.trunk
    tokens = embed_patches(trunk, image)
    route = torch.ones(2, 48)
    route[:, 2:] = 0
    route[:, [2, 8, 44]] = 1
    route.requires_grad_()
    run_blocks(trunk, tokens, route)[0].sum().backward()
    x = trunk.blocks[0](tokens)
    expected = (trunk.blocks[1](x) - x).sum((1, 2, 3))
    torch.testing.assert_close(route.grad[:, 1], expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("entry", [2, 8, 44])
def test_a_block_that_changes_shapes_cannot_be_skipped(model, image, entry):
    flags = [i != entry for i in range(48)]
    with pytest.raises(RDSInputError, match=rf"\[{entry}\]"):
        encode_image(model, image, flags)
    with pytest.raises(RDSInputError, match="keep these blocks on"):
        encode_image(model, image, torch.tensor([flags, flags]).float())


@pytest.mark.parametrize("route", [[True] * 47, [True] * 47 + [0.5], torch.ones(1, 48)])
def test_rejects_a_route_of_the_wrong_length_or_values(model, image, route):
    with pytest.raises(RDSInputError, match="route has"):
        encode_image(model, image, route)
