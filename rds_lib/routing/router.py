"""The prediction-aware router (PAR): one small network that reads the frame and the last mask and rates every block."""

from collections.abc import Iterator
from contextlib import contextmanager
from math import exp, inf, log, sqrt
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rds_lib.core.errors import RDSInputError
from rds_lib.routing.algorithm1 import (
    check_always_on,
    check_budget,
    normalize_to_budget,
    sample_route,
    threshold_route,
    top_n_route,
)
from rds_lib.work.together import mean_over_processes

NEAR_UNIFORM = 0.05
LARGEST_LOGIT = 30.0  # where the sigmoid is 0 or 1 to float32; no frame's probabilities are then all 0


class RouterOutput(NamedTuple):
    """Activation probabilities, keep probabilities and route of each frame, all (B, L)."""

    p: Tensor
    w: Tensor
    route: Tensor


class RunningNorm(nn.Module):
    """Centre and scale features (B, C, ...) by their running statistics over frames, in training and evaluation alike.

    Otherwise what all frames share, such as the position embedding, drowns what differs between them, and the router
    settles on one route for all. Batch statistics will not do: a batch may hold a single frame. Processes that train
    together share their statistics, so that all of them train the same function; they must see equally many frames.
    """

    def __init__(self, channels, momentum=0.01):
        super().__init__()
        self.momentum = momentum
        self.register_buffer("count", torch.zeros(()))
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("var", torch.ones(channels))
        self.recorded = self.replayed = None  # statistics of each call of a step; see `recorded_statistics`

    def forward(self, features):
        if self.training:
            self.see(features.detach().float().movedim(1, -1).flatten(0, -2))
        scale, shift = (values.view(-1, *(1,) * (features.ndim - 2)) for values in self.scale_and_shift())
        return features * scale + shift

    def scale_and_shift(self) -> tuple[Tensor, Tensor]:
        """Factor and offset of a feature, each (C,)."""
        scale = torch.rsqrt(self.var + 1e-6)
        return scale, -self.mean * scale

    @torch.no_grad()
    def see(self, rows):
        """Count rows (N, C) in, or take the statistics over from the call that counted these and more."""
        if self.replayed is not None:
            for own, known in zip((self.mean, self.var), next(self.replayed)):
                own.copy_(known)
            return
        self.update(rows)
        if self.recorded is not None:
            self.recorded.append((self.mean.clone(), self.var.clone()))

    @torch.no_grad()
    def update(self, rows):
        """Count rows (N, C) in."""
        self.count += 1
        rate = (1 / self.count).clamp(min=self.momentum)  # a plain average first, then an exponential one
        offset = rows - self.mean
        self.mean += rate * mean_over_processes(offset.mean(0))
        self.var += rate * (mean_over_processes((offset * (rows - self.mean)).mean(0)) - self.var)


@contextmanager
def recorded_statistics(router: nn.Module) -> Iterator[None]:
    """Keep the statistics of every call, for `replayed_statistics`: all clips of a step are seen here."""
    for norm in _norms(router):
        norm.recorded = []
    yield


@contextmanager
def replayed_statistics(router: nn.Module) -> Iterator[None]:
    """Have the same calls, of some of the clips, use the statistics that were recorded, and count nothing in."""
    norms = _norms(router)
    for norm in norms:
        norm.replayed = iter(norm.recorded)
    try:
        yield
    finally:
        for norm in norms:
            norm.replayed = None


def _norms(router):
    return [module for module in router.modules() if isinstance(module, RunningNorm)]


class PredictionAwareRouter(nn.Module):
    """Rate the blocks of an image encoder from the current frame and the previous mask (Algorithm 1, A.1).

    ``Y = alpha f(M) + g(X)`` with a patch embedding ``f`` of the binarised mask; a strided convolutional head, pooled;
    an MLP to one logit per block. Paper does not give sizes; the head averages 4x4 tokens, then strides by 2, to be
    cheap, and its width gives the paper's parameter count on Hiera-L. Features are normalised before head and MLP, so
    that a router does not settle on one route; by default logits are too, see `probabilities_of`. All of it is linear
    up to the first ReLU, which ``deployed.FoldedRouter`` uses.

    Parameters
    ----------
    embed_dim : int
        Width C of the tokens that enter block 0.
    depth : int
        Number of blocks L.
    always_on : sequence of int
        Blocks that always run (the paper's K).
    image_size : int
        Side of the encoder's input in px, to which the mask is resized.
    token_stride : int
        px a token.
    hidden : int, optional
        Width of the head's convolution; ``6.25 * embed_dim`` by default.
    budget : float
        Target share of active blocks when the call names none.
    normalise : bool
        Normalise a frame's logits over the blocks. False is line 5 as the paper has it.
    logit_spread : float
        Factor on the logits, above 0: their standard deviation over a frame's blocks where they are normalised.
    learn_spread : bool
        Train the factor's logarithm, from ``logit_spread`` on.
    """

    def __init__(
        self,
        embed_dim,
        depth,
        always_on,
        *,
        image_size,
        token_stride=4,
        hidden=None,
        budget=1.0,
        normalise=True,
        logit_spread=1.0,
        learn_spread=False,
    ):
        super().__init__()
        check_budget(budget)
        if not 0 < logit_spread < inf:
            raise RDSInputError(f"logit_spread is {logit_spread!r}; give a number above 0; 1 leaves logits as they are")
        self.embed_dim, self.depth, self.always_on = int(embed_dim), int(depth), check_always_on(always_on, depth)
        self.image_size, self.token_stride = int(image_size), int(token_stride)
        self.hidden = int(hidden or 6.25 * embed_dim)
        self.budget, self.logit_spread = float(budget), float(logit_spread)
        self.normalise, self.learn_spread = bool(normalise), bool(learn_spread)
        if self.learn_spread:
            self.log_spread = nn.Parameter(torch.tensor(log(self.logit_spread)))
        self.alpha = nn.Parameter(torch.ones(()))
        self.mask_patch_embed = nn.Conv2d(1, embed_dim, 2 * token_stride - 1, token_stride, token_stride - 1)  # f
        self.image_proj = nn.Conv2d(embed_dim, embed_dim, kernel_size=1)  # g
        self.head = nn.Sequential(  # phi
            RunningNorm(embed_dim),
            nn.AvgPool2d(4),
            nn.Conv2d(embed_dim, self.hidden, kernel_size=3, stride=2, padding=1),
            nn.ReLU(),
        )
        self.norm = RunningNorm(self.hidden)
        self.mlp = nn.Sequential(nn.Linear(self.hidden, 2 * self.hidden), nn.ReLU(), nn.Linear(2 * self.hidden, depth))
        nn.init.normal_(self.mlp[-1].weight, std=1e-2)
        nn.init.zeros_(self.mlp[-1].bias)

    @classmethod
    def for_backbone(cls, backbone, **options) -> "PredictionAwareRouter":
        """Build a new router for a backbone; ``options`` are those of the class that no backbone decides."""
        sizes = {"image_size": backbone.image_size, "token_stride": backbone.token_stride}
        return cls(backbone.embed_dim, backbone.depth, backbone.always_on, **sizes, **options)

    @property
    def spread(self) -> float | Tensor:
        """Factor on the logits; a tensor with a gradient where it is learnt."""
        return self.log_spread.exp() if self.learn_spread else self.logit_spread

    def forward(
        self, image_feature, mask_logits=None, *, budget=None, mode=None, tau=0.5, n_active=None, generator=None
    ) -> RouterOutput:
        """Route a batch of frames.

        Parameters
        ----------
        image_feature : Tensor, shape (B, h, w, C)
            Tokens of the current frames, from ``backbone.embed``.
        mask_logits : Tensor, shape (B, 1, H, W), or None
            Logits of the previous masks, any size. Without any, p, w and route are ones (A.1).
        budget : float or Tensor of shape (B,), optional
        mode : "sample", "threshold" or "top_n"
            By default as in Algorithm 1: "sample" in training, "threshold" in evaluation.
        tau, n_active, generator
            For the modes "threshold", "top_n" and "sample".
        """
        if mask_logits is None:
            ones = image_feature.new_ones(len(image_feature), self.depth, dtype=torch.float32)
            return RouterOutput(ones, ones, ones)
        p = self.probabilities(image_feature, mask_logits)
        w = normalize_to_budget(p, self.budget if budget is None else budget, check=False)
        return RouterOutput(p, w, self._route(w, mode, tau, n_active, generator))

    def probabilities(self, image_feature: Tensor, mask_logits: Tensor) -> Tensor:
        """Lines 3-5 of Algorithm 1: activation probabilities (B, L), float32."""
        frames, masks, width = tuple(image_feature.shape), tuple(mask_logits.shape), self.embed_dim
        if len(frames) != 4 or frames[-1] != width:
            raise RDSInputError(f"image_feature has shape {frames}; expected (B, h, w, {width})")
        if len(masks) != 4 or masks[:2] != (frames[0], 1):
            raise RDSInputError(f"mask_logits has shape {masks}; expected ({frames[0]}, 1, H, W)")
        mask = (mask_logits > 0).to(image_feature.dtype)
        pixels = tuple(side * self.token_stride for side in frames[1:3])
        mask = self.mask_patch_embed(F.interpolate(mask, size=pixels, mode="nearest"))
        fused = self.image_proj(image_feature.permute(0, 3, 1, 2)) + self.alpha * mask  # in this order: channels last
        features = self.norm(self.head(fused).mean((2, 3)))  # (B, hidden)
        return probabilities_of(self.mlp(features), self.spread, self.normalise)

    def _route(self, w, mode, tau, n_active, generator):
        mode = mode or ("sample" if self.training else "threshold")
        if mode == "sample":
            return sample_route(w, self.always_on, generator)
        if mode == "threshold":
            return threshold_route(w, self.always_on, tau)
        if mode == "top_n":
            return top_n_route(w, self.always_on, n_active)
        raise RDSInputError(f"mode is {mode!r}; choose sample, threshold or top_n")


def probabilities_of(raw: Tensor, spread: float | Tensor, normalise: bool = True) -> Tensor:
    """Line 5 of Algorithm 1, float32: the sigmoid of the logits times ``spread``; raw (..., L).

    ``normalise=False`` with a spread of 1 is the paper's. A short training hardly moves its probabilities apart, so
    that a threshold keeps all blocks or none unless it is calibrated. Normalised over the blocks, logits have equal
    spread on every frame: the frame then decides which blocks run, and, unlike in the paper, hardly how many. Raw
    logits of a variance far below ``NEAR_UNIFORM``, as at the start, stay nearly uniform.
    """
    if normalise:
        return torch.sigmoid(spread * F.layer_norm(raw.float(), raw.shape[-1:], eps=NEAR_UNIFORM))
    return torch.sigmoid((spread * raw.float()).clamp(-LARGEST_LOGIT, LARGEST_LOGIT))


def probabilities_on_host(logits: list[float], spread: float, normalise: bool = True) -> list[float]:
    """The same for one frame, in Python, which is faster for so few numbers; logits to normalise have mean 0."""
    if normalise:
        scale = -spread / sqrt(sum([x * x for x in logits]) / len(logits) + NEAR_UNIFORM)
        return [1 / (1 + exp(scale * x)) for x in logits]
    return [1 / (1 + exp(min(max(-spread * x, -LARGEST_LOGIT), LARGEST_LOGIT))) for x in logits]
