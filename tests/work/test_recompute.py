"""Blocks that are computed again in the backward pass: equal gradients, less memory, nothing left behind."""

import pytest
import torch

from rds_lib.data.batches import TrainingBatches
from rds_lib.methods import METHODS
from rds_lib.methods.gates import draw_from
from rds_lib.model.adapters import add_lora
from rds_lib.model.backbone import backbone_of
from rds_lib.model.sam2 import set_image_size
from rds_lib.training.tasks import clip_generators
from rds_lib.work.recompute import recomputed


class Kept:
    """Bytes of what autograd keeps for the backward pass and of the blocks' inputs, each storage once."""

    def __init__(self):
        self.sizes = {}
        self.hooks = torch.autograd.graph.saved_tensors_hooks(self._pack, lambda tensor: tensor)

    def note(self, tensor):
        self.sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()

    def _pack(self, tensor):
        self.note(tensor)
        return tensor

    @property
    def bytes(self):
        return sum(self.sizes.values())


def gradients(model, loss_of, *, again):
    """Gradients of all that asks for one, with blocks computed again or not; the loss draws the same each time."""
    blocks = backbone_of(model).blocks
    model.zero_grad(set_to_none=True)
    if not again:
        loss_of().backward()
    else:
        with recomputed(blocks):
            loss_of().backward()
        assert not any("forward" in vars(block) for block in blocks)
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("name", ["pbd", "dyt", "adavit"])
def test_gradients_of_every_method_are_equal_to_the_bit(name, mini_model, sequences):
    method, generators = METHODS[name], [clip_generators(0, 0, 2, range(2), "cpu") for _ in range(2)]
    method.prepare(mini_model.requires_grad_(False), 0.6, blocks=[0, 5, 44], rank=2, width=4)
    set_image_size(mini_model, 64)
    for key, parameter in mini_model.named_parameters():
        if key.endswith(("adapter.3.weight", "lora_B.default.weight")):  # which start as 0
            torch.nn.init.normal_(parameter, std=0.02)
    data = TrainingBatches(sequences, seed=0, batch=2, frames=2, size=64, first_step=0, steps=1)

    def loss():
        draw_from(mini_model, generators.pop())
        return method.step_loss(mini_model, *data[0][:2], 0.5)[0]

    plain, again = (gradients(mini_model, loss, again=again) for again in (False, True))
    assert plain.keys() == again.keys() and any(grad.any() for grad in plain.values())
    assert [key for key, grad in plain.items() if not grad.equal(again[key])] == []


def test_masked_routes_keep_less_memory_for_equal_gradients(mini_model):
    set_image_size(mini_model, 64)
    add_lora(mini_model.requires_grad_(False), range(48), rank=2)
    backbone, images = backbone_of(mini_model), torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    route = torch.ones(2, 48)
    route[0, 9:20] = 0
    kept = []

    def loss():
        memory = Kept()
        for block in backbone.blocks:
            block.register_forward_pre_hook(lambda _, inputs: memory.note(inputs[0]))
        with memory.hooks:
            features = backbone.run(backbone.embed(images), route)["backbone_fpn"]
        kept.append(memory.bytes)
        return sum(level.square().mean() for level in features)

    plain, again = (gradients(mini_model, loss, again=again) for again in (False, True))
    assert all(grad.equal(again[key]) for key, grad in plain.items()) and len(plain) > 100
    assert kept[1] < 0.4 * kept[0]


def test_without_a_gradient_nothing_is_computed_again(mini_model):
    calls = []
    block = backbone_of(mini_model).blocks[3]
    block.attn.register_forward_hook(lambda *_: calls.append(1))
    images = torch.randn(1, 3, 64, 64)
    with recomputed(backbone_of(mini_model).blocks), torch.no_grad():
        mini_model.forward_image(images)
    assert len(calls) == 1
