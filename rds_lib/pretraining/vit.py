"""Train the mini DINOv3: features of which the labels of one frame can be read off the frames before it.

Objects' masks are propagated as when tracking, and so are the colours of all patches, which teaches the background and
the parts of an object too (Vondrick et al. 2018, arXiv:1806.09594). Both with a gradient to the features.
"""

import tempfile
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rds_lib.core.artifacts import copy_file, read_tensors
from rds_lib.dinov3.backbone import DinoBackbone, load_dinov3, without_bars
from rds_lib.dinov3.propagation import (
    OFFICIAL,
    DinoClips,
    Protocol,
    class_scores,
    patch_labels,
    propagate,
    propagate_dense,
)
from rds_lib.model.losses import mask_iou
from rds_lib.pretraining.held_out import VIDEO_FRAMES, fitted, windows

VIT = "dinov3"  # among the models that stage `pretrain` makes
MINI = {
    "hidden_size": 128,
    "intermediate_size": 512,
    "num_hidden_layers": 12,
    "num_attention_heads": 4,
    "patch_size": 8,  # masks of small videos need patches that are small too
    "image_size": 192,
    "num_register_tokens": 4,
    "pos_embed_rescale": None,  # its position encoding stays the same while it is trained
}
FILES = ("config.json", "model.safetensors")
COLOUR = 1.0  # weight of the propagated colours
EVERY = 2**31  # patches: all that are in reach count, so that the right one gains even where it is not among the first
LEARNING = Protocol(top=EVERY, temperature=0.07)


def build_vit(start_from: Path | None, device) -> nn.Module:
    """The mini DINOv3 with weights to go on from, or random ones, all of them to be trained."""
    from transformers import DINOv3ViTConfig, DINOv3ViTModel

    model = load_dinov3(start_from) if start_from else DINOv3ViTModel(DINOv3ViTConfig(**MINI))
    return model.to(device).requires_grad_(True)


def save_vit(weights: Path, folder: Path) -> None:
    """Write trained weights in the hub's format, ``config.json`` and ``model.safetensors``, in half precision."""
    from transformers import DINOv3ViTConfig, DINOv3ViTModel

    tensors, _ = read_tensors(weights)
    model = DINOv3ViTModel(DINOv3ViTConfig(**MINI))
    model.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
    with tempfile.TemporaryDirectory() as made, without_bars():
        model.half().save_pretrained(made)
        for name in FILES:
            copy_file(Path(made) / name, folder / name)


class VitPupil:
    """The mini DINOv3 in training; see `pretrain.Pupil`."""

    def __init__(self, model: nn.Module):
        self.model, self.backbone = model, DinoBackbone(model)

    def set_size(self, size):
        """Nothing to do: its position encoding takes any size."""

    def loss(self, clips, generator, done):
        images, targets, owner = clips
        tokens = self.backbone.embed(images.transpose(0, 1).flatten(0, 1))
        features = self.backbone.run(tokens).unflatten(0, (images.shape[1], -1))  # (T, B, h, w, D)
        tracker = DinoClips(self.backbone, LEARNING)
        loss, iou = tracker.loss(tracker.track(targets, lambda t, _: features[t][owner]), targets)
        return loss + COLOUR * colour_loss(images, features), iou

    @torch.inference_mode()
    def score(self, model, videos, bsds_root):
        """Mean IoU over the objects of held-out videos, as `held_out.held_out_videos_iou` takes it; 0 without any."""
        scores, size = [0.0] * (not videos), self.backbone.image_size
        for sequence, times in windows(videos, VIDEO_FRAMES):
            found = fitted(sequence, times, size)
            if found is None:
                continue
            images, targets = (part.to(next(model.parameters()).device) for part in found)
            features = self.backbone.run(self.backbone.embed(images))
            scores += _ious(features, targets)
        return float(np.mean(scores))


def _ious(features: Tensor, targets: Tensor) -> list[float]:
    """Mean IoU of every object (O, T, S, S) on the frames after the first, followed by the official protocol."""
    labels = [patch_labels(targets[:, 0] > 0, features.shape[1:3])]
    for t in range(1, len(features)):
        known = [0, *range(max(1, t - OFFICIAL.context), t)]
        labels.append(propagate(features[t], features[known], torch.stack([labels[k] for k in known])))
    scores = torch.stack([class_scores(frame).permute(2, 0, 1) for frame in labels[1:]], 1)  # (1 + O, T - 1, h, w)
    logits = F.interpolate(scores[1:] - scores[:1], size=targets.shape[-2:])
    return torch.stack([mask_iou(logits[:, t - 1], targets[:, t]) for t in range(1, len(features))]).mean(0).tolist()


def colour_loss(images: Tensor, features: Tensor) -> Tensor:
    """How far colours that are propagated from earlier frames lie from a frame's own.

    Parameters
    ----------
    images : Tensor, shape (B, T, 3, S, S)
    features : Tensor, shape (T, B, h, w, D)
    """
    grid = features.shape[2:4]
    colours = F.adaptive_avg_pool2d(images.flatten(0, 1), grid).unflatten(0, images.shape[:2])  # (B, T, 3, h, w)
    colours, losses = colours.permute(1, 0, 3, 4, 2), []
    for t in range(1, len(features)):
        first = max(0, t - 2)
        context, seen = (part[first:t].transpose(0, 1) for part in (features, colours))
        found = propagate_dense(features[t], context, seen, LEARNING, normalise=False)
        losses.append(F.smooth_l1_loss(found, colours[t]))
    return sum(losses) / len(losses)
