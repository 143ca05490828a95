"""The router for inference: the same probabilities from half the operations.

Mask embedding, projection, their sum, the normalisation and the head's first convolution are linear in frame and mask.
The first convolution takes patches of 4x4 tokens that do not overlap, so all of it is one matrix product over patches.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rds_lib.errors import RDSInputError
from rds_lib.router import PredictionAwareRouter, check_router_input, probabilities_of


class FoldedRouter(nn.Module):
    """A trained `PredictionAwareRouter` that only rates blocks; changes to the router it came from do not reach it.

    Parameters
    ----------
    router : PredictionAwareRouter
    """

    def __init__(self, router: PredictionAwareRouter):
        super().__init__()
        self.always_on, self.depth, self.embed_dim = router.always_on, router.depth, router.embed_dim
        self.image_size, self.logit_bound = router.image_size, router.logit_bound
        norm, first, _, second, _ = router.head
        with torch.no_grad():
            scale, shift = norm.scale_and_shift()
            per_channel = first.weight * scale[:, None, None]  # (M, C, 4, 4)
            mask_weight, mask_bias = _on_small_mask(router.mask_patch_embed)  # (C, 1, 2, 2), (C,)
            offset = router.image_proj.bias + router.alpha * mask_bias
            bias = first.bias + torch.einsum("mcij,c->m", per_channel, offset) + torch.einsum("mcij,c->m", first.weight, shift)
            from_frame = torch.einsum("mcij,cd->mdij", per_channel, router.image_proj.weight[..., 0, 0])
            from_mask = first.weight.new_zeros(len(bias), 1, 5, 5)
            for u in range(2):
                for v in range(2):
                    taps = router.alpha * mask_weight[:, 0, u, v]
                    from_mask[:, 0, u : u + 4, v : v + 4] += torch.einsum("mcij,c->mij", per_channel, taps)
            scale, shift = router.norm.scale_and_shift()
            linear, _, last = router.mlp
            weights = {
                "frame_weight": from_frame.permute(2, 3, 1, 0).flatten(0, 2), "mask_weight": from_mask.flatten(1).t(), "bias": bias,
                "second_weight": second.weight, "second_bias": second.bias,
                "linear_weight": linear.weight * scale, "linear_bias": linear.bias + linear.weight @ shift,
                "last_weight": last.weight, "last_bias": last.bias}
        for name, tensor in weights.items():
            self.register_buffer(name, tensor.detach().clone(memory_format=torch.contiguous_format))

    def probabilities(self, image_feature: Tensor, mask_logits: Tensor) -> Tensor:
        """Activation probabilities (B, L); see ``PredictionAwareRouter.probabilities``."""
        check_router_input(image_feature, mask_logits, self.embed_dim)
        side = self.image_size // 4
        if mask_logits.shape[2:] != (side, side):
            raise RDSInputError(f"mask_logits has shape {tuple(mask_logits.shape)}; expected SAM2's own masks, {side}x{side} px")
        batch, rows, columns = len(image_feature), image_feature.shape[1] // 4, image_feature.shape[2] // 4
        tokens = image_feature.view(batch, rows, 4, columns, 4, -1).transpose(2, 3)  # (B, rows, columns, 4, 4, C)
        mask = F.pad((mask_logits[:, 0] > 0).to(image_feature.dtype), (1, 0, 1, 0))
        mask = mask.unfold(1, 5, 4).unfold(2, 5, 4)  # (B, rows, columns, 5, 5)
        x = torch.addmm(self.bias, tokens.reshape(-1, len(self.frame_weight)), self.frame_weight)
        x = F.gelu(torch.addmm(x, mask.reshape(-1, 25), self.mask_weight))  # not in place: autocast would pass it by
        x = x.view(batch, rows, columns, -1).permute(0, 3, 1, 2)
        x = F.gelu(F.conv2d(x, self.second_weight, self.second_bias, stride=2, padding=1)).mean((2, 3))
        x = F.gelu(F.linear(x, self.linear_weight, self.linear_bias))
        return probabilities_of(F.linear(x, self.last_weight, self.last_bias), self.logit_bound)


def _on_small_mask(embed: nn.Conv2d) -> tuple[Tensor, Tensor]:
    """Kernel (C, 1, 2, 2) and bias that give on SAM2's mask, one pixel per token, what ``embed`` gives on the mask enlarged 4x.

    The first 3 of the 7 kernel rows fall on the pixel before a token's and the last 4 on its own; columns alike.
    """
    rows = torch.stack([embed.weight[:, :, :3].sum(2), embed.weight[:, :, 3:].sum(2)], 2)
    return torch.stack([rows[..., :3].sum(3), rows[..., 3:].sum(3)], 3), embed.bias
