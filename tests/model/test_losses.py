"""The training loss against a plain second implementation of SAM2's, written loop by loop."""

import math

import pytest
import torch

from rds_lib.model.clip_tracking import FrameOutput
from rds_lib.model.losses import mask_iou, sam2_loss, squared_damage

B, M, S = 3, 3, 8


def outputs_of(logits, ious, scores):
    return FrameOutput(logits, ious, scores, logits[:, :1], logits[:, :1])


@pytest.fixture
def frame():
    """Heads' outputs that ask for a gradient, and targets of which the last is empty."""
    generator = torch.Generator().manual_seed(3)
    logits = (3 * torch.randn(B, M, S, S, generator=generator)).double().requires_grad_()
    ious = torch.rand(B, M, generator=generator).double().requires_grad_()
    scores = torch.randn(B, 1, generator=generator).double().requires_grad_()
    targets = (torch.rand(B, S, S, generator=generator) > 0.6).double()
    targets[-1] = 0
    return logits, ious, scores, targets


def sigmoid(x):
    return 1 / (1 + torch.exp(-x))


def reference_terms(logits, truth):
    """Focal (alpha .25, gamma 2), dice (smooth 1) and IoU at logit 0 of one candidate, as SAM2 defines them."""
    p = sigmoid(logits)
    p_t = p * truth + (1 - p) * (1 - truth)
    alpha_t = 0.25 * truth + 0.75 * (1 - truth)
    focal = (-alpha_t * (1 - p_t) ** 2 * torch.log(p_t)).mean()
    dice = 1 - (2 * (p * truth).sum() + 1) / (p.sum() + truth.sum() + 1)
    mask = (logits > 0).double()
    union = ((mask + truth) > 0).sum()
    iou = float((mask * truth).sum() / union) if union else 1.0
    return focal, dice, iou


def reference_loss(logits, ious, scores, targets):
    total = 0.0
    for b in range(B):
        present = float(targets[b].sum() > 0)
        terms = [reference_terms(logits[b, m], targets[b]) for m in range(M)]
        combined = [(20 * focal + dice).item() for focal, dice, _ in terms]
        best = combined.index(min(combined))
        focal, dice, _ = terms[best]
        iou_term = sum((ious[b, m] - terms[m][2]).abs() for m in range(M)) / M
        score = sigmoid(scores[b, 0])
        total = total + present * (20 * focal + dice + iou_term)
        total = total - (present * torch.log(score) + (1 - present) * torch.log(1 - score))
    return total / B


def test_loss_and_its_gradients_equal_the_reference(frame):
    logits, ious, scores, targets = frame
    loss, expected = sam2_loss(outputs_of(logits, ious, scores), targets), reference_loss(logits, ious, scores, targets)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    got = torch.autograd.grad(loss, (logits, ious, scores))
    wanted = torch.autograd.grad(expected, (logits, ious, scores))
    for a, b in zip(got, wanted):
        assert b.abs().max() > 0 and torch.allclose(a, b, rtol=1e-5, atol=1e-9)


def test_only_the_best_candidate_gets_a_mask_gradient(frame):
    logits, ious, scores, targets = frame
    with torch.no_grad():
        logits[:2, 1] = 8 * targets[:2] - 4  # nearly right
    sam2_loss(outputs_of(logits, ious, scores), targets).backward()
    moved = logits.grad.flatten(2).abs().sum(2) > 0
    assert moved.tolist() == [[False, True, False], [False, True, False], [False, False, False]]
    assert (ious.grad[:2] != 0).all(), "the IoU term acts on every candidate"


def test_an_absent_object_only_trains_the_score(frame):
    logits, ious, scores, targets = frame
    loss = sam2_loss(outputs_of(logits[2:], ious[2:], scores[2:]), targets[2:])
    assert loss.item() == pytest.approx(math.log1p(math.exp(scores[2, 0].item())))
    loss.backward()
    assert not logits.grad.any() and not ious.grad.any() and scores.grad[2].item() > 0


def test_a_perfect_frame_costs_next_to_nothing():
    targets = torch.zeros(1, S, S)
    targets[:, 2:5, 3:7] = 1
    logits = (40 * targets - 20)[:, None].expand(1, M, S, S)
    assert sam2_loss(outputs_of(logits, torch.ones(1, M), torch.full((1, 1), 20.0)), targets) < 1e-6


@pytest.mark.parametrize(
    "mask, truth, expected",
    [
        ([0, 0, 0, 0], [0, 0, 0, 0], 1.0),
        ([1, 1, 0, 0], [0, 0, 0, 0], 0.0),
        ([0, 0, 0, 0], [1, 0, 0, 0], 0.0),
        ([1, 1, 0, 0], [0, 1, 1, 0], 1 / 3),
        ([1, 0, 1, 0], [1, 0, 1, 0], 1.0),
    ],
)
def test_mask_iou(mask, truth, expected):
    logits = (2 * torch.tensor(mask).float() - 1).reshape(1, 2, 2)
    assert mask_iou(logits, torch.tensor(truth).float().reshape(1, 2, 2)).item() == pytest.approx(expected)


def test_a_logit_of_zero_is_background():
    assert mask_iou(torch.zeros(1, 2, 2), torch.ones(1, 2, 2)).item() == 0


def test_damage_adds_up_the_maps_of_every_image():
    one, two = torch.full((2, 4), 2.0), torch.full((2, 9), 5.0)
    changed = [one + torch.tensor([[2.0], [0.0]]), two]
    assert squared_damage(changed, [one, two]).tolist() == pytest.approx([1.0, 0.0])
    assert squared_damage([2 * one, 2 * two], [one, two]).tolist() == pytest.approx([2.0, 2.0])
    sam2 = {"vision_features": one, "backbone_fpn": [one, two], "vision_pos_enc": [two]}
    assert squared_damage(sam2 | {"backbone_fpn": changed}, sam2).tolist() == pytest.approx([1.0, 0.0])


def test_weights_say_where_damage_counts():
    whole, broken, weight = torch.ones(1, 3, 4, 4), torch.ones(1, 3, 4, 4), torch.zeros(1, 1, 8, 8)
    broken[..., 0, 0], weight[..., :2, :2] = 2.0, 1.0
    assert squared_damage([broken], [whole]).item() == pytest.approx(1 / 16)
    assert squared_damage([broken], [whole], weight).item() == pytest.approx(1.0)
    assert squared_damage([broken], [whole], 1 - weight).item() == 0
