"""DINOv3's segmentation tracking: labels go from context frames to a frame along the likeness of patch features.

Source: facebookresearch/dinov3, ``notebooks/segmentation_tracking.ipynb``. Every patch takes the labels of the most
alike patches within a radius of its own place, jointly over all context frames. Ours works tile by tile, so that the
likeness of all pairs of patches is never held at once.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from rds_lib.dinov3.backbone import DinoBackbone
from rds_lib.model.losses import clip_iou

TILE = 8  # patches, side of what is done at once
LEAST = 1e-4  # probabilities are kept this far from 0 and 1 in the loss


@dataclass(frozen=True)
class Protocol:
    """The numbers of the official notebook."""

    context: int = 7  # most recent frames, beside the first
    radius: float = 12.0  # patches, inclusive
    top: int = 5  # patches of all context frames together; more where they tie
    temperature: float = 0.2


OFFICIAL = Protocol()


def propagate(features: Tensor, context: Tensor, labels: Tensor, protocol: Protocol = OFFICIAL) -> Tensor:
    """Label a frame's patches by those of the context.

    Parameters
    ----------
    features : Tensor, shape (h, w, D)
        Of length 1.
    context : Tensor, shape (t, h, w, D)
    labels : Tensor, shape (t, h, w, M)
        Soft labels of the context; they sum to 1 over the M classes.

    Returns
    -------
    Tensor, shape (h, w, M)
    """
    (h, w, _), reach = features.shape, int(protocol.radius)
    found = labels.new_empty(h, w, labels.shape[-1])
    for top in range(0, h, TILE):
        for left in range(0, w, TILE):
            here = slice(top, min(top + TILE, h)), slice(left, min(left + TILE, w))
            around = tuple(
                slice(max(s.start - reach, 0), min(s.stop + reach, n)) for s, n in zip(here, (h, w), strict=True)
            )
            far = _near(here, around, protocol.radius, features.device).logical_not()  # (n, N)
            bias = torch.zeros_like(far, dtype=features.dtype).masked_fill_(far, -torch.inf).repeat(1, len(context))
            window, seen = (part[:, *around].flatten(0, 2) for part in (context, labels))  # (t N, D), (t N, M)
            likeness = torch.addmm(bias, features[here].flatten(0, 1), window.T)  # (n, t N)
            found[here] = _read_off(likeness, seen, protocol).view(found[here].shape)
    return found / found.sum(-1, keepdim=True)


def _read_off(likeness, labels, protocol) -> Tensor:
    """The labels (N, M) that rows of likeness (n, N) point to, (n, M): from the few that count, unless more tie."""
    top = protocol.top
    most, index = likeness.topk(min(top + 1, likeness.shape[-1]), dim=-1)
    if most.shape[-1] > top and (most[:, top] == most[:, top - 1]).any():
        return _weights(likeness, protocol) @ labels
    weights = (most[:, :top] / protocol.temperature).softmax(-1)
    return torch.einsum("nk,nkm->nm", weights, labels[index[:, :top]])


def propagate_dense(
    features: Tensor, context: Tensor, labels: Tensor, protocol: Protocol = OFFICIAL, *, normalise: bool = True
) -> Tensor:
    """The same with all pairs at once, for batches of small frames and with a gradient.

    Shapes as in `propagate` with an axis B before them. ``normalise=False`` is for labels that do not sum to 1.
    """
    _, h, w, _ = features.shape
    whole = slice(0, h), slice(0, w)
    near = _near(whole, whole, protocol.radius, features.device).repeat(1, context.shape[1])
    likeness = features.flatten(1, 2) @ context.flatten(1, 3).transpose(1, 2)  # (B, h w, t h w)
    found = _weights(likeness.masked_fill(~near, -torch.inf), protocol) @ labels.flatten(1, 3)
    found = found / found.sum(-1, keepdim=True) if normalise else found
    return found.view(len(features), h, w, -1)


def _near(here, around, radius, device) -> Tensor:
    """Whether patches of one rectangle lie within the radius of those of another, (n, N) bool."""
    (y, x), (v, u) = (
        torch.meshgrid(*(torch.arange(s.start, s.stop, device=device) for s in part), indexing="ij")
        for part in (here, around)
    )
    return (y.flatten()[:, None] - v.flatten()) ** 2 + (x.flatten()[:, None] - u.flatten()) ** 2 <= radius**2


def _weights(likeness, protocol) -> Tensor:
    """Softmax over the most alike patches; those out of reach have a likeness of -inf."""
    if protocol.top < likeness.shape[-1]:
        least = likeness.topk(protocol.top, dim=-1).values[..., -1:]
        likeness = likeness.masked_fill(likeness < least, -torch.inf)
    return (likeness / protocol.temperature).softmax(-1)


def class_scores(labels: Tensor) -> Tensor:
    """Stretch every class (h, w, M) over the frame to [0, 1], as the protocol does before the largest one wins."""
    low, high = labels.amin((0, 1)), labels.amax((0, 1))
    return torch.nan_to_num((labels - low) / (high - low))


def patch_labels(masks: Tensor, grid: tuple[int, int]) -> Tensor:
    """Soft labels (h, w, 1 + O) of masks (O, H, W) bool that do not overlap: background first, nearest-exact."""
    small = F.interpolate(masks[:, None].float(), size=grid, mode="nearest-exact")[:, 0]
    return torch.cat([1 - small.amax(0, keepdim=True), small]).permute(1, 2, 0)


class Propagated(NamedTuple):
    """One frame of B clips with an object each."""

    mask_logits: Tensor  # (B, 1, S, S)
    low_res_logits: Tensor  # (B, 1, h, w), of the patches
    features: Tensor  # (B, h, w, D)
    labels: Tensor  # (B, h, w, 2), background and object


class DinoClips:
    """A `ClipTracker` over a `DinoBackbone`: short square clips, one object each, differentiable to the features.

    The loss is the cross-entropy of the propagated labels against the masks' area in every patch.
    """

    def __init__(self, backbone: DinoBackbone, protocol: Protocol = OFFICIAL):
        self.backbone, self.protocol = backbone, protocol

    def track(self, targets: Tensor, encode) -> list[Propagated]:
        outputs = []
        for t in range(targets.shape[1]):
            features = encode(t, outputs[-1] if outputs else None)
            if t == 0:
                labels = _areas(targets[:, 0], features.shape[1:3]).round()
            else:
                known = outputs[:1] + outputs[1:][-self.protocol.context :]
                context, seen = (torch.stack([getattr(out, n) for out in known], 1) for n in ("features", "labels"))
                labels = propagate_dense(features, context, seen, self.protocol)
            low = (labels[..., 1] - 0.5)[:, None]
            outputs.append(Propagated(F.interpolate(low, size=targets.shape[-2:]), low, features, labels))
        return outputs

    def loss(self, outputs, targets) -> tuple[Tensor, float]:
        losses = []
        for t in range(1, len(outputs)):
            truth = _areas(targets[:, t], outputs[t].labels.shape[1:3])
            losses.append(-(truth * outputs[t].labels.clamp(min=LEAST).log()).sum(-1).mean())
        return sum(losses) / len(losses), clip_iou(outputs, targets)


def _areas(masks: Tensor, grid) -> Tensor:
    """The share of every patch outside and inside masks (B, S, S): (B, h, w, 2)."""
    inside = F.interpolate(masks[:, None], size=grid, mode="area")[:, 0]
    return torch.stack([1 - inside, inside], -1)
