"""AdaViT as the supplement uses it: before every block a small policy looks at the tokens and says whether the block runs.

Source: MengLcool/AdaViT (CVPR 2022), reduced to one gate a block (supplement: "a lightweight decision module before each of
the 48 Transformer blocks"). Unlike RDS it decides inside the encoder, block by block: on a device every decision is a
value that the host waits for, and it sees the current frame alone.
"""

import torch
from torch import Tensor, nn

from rds_lib.core.errors import RDSInputError
from rds_lib.methods.base import Method, register
from rds_lib.methods.gates import gumbel_gate
from rds_lib.model.encoder import changes_shape

START_BIAS = 3.0
USAGE_WEIGHT = 2.0


class DecidedBlock(nn.Module):
    """A block behind its policy: ``x + g (block(x) - x)``, g from the mean token (B, C).

    Hiera has no class token, so the policy sees the mean over all tokens, normalised. In training g is drawn and the block
    always runs; otherwise the block is called only where its logit is above ``threshold``.
    """

    def __init__(self, block: nn.Module):
        super().__init__()
        self.block = block
        self.policy = nn.Sequential(nn.LayerNorm(block.dim), nn.Linear(block.dim, 1))
        nn.init.normal_(self.policy[1].weight, std=1e-3)
        nn.init.constant_(self.policy[1].bias, START_BIAS)
        self.threshold = 0.0
        self.generator = None
        self.forced = None  # a gate (B,) to multiply by instead of deciding
        self.gate = None  # 0/1 (B,) of the last call
        self.logits = None

    @property
    def window_size(self):
        return self.block.window_size

    def forward(self, x: Tensor) -> Tensor:
        self.logits = self.policy(x.mean((1, 2)))[:, 0]
        if self.training or self.forced is not None:
            self.gate = gumbel_gate(self.logits, self.generator) if self.forced is None else self.forced
            return torch.lerp(x, self.block(x), self.gate.to(x.dtype)[:, None, None, None])
        self.gate = self.logits > self.threshold
        runs = self.gate.tolist()  # the host waits here, block after block
        if all(runs):
            return self.block(x)
        if not any(runs):
            return x
        out = x.clone()
        out[self.gate] = self.block(x[self.gate])
        return out


def add_policies(model, always_on) -> list[DecidedBlock]:
    """Put a policy before every block outside ``always_on`` of a model's image encoder, in place.

    Returns
    -------
    list of DecidedBlock
        One per gated block; ``policy`` is what AdaViT trains beside the adapters.
    """
    trunk = model.image_encoder.trunk
    if policies(model):
        raise RDSInputError("the model already has policies")
    entries = {i for i, block in enumerate(trunk.blocks) if changes_shape(block)}
    if not entries <= set(always_on):
        raise RDSInputError(f"always_on is {sorted(always_on)}; it has to hold {sorted(entries)}, which change the shape of the tokens")
    for i, block in enumerate(trunk.blocks):
        if i not in always_on:
            trunk.blocks[i] = DecidedBlock(block).to(block.norm1.weight).train(block.training)
    return policies(model)


def policies(model) -> list[DecidedBlock]:
    """The gated blocks of a model, in order."""
    return [block for block in model.image_encoder.trunk.blocks if isinstance(block, DecidedBlock)]


def usage_loss(model, rate: float) -> Tensor:
    """``2 |mean gate - rate|`` over the gated blocks and the batch of the last call; the original's layer term is absolute too."""
    gates = torch.stack([block.gate for block in policies(model)])
    return USAGE_WEIGHT * (gates.mean() - rate).abs()


def target_rate(level: float, *, depth: int, n_always_on: int) -> float:
    """Share of the gated blocks that is to run, so that ``8 + 40 level`` of 48 run in all: 24 at 0.4, as the supplement has it."""
    return ((8 + 40 * level) / 48 * depth - n_always_on) / (depth - n_always_on)


class AdaViT(Method):
    """A policy before every block."""

    name, label, kind = "adavit", "AdaViT", "blocks"

    def gates(self, model) -> list:
        """The gated blocks."""
        return policies(model)


register(AdaViT())
