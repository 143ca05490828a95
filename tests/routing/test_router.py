"""The prediction-aware router: fallbacks, gradients, sensitivity to frame and mask, size."""

import pytest
import torch

from rds_lib.core.errors import RDSInputError
from rds_lib.model.backbone import backbone_of
from rds_lib.routing.algorithm1 import normalize_to_budget
from rds_lib.routing.deployed import FoldedRouter
from rds_lib.routing.router import PredictionAwareRouter, RunningNorm, probabilities_of, probabilities_on_host

ALWAYS_ON = (0, 2, 8, 44, 47)
LINE_5 = {  # of Algorithm 1: ours, with a spread of its own or a learnt one, and the paper's
    "normalised": {},
    "wider": {"logit_spread": 3.0},
    "learnt": {"learn_spread": True},
    "paper": {"normalise": False},
    "paper, learnt": {"normalise": False, "learn_spread": True},
}


@pytest.fixture
def router():
    torch.manual_seed(0)
    return PredictionAwareRouter(16, 48, ALWAYS_ON, image_size=128, budget=0.4)


@pytest.fixture
def frames():
    generator = torch.Generator().manual_seed(1)
    return torch.randn(3, 32, 32, 16, generator=generator), torch.randn(3, 1, 32, 32, generator=generator)


def test_route_is_all_ones_without_previous_mask(router, frames):
    for values in router(frames[0], None):
        assert torch.equal(values, torch.ones(3, 48))


def test_probabilities_start_near_uniform_and_stay_off_the_ends(router, frames):
    p = router(*frames).p
    assert (p - 0.5).abs().max() < 0.2 and p.std() < 0.08
    with torch.no_grad():
        router.mlp[-1].bias.copy_(1e6 * torch.arange(48))
    p = router(*frames).p
    assert 0.1 < p.min() < 0.2 and 0.8 < p.max() < 0.9


@torch.no_grad()
def test_plainly_it_is_the_sigmoid_of_line_5_whatever_the_logits(router, frames):
    plain = PredictionAwareRouter(16, 48, ALWAYS_ON, image_size=128, normalise=False).eval()
    plain.load_state_dict(router.state_dict())
    raw = []
    handle = plain.mlp.register_forward_hook(lambda *hooked: raw.append(hooked[-1]))
    plain.mlp[-1].bias.copy_(torch.linspace(-9, 9, 48))
    p = plain(*frames).p
    torch.testing.assert_close(p, 1 / (1 + torch.exp(-raw[0])))
    assert p.min() < 1e-3 and p.max() > 0.999
    plain.mlp[-1].bias.fill_(-1e6)
    out = plain(*frames, budget=0.4)
    assert (out.p > 0).all() and torch.allclose(out.w, torch.tensor(0.4)), "alike, and no division by zero"
    handle.remove()


def test_a_learnt_spread_starts_where_the_fixed_one_is_and_learns(router, frames):
    router.eval()
    learning = PredictionAwareRouter(16, 48, ALWAYS_ON, image_size=128, logit_spread=2.0, learn_spread=True).eval()
    learning.load_state_dict(router.state_dict(), strict=False)
    router.logit_spread = 2.0
    torch.testing.assert_close(learning(*frames).p, router(*frames).p)
    assert set(learning.state_dict()) - set(router.state_dict()) == {"log_spread"}
    narrow = learning(*frames).p.std()
    with torch.no_grad():
        learning.log_spread += 1
    assert learning(*frames).p.std() > 2 * narrow


@pytest.mark.parametrize("spread", [0.0, -1.0, float("nan"), float("inf")])
def test_rejects_a_spread_that_orders_nothing(spread):
    with pytest.raises(RDSInputError, match="logit_spread is .*; give a number above 0"):
        PredictionAwareRouter(16, 48, ALWAYS_ON, image_size=128, logit_spread=spread)


def test_what_a_frame_says_loudly_or_softly_keeps_as_many_blocks():
    raw = torch.randn(1, 48, generator=torch.Generator().manual_seed(0))
    w = normalize_to_budget(probabilities_of(torch.cat([raw + 3, 10 * raw, 40 * raw]), 1.0), 0.6)
    counts = (w >= 0.6).sum(1)
    assert 10 < counts[0] < 40 and counts.max() - counts.min() <= 1
    assert w.std(1).max() < 1.2 * w.std(1).min()


def test_normalised_probabilities_meet_the_budget(router, frames):
    assert torch.allclose(router(*frames).w.sum(-1), torch.tensor(0.4 * 48))
    mixed = router(*frames, budget=torch.tensor([0.3, 0.5, 0.7])).w.sum(-1)
    assert torch.allclose(mixed, torch.tensor([0.3, 0.5, 0.7]) * 48)


def test_default_mode_samples_in_training_and_thresholds_in_evaluation(router, frames):
    drawn = {tuple(router(*frames).route[0].tolist()) for _ in range(4)}
    assert len(drawn) > 1
    router.eval()
    fixed = {tuple(router(*frames, tau=0.4).route[0].tolist()) for _ in range(4)}
    assert len(fixed) == 1
    assert router(*frames, mode="top_n", n_active=20).route.sum(-1).tolist() == [20.0] * 3


@pytest.mark.parametrize("options", LINE_5.values(), ids=LINE_5)
def test_every_parameter_receives_a_gradient_through_the_sampled_route(options, frames):
    torch.manual_seed(0)
    router = PredictionAwareRouter(16, 48, ALWAYS_ON, image_size=128, budget=0.4, **options)
    route = router(*frames, mode="sample", generator=torch.Generator().manual_seed(0)).route
    (route * torch.arange(48)).sum().backward()
    silent = [name for name, p in router.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert silent == []


def test_route_depends_on_the_mask_but_not_on_its_magnitude_or_size(router, frames):
    router.eval()
    p = router(*frames).p
    assert torch.equal(router(frames[0], frames[1] * 100).p, p)
    assert not torch.allclose(router(frames[0], -frames[1]).p, p, atol=1e-5)
    larger = frames[1].repeat_interleave(4, 2).repeat_interleave(4, 3)
    torch.testing.assert_close(router(frames[0], larger).p, p)


def test_a_router_for_a_backbone_takes_its_tokens(mini_model):
    backbone = backbone_of(mini_model)
    router = PredictionAwareRouter.for_backbone(backbone, hidden=8, budget=0.4)
    assert (router.hidden, router.budget, router.depth, router.always_on) == (8, 0.4, 48, ALWAYS_ON)
    tokens = backbone.embed(torch.zeros(1, 3, 192, 192))
    assert router(tokens, torch.ones(1, 1, 48, 48)).p.shape == (1, 48)
    assert FoldedRouter(router).logits(tokens, torch.ones(1, 1, 48, 48)).shape == (1, 49)


@pytest.fixture(params=[(4, name) for name in LINE_5] + [(8, "normalised"), (8, "paper")], ids=str)
def any_router(request):
    """A router for 32x32 tokens of either size, in every mode of line 5."""
    torch.manual_seed(0)
    stride, options = request.param[0], LINE_5[request.param[1]]
    return PredictionAwareRouter(16, 48, ALWAYS_ON, image_size=32 * stride, token_stride=stride, budget=0.4, **options)


@torch.no_grad()
def test_folded_router_gives_the_same_logits_and_says_whether_there_was_a_mask(any_router, frames):
    router = any_router
    for name, parameter in router.named_parameters():  # far from the start, where all probabilities are alike
        parameter += 0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(len(name)))
    for _ in range(5):
        router.train()(2 * frames[0] + 1, frames[1])  # statistics that are not those of the frames below
    wanted = router.eval()(*frames).p
    assert wanted.std(0).max() > 1e-3
    folded = FoldedRouter(router)
    for i in range(3):
        out = folded.logits(frames[0][i : i + 1], frames[1][i : i + 1])[0]
        rule = folded.spread, folded.normalise
        torch.testing.assert_close(probabilities_of(out[:48], *rule), wanted[i], rtol=0, atol=1e-5)
        on_host = torch.tensor(probabilities_on_host(out[:48].tolist(), *rule))
        torch.testing.assert_close(on_host, wanted[i], rtol=0, atol=1e-5)
        assert (out[:48].mean().abs() < 1e-5) == router.normalise and out[48] > 0
    one_pixel = torch.full((1, 1, 32, 32), -1.0)
    assert folded.logits(frames[0][:1], one_pixel)[0, 48] == 0
    for corner in ((0, 0), (0, 31), (31, 0), (31, 31), (17, 3)):
        assert (
            folded.logits(
                frames[0][:1], one_pixel.index_put(tuple(map(torch.tensor, (0, 0, *corner))), torch.tensor(1e-3))
            )[0, 48]
            > 0
        )
    assert folded.logits(frames[0][:1], one_pixel.index_fill(2, torch.tensor(5), float("nan"))).isnan().all()


@torch.no_grad()
def test_folded_router_runs_under_autocast(router, frames):
    folded, frame = FoldedRouter(router), (frames[0][:1], frames[1][:1])
    with torch.autocast("cpu", torch.bfloat16):
        out = folded.logits(*frame)
    torch.testing.assert_close(out[:, :48].float(), folded.logits(*frame)[:, :48], rtol=0, atol=0.02)
    assert out[0, 48] > 0


def test_folded_router_takes_masks_of_sam2_only(router, frames):
    with pytest.raises(RDSInputError, match="32x32 px"):
        FoldedRouter(router).logits(frames[0][:1], torch.zeros(1, 1, 128, 128))


def test_what_all_frames_share_does_not_hide_what_differs():
    torch.manual_seed(0)
    norm = RunningNorm(8)
    features = 1000 + 0.01 * torch.randn(400, 8)
    for row in features:
        norm(row[None])
    out = norm.eval()(features)
    assert out.mean(0).abs().max() < 0.5 and (out.std(0) - 1).abs().max() < 0.5
    seen = norm.count.clone()
    norm(features)
    assert torch.equal(norm.count, seen)


def test_router_and_adapters_of_hiera_l_have_the_size_of_the_paper():
    router = PredictionAwareRouter(144, 48, ALWAYS_ON, image_size=1024)
    adapted = [0, 2, 4, 5, 8, 10, *range(12, 18), 20, 21, *range(23, 28), *range(43, 48)]
    width = [144 if i < 2 else 288 if i < 8 else 576 if i < 44 else 1152 for i in range(48)]
    adapters = 0
    for i in adapted:
        d, d_in = width[i], width[max(i - 1, 0)]
        adapters += 16 * ((d_in + 3 * d) + 2 * d + 2 * 5 * d)
    total = adapters + sum(p.numel() for p in router.parameters())
    assert total == pytest.approx(6.7e6, rel=0.03)


@pytest.mark.parametrize(
    "change, match",
    [
        ({"image_feature": torch.zeros(3, 32, 32, 8)}, "image_feature has shape"),
        ({"mask_logits": torch.zeros(3, 32, 32)}, "mask_logits has shape"),
        ({"mask_logits": torch.zeros(1, 1, 32, 32)}, "mask_logits has shape"),
        ({"mode": "argmax"}, "mode is 'argmax'"),
        ({"budget": 1.5}, "budget is 1.5"),
    ],
)
def test_rejects_bad_arguments(router, frames, change, match):
    with pytest.raises(RDSInputError, match=match):
        router(**{"image_feature": frames[0], "mask_logits": frames[1]} | change)
