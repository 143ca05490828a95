"""Scores on what no training of the base saw: to choose between models, and between the states of one training."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch

from rds_lib.data.batches import GeneratedBatches, fit_masks, label_map, to_model_input
from rds_lib.data.images import squeeze
from rds_lib.data.labels import present_labels
from rds_lib.model.backbone import backbone_of
from rds_lib.model.clip_tracking import Prompt, frame_by_frame, make_prompt, track_clip
from rds_lib.model.losses import clip_iou, mask_iou
from rds_lib.training.run import Averaged

VIDEO_FRAMES = 24  # frames that a held-out video is followed for, from its first frame and from its middle


@torch.inference_mode()
def held_out_videos_iou(model, sequences: Sequence, *, frames: int = VIDEO_FRAMES) -> float:
    """Mean IoU over the objects of real videos, each followed from a mask through up to ``frames`` frames.

    Every video counts twice where it is long enough: from its first annotated frame and from its middle. Frames are
    squeezed to the model's square, as where it tracks.
    """
    return float(np.mean([iou for view in look_at(model, sequences, frames=frames) for iou in follow(model, view)]))


def windows(sequences: Sequence, frames: int) -> Iterator[tuple]:
    """Every video with the times of its first frames, and of frames from its middle on where it is long enough."""
    for sequence in sequences:
        times = sequence.annotated
        for start in dict.fromkeys((0, len(times) // 2 if len(times) >= 2 * frames else 0)):
            yield sequence, times[start : start + frames]


def fitted(sequence, times, size: int) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Frames (T, 3, S, S) and masks (O, T, S, S) of the objects of the first one, as a model takes them.

    None where none is seen there.
    """
    labels = np.stack([label_map(sequence, t) for t in times])
    ids = present_labels(labels[0])
    if not ids:
        return None
    images = to_model_input(np.stack([squeeze(sequence.frame(t), size) for t in times]))
    masks = np.stack([fit_masks(labels == obj_id, size) for obj_id in ids])
    return images, torch.from_numpy(masks).float()


class View(NamedTuple):
    """Some frames of a video, encoded, with the objects that are on the first of them."""

    encode: Callable
    targets: torch.Tensor  # (O, T, S, S), 0/1


def look_at(model, sequences: Sequence, *, frames: int) -> Iterator[View]:
    """Encode the `windows` of videos in which an object is seen at first."""
    for sequence, times in windows(sequences, frames):
        if found := fitted(sequence, times, model.image_size):
            images, targets = (part.to(model.device) for part in found)
            backbone = backbone_of(model)
            features = backbone.run(backbone.embed(images))
            yield View(frame_by_frame(features, 1, torch.zeros(len(targets), dtype=torch.long)), targets)


def follow(model, view: View) -> list[float]:
    """Track from the true masks of a view's first frame; the IoU of each object, mean over the later frames."""
    outputs = track_clip(model, view.targets.shape[1], Prompt(masks=view.targets[:, :1]), view.encode)
    ious = [mask_iou(output.mask_logits[:, 0], view.targets[:, t]) for t, output in enumerate(outputs) if t]
    return torch.stack(ious).mean(0).tolist()


@torch.inference_mode()
def held_out_iou(
    model, *, seed: int, clips: int, frames: int, split: str = "calibration", bsds_root: str = "", kind: str = "mask"
) -> float:
    """Mean IoU of unseen clips at the model's own size, with one kind of prompt; for model selection."""
    options = {"batch": 1, "frames": frames, "size": model.image_size, "bsds_root": bsds_root}
    data = GeneratedBatches(seed=seed, split=split, first_step=0, steps=clips, **options)
    generator = torch.Generator().manual_seed(seed)
    scores = []
    for images, targets in ((part.to(model.device) for part in data[i]) for i in range(clips)):
        prompt = make_prompt(kind, targets[:, 0].cpu(), generator).to(model.device)
        outputs = track_clip(model, frames, prompt, lambda t, _, images=images: model.forward_image(images[:, t]))
        scores.append(clip_iou(outputs, targets))
    return sum(scores) / len(scores)


class Choice:
    """The best average so far, by its IoU on what no training saw: videos held out of the training list, or clips.

    Every tenth video of a real training list is held out (`rds_lib.data.sources`); without one, generated clips of the
    split ``calibration`` are tracked. Nothing of a validation split is looked at.
    """

    def __init__(self, model, average: Averaged, every: int, total: int, score_of: Callable):
        self.model, self.average, self.every, self.total, self.score_of = model, average, every, total, score_of
        self.score, self.step, self.tensors = -1.0, 0, {}

    def look(self, step: int) -> float | None:
        """Score the average after ``step`` steps, if it is time to, and keep it if it is the best."""
        if not self.every or (step % self.every and step != self.total):
            return None
        learnt = {name: tensor.clone() for name, tensor in self.model.state_dict().items()}
        random_state, was_training = torch.get_rng_state(), self.model.training
        self.model.load_state_dict(self.average.tensors)
        score = self.score_of(self.model.eval())
        self.model.load_state_dict(learnt)
        self.model.train(was_training)
        torch.set_rng_state(random_state)
        if score > self.score:
            self.score, self.step = score, step
            self.tensors = {name: tensor.clone() for name, tensor in self.average.tensors.items()}
        return round(score, 4)

    def state_dict(self):
        return {"score": self.score, "step": self.step, "tensors": self.tensors}

    def load_state_dict(self, state):
        self.score, self.step, self.tensors = state["score"], state["step"], state["tensors"]
