"""SAM2's training loss: 20 focal + dice + IoU + object score, per frame and object; damage to features; IoU."""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._pytree import tree_leaves

WEIGHTS = {"mask": 20.0, "dice": 1.0, "iou": 1.0, "score": 1.0}


def sam2_loss(outputs, targets: Tensor) -> Tensor:
    """Mean loss of one frame over its objects.

    Source: facebookresearch/sam2 ``training/loss_fns.py`` (MultiStepMultiMasksAndIous), one step per frame. Focal and
    dice act on the best candidate mask, the IoU term on all candidates; where the object is absent, none counts.

    Parameters
    ----------
    outputs : FrameOutput
        ``multimask_logits`` (B, M, H, W), ``ious`` (B, M) and ``score_logits`` (B, 1) of a frame.
    targets : Tensor, shape (B, H, W), float
        Ground truth, 0 or 1.
    """
    logits = outputs.multimask_logits
    truth = targets[:, None].expand_as(logits)
    present = targets.flatten(1).any(1).float()  # (B,)
    focal, dice = _focal(logits, truth), _dice(logits, truth)  # (B, M)
    best = (WEIGHTS["mask"] * focal + WEIGHTS["dice"] * dice).detach().argmin(1, keepdim=True)
    mask_terms = WEIGHTS["mask"] * focal.gather(1, best) + WEIGHTS["dice"] * dice.gather(1, best)
    iou_term = WEIGHTS["iou"] * (outputs.ious - mask_iou(logits, truth)).abs().mean(1)
    score_term = WEIGHTS["score"] * F.binary_cross_entropy_with_logits(outputs.score_logits[:, 0], present)
    return ((mask_terms[:, 0] + iou_term) * present).mean() + score_term


def squared_damage(features, whole, weight: Tensor | None = None) -> Tensor:
    """What a route did to an encoder's features, (B,): the maps' summed ``|x - y|^2 / |y|^2``, y the full encoder's.

    Both are what ``Backbone.run`` gives; the maps are those that a tracker reads: SAM2's ``backbone_fpn``, all tensors
    of any other backbone's features. ``weight`` (B, 1, h, w) counts places of a frame; maps are then (B, C, H, W).
    """
    pairs = zip(_maps(features), _maps(whole), strict=True)
    return sum(_energy(x - y, weight) / _energy(y, weight) for x, y in pairs)


def _energy(x, weight):
    """The sum of squares of each item of a batch, (B,)."""
    square = x**2 if weight is None else x**2 * F.interpolate(weight, size=x.shape[-2:], mode="area")
    return square.flatten(1).sum(1)


def _maps(features):
    is_sam2 = isinstance(features, dict) and "backbone_fpn" in features
    return tree_leaves(features["backbone_fpn"] if is_sam2 else features)


def mask_iou(logits: Tensor, targets: Tensor) -> Tensor:
    """IoU of masks thresholded at logit 0, over the last two axes; 1 where both are empty."""
    with torch.no_grad():
        mask, truth = logits > 0, targets > 0.5
        union = (mask | truth).sum((-2, -1)).float()
        return torch.where(union > 0, (mask & truth).sum((-2, -1)) / union.clamp(min=1), 1.0)


def clip_iou(outputs, targets: Tensor) -> float:
    """Mean IoU over the clips and the frames after the first; ``targets`` (B, T, H, W)."""
    ious = [mask_iou(outputs[t].mask_logits[:, 0], targets[:, t]).mean().item() for t in range(1, len(outputs))]
    return sum(ious) / len(ious)


def _focal(logits, truth, *, alpha: float = 0.25, gamma: float = 2.0):
    cross = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    prob = logits.sigmoid()
    wrong = prob + truth - 2 * prob * truth
    weight = alpha * truth + (1 - alpha) * (1 - truth)
    return (weight * cross * wrong**gamma).mean((-2, -1))


def _dice(logits, truth):
    prob = logits.sigmoid()
    return 1 - (2 * (prob * truth).sum((-2, -1)) + 1) / (prob.sum((-2, -1)) + truth.sum((-2, -1)) + 1)
