"""The hard gate that DyT and AdaViT learn with, and the threshold that takes its place when they track."""

import torch
from torch import Tensor

from rds_lib.core.errors import RDSInputError

TEMPERATURE = 5.0  # of both methods' code; it scales gradients alone: P(gate = 1) = sigmoid(logit) at any temperature


def gumbel_gate(logits: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Draw a 0/1 gate for every logit, with a straight-through gradient.

    Forward: 1 where ``logit`` plus the difference of two Gumbel draws is above 0, that is with probability
    ``sigmoid(logit)``. Backward: the gradient of ``sigmoid((logit + noise) / 5)``.
    Source: MengLcool/AdaViT and NUS-HPC-AI-Lab/Dynamic-Tuning, tau = 5, hard.
    """
    u = torch.rand(logits.shape, generator=generator, device=logits.device, dtype=logits.dtype).clamp(1e-6, 1 - 1e-6)
    soft = ((logits + torch.log(u) - torch.log1p(-u)) / TEMPERATURE).sigmoid()
    return (soft > 0.5).to(soft.dtype) + (soft - soft.detach())


def rate_threshold(logits: Tensor, rate: float) -> float:
    """The threshold above which a share ``rate`` of the logits lies: gates that track keep what they were asked to keep.

    Raises
    ------
    RDSInputError
        If ``rate`` is outside [0, 1].
    """
    if not 0 <= rate <= 1:
        raise RDSInputError(f"rate is {rate}; give a share of 0 to 1")
    ordered = logits.flatten().sort(descending=True).values
    n = round(rate * len(ordered))
    if n == 0:
        return float(ordered[0]) + 1
    if n == len(ordered):
        return float(ordered[-1]) - 1
    return float(ordered[n - 1] + ordered[n]) / 2
