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
from rds_lib.dinov3.backbone import DinoBackbone, load_dinov3
from rds_lib.dinov3.propagation import OFFICIAL, DinoClips, propagate_dense
from rds_lib.model.losses import mask_iou
from rds_lib.pretraining.held_out import VIDEO_FRAMES, fitted, windows

VIT = "dinov3"  # among the models that stage `pretrain` makes
MINI = {
    "hidden_size": 128,
    "intermediate_size": 512,
    "num_hidden_layers": 12,
    "num_attention_heads": 4,
    "patch_size": 16,
    "image_size": 256,
    "num_register_tokens": 4,
    "pos_embed_rescale": None,  # its position encoding stays the same while it is trained
}
FILES = ("config.json", "model.safetensors")
COLOUR = 1.0  # weight of the propagated colours


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
    with tempfile.TemporaryDirectory() as made:
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
        tracker = DinoClips(self.backbone)
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
            tracker = DinoClips(self.backbone)
            outputs = tracker.track(targets, lambda t, _: features[t].expand(len(targets), -1, -1, -1))  # noqa: B023
            ious = [mask_iou(outputs[t].mask_logits[:, 0], targets[:, t]) for t in range(1, len(times))]
            scores += torch.stack(ious).mean(0).tolist()
        return float(np.mean(scores))


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
        found = propagate_dense(features[t], context, seen, OFFICIAL, normalise=False)
        losses.append(F.smooth_l1_loss(found, colours[t]))
    return sum(losses) / len(losses)
