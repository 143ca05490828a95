"""DyT, dynamic tuning: in every block a dispatcher picks the tokens for the MLP, and an adapter serves all of them.

Source: NUS-HPC-AI-Lab/Dynamic-Tuning (NeurIPS 2024), whose released code gates the MLP alone. Hiera's MLP works on
single tokens outside the windows, so any block can be gated. The MLPs are some 58 % of Hiera-L's multiply-accumulates:
no keep rate brings the encoder below 42 %.
"""

import logging
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rds_lib.core.errors import RDSInputError
from rds_lib.methods.base import Method, clip_step, register
from rds_lib.methods.gates import ClipDropout, GatedModule, gated, mean_gate, open_share
from rds_lib.model.backbone import backbone_of
from rds_lib.routing.algorithm1 import target_active

log = logging.getLogger(__name__)
ADAPTER_SCALE = 0.1
START_BIAS = 3.0  # a frozen encoder starts with nearly all tokens kept; the original starts at 0, with half dropped
RATE_WEIGHT = 2.0
SMALLEST_RATE = 0.02  # of the tokens, where DyT cannot do as little work as it is asked for


class DispatchedMLP(GatedModule):
    """A block's second norm and MLP behind a token dispatcher, with an adapter in parallel.

    Takes the stream x (B, h, w, C) *before* the norm and returns what the block adds to it:
    ``g * MLP(norm(x)) + adapter(x)``. In training every token goes through the MLP and is multiplied by its gate
    (B, h, w, 1); otherwise only kept tokens are gathered.
    """

    def __init__(self, norm: nn.Module, mlp: nn.Module, dim: int, *, width: int, dropout: float = 0.1):
        super().__init__()
        self.norm, self.mlp = norm, mlp
        self.dispatcher = nn.Linear(dim, 1)
        self.adapter = nn.Sequential(nn.Linear(dim, width), nn.ReLU(), ClipDropout(dropout), nn.Linear(width, dim))
        nn.init.normal_(self.dispatcher.weight, std=0.02)
        nn.init.constant_(self.dispatcher.bias, START_BIAS)
        nn.init.kaiming_uniform_(self.adapter[0].weight)
        nn.init.zeros_(self.adapter[0].bias)
        nn.init.zeros_(self.adapter[3].weight)
        nn.init.zeros_(self.adapter[3].bias)
        self.is_complete = False  # the complete model runs every token

    decider = property(lambda self: self.dispatcher)

    def forward(self, x: Tensor) -> Tensor:
        beside = ADAPTER_SCALE * self.adapter(x)
        if self.is_complete:
            return self.mlp(self.norm(x)) + beside
        gate = self.decide(self.dispatcher(x))
        if self.multiplies:
            return gate * self.mlp(self.norm(x)) + beside
        tokens = x.reshape(-1, x.shape[-1])
        kept = torch.nonzero(gate.flatten())[:, 0]
        through = self.mlp(self.norm(tokens[kept]))
        return through.new_zeros(tokens.shape).index_copy(0, kept, through).view_as(x) + beside


def add_dispatchers(model, *, width: int = 64) -> list[DispatchedMLP]:
    """Give every block a dispatcher and an adapter, in place, that do next to nothing at first; return the modules.

    The adapters are ``width`` wide; 64 in the original at ViT-B's 768 channels.
    """
    if gated(model):
        raise RDSInputError("the model already has dispatchers")
    for block in model.image_encoder.trunk.blocks:
        block.mlp = DispatchedMLP(block.norm2, block.mlp, block.dim_out, width=width).to(block.norm2.weight)
        block.mlp.train(block.training)
        block.norm2 = nn.Identity()  # the dispatcher looks at the stream itself
    return gated(model)


def rate_loss(model, rate: float) -> Tensor:
    """``2 (mean gate - rate)^2``, one mean over all blocks, which may differ, and over the clips of the step.

    Blocks weigh the same, as in the original: Hiera's first stages have more but narrower tokens.
    """
    return RATE_WEIGHT * (mean_gate(model) - rate) ** 2


@contextmanager
def complete_model(model):
    """Run with every token kept, adapters on: the teacher that DyT's second pass trains and distils from."""
    modules = gated(model)
    for module in modules:
        module.is_complete = True
    try:
        yield model
    finally:
        for module in modules:
            module.is_complete = False


def matching_rate(model, level: float, *, width: int) -> float:
    """Share of tokens at which DyT does the work of RDS at a level; a plain ``model`` gets dispatchers on the way."""
    backbone = backbone_of(model)
    plain, depth = sum(backbone.block_macs()), backbone.depth
    goal = plain * target_active(level, depth, backbone.always_on) / depth
    add_dispatchers(model, width=width)
    none, whole = (sum(backbone.block_macs([share] * depth)) for share in (0.0, 1.0))
    rate = (goal - none) / (whole - none)
    if rate < SMALLEST_RATE:
        shares = f"{none / plain:.0%} of the encoder's work without any MLP, {goal / plain:.0%} are asked for"
        log.warning("DyT cannot do as little as RDS %s: %s; it keeps %s of the tokens", level, shares, SMALLEST_RATE)
    return min(max(rate, SMALLEST_RATE), 1.0)


class DyT(Method):
    """Dispatchers with their adapters, and low-rank adapters. A level is the share of the tokens that the MLPs see."""

    name, label, kind = "dyt", "DyT", "tokens"

    def recipe(self, section) -> dict:
        return {"lr_gate": section.lr_dispatcher, "match_macs": section.match_macs}

    def prepare(self, model, level, *, blocks, rank, width=64, **_) -> None:
        super().prepare(model, level, blocks=blocks, rank=rank)
        for module in add_dispatchers(model, width=width):
            module.dispatcher.requires_grad_(True)
            module.adapter.requires_grad_(True)

    def train(self, level, setup, *, match_macs=False, width=64, **rest):
        """As `Method.train`; with ``match_macs`` it keeps as many tokens as give it the work of RDS at the level."""
        rate = None
        if match_macs:
            rate = matching_rate(setup.model("cpu"), level, width=width)
        return super().train(level, setup, rate=rate, width=width, **rest)

    def step_loss(self, model, images, targets, rate):
        """A pass with gates, held to their rate, and one of the complete model, whose features teach the first."""
        loss, iou, features = clip_step(model, images, targets)
        loss, kept = loss + rate_loss(model, rate), open_share(model)
        with complete_model(model):
            complete, _, teacher = clip_step(model, images, targets)
        pairs = list(zip(features["backbone_fpn"], teacher["backbone_fpn"]))
        distance = sum(F.mse_loss(ours, theirs.detach()) for ours, theirs in pairs) / len(pairs)
        return loss + complete + distance, {"iou": round(iou, 4), "kept": kept}


register(DyT())
