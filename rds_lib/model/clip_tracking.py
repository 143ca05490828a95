"""Differentiable SAM2 tracking over a short clip, one object a clip, with the features of each frame made on demand.

Stock ``SAM2Train`` encodes all frames before it tracks, which cannot train a router that looks at the previous mask.
Here ``encode(t, previous)`` is asked for a frame's features when its turn comes.
"""

from dataclasses import dataclass
from typing import Callable, NamedTuple

import torch
from torch import Tensor


class FrameOutput(NamedTuple):
    """What SAM2's heads say of one frame; B clips with one object each."""

    multimask_logits: Tensor  # (B, M, S, S) at the model's input size
    ious: Tensor  # (B, M), predicted
    score_logits: Tensor  # (B, 1), object present where > 0
    mask_logits: Tensor  # (B, 1, S, S), the chosen mask
    low_res_logits: Tensor  # (B, 1, S/4, S/4)


@dataclass(frozen=True)
class Prompt:
    """The first frame's prompt of B objects: either masks (B, 1, S, S) float, or points (B, P, 2) px with labels (B, P)."""

    masks: Tensor | None = None
    points: Tensor | None = None
    labels: Tensor | None = None

    def to(self, device) -> "Prompt":
        return Prompt(*(None if x is None else x.to(device) for x in (self.masks, self.points, self.labels)))

    def point_inputs(self):
        return None if self.points is None else {"point_coords": self.points, "point_labels": self.labels}


def track_clip(model, n_frames: int, prompt: Prompt, encode: Callable) -> list[FrameOutput]:
    """Track one object per clip through ``n_frames`` frames, forward in time, prompted on frame 0.

    Parameters
    ----------
    model : SAM2Base
        In training mode gradients flow through the memories of all frames.
    encode : callable ``(t, previous) -> backbone_out``
        Features of frame t for the B clips, as ``SAM2Base.forward_image`` gives them; ``previous`` is the
        ``FrameOutput`` of frame t-1, None on frame 0.
    """
    memory = {"cond_frame_outputs": {}, "non_cond_frame_outputs": {}}
    outputs = []
    for t in range(n_frames):
        backbone_out = encode(t, outputs[-1] if outputs else None)
        _, feats, pos, sizes = model._prepare_backbone_features(backbone_out)
        first = t == 0
        current, sam, _, _ = model._track_step(
            frame_idx=t, is_init_cond_frame=first, current_vision_feats=feats, current_vision_pos_embeds=pos,
            feat_sizes=sizes, point_inputs=prompt.point_inputs() if first else None,
            mask_inputs=prompt.masks if first else None, output_dict=memory, num_frames=n_frames,
            track_in_reverse=False, prev_sam_mask_logits=None,
        )
        _, multi, ious, low_res, high_res, current["obj_ptr"], score = sam
        if n_frames > t + 1:
            model._encode_memory_in_output(feats, sizes, prompt.point_inputs() if first else None, True, high_res, score, current)
        memory["cond_frame_outputs" if first else "non_cond_frame_outputs"][t] = current
        outputs.append(FrameOutput(multi, ious, score, high_res, low_res))
    return outputs


def frame_by_frame(features: dict, batch: int) -> Callable:
    """``encode`` of :func:`track_clip` where all frames of ``batch`` clips were encoded at once, first all clips' frame 0."""

    def encode(t, previous):
        return {key: [level[t * batch : (t + 1) * batch] for level in features[key]] for key in ("backbone_fpn", "vision_pos_enc")}

    return encode


def make_prompt(kind: str, targets: Tensor, generator: torch.Generator) -> Prompt:
    """A prompt from ground truth ``targets`` (B, S, S) 0/1 float: ``mask``, ``box`` (10 % noise) or ``point``.

    Source of the kinds and their noise: SAM2's training recipe (box corners jittered by up to 10 % of the side,
    one click drawn uniformly from the mask).
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
