"""Deciding a frame's route on the host gives what Algorithm 1's pure functions give."""

import pytest
import torch

from rds_lib.routing.algorithm1 import normalize_to_budget, sample_route, threshold_route, top_n_route
from rds_lib.routing.deployed import FoldedRouter, RoutingPolicy
from rds_lib.routing.router import PredictionAwareRouter, probabilities_of

ALWAYS_ON = (0, 2, 8, 44, 47)


@pytest.mark.parametrize("options", [{}, {"logit_spread": 3.0}, {"normalise": False}], ids=str)
@pytest.mark.parametrize(
    "mode, reference",
    [
        ("threshold", lambda w, generator: threshold_route(w, ALWAYS_ON, 0.4)),
        ("sample", lambda w, generator: sample_route(w, ALWAYS_ON, generator)),
        ("top_n", lambda w, generator: top_n_route(w, ALWAYS_ON, 22)),
    ],
)
def test_decides_as_algorithm_1(mode, reference, options):
    trained = PredictionAwareRouter(16, 48, ALWAYS_ON, image_size=128, **options)
    router = FoldedRouter(trained)
    logits = torch.randn(48, generator=torch.Generator().manual_seed(1)) ** 3
    logits -= logits.mean() if trained.normalise else 1.0
    wanted = normalize_to_budget(probabilities_of(logits, trained.spread, trained.normalise), 0.6)
    policy = RoutingPolicy(router, 0.6, mode, 0.4, 22)
    torch.testing.assert_close(torch.tensor(policy.keep_probabilities(logits.tolist())), wanted)
    assert wanted.max() == 1
    saturated = policy.keep_probabilities([-1e9] * 47 + [1e9 if trained.normalise else -1e9])
    assert all(0 <= value <= 1 for value in saturated) and sum(saturated) > 0
    w = torch.rand(48, generator=torch.Generator().manual_seed(0))
    w[7] = torch.nextafter(torch.tensor(0.4), torch.tensor(1.0))  # just above the threshold, and far from rounding
    flags, keep_prob = policy.decide(w.tolist(), torch.Generator().manual_seed(3))
    assert flags == reference(w, torch.Generator().manual_seed(3)).bool().tolist()
    assert all(isinstance(flag, bool) for flag in flags) and 0 < sum(flags) < 48
    assert keep_prob == [1.0 if i in ALWAYS_ON else value for i, value in enumerate(w.tolist())]
