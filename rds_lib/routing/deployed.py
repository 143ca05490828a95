"""The router for inference: the same logits of one frame from a third of the operations.

Mask embedding, projection, their sum and the normalisation are linear in frame and mask, and the head begins with a mean
over patches of 4x4 tokens: so the mean comes first, and the rest is one matrix product over patches.
"""

from dataclasses import dataclass
from math import exp, sqrt

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rds_lib.core.errors import RDSInputError
from rds_lib.routing.algorithm1 import sample_route, top_n_route
from rds_lib.routing.router import NEAR_UNIFORM, PredictionAwareRouter

LARGE = 3e38  # takes what is above 0 to 1 or more


class FoldedRouter(nn.Module):
    """A trained `PredictionAwareRouter` that only rates blocks; changes to the router it came from do not reach it.

    Parameters
    ----------
    router : PredictionAwareRouter
    """

    def __init__(self, router: PredictionAwareRouter):
        super().__init__()
        self.always_on, self.depth, self.logit_spread = router.always_on, router.depth, router.logit_spread
        self.side = router.image_size // 4  # tokens, and pixels of SAM2's masks
        self.patches = self.side // 4
        self.token_shape = (1, self.side, self.side, router.embed_dim)
        self.mask_shape = (1, 1, self.side, self.side)
        norm, _, second, _ = router.head
        with torch.no_grad():
            scale, shift = norm.scale_and_shift()
            mask_weight, mask_bias = _on_small_mask(router.mask_patch_embed)  # (C, 1, 2, 2), (C,)
            bias = scale * (router.image_proj.bias + router.alpha * mask_bias) + shift
            from_frame = scale[:, None] * router.image_proj.weight[..., 0, 0]  # (C, C)
            from_mask = bias.new_zeros(len(bias), 5, 5)
            for u in range(2):
                for v in range(2):
                    from_mask[:, u : u + 4, v : v + 4] += (scale * router.alpha * mask_weight[:, 0, u, v] / 16)[:, None, None]
            scale, shift = router.norm.scale_and_shift()
            linear, _, last = router.mlp
            head_taps = _taps(self.patches, 3, 2, pad=(1, 1, 1, 1))
            weights = {
                "frame_weight": F.pad(from_frame.t(), (0, 1)),
                "mask_weight": F.pad(from_mask.flatten(1).t(), (0, 1), value=1.0), "bias": F.pad(bias, (0, 1)),
                "second_weight": _passing_on(second.weight.permute(2, 3, 1, 0)).flatten(0, 2), "second_bias": F.pad(second.bias, (0, 1)),
                "linear_weight": _passing_on(linear.weight * scale),
                "linear_bias": F.pad(linear.bias + linear.weight @ shift, (0, 1)),
                "last_weight": _passing_on(last.weight - last.weight.mean(0)), "last_bias": F.pad(last.bias - last.bias.mean(), (0, 1)),
                "mask_taps": _taps(self.side, 5, 4, pad=(1, 0, 1, 0)), "head_taps": head_taps,
                "average": bias.new_full((1, len(head_taps) // 9), 9 / len(head_taps)),
                "zero": bias.new_zeros(1), "zero_patch": bias.new_zeros(1, len(bias) + 1)}
        for name, tensor in weights.items():
            self.register_buffer(name, tensor.detach().clone(memory_format=torch.contiguous_format))

    def logits(self, image_feature: Tensor, mask_logits: Tensor) -> Tensor:
        """Raw logits of one frame's blocks less their mean, of which ``router.probabilities_of`` makes p, and one more number.

        The last number is positive where the mask shows anything, and 0 else: each layer passes it on in a channel of its own,
        so that whether there was a mask costs neither an operation nor a copy. A NaN in the mask makes all of them NaN.

        Parameters
        ----------
        image_feature : Tensor, shape (1, h, w, C)
        mask_logits : Tensor, shape (1, 1, h, w)
            Of SAM2's own size, one pixel per token.

        Returns
        -------
        Tensor, shape (1, L + 1)
        """
        if image_feature.shape != self.token_shape or mask_logits.shape != self.mask_shape:
            raise RDSInputError(
                f"image_feature has shape {tuple(image_feature.shape)} and mask_logits {tuple(mask_logits.shape)}; expected "
                f"{self.token_shape} and {self.mask_shape}: one frame, and SAM2's own mask of {self.side}x{self.side} px")
        # few and plain operations: each of them costs more than its arithmetic
        patches = F.avg_pool2d(image_feature.permute(0, 3, 1, 2), 4).flatten(2)[0].t()
        mask = torch.cat([mask_logits.view(-1), self.zero]).index_select(0, self.mask_taps)
        mask = mask.mul_(LARGE).clamp_(0, 1).view(-1, len(self.mask_weight))  # binarised; a comparison would hide a NaN
        x = torch.addmm(torch.addmm(self.bias, patches, self.frame_weight), mask, self.mask_weight)
        x = torch.cat([x, self.zero_patch]).index_select(0, self.head_taps).view(-1, len(self.second_weight))
        x = torch.addmm(self.second_bias, x, self.second_weight).relu_()
        x = torch.mm(self.average, x)
        return F.linear(F.linear(x, self.linear_weight, self.linear_bias).relu_(), self.last_weight, self.last_bias)


def _passing_on(weight):
    """A last input channel that becomes a last output channel as it is; the last two axes of ``weight`` are the channels."""
    wider = F.pad(weight, (0, 1, 0, 1))
    wider[..., -1, -1] = 1.0
    return wider


def _taps(side, kernel, stride, pad):
    """What a convolution reads of a flattened (side, side) map, output by output; the padding is entry ``side ** 2``."""
    entries = F.pad(torch.arange(side**2).view(side, side), pad, value=side**2)
    return entries.unfold(0, kernel, stride).unfold(1, kernel, stride).flatten()


def _on_small_mask(embed: nn.Conv2d) -> tuple[Tensor, Tensor]:
    """Kernel (C, 1, 2, 2) and bias that give on SAM2's mask, one pixel per token, what ``embed`` gives on the mask enlarged 4x.

    The first 3 of the 7 kernel rows fall on the pixel before a token's and the last 4 on its own; columns alike.
    """
    rows = torch.stack([embed.weight[:, :, :3].sum(2), embed.weight[:, :, 3:].sum(2)], 2)
    return torch.stack([rows[..., :3].sum(3), rows[..., 3:].sum(3)], 3), embed.bias


@dataclass(frozen=True)
class RoutingPolicy:
    """How keep probabilities become a route."""

    router: FoldedRouter
    budget: float
    mode: str
    tau: float
    n_active: int

    def keep_probabilities(self, logits: list[float]) -> list[float]:
        """Lines 5 and 6 of Algorithm 1 on the host, for one frame's L logits of mean 0.

        ``router.probabilities_of`` and ``routing.normalize_to_budget`` in Python, which handles so few numbers faster.
        """
        scale = -self.router.logit_spread / sqrt(sum([x * x for x in logits]) / len(logits) + NEAR_UNIFORM)
        p = [1 / (1 + exp(scale * x)) for x in logits]
        share = self.budget * len(p) / sum(p)
        return [1.0 if (value := share * each) > 1 else value for each in p]

    def decide(self, w: list[float], generator: torch.Generator) -> list[bool]:
        """Flags of one frame for its L keep probabilities; ``routing``'s functions, the threshold in a few microseconds."""
        if self.mode == "threshold":
            active = [value >= self.tau for value in w]
            for i in self.router.always_on:
                active[i] = True
            return active
        values = torch.tensor(w)
        if self.mode == "sample":
            return sample_route(values, self.router.always_on, generator).bool().tolist()
        return top_n_route(values, self.router.always_on, self.n_active).bool().tolist()
