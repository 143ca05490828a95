"""An encoder of six blocks and a tracker of a few lines, neither SAM2's, do all of RDS without a change to it."""

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from rds_lib.core.errors import RDSInputError
from rds_lib.evaluation.headroom import measure, random_plans
from rds_lib.evaluation.headroom_clips import Clip
from rds_lib.model.adapters import lora_state_dict
from rds_lib.model.backbone import Backbone
from rds_lib.model.shape import EncoderShape
from rds_lib.routing.deployed import FoldedRouter, RoutingPolicy
from rds_lib.routing.frame_router import FrameRouter
from rds_lib.routing.importance import measure_importance
from rds_lib.routing.route_table import RouteLog
from rds_lib.routing.router import PredictionAwareRouter
from rds_lib.routing.weights import load_rds
from rds_lib.training.loop import Schedule
from rds_lib.training.rds import train_rds

SIDE = 8  # tokens


class StubBlock(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(width, width), nn.Tanh(), nn.Linear(width, width))

    def forward(self, x):
        return x + self.inner(x)


class StubBackbone(nn.Module, Backbone):
    """A plain encoder with tokens of 8 px; its first and its last block always run."""

    depth, always_on, stage_starts = 6, (0, 5), (0,)
    embed_dim, image_size, token_stride = 8, 64, 8
    lora_targets = ("inner.0",)

    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(3, self.embed_dim, self.token_stride, self.token_stride)
        self.blocks = nn.ModuleList(StubBlock(self.embed_dim) for _ in range(self.depth))

    def embed(self, images):
        return self.patches(images).permute(0, 2, 3, 1)

    def run(self, tokens, route=None):
        x = tokens
        for i, block in enumerate(self.blocks):
            if isinstance(route, torch.Tensor):
                x = x + route[:, i, None, None, None] * (block(x) - x)
            elif route is None or route[i]:
                x = block(x)
        return x

    def block_macs(self, kept=None):
        return [2.0 * SIDE**2 * self.embed_dim**2] * self.depth


class StubClips:
    """Reads a mask off the features; a frame's logits lean on those of the frame before."""

    def __init__(self):
        self.backbone = StubBackbone().requires_grad_(False)
        self.readout = nn.Linear(self.backbone.embed_dim, 1).requires_grad_(False)

    def track(self, targets, encode):
        outputs = []
        for t in range(targets.shape[1]):
            low = self.readout(encode(t, outputs[-1] if outputs else None)).permute(0, 3, 1, 2)  # (B, 1, h, w)
            if t == 0:
                low = F.interpolate(20 * targets[:, :1] - 10, size=low.shape[-2:])
            else:
                low = low + 0.1 * outputs[-1].low_res_logits
            outputs.append(SimpleNamespace(low_res_logits=low, mask_logits=F.interpolate(low, size=targets.shape[-2:])))
        return outputs

    def loss(self, outputs, targets):
        logits = torch.cat([out.mask_logits for out in outputs[1:]], 1)
        iou = ((logits > 0) & (targets[:, 1:] > 0)).sum() / ((logits > 0) | (targets[:, 1:] > 0)).sum()
        return F.binary_cross_entropy_with_logits(logits, targets[:, 1:]), iou.item()


@pytest.fixture
def tracker():
    torch.manual_seed(0)
    return StubClips()


@pytest.fixture
def router(tracker):
    """A router that tells blocks apart."""
    router = PredictionAwareRouter.for_backbone(tracker.backbone, hidden=12).eval()
    nn.init.normal_(router.mlp[-1].weight, std=2.0, generator=torch.Generator().manual_seed(0))
    return router


@pytest.fixture
def frame_router(tracker, router):
    frame_router = FrameRouter(tracker.backbone)
    frame_router.policy = RoutingPolicy(FoldedRouter(router), 0.5, "threshold", 0.5, 4)
    return frame_router


@pytest.fixture
def tokens(tracker):
    return tracker.backbone.embed(torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(1)))


def mask(rows):
    logits = torch.full((1, 1, SIDE, SIDE), -1.0)
    logits[:, :, rows] = 1.0
    return logits


@torch.no_grad()
def test_a_frame_is_routed_as_the_router_says_for_the_union_of_the_masks(frame_router, router, tokens):
    route = frame_router.route(tokens, [mask(slice(0, 2)), mask(slice(5, 8))], 1, RouteLog())
    union = mask([0, 1, 5, 6, 7])
    expected = router(tokens, union, budget=0.5, mode="threshold", tau=0.5)
    assert route.reason == "routed" and list(route.active) == expected.route[0].bool().tolist()
    assert 2 < sum(route.active) < 6, "K, some of the others, and not all"
    wanted = expected.w[0].index_fill(0, torch.tensor([0, 5]), 1.0)
    torch.testing.assert_close(torch.tensor(route.keep_prob), wanted, rtol=0, atol=1e-5)


def test_a_frame_runs_in_full_where_no_mask_shows_anything_or_one_holds_nan(frame_router, tokens):
    log, broken = RouteLog(), mask(slice(0, 2)).index_fill(2, torch.tensor(5), torch.nan)
    for masks in ([], [mask([])], [mask([]), mask([])], [mask([]), broken]):
        assert frame_router.route(tokens, masks, 1, log) == frame_router.full("no_previous_mask")
    assert log.invalid_frames == 1 and frame_router.full("prompted") == ((True,) * 6, (1.0,) * 6, "prompted")


@pytest.mark.parametrize("has_policy", [True, False])
def test_a_fixed_route_goes_before_the_policy(frame_router, tokens, has_policy):
    frame_router.policy = frame_router.policy if has_policy else None
    assert frame_router.is_active == has_policy
    shown, hidden = [mask(slice(0, 2))], [mask([])]
    frame_router.set_fixed_route([0, 1, 0, 1, 0, 0])
    assert frame_router.is_active
    expected = (True, True, False, True, False, True)
    assert frame_router.route(tokens, shown, 1, RouteLog()) == (expected, tuple(map(float, expected)), "routed")
    assert frame_router.route(tokens, hidden, 1, RouteLog()).reason == "no_previous_mask"
    frame_router.set_fixed_route(lambda t: [i == t for i in range(6)])
    assert frame_router.route(tokens, shown, 3, RouteLog()).active == (True, False, False, True, False, True)
    with pytest.raises(RDSInputError, match="5 entries"):
        frame_router.set_fixed_route([1] * 5)
    frame_router.set_fixed_route(None)
    assert frame_router.is_active == has_policy


def test_router_and_adapters_train_and_travel_in_a_file(tracker, sequences, tmp_path):
    before = {name: tensor.clone() for name, tensor in tracker.backbone.state_dict().items()}
    out = train_rds(
        tracker,
        schedule=Schedule(steps=2, batch=1, frames=3),
        sequences=sequences,
        blocks=[0, 3],
        budgets=(0.5,),
        lr_router=1e-2,
        lr_lora=1e-2,
        lora_rank=2,
        preference_rate=30.0,
        router_options={"hidden": 12, "normalise": False, "learn_spread": True},
        out=tmp_path / "rds.safetensors",
        workdir=tmp_path,
    )
    weights, learned = load_rds(out), lora_state_dict(tracker)
    assert weights.blocks == (0, 3) and len(weights.lora) == 4 and weights.router.token_stride == 8
    assert all(tensor.any() for name, tensor in weights.lora.items()), "B starts at zero"
    assert weights.router.alpha.item() != 1 and weights.router.spread != 1 and not weights.router.normalise
    assert all(weights.lora[name].equal(learned[name].half().float()) for name in learned)
    after = {name.replace(".base_layer", ""): tensor for name, tensor in tracker.backbone.state_dict().items()}
    assert all(after[name].equal(tensor) for name, tensor in before.items())
    torch.manual_seed(0)
    other, tokens = StubClips(), torch.randn(1, SIDE, SIDE, 8, generator=torch.Generator().manual_seed(2))
    plain = other.backbone.run(tokens)
    weights.apply_to(other)
    torch.testing.assert_close(other.backbone.run(tokens), tracker.backbone.run(tokens), rtol=1e-3, atol=1e-3)
    assert list(other.backbone.state_dict()) == list(before) and not plain.equal(other.backbone.run(tokens))


def test_importance_is_measured(tracker):
    for tensor in tracker.backbone.blocks[3].inner[2].parameters():
        nn.init.zeros_(tensor)
    targets = torch.zeros(2, 3, 64, 64)
    targets[:, :, 8:40, 16:48] = 1
    images = torch.randn(2, 3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    table = measure_importance(tracker, [(images, targets)]).set_index("block")
    assert table.index[table["always_on"]].tolist() == [0, 5] == table.index[table["global_score"].isna()].tolist()
    assert table.loc[3, ["global_score", "local_score"]].tolist() == [0, 0]
    assert (table["local_score"].drop(3) > 0).all() and (table.loc[[1, 2, 4], "global_score"] != 0).any()


def test_its_headroom_is_measured(tracker):
    targets = torch.zeros(1, 4, 64, 64)
    targets[:, :, 8:40, 16:48] = 1
    images = torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    clip, plans = Clip("noise", images, targets, (0, 1, 2, 3), (1, 3)), random_plans(4, 3, tracker.backbone, seed=0)
    found = measure(tracker, [lambda: clip, lambda: clip], plans)
    assert (found.damage > 0).all() and found.iou.shape == (4, 2, 2, 2) and (found.seen[0] == found.seen[1]).all()
    with torch.inference_mode():
        tokens = tracker.backbone.embed(images[3:])
        whole, cut = tracker.backbone.run(tokens), tracker.backbone.run(tokens, plans[1].tolist())
    assert found.damage[1, 0, 1, 0] == pytest.approx(((cut - whole).norm() / whole.norm()).item(), rel=1e-5)


def test_what_follows_from_the_attributes_is_there(tracker):
    backbone = tracker.backbone
    assert backbone.gmacs() == 6 * 2 * 64 * 64 / 1e9 and backbone.gmacs([1, 0, 0, 0.5, 0, 1]) == 2.5 * 2 * 64 * 64 / 1e9
    assert backbone.check_route(torch.zeros(6)) == (True, False, False, False, False, True)
    assert backbone.shape == EncoderShape(6, (0,), (0, 5))
