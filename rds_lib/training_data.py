"""Batches of short clips for training: one object a clip, square frames, normalised as SAM2 does it."""

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from rds_lib.clips import DIFFICULTIES, generate_clip

MEAN = torch.tensor((0.485, 0.456, 0.406)).view(3, 1, 1)
STD = torch.tensor((0.229, 0.224, 0.225)).view(3, 1, 1)
MIN_PIXELS = 0.002  # share of the frame that an object must cover on frame 0 to be asked for


def to_model_input(frames: np.ndarray) -> Tensor:
    """uint8 (..., H, W, 3) RGB -> float (..., 3, H, W), ImageNet mean and deviation removed."""
    images = torch.from_numpy(np.ascontiguousarray(frames)).movedim(-1, -3).float() / 255
    return (images - MEAN) / STD


def pick_object(masks: np.ndarray, rng: np.random.Generator) -> int | None:
    """An object id that is visible enough on frame 0 of a label map (T, H, W); None if there is none."""
    ids, counts = np.unique(masks[0], return_counts=True)
    visible = [int(i) for i, n in zip(ids, counts) if i and n >= MIN_PIXELS * masks[0].size]
    return visible[int(rng.integers(len(visible)))] if visible else None


class GeneratedBatches(Dataset):
    """Batch number ``step`` is a function of the seed and the step alone, so a resumed run sees what it would have seen.

    Items are ``(images (B, T, 3, S, S) float, targets (B, T, S, S) float 0/1)``.
    """

    def __init__(self, *, seed: int, split: str, batch: int, frames: int, size: int, first_step: int, steps: int, bsds_root: str = ""):
        self.seed, self.split, self.batch, self.frames, self.size = seed, split, batch, frames, size
        self.first_step, self.steps, self.bsds_root = first_step, steps, bsds_root

    def __len__(self):
        return self.steps

    def __getitem__(self, item: int):
        if item >= self.steps:
            raise IndexError(item)
        rng = np.random.default_rng([self.seed, 7919, self.first_step + item])
        images, targets = [], []
        while len(images) < self.batch:
            clip = generate_clip(
                self.seed, int(rng.integers(2**31)), split=self.split, frames=self.frames, height=self.size,
                width=self.size, difficulty=str(rng.choice(DIFFICULTIES)), bsds_root=self.bsds_root,
            )
            obj_id = pick_object(clip.masks, rng)
            if obj_id is not None:
                images.append(to_model_input(clip.frames))
                targets.append(torch.from_numpy(clip.masks == obj_id).float())
        return torch.stack(images), torch.stack(targets)


def loader(dataset: Dataset, *, workers: int) -> DataLoader:
    """Items in order, one batch each, made in ``workers`` processes (0: in this one)."""
    return DataLoader(dataset, batch_size=None, shuffle=False, num_workers=workers, worker_init_fn=_one_thread)


def _one_thread(_):
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
