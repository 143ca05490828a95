"""The hard gates that DyT and AdaViT learn with, and the threshold that takes their place when they track."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from rds_lib.core.errors import RDSInputError
from rds_lib.training.tasks import clip_uniform
from rds_lib.work.together import mean_over_processes

TEMPERATURE = 5.0  # of both methods' code; it scales gradients alone: P(gate = 1) = sigmoid(logit) at any temperature
CALIBRATION_PASSES = 8


class Drawing(nn.Module):
    """A module that draws at random in training, for each clip from the clip's own generator."""

    generators: Sequence[torch.Generator] | None = None


class ClipDropout(Drawing):
    """Dropout of a share ``p``; x has frames on its first axis, as `clip_uniform` has them."""

    def __init__(self, p: float):
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        return x * (clip_uniform(x.shape, self.generators, x.device) >= self.p) / (1 - self.p)


class GatedModule(Drawing):
    """A part of the encoder behind a 0/1 gate: drawn and multiplied in training, a threshold that skips otherwise.

    A subclass computes logits, calls `decide`, and names in ``decider`` the module that learns at the gates' rate. One
    that stands in the place of a block gates the block; one inside a block gates the tokens of its MLP.
    """

    def __init__(self):
        super().__init__()
        self.threshold = 0.0  # on the logits, when tracking
        self.forced = None  # a gate to multiply by instead of deciding
        self.gate = None  # 0/1, of the last call
        self.logits = None
        self.known_mean = None  # open gates of all clips of a step, where this module sees some of them

    @property
    def multiplies(self) -> bool:
        """Whether everything runs and is multiplied by the gate, as in training."""
        return self.training or self.forced is not None

    def decide(self, logits: Tensor) -> Tensor:
        """The gate of these logits, which `gate` and `logits` keep."""
        self.logits = logits
        if not self.multiplies:
            self.gate = logits > self.threshold
        else:
            self.gate = gumbel_gate(logits, self.generators) if self.forced is None else self.forced
        return self.gate


def gated(model) -> list[GatedModule]:
    """The gated modules of a model's image encoder, in order; [] without."""
    return [module for module in model.image_encoder.trunk.blocks.modules() if isinstance(module, GatedModule)]


def draw_from(model, generators: Sequence[torch.Generator]) -> None:
    """Put all that draws in a model in training, and have it draw from these, one a clip."""
    for module in model.modules():
        if isinstance(module, Drawing):
            module.train().generators = generators


def mean_gate(model) -> Tensor:
    """Mean gate of the last call, over all modules and all clips of the step, with this process's part of its gradient.

    A loss of it is the same function whether one process sees the clips of a step, or several do, or micro-batches.
    """
    modules = gated(model)
    own = torch.stack([module.gate.float().mean() for module in modules]).mean()
    known = modules[0].known_mean
    known = mean_over_processes(own.detach().clone()) if known is None else known
    return known + (own - own.detach())


def know_mean_gate(model, images: Tensor) -> None:
    """Find `mean_gate` on frames of all clips, for micro-batches that draw the same and see some of them."""
    modules = gated(model)
    for module in modules:
        module.known_mean = None
    if modules:
        model.forward_image(images)
        modules[0].known_mean = mean_gate(model)


def gumbel_gate(logits: Tensor, generators: Sequence[torch.Generator] | None = None) -> Tensor:
    """Draw a 0/1 gate for every logit, with a straight-through gradient; generators as in `clip_uniform`.

    Forward: 1 where ``logit`` plus the difference of two Gumbel draws is above 0, that is with probability
    ``sigmoid(logit)``. Backward: the gradient of ``sigmoid((logit + noise) / 5)``.
    Source: MengLcool/AdaViT and NUS-HPC-AI-Lab/Dynamic-Tuning, tau = 5, hard.
    """
    u = clip_uniform(logits.shape, generators, logits.device).clamp(1e-6, 1 - 1e-6)
    soft = ((logits.float() + torch.log(u) - torch.log1p(-u)) / TEMPERATURE).sigmoid()
    return (soft > 0.5).to(soft.dtype) + (soft - soft.detach())


def rate_threshold(logits: Tensor, rate: float) -> float:
    """The threshold that a share ``rate`` of the logits exceeds.

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


def set_threshold(model, threshold: float) -> None:
    """When tracking, keep what has a logit above ``threshold``."""
    for module in gated(model):
        module.threshold = float(threshold)


def open_share(model) -> float:
    """Share of the gates that were open in the last call, a mean over modules; 1 without gates."""
    gates = [module.gate.detach().mean() for module in gated(model)]
    return round(torch.stack(gates).mean().item(), 4) if gates else 1.0


@contextmanager
def multiplied_gates(model, gates) -> Iterator[None]:
    """Run everything and multiply by given gates, one per gated module: the forward pass of the training."""
    modules = gated(model)
    for module, gate in zip(modules, gates, strict=True):
        module.forced = gate.to(next(module.parameters()))
    try:
        yield
    finally:
        for module in modules:
            module.forced = None


@torch.inference_mode()
def calibrate_gates(model, rate: float, images) -> float:
    """Set the threshold at which a share ``rate`` of the gates is open, on average over images (1, 3, S, S).

    A threshold changes the tokens that later gates see, so it is found by bisection, each time with the gates as they
    then are. 0 without gates.
    """
    modules = gated(model)
    if not modules:
        return 0.0

    def run(threshold):
        set_threshold(model, threshold)
        logits, gates = [], []
        for image in images:
            model.forward_image(image)
            logits += [module.logits.flatten() for module in modules]
            gates += [module.gate.float().mean() for module in modules]
        return torch.cat(logits), torch.stack(gates).mean().item()

    threshold, reach = rate_threshold(run(0.0)[0], rate), None
    tried = []
    for _ in range(CALIBRATION_PASSES):
        logits, share = run(threshold)
        tried.append((abs(share - rate), threshold))
        reach = reach or 4 * logits.std().item()
        threshold += reach if share > rate else -reach
        reach /= 2
    threshold = min(tried)[1]
    set_threshold(model, threshold)
    return threshold
