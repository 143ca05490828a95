"""DyT: which tokens enter the MLPs, that multiplied and gathered forwards agree, and what its losses move."""

import logging

import numpy as np
import pytest
import torch

from rds_lib.core.errors import RDSInputError
from rds_lib.data.batches import SequenceBatches
from rds_lib.methods import METHODS, dyt, gates
from rds_lib.methods.base import clip_step
from rds_lib.methods.gates import gated, set_threshold
from rds_lib.model.backbone import backbone_of
from rds_lib.model.sam2 import build_model, set_image_size


@pytest.fixture
def dispatched(mini_model):
    """A model whose dispatchers split the tokens, and whose adapters do something."""
    generator = torch.Generator().manual_seed(0)
    for module in dyt.add_dispatchers(mini_model, width=8):
        module.adapter[3].weight.data.normal_(0, 0.1, generator=generator)
        module.dispatcher.weight.data.normal_(0, 1, generator=generator)
        module.dispatcher.bias.data.zero_()
    return mini_model


def keep_rates(model):
    return [module.gate.detach().float().mean().item() for module in gated(model)]


def test_an_untrained_model_changes_nothing_where_all_tokens_are_kept(mini_model, image, features, apart):
    before = features(mini_model, image)
    dyt.add_dispatchers(mini_model, width=8)
    set_threshold(mini_model, -1e9)
    assert apart(before, features(mini_model, image)) < 1e-6
    with pytest.raises(RDSInputError, match="already"):
        dyt.add_dispatchers(mini_model)


def test_gathered_tokens_give_what_multiplied_ones_give(dispatched, image, features, apart, monkeypatch):
    """The gate without its noise."""
    monkeypatch.setattr(gates, "gumbel_gate", lambda logits, generator: (logits > 0).float())
    gathered, rates = features(dispatched, image), keep_rates(dispatched)
    assert 0.2 < np.mean(rates) < 0.8
    for module in gated(dispatched):
        module.training = True  # and not its dropout
    assert apart(gathered, features(dispatched, image)) < 1e-5
    assert keep_rates(dispatched) == rates


def test_a_dropped_token_never_enters_the_mlp(dispatched, image, features):
    seen = []
    for module in gated(dispatched):
        module.mlp.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    features(dispatched, image)
    assert seen == [int(module.gate.sum()) for module in gated(dispatched)]
    set_threshold(dispatched, 1e9)
    seen.clear()
    features(dispatched, image)
    assert not any(seen)


def test_the_complete_model_keeps_all_tokens(dispatched, image, features, apart):
    set_threshold(dispatched, -1e9)
    everything = features(dispatched, image)
    set_threshold(dispatched, 1e9)
    with dyt.complete_model(dispatched):
        assert apart(everything, features(dispatched, image)) < 1e-5
    assert apart(everything, features(dispatched, image)) > 1e-3


def test_the_rate_loss_moves_the_dispatchers(dispatched, image):
    for module in gated(dispatched):
        module.train()
    dispatched.forward_image(image)
    mean = np.mean(keep_rates(dispatched))
    assert dyt.rate_loss(dispatched, 0.2).item() == pytest.approx(2 * (mean - 0.2) ** 2, rel=1e-4)
    bias = gated(dispatched)[20].dispatcher.bias.requires_grad_()
    dispatched.forward_image(image)
    dyt.rate_loss(dispatched, 0.2).backward()
    assert bias.grad.item() > 0, "too many tokens are kept: the bias has to fall"


def test_the_complete_pass_teaches_the_adapters_and_not_the_dispatchers(mini_model, sequences):
    """Without the pass with gates nothing pulls at a dispatcher."""
    torch.manual_seed(0)  # of the adapters, all of whose few units may be off for a clip
    method = METHODS["dyt"]
    method.prepare(mini_model, 0.5, blocks=[0, 5], rank=2, width=4)
    set_image_size(mini_model, 64)
    batch = SequenceBatches(sequences, seed=3, batch=1, frames=2, size=64, first_step=0, steps=1)[0]
    with dyt.complete_model(mini_model):
        clip_step(mini_model, *batch)[0].backward()
    mlp = gated(mini_model)[5]
    assert mlp.adapter[3].weight.grad.abs().sum() > 0 and mlp.dispatcher.bias.grad is None
    passes = []
    mlp.register_forward_pre_hook(lambda module, _: passes.append(module.is_complete))
    for module in gated(mini_model):
        module.train()
    method.step_loss(mini_model, *batch, 0.5)[0].backward()
    assert mlp.dispatcher.bias.grad.abs().sum() > 0 and passes == [False, True]


def test_it_matches_the_work_of_rds_or_says_that_it_cannot(caplog):
    model = build_model("mini", False)
    plain = backbone_of(model).gmacs()
    rate = dyt.matching_rate(model, 0.8, width=4)
    work = backbone_of(model).gmacs(kept=[rate] * 48)
    assert work / plain == pytest.approx((5 + 43 * 0.8) / 48) and not caplog.records
    with caplog.at_level(logging.WARNING):
        assert dyt.matching_rate(build_model("mini", False), 0.1, width=4) == dyt.SMALLEST_RATE
    assert "cannot do as little as RDS 0.1" in caplog.text
