"""Algorithm 1 as it runs when tracking: one frame, few device operations, one copy to the host.

`algorithm1` has the table of all its lines, here and in training, and says why several exist twice. Mask embedding,
projection, their sum and the normalisation are linear in frame and mask, and the head begins with a mean over 4x4
tokens: `FoldedRouter` takes the mean first, and the rest becomes one matrix product over patches, a third of the
operations.
"""

from dataclasses import dataclass
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rds_lib.core.errors import RDSInputError
from rds_lib.routing.algorithm1 import sample_route, top_n_route
from rds_lib.routing.allowance import route_within
from rds_lib.routing.router import PredictionAwareRouter, probabilities_on_host

LARGE = 3e38  # takes what is above 0 to 1 or more


class FoldedRouter(nn.Module):
    """A copy of a trained router that only rates blocks, one frame at a time; it does not follow later changes."""

    def __init__(self, router: PredictionAwareRouter):
        super().__init__()
        self.always_on, self.depth, self.normalise = router.always_on, router.depth, router.normalise
        self.side = router.image_size // router.token_stride  # tokens, and mask pixels
        self.patches = self.side // 4
        self.token_shape = (1, self.side, self.side, router.embed_dim)
        self.mask_shape = (1, 1, self.side, self.side)
        norm, _, second, _ = router.head
        with torch.no_grad():
            self.spread = float(router.spread)
            scale, shift = norm.scale_and_shift()
            mask_weight, mask_bias = _on_small_mask(router.mask_patch_embed)  # (C, 1, 2, 2), (C,)
            bias = scale * (router.image_proj.bias + router.alpha * mask_bias) + shift
            from_frame = scale[:, None] * router.image_proj.weight[..., 0, 0]  # (C, C)
            from_mask = bias.new_zeros(len(bias), 5, 5)
            for u, v in product(range(2), range(2)):
                share = scale * router.alpha * mask_weight[:, 0, u, v] / 16  # (C,)
                from_mask[:, u : u + 4, v : v + 4] += share[:, None, None]
            scale, shift = router.norm.scale_and_shift()
            linear, _, last = router.mlp
            common = (last.weight.mean(0), last.bias.mean()) if router.normalise else (0.0, 0.0)
            head_taps = _taps(self.patches, 3, 2, pad=(1, 1, 1, 1))
            weights = {
                "frame_weight": F.pad(from_frame.t(), (0, 1)),
                "mask_weight": F.pad(from_mask.flatten(1).t(), (0, 1), value=1.0),
                "bias": F.pad(bias, (0, 1)),
                "second_weight": _passing_on(second.weight.permute(2, 3, 1, 0)).flatten(0, 2),
                "second_bias": F.pad(second.bias, (0, 1)),
                "linear_weight": _passing_on(linear.weight * scale),
                "linear_bias": F.pad(linear.bias + linear.weight @ shift, (0, 1)),
                "last_weight": _passing_on(last.weight - common[0]),
                "last_bias": F.pad(last.bias - common[1], (0, 1)),
                "mask_taps": _taps(self.side, 5, 4, pad=(1, 0, 1, 0)),
                "head_taps": head_taps,
                "average": bias.new_full((1, len(head_taps) // 9), 9 / len(head_taps)),
                "zero": bias.new_zeros(1),
                "zero_patch": bias.new_zeros(1, len(bias) + 1),
            }
        for name, tensor in weights.items():
            self.register_buffer(name, tensor.detach().clone(memory_format=torch.contiguous_format))

    def logits(self, image_feature: Tensor, mask_logits: Tensor) -> Tensor:
        """Rate one frame's blocks: (1, L + 1), logits, and a flag that is > 0 if the mask is not empty.

        Logits to normalise over the blocks come less their mean.
        The flag rides along as an extra channel, to save a second device read. A NaN in the mask makes every value NaN.
        Takes tokens (1, h, w, C) and a mask (1, 1, h, w) of one pixel per token, as SAM2's own are.
        """
        shapes, expected = (image_feature.shape, mask_logits.shape), (self.token_shape, self.mask_shape)
        if shapes != expected:
            given, side = [tuple(shape) for shape in shapes], f"{self.side}x{self.side} px, one per token"
            raise RDSInputError(
                f"tokens and mask have shapes {given}; expected {expected}: one frame, a mask of {side}"
            )
        # few and plain operations: each of them costs more than its arithmetic
        patches = F.avg_pool2d(image_feature.permute(0, 3, 1, 2), 4).flatten(2)[0].t()
        mask = torch.cat([mask_logits.view(-1), self.zero]).index_select(0, self.mask_taps)
        mask = mask.mul_(LARGE).clamp_(0, 1).view(-1, len(self.mask_weight))  # binarised; a comparison would hide a NaN
        x = torch.addmm(torch.addmm(self.bias, patches, self.frame_weight), mask, self.mask_weight)
        x = torch.cat([x, self.zero_patch]).index_select(0, self.head_taps).view(-1, len(self.second_weight))
        x = torch.addmm(self.second_bias, x, self.second_weight).relu_()
        x = torch.mm(self.average, x)
        return F.linear(F.linear(x, self.linear_weight, self.linear_bias).relu_(), self.last_weight, self.last_bias)

    def forward(self, image_feature: Tensor, mask_logits: Tensor) -> Tensor:
        return self.logits(image_feature, mask_logits)


def _passing_on(weight):
    """Add a channel that goes from the last input to the last output as it is; channels are ``weight``'s last axes."""
    wider = F.pad(weight, (0, 1, 0, 1))
    wider[..., -1, -1] = 1.0
    return wider


def _taps(side, kernel, stride, pad):
    """What a convolution reads of a flattened (side, side) map, output by output; ``side ** 2`` is the padding."""
    entries = F.pad(torch.arange(side**2).view(side, side), pad, value=side**2)
    return entries.unfold(0, kernel, stride).unfold(1, kernel, stride).flatten()


def _on_small_mask(embed: nn.Conv2d) -> tuple[Tensor, Tensor]:
    """Kernel (C, 1, 2, 2) and bias that do on a mask of one pixel per token what ``embed`` does on the enlarged mask.

    Of the 2s - 1 kernel rows the first s - 1 fall on the pixel before a token's, the last s on its own; columns alike.
    """
    before = embed.stride[0] - 1
    rows = torch.stack([embed.weight[:, :, :before].sum(2), embed.weight[:, :, before:].sum(2)], 2)
    return torch.stack([rows[..., :before].sum(3), rows[..., before:].sum(3)], 3), embed.bias


class PlainRouter(nn.Module):
    """A trained router line by line, for frames of any shape; what `FoldedRouter` is for square ones."""

    def __init__(self, router: PredictionAwareRouter):
        super().__init__()
        self.inner = router.eval().requires_grad_(False)
        self.always_on, self.normalise, self.spread = router.always_on, router.normalise, float(router.spread)
        for name, tensor in zip(("mask_weight", "mask_bias"), _on_small_mask(router.mask_patch_embed), strict=True):
            self.register_buffer(name, tensor.detach().clone())

    def logits(self, image_feature: Tensor, mask_logits: Tensor) -> Tensor:
        """As `FoldedRouter.logits`, of tokens (1, h, w, C) and a mask (1, 1, h, w) of one pixel a token."""
        mask = mask_logits.mul(LARGE).clamp(0, 1)  # a comparison would hide a NaN
        shown = F.conv2d(F.pad(mask, (1, 0, 1, 0)), self.mask_weight, self.mask_bias)
        fused = self.inner.image_proj(image_feature.permute(0, 3, 1, 2)) + self.inner.alpha * shown
        raw = self.inner.mlp(self.inner.norm(self.inner.head(fused).mean((2, 3))))
        raw = raw - raw.mean(1, keepdim=True) if self.normalise else raw
        return torch.cat([raw, mask.amax().view(1, 1)], 1)

    def forward(self, image_feature: Tensor, mask_logits: Tensor) -> Tensor:
        return self.logits(image_feature, mask_logits)


@dataclass(frozen=True)
class RoutingPolicy:
    """How one frame's logits become its route; change it with ``dataclasses.replace``."""

    router: FoldedRouter | PlainRouter
    budget: float
    mode: str  # "threshold", "sample", "top_n" or "within"
    tau: float
    n_active: int
    costs: tuple[float, ...] = ()  # of each block, for "within"
    allowance: float = 0.0  # what the blocks of a frame may cost in all
    lowest: float = 0.0  # the lowest budget that the router serves
    asked: str = ""  # the budget in words, where it is no share

    def __str__(self) -> str:
        return f"RDS {self.asked or format(self.budget, 'g')}"

    def keep_probabilities(self, logits: list[float]) -> list[float]:
        """Lines 5 and 6 for a frame's L logits, as `FoldedRouter.logits` gives them."""
        p = probabilities_on_host(logits, self.router.spread, self.router.normalise)
        share = self.budget * len(p) / sum(p)
        return [1.0 if (value := share * each) > 1 else value for each in p]

    def decide(self, w: list[float], generator: torch.Generator) -> tuple[list[bool], list[float]]:
        """Lines 7 to 16: flags of a frame, and its keep probabilities, both with K forced on."""
        always_on, keep_prob = self.router.always_on, list(w)
        if self.mode == "threshold":
            active = [value >= self.tau for value in w]
        elif self.mode == "sample":
            active = sample_route(torch.tensor(w), always_on, generator).bool().tolist()
        elif self.mode == "within":
            active = route_within(w, always_on, self.costs, self.allowance)
        else:
            active = top_n_route(torch.tensor(w), always_on, self.n_active).bool().tolist()
        for i in always_on:
            active[i], keep_prob[i] = True, 1.0
        return active, keep_prob
