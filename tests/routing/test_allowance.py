"""A route within an allowance: always-on blocks first, then the most keep probability for its cost that still fits."""

import numpy as np
import pytest
import torch

from rds_lib.core.errors import RDSInputError
from rds_lib.routing.allowance import allowance_of, bounds, check_costs, route_within, share_of
from rds_lib.routing.deployed import FoldedRouter, RoutingPolicy
from rds_lib.routing.router import PredictionAwareRouter


def test_the_most_keep_probability_for_its_cost_comes_first():
    costs = [1.0, 4.0, 1.0, 1.0]
    assert route_within([0.2, 0.9, 0.5, 0.4], (0,), costs, 1.0) == [True, False, False, False]
    assert route_within([0.2, 0.9, 0.5, 0.4], (0,), costs, 5.0) == [True, False, True, True], "0.5 is before 0.9 / 2"
    assert route_within([0.2, 0.9, 0.4, 0.4], (0,), costs, 5.0) == [True, True, False, False], "0.4 is after 0.9 / 2"
    assert route_within([0.2, 0.9, 0.4, 0.3], (0,), costs, 4.0) == [True, False, True, True], "what fits not is left"
    assert route_within([0.2, 0.9, 0.5, 0.4], (0,), costs, 7.0) == [True] * 4


def test_equal_blocks_go_by_keep_probability_and_depth():
    assert route_within([0.5, 0.5, 0.9, 0.5], (), [1.0] * 4, 2.0) == [True, False, True, False]


@pytest.mark.parametrize("seed", range(5))
def test_it_never_costs_more_and_nothing_that_would_fit_is_left(seed):
    rng = np.random.default_rng(seed)
    for _ in range(200):
        w, costs = rng.random(12), rng.uniform(0.1, 3, 12)
        always_on = tuple(rng.choice(12, 3, replace=False))
        least, most = bounds(costs, always_on)
        allowance = rng.uniform(least, most)
        active = np.array(route_within(w, always_on, costs, allowance))
        assert active[list(always_on)].all() and costs[active].sum() <= allowance * (1 + 1e-6)
        assert (costs[~active] > allowance - costs[active].sum() - 1e-6).all()


def test_always_on_blocks_run_whatever_they_cost():
    assert route_within([0.1, 0.9], (0,), [5.0, 1.0], 0.0) == [True, False]


def test_all_blocks_fit_an_allowance_of_their_sum_whatever_the_order_of_adding():
    costs = [0.1, 0.7, 0.2, 0.3, 1e-3, 0.6]
    assert route_within([0.5] * 6, (3,), costs, sum(costs)) == [True] * 6


def test_shares_and_allowances_are_inverse():
    costs, always_on = [1.0, 2.0, 3.0, 4.0], (0, 3)
    assert bounds(costs, always_on) == (5.0, 10.0) and allowance_of(0.4, costs, always_on) == 7.0
    assert share_of(7.0, costs, always_on) == pytest.approx(0.4)
    assert share_of(0.0, costs, always_on) == 0.001 and share_of(99.0, costs, always_on) == 1.0
    assert share_of(2.0, [1.0, 1.0], (0, 1)) == 1.0


@pytest.mark.parametrize("costs", [[1.0] * 3, [1.0, 0.0, 1.0, 1.0], [1.0, float("nan"), 1.0, 1.0]])
def test_costs_are_one_number_above_0_a_block(costs):
    with pytest.raises(RDSInputError, match="give 4, one a block, each above 0"):
        check_costs(costs, 4)


def test_a_policy_decides_by_it():
    router = FoldedRouter(PredictionAwareRouter(16, 4, (0,), image_size=128))
    policy = RoutingPolicy(router, 0.5, "within", 0.5, 4, (1.0, 3.0, 1.0, 1.0), 3.0)
    active, keep_prob = policy.decide([0.2, 0.9, 0.6, 0.5], torch.Generator())
    assert active == [True, False, True, True] and keep_prob == [1.0, 0.9, 0.6, 0.5]
