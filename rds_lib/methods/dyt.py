"""DyT, dynamic tuning: in every block a dispatcher picks the tokens that go through the MLP, and an adapter serves all.

Source: NUS-HPC-AI-Lab/Dynamic-Tuning (NeurIPS 2024), whose released code gates the MLP alone. Hiera's MLP works on single
tokens outside the windows, so this is safe in every block. The MLPs are some 58 % of Hiera-L's multiply-accumulates:
no keep rate brings the encoder below 42 %.
"""

from contextlib import contextmanager

import torch
from torch import Tensor, nn

from rds_lib.core.errors import RDSInputError
from rds_lib.methods.base import Method, register
from rds_lib.methods.gates import gumbel_gate

ADAPTER_SCALE = 0.1
START_BIAS = 3.0  # a frozen encoder starts with nearly all tokens kept; the original trains from 0, where half are dropped
RATE_WEIGHT = 2.0


class DispatchedMLP(nn.Module):
    """A block's second norm and MLP with a token dispatcher before, and a parallel adapter beside them.

    Takes the stream x (B, h, w, C) *before* the norm and returns what the block adds to it: ``g * MLP(norm(x)) + adapter(x)``.
    In training every token goes through the MLP and is multiplied by its gate; otherwise only kept tokens are gathered.
    """

    def __init__(self, norm: nn.Module, mlp: nn.Module, dim: int, *, width: int, dropout: float = 0.1):
        super().__init__()
        self.norm, self.mlp = norm, mlp
        self.dispatcher = nn.Linear(dim, 1)
        self.adapter = nn.Sequential(nn.Linear(dim, width), nn.ReLU(), nn.Dropout(dropout), nn.Linear(width, dim))
        nn.init.normal_(self.dispatcher.weight, std=0.02)
        nn.init.constant_(self.dispatcher.bias, START_BIAS)
        nn.init.kaiming_uniform_(self.adapter[0].weight)
        nn.init.zeros_(self.adapter[0].bias)
        nn.init.zeros_(self.adapter[3].weight)
        nn.init.zeros_(self.adapter[3].bias)
        self.threshold = 0.0  # on the logits, when tracking
        self.is_complete = False  # the complete model runs every token
        self.generator = None
        self.forced = None  # a gate (B, h, w, 1) to multiply by instead of deciding
        self.gate = None  # 0/1 (B, h, w, 1) of the last call
        self.logits = None

    def forward(self, x: Tensor) -> Tensor:
        beside = ADAPTER_SCALE * self.adapter(x)
        if self.is_complete:
            return self.mlp(self.norm(x)) + beside
        self.logits = self.dispatcher(x)
        if self.training or self.forced is not None:
            self.gate = gumbel_gate(self.logits, self.generator) if self.forced is None else self.forced
            return self.gate * self.mlp(self.norm(x)) + beside
        self.gate = self.logits > self.threshold
        tokens = x.reshape(-1, x.shape[-1])
        kept = torch.nonzero(self.gate.flatten())[:, 0]
        through = self.mlp(self.norm(tokens[kept]))
        return through.new_zeros(tokens.shape).index_copy(0, kept, through).view_as(x) + beside


def add_dispatchers(model, *, width: int = 64) -> list[DispatchedMLP]:
    """Give every block of a model's image encoder a dispatcher and an adapter, in place; at first both change next to nothing.

    Parameters
    ----------
    model : SAM2Base
    width : int
        Of the adapters; 64 in the original at ViT-B's 768 channels.

    Returns
    -------
    list of DispatchedMLP
        One per block; their own parameters are what DyT trains in the encoder.
    """
    if dispatchers(model):
        raise RDSInputError("the model already has dispatchers")
    for block in model.image_encoder.trunk.blocks:
        block.mlp = DispatchedMLP(block.norm2, block.mlp, block.dim_out, width=width).to(block.norm2.weight)
        block.mlp.train(block.training)
        block.norm2 = nn.Identity()  # the dispatcher looks at the stream itself
    return dispatchers(model)


def rate_loss(model, rate: float) -> Tensor:
    """``2 (mean gate - rate)^2`` of the last call, one mean over all blocks: layers may differ.

    Every block counts alike, as in the original, where all have as many tokens. Hiera's first stages have more and
    smaller ones, so that a block's MLP costs about the same everywhere.
    """
    gates = torch.stack([module.gate.mean() for module in dispatchers(model)])
    return RATE_WEIGHT * (gates.mean() - rate) ** 2


@contextmanager
def complete_model(model):
    """Run with every token kept, adapters on: the teacher that DyT's second pass trains and distils from."""
    modules = dispatchers(model)
    for module in modules:
        module.is_complete = True
    try:
        yield model
    finally:
        for module in modules:
            module.is_complete = False


def dispatchers(model) -> list[DispatchedMLP]:
    """The dispatched MLPs of a model, one per block."""
    return [module for module in model.image_encoder.trunk.blocks.modules() if isinstance(module, DispatchedMLP)]


class DyT(Method):
    """Dynamic tuning."""

    name, label, kind = "dyt", "DyT", "tokens"

    def gates(self, model) -> list:
        """The dispatched MLPs."""
        return dispatchers(model)


register(DyT())
