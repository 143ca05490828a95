"""Algorithm 1: bounds, gradients, ties and calibration of the route functions."""

import pytest
import torch

from rds_lib.core.errors import RDSInputError
from rds_lib.routing.algorithm1 import (
    calibrate_threshold,
    normalize_to_budget,
    sample_route,
    target_active,
    threshold_route,
    top_n_route,
)

ALWAYS_ON = (0, 2, 8, 44, 47)
FREE = [i for i in range(48) if i not in ALWAYS_ON]


@pytest.fixture
def w():
    return torch.rand(16, 48, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_budget_is_met_where_nothing_is_clipped(w, dtype):
    p = (0.3 + 0.4 * w).to(dtype)
    kept = normalize_to_budget(p, 0.4)
    assert kept.dtype == dtype and kept.max() < 1
    torch.testing.assert_close(kept.sum(-1), torch.full((16,), 0.4 * 48, dtype=dtype))


def test_clipping_never_hands_mass_on():
    p = torch.tensor([0.9, 0.1, 0.1, 0.1])
    assert torch.allclose(normalize_to_budget(p, 0.5), torch.tensor([1.0, 1 / 6, 1 / 6, 1 / 6]))


def test_each_row_may_have_its_own_budget(w):
    kept = normalize_to_budget(w[:2], torch.tensor([0.2, 0.6]))
    torch.testing.assert_close(kept, torch.stack([normalize_to_budget(w[0], 0.2), normalize_to_budget(w[1], 0.6)]))


@pytest.mark.parametrize("budget", [0, -0.1, 1.5, float("nan"), "0.4", None, True])
def test_rejects_budget_outside_unit_interval(w, budget):
    with pytest.raises(RDSInputError, match="budget is"):
        normalize_to_budget(w, budget)


@pytest.mark.parametrize("p", [[0.1, float("nan")], [0.1, 1.2], [-0.1, 0.5], [0.0, 0.0]])
def test_rejects_what_is_no_probability(p):
    with pytest.raises(RDSInputError, match="p "):
        normalize_to_budget(torch.tensor(p), 0.4)


def test_threshold_keeps_values_at_tau_and_always_on_blocks():
    w = torch.zeros(2, 48)
    w[1, 5] = 0.25
    route = threshold_route(w, ALWAYS_ON, tau=0.25)
    assert route[0].nonzero().flatten().tolist() == list(ALWAYS_ON)
    assert route[1].nonzero().flatten().tolist() == sorted((*ALWAYS_ON, 5))


@pytest.mark.parametrize("tau", [float("nan"), -0.1, 40, "0.5"])
def test_rejects_impossible_tau(w, tau):
    with pytest.raises(RDSInputError, match="tau is"):
        threshold_route(w, ALWAYS_ON, tau)


def test_sampling_is_binary_unbiased_and_reproducible():
    w = torch.full((4000, 48), 0.3, dtype=torch.float64)
    draw = [sample_route(w, ALWAYS_ON, torch.Generator().manual_seed(3)) for _ in range(2)]
    assert torch.equal(*draw) and set(draw[0].unique().tolist()) == {0.0, 1.0}
    assert draw[0][:, list(ALWAYS_ON)].eq(1).all()
    assert abs(draw[0][:, FREE].mean() - 0.3) < 0.005


def test_straight_through_gradient_is_one_off_the_always_on_blocks(w):
    w = w.double().requires_grad_()
    weights = torch.rand(16, 48, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    (sample_route(w, ALWAYS_ON, torch.Generator().manual_seed(0)) * weights).sum().backward()
    expected = weights.clone()
    expected[:, list(ALWAYS_ON)] = 0
    assert torch.equal(w.grad, expected)


def test_top_n_counts_exactly_and_breaks_ties_towards_shallow_blocks(w):
    assert top_n_route(w, ALWAYS_ON, 24).sum(-1).eq(24).all()
    tied = top_n_route(torch.full((48,), 0.5), ALWAYS_ON, 8)
    assert tied.nonzero().flatten().tolist() == [0, 1, 2, 3, 4, 8, 44, 47]
    assert top_n_route(torch.ones(48), ALWAYS_ON, 5).nonzero().flatten().tolist() == list(ALWAYS_ON)


@pytest.mark.parametrize("n_active", [4, 49, 10.5, float("nan"), None])
def test_top_n_rejects_impossible_counts(w, n_active):
    with pytest.raises(RDSInputError, match="n_active is"):
        top_n_route(w, ALWAYS_ON, n_active)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("target", [5, 12.4, 24, 33.3, 48])
def test_calibrated_threshold_is_the_best_of_all(w, dtype, target):
    w = (w * 20).round().div(20).to(dtype)  # many ties
    tau = calibrate_threshold(w, ALWAYS_ON, target)
    best = min(
        abs(threshold_route(w, ALWAYS_ON, t).sum(-1).mean() - target) for t in (0.0, *(k / 40 for k in range(1, 43, 2)))
    )
    assert abs(threshold_route(w, ALWAYS_ON, tau).sum(-1).mean() - target) == pytest.approx(float(best), abs=1e-6)


def test_calibration_separates_neighbouring_floats():
    low = torch.tensor(0.25)
    w = torch.stack([low, torch.nextafter(low, torch.tensor(1.0))]).repeat(24)[None]
    route = threshold_route(w, ALWAYS_ON, calibrate_threshold(w, ALWAYS_ON, 28))
    assert route[0, FREE].sum() == (w[0, FREE] > low).sum()


def test_calibration_rejects_impossible_targets(w):
    with pytest.raises(RDSInputError, match="target_active is"):
        calibrate_threshold(w, ALWAYS_ON, 4)
    with pytest.raises(RDSInputError, match="at least one frame"):
        calibrate_threshold(w[:0], ALWAYS_ON, 24)


def test_uniform_probabilities_meet_the_target_count():
    w = normalize_to_budget(torch.full((20000, 48), 0.5), 0.4)
    active = sample_route(w, ALWAYS_ON, torch.Generator().manual_seed(0)).sum(-1).mean()
    assert abs(active - target_active(0.4, 48, ALWAYS_ON)) < 0.1


def test_rejects_always_on_blocks_outside_the_trunk(w):
    with pytest.raises(RDSInputError, match="block numbers"):
        threshold_route(w, (0, 48))
