"""Differentiable tracking over short clips, one object per clip, with each frame encoded when its turn comes.

Stock ``SAM2Train`` encodes all frames before it tracks, so it cannot train a router that reads the previous mask.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from rds_lib.model.backbone import Backbone, backbone_of
from rds_lib.model.losses import clip_iou, sam2_loss


class ClipTracker(Protocol):
    """Tracks one object per clip with a gradient: what training and importance need of a model beside its backbone."""

    backbone: Backbone

    def track(self, targets: Tensor, encode: Callable) -> Sequence:
        """Track B clips of T frames, prompted on frame 0 with ``targets`` (B, T, S, S), 0/1 float.

        ``encode(t, previous)`` gives frame t's features, as ``backbone.run`` does; ``previous`` is the output of frame
        t-1, None on frame 0. An output has ``mask_logits`` (B, 1, S, S), and ``low_res_logits`` for the router.
        """

    def loss(self, outputs: Sequence, targets: Tensor) -> tuple[Tensor, float]:
        """Return the training loss and the IoU, both means over the frames after the first."""


class SAM2Clips:
    """A SAM2 model as a `ClipTracker`."""

    def __init__(self, model):
        self.model, self.backbone = model, backbone_of(model)

    def track(self, targets, encode):
        return track_clip(self.model, targets.shape[1], Prompt(masks=targets[:, :1]), encode)

    def loss(self, outputs, targets):
        losses = [sam2_loss(outputs[t], targets[:, t]) for t in range(1, targets.shape[1])]
        return sum(losses) / len(losses), clip_iou(outputs, targets)


class FrameOutput(NamedTuple):
    """SAM2's heads on one frame of B clips with one object each."""

    multimask_logits: Tensor  # (B, M, S, S) at the model's input size
    ious: Tensor  # (B, M), predicted
    score_logits: Tensor  # (B, 1), object present where > 0
    mask_logits: Tensor  # (B, 1, S, S), the chosen mask
    low_res_logits: Tensor  # (B, 1, S/4, S/4)


@dataclass(frozen=True)
class Prompt:
    """Prompts of B objects on frame 0: masks (B, 1, S, S) float, or points (B, P, 2) px with labels (B, P)."""

    masks: Tensor | None = None
    points: Tensor | None = None
    labels: Tensor | None = None

    def to(self, device) -> "Prompt":
        """Move the tensors to a device."""
        return Prompt(*(None if x is None else x.to(device) for x in (self.masks, self.points, self.labels)))

    def point_inputs(self) -> dict | None:
        """The points as SAM2 takes them; None for a mask."""
        return None if self.points is None else {"point_coords": self.points, "point_labels": self.labels}


def track_clip(model, n_frames: int, prompt: Prompt, encode: Callable, *, learn_from: int = 0) -> list[FrameOutput]:
    """Track one object per clip through ``n_frames`` frames, forward in time, prompted on frame 0.

    ``encode`` is that of `ClipTracker.track`. Gradients flow through the memories of all frames from ``learn_from`` on;
    the frames before it are tracked without one.
    """
    memory = {"cond_frame_outputs": {}, "non_cond_frame_outputs": {}}
    outputs = []
    for t in range(n_frames):
        with torch.set_grad_enabled(torch.is_grad_enabled() and t >= learn_from):
            features = encode(t, outputs[-1] if outputs else None)
            outputs.append(_track_frame(model, t, n_frames, prompt, features, memory))
    return outputs


def _track_frame(model, t, n_frames, prompt, backbone_out, memory) -> FrameOutput:
    """One frame of `track_clip`; adds its memory to ``memory``."""
    _, feats, pos, sizes = model._prepare_backbone_features(backbone_out)
    first = t == 0
    current, sam, _, _ = model._track_step(
        frame_idx=t,
        is_init_cond_frame=first,
        current_vision_feats=feats,
        current_vision_pos_embeds=pos,
        feat_sizes=sizes,
        point_inputs=prompt.point_inputs() if first else None,
        mask_inputs=prompt.masks if first else None,
        output_dict=memory,
        num_frames=n_frames,
        track_in_reverse=False,
        prev_sam_mask_logits=None,
    )
    _, multi, ious, low_res, high_res, current["obj_ptr"], score = sam
    if n_frames > t + 1:
        points = prompt.point_inputs() if first else None
        model._encode_memory_in_output(feats, sizes, points, True, high_res, score, current)
    memory["cond_frame_outputs" if first else "non_cond_frame_outputs"][t] = current
    return FrameOutput(multi, ious, score, high_res, low_res)


def frame_by_frame(features: dict, batch: int, owner: Tensor | None = None) -> Callable:
    """Make an ``encode`` for `track_clip` of the features of all frames of ``batch`` clips, ordered by frame.

    ``owner`` (K,) names the clip of each object, where K objects are followed in fewer clips: its features serve all.
    """

    def encode(t, previous):
        rows = slice(t * batch, (t + 1) * batch) if owner is None else t * batch + owner
        return {key: [level[rows] for level in features[key]] for key in ("backbone_fpn", "vision_pos_enc")}

    return encode


def make_prompt(kind: str, targets: Tensor, generator: torch.Generator) -> Prompt:
    """Make a prompt from ground truth ``targets`` (B, S, S) 0/1 float; ``kind`` is "mask", "box" or "point".

    As in SAM2's training: box corners are jittered by up to 10 % of the side, a click is drawn uniformly from the mask.
    """
    if kind == "mask":
        return Prompt(masks=targets[:, None])
    if kind == "point":
        noise = torch.rand(targets.shape, generator=generator)
        flat = (noise * (targets > 0.5)).flatten(1).argmax(1)
        points = torch.stack([flat % targets.shape[-1], flat // targets.shape[-1]], -1)[:, None].float() + 0.5
        return Prompt(points=points, labels=torch.ones(len(targets), 1, dtype=torch.int32))
    boxes = []
    for target in targets:
        y, x = torch.nonzero(target > 0.5, as_tuple=True)
        box = torch.stack([x.min(), y.min(), x.max() + 1, y.max() + 1]).float()
        side = (box[2:] - box[:2]).repeat(2)
        boxes.append(box + (torch.rand(4, generator=generator) * 2 - 1) * 0.1 * side)
    points = torch.stack(boxes).reshape(-1, 2, 2).clamp(0, targets.shape[-1])
    return Prompt(points=points, labels=torch.tensor([[2, 3]], dtype=torch.int32).expand(len(targets), 2))
