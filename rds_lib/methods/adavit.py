"""AdaViT as the supplement uses it: before every block a small policy looks at the tokens and decides if it runs.

Source: MengLcool/AdaViT (CVPR 2022), reduced to one gate a block (supplement: "a lightweight decision module before
each of the 48 Transformer blocks"). Unlike RDS it decides inside the encoder, block by block: on a GPU the host waits
for every decision. It sees the current frame alone.
"""

import torch
from torch import Tensor, nn

from rds_lib.core.errors import RDSInputError
from rds_lib.methods.base import Method, register
from rds_lib.methods.gates import GatedModule, gated, mean_gate
from rds_lib.model.backbone import backbone_of, changes_shape

START_BIAS = 3.0
USAGE_WEIGHT = 2.0


class DecidedBlock(GatedModule):
    """A block behind its policy: ``x + g (block(x) - x)``, gate g (B,) from the mean token (B, C).

    Hiera has no class token, so the policy sees the mean over all tokens, normalised. In training g is drawn and the
    block always runs; otherwise the block is called only where its logit is above ``threshold``.
    """

    def __init__(self, block: nn.Module):
        super().__init__()
        self.block = block
        self.policy = nn.Sequential(nn.LayerNorm(block.dim), nn.Linear(block.dim, 1))
        nn.init.normal_(self.policy[1].weight, std=1e-3)
        nn.init.constant_(self.policy[1].bias, START_BIAS)

    decider = property(lambda self: self.policy)
    window_size = property(lambda self: self.block.window_size)

    def forward(self, x: Tensor) -> Tensor:
        gate = self.decide(self.policy(x.mean((1, 2)))[:, 0])
        if self.multiplies:
            return torch.lerp(x, self.block(x), gate.to(x.dtype)[:, None, None, None])
        runs = gate.tolist()  # the host waits here, block after block
        if all(runs):
            return self.block(x)
        if not any(runs):
            return x
        out = x.clone()
        out[gate] = self.block(x[gate])
        return out


def add_policies(model, always_on) -> list[DecidedBlock]:
    """Put a policy before every block outside ``always_on`` of a model's image encoder, in place, and return those."""
    trunk = model.image_encoder.trunk
    if gated(model):
        raise RDSInputError("the model already has policies")
    entries = {i for i, block in enumerate(trunk.blocks) if changes_shape(block)}
    if not entries <= set(always_on):
        raise RDSInputError(f"always_on is {sorted(always_on)}; add {sorted(entries)}, which change the tokens' shape")
    for i, block in enumerate(trunk.blocks):
        if i not in always_on:
            trunk.blocks[i] = DecidedBlock(block).to(block.norm1.weight).train(block.training)
    return gated(model)


def usage_loss(model, rate: float) -> Tensor:
    """``2 |mean gate - rate|`` over the gated blocks and the clips of the step; absolute as in the original."""
    return USAGE_WEIGHT * (mean_gate(model) - rate).abs()


def target_rate(level: float, *, depth: int, n_always_on: int) -> float:
    """Share of the gated blocks to run, so that ``8 + 40 level`` of 48 run in all: 24 at 0.4, as in the supplement."""
    return ((8 + 40 * level) / 48 * depth - n_always_on) / (depth - n_always_on)


class AdaViT(Method):
    """Policies before the blocks outside K, and low-rank adapters. A level says how many blocks run: `target_rate`."""

    name, label, kind = "adavit", "AdaViT", "blocks"

    def recipe(self, section) -> dict:
        return {"lr_gate": section.lr_policy}

    def prepare(self, model, level, *, blocks, rank, **_) -> None:
        super().prepare(model, level, blocks=blocks, rank=rank)
        for block in add_policies(model, backbone_of(model).always_on):
            block.policy.requires_grad_(True)

    def gate_rate(self, model, level) -> float:
        depth = backbone_of(model).depth
        return target_rate(level, depth=depth, n_always_on=depth - len(gated(model)))

    def step_loss(self, model, images, targets, rate):
        loss, row = super().step_loss(model, images, targets, rate)
        return loss + usage_loss(model, rate), row


register(AdaViT())
