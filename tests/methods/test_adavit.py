"""AdaViT: where policies may stand, that skipped and multiplied blocks agree, and what its loss pulls at."""

import numpy as np
import pytest
import torch

from rds_lib.core.errors import RDSInputError
from rds_lib.methods import adavit

K = (0, 2, 8, 44, 47)


def test_an_untrained_model_is_the_model_itself(mini_model, image, features, apart):
    before = features(mini_model, image)
    gated = adavit.add_policies(mini_model, K)
    assert len(gated) == 43
    assert apart(before, features(mini_model, image)) == 0 and all(block.gate.all() for block in gated)
    with pytest.raises(RDSInputError, match="already"):
        adavit.add_policies(mini_model, K)


def test_policies_are_not_put_where_shapes_change(mini_model):
    with pytest.raises(RDSInputError, match="2, 8, 44"):
        adavit.add_policies(mini_model, (0, 47))


def test_a_block_that_is_decided_against_is_not_called_and_equals_a_gate_of_0(mini_model, image, features, apart):
    gated = adavit.add_policies(mini_model, K)
    off = gated[3::5]
    calls = []
    for block in gated:
        block.policy[1].bias.data.fill_(-100.0 if block in off else 100.0)
        block.block.register_forward_pre_hook(lambda module, _: calls.append(module))
    skipped = features(mini_model, image)
    assert len(calls) == len(gated) - len(off) and not any(block.block in calls for block in off)
    assert [not block.gate.any() for block in gated] == [block in off for block in gated]
    for block in gated:
        block.training = True
    assert apart(skipped, features(mini_model, image)) < 1e-5


def test_images_of_one_batch_may_take_different_blocks(mini_model, image, features, apart):
    gated = adavit.add_policies(mini_model, K)
    generator = torch.Generator().manual_seed(5)
    for block in gated:
        block.policy[1].weight.data.normal_(0, 1, generator=generator)
        block.policy[1].bias.data.zero_()
    both = torch.cat([image, 0.2 * image.flip(2) + 1])
    together = features(mini_model, both)
    mixed = [block.gate.tolist() for block in gated]
    assert any(a != b for a, b in mixed)
    for n in range(2):
        alone = features(mini_model, both[n : n + 1])
        assert apart(alone, [x[n : n + 1] for x in together]) < 1e-4


def test_the_usage_loss_is_absolute_and_its_target_gives_24_blocks_at_level_04(mini_model, image):
    gated = adavit.add_policies(mini_model, K)
    for block in gated:
        block.training = True
        block.policy[1].bias.requires_grad_()
    mini_model.forward_image(image)
    share = np.mean([block.gate.item() for block in gated])
    loss = adavit.usage_loss(mini_model, 0.5)
    assert loss.item() == pytest.approx(2 * abs(share - 0.5), rel=1e-5)
    loss.backward()
    assert all(block.policy[1].bias.grad.item() > 0 for block in gated)
    assert 5 + 43 * adavit.target_rate(0.4, depth=48, n_always_on=5) == pytest.approx(24)
