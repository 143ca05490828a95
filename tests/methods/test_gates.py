"""Gates: their draws and gradients, the threshold that keeps a share, and what is calibrated on images."""

import pytest
import torch

from rds_lib.core.errors import RDSInputError
from rds_lib.data.batches import SequenceBatches
from rds_lib.methods import METHODS, adavit, dyt
from rds_lib.methods.gates import calibrate_gates, draw_from, gated, gumbel_gate, know_mean_gate, rate_threshold
from rds_lib.model.sam2 import set_image_size
from rds_lib.training.tasks import clip_generators


def test_a_gate_fires_with_the_probability_of_its_logit_and_passes_a_gradient():
    logits = torch.tensor([-2.0, 0.0, 1.5]).repeat(20000, 1).requires_grad_()
    gate = gumbel_gate(logits, [torch.Generator().manual_seed(0)])
    assert set(gate.detach().unique().tolist()) == {0.0, 1.0}
    assert gate.mean(0).tolist() == pytest.approx(torch.tensor([-2.0, 0.0, 1.5]).sigmoid().tolist(), abs=0.01)
    gate.sum().backward()
    assert (logits.grad > 0).all() and logits.grad.max() <= 0.05 + 1e-6  # sigmoid' / 5


def test_a_threshold_keeps_the_share_it_was_asked_for():
    logits = torch.randn(1000, generator=torch.Generator().manual_seed(0))
    for rate in (0, 0.25, 0.9, 1):
        assert (logits > rate_threshold(logits, rate)).float().mean().item() == pytest.approx(rate)
    with pytest.raises(RDSInputError, match="1.5"):
        rate_threshold(logits, 1.5)


@pytest.mark.parametrize("name, level", [("dyt", 0.4), ("adavit", 0.6)])
def test_calibrated_gates_keep_what_the_level_asks_for(name, level, sequences, mini_model):
    method, generator = METHODS[name], torch.Generator().manual_seed(0)
    method.prepare(mini_model, level, blocks=[5], rank=2, width=4)
    set_image_size(mini_model, 64)
    for module in gated(mini_model):
        *_, layer = module.decider.modules()
        layer.weight.data.normal_(0, 1, generator=generator)
    data = SequenceBatches(sequences[:2], seed=3, batch=2, frames=3, size=64, first_step=0, steps=3)
    frames = torch.cat([data[i][0].flatten(0, 1) for i in range(3)]).split(1)
    rate = method.gate_rate(mini_model, level)
    calibrate_gates(mini_model, rate, frames)
    kept = []
    with torch.inference_mode():
        for frame in frames:
            mini_model.forward_image(frame)
            kept += [module.gate.float().mean().item() for module in gated(mini_model)]
    assert sum(kept) / len(kept) == pytest.approx(rate, abs=0.02)


@pytest.mark.parametrize(("name", "loss_of"), [("dyt", dyt.rate_loss), ("adavit", adavit.usage_loss)])
def test_a_loss_of_the_mean_gate_has_the_gradient_of_all_clips_in_micro_batches_too(name, loss_of, mini_model):
    METHODS[name].prepare(mini_model.requires_grad_(False), 0.5, blocks=[0], rank=2, width=4)
    set_image_size(mini_model, 64)
    frames = torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(0))  # one a clip
    deciding = [p for module in gated(mini_model) for p in module.decider.parameters()]
    for module in gated(mini_model):
        [*module.decider.modules()][-1].bias.data.zero_()  # as many open as shut

    def draw(numbers):
        draw_from(mini_model, clip_generators(0, 0, 4, numbers, "cpu"))

    def gradient_of(numbers):
        draw(numbers)
        mini_model.forward_image(frames[list(numbers)])
        return torch.autograd.grad(loss_of(mini_model, rate), deciding)

    shares = []
    for numbers in ((0, 1), (2, 3)):
        draw(numbers)
        mini_model.forward_image(frames[list(numbers)])
        shares.append(torch.stack([module.gate.mean() for module in gated(mini_model)]).mean().item())
    assert shares[0] != shares[1]
    rate = sum(shares) / 2 + 0.4 * abs(shares[0] - shares[1])  # the halves lie on either side of it
    whole = gradient_of(range(4))
    draw(range(4))
    with torch.no_grad():
        know_mean_gate(mini_model, frames)
    halves = [gradient_of(numbers) for numbers in ((0, 1), (2, 3))]
    scale = max(grad.abs().max() for grad in whole)
    for all_clips, *parts in zip(whole, *halves):
        assert torch.allclose(sum(parts) / 2, all_clips, atol=1e-4 * scale)
