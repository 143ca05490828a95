"""Batches of short clips for training: one object a clip, square frames, normalised as SAM2 does it."""

import gc

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from rds_lib.core.errors import RDSInputError
from rds_lib.data.clips import DIFFICULTIES, generate_clip
from rds_lib.data.images import IMAGE_MEAN, IMAGE_STD, squeeze
from rds_lib.data.labels import label_numbers
from rds_lib.work.parallel import one_thread

MEAN, STD = (torch.tensor(values).view(3, 1, 1) for values in (IMAGE_MEAN, IMAGE_STD))
WHOLE_CLIP = 20  # frames in which a generated clip's story is told; a training clip is a window of it
WIDEST = 1.8  # width over height of the widest generated clip before it is squeezed to a square; 854x480 is 1.78
RECOLOUR = 0.2  # standard deviation of the logarithm of a training clip's colour gains
LOADERS = 8  # processes that make batches beside a GPU, at most
MIN_PIXELS = 0.002  # share of the frame that an object must cover on frame 0 to be asked for


def to_model_input(frames: np.ndarray) -> Tensor:
    """uint8 (..., H, W, 3) RGB -> float (..., 3, H, W), ImageNet mean and deviation removed."""
    images = torch.from_numpy(np.ascontiguousarray(frames)).movedim(-1, -3).float() / 255
    return (images - MEAN) / STD


def from_model_input(images: Tensor) -> np.ndarray:
    """Undo ``to_model_input`` for pictures: float (..., 3, H, W) -> uint8 (..., H, W, 3) RGB."""
    return ((images * STD + MEAN) * 255).round().clamp(0, 255).byte().movedim(-3, -1).numpy()


def pick_object(masks: np.ndarray, rng: np.random.Generator) -> int | None:
    """An object id that is visible enough on frame 0 of a label map (T, H, W); None if there is none."""
    ids, counts = np.unique(masks[0], return_counts=True)
    visible = [int(i) for i, n in zip(ids, counts) if i and n >= MIN_PIXELS * masks[0].size]
    return visible[int(rng.integers(len(visible)))] if visible else None


class _Batches(Dataset):
    """Batch ``step`` follows from the seed and the step alone; a subclass draws one clip, or None to draw again."""

    salt: int  # sets the draws of one kind of batch apart from those of the other

    def __len__(self):
        return self.steps

    def __getitem__(self, item: int):
        if item >= self.steps:
            raise IndexError(item)
        rng = np.random.default_rng([self.seed, self.salt, self.first_step + item])
        clips = []
        while len(clips) < self.batch:
            clip = self._clip(rng)
            if clip is not None:
                clips.append(clip)
        images, targets = zip(*clips)
        return torch.stack(images), torch.stack(targets)


class GeneratedBatches(_Batches):
    """Batch ``step`` follows from the seed and the step alone, so a resumed run sees what it would have seen.

    Items are ``(images (B, T, 3, S, S) float, targets (B, T, S, S) float 0/1)``.
    """

    salt = 7919

    def __init__(
        self,
        *,
        seed: int,
        split: str,
        batch: int,
        frames: int,
        size: int,
        first_step: int,
        steps: int,
        bsds_root: str = "",
    ):
        self.seed, self.split, self.batch, self.frames, self.size = seed, split, batch, frames, size
        self.first_step, self.steps, self.bsds_root = first_step, steps, bsds_root

    def _clip(self, rng):
        clip = generate_clip(
            self.seed,
            int(rng.integers(2**31)),
            split=self.split,
            frames=self.frames,
            height=self.size,
            width=int(self.size * rng.uniform(1, WIDEST)),
            difficulty=str(rng.choice(DIFFICULTIES)),
            bsds_root=self.bsds_root,
            length=WHOLE_CLIP,
        )
        obj_id = pick_object(clip.masks, rng)
        if obj_id is None:
            return None
        frames, masks = fit_clip(clip.frames, clip.masks == obj_id, self.size)
        return to_model_input(frames), torch.from_numpy(masks).float()


def loader(dataset: Dataset, *, device) -> DataLoader:
    """One batch an item, in order; made in processes of their own beside a GPU, in this one on a CPU."""
    workers = 0 if torch.device(device).type == "cpu" else min(LOADERS, torch.get_num_threads())
    if workers:
        cv2.setNumThreads(1)  # before the fork: a child that touches an inherited pool of OpenCV waits for ever
        gc.collect()  # and so does one that clears up a decoder of ours, whose threads it does not have
    return DataLoader(dataset, batch_size=None, shuffle=False, num_workers=workers, worker_init_fn=one_thread)


class SequenceBatches(_Batches):
    """Windows of consecutive annotated frames of a data set; clip n of a step follows from seed, step and n alone.

    Each clip is squeezed to the model's square input, as SAM2 does, mirrored or reversed in time at random, and
    recoloured: with few videos to learn from, a router would otherwise tell them apart by their colours.
    Items are as in ``GeneratedBatches``.
    """

    salt = 104729

    def __init__(self, sequences, *, seed: int, batch: int, frames: int, size: int, first_step: int, steps: int):
        self.sequences = [s for s in sequences if len(s.annotated) >= frames]
        if not self.sequences:
            raise RDSInputError(
                f"no sequence has {frames} annotated frames; choose fewer frames a clip or longer videos"
            )
        self.seed, self.numbers, self.frames, self.size = seed, range(batch), frames, size
        self.first_step, self.steps = first_step, steps

    def __getitem__(self, item: int):
        if item >= self.steps:
            raise IndexError(item)
        images, targets = zip(*(self._numbered(self.first_step + item, number) for number in self.numbers))
        return torch.stack(images), torch.stack(targets)

    def _numbered(self, step, number):
        """One clip of a step, drawn again until it shows an object."""
        rng = np.random.default_rng([self.seed, self.salt, step, number])
        while (clip := self._clip(rng)) is None:
            continue
        return clip

    def _clip(self, rng):
        sequence = self.sequences[int(rng.integers(len(self.sequences)))]
        start = int(rng.integers(len(sequence.annotated) - self.frames + 1))
        times = list(sequence.annotated[start : start + self.frames])
        if rng.random() < 0.5:
            times.reverse()
        labels = np.stack([label_map(sequence, t) for t in times])
        obj_id = pick_object(labels, rng)
        if obj_id is None:
            return None
        frames, masks = fit_clip([sequence.frame(t) for t in times], labels == obj_id, self.size)
        if rng.random() < 0.5:
            frames, masks = frames[:, :, ::-1], masks[:, :, ::-1]
        return to_model_input(_recolour(frames, rng)), torch.from_numpy(masks.copy()).float()


class TrainingBatches(SequenceBatches):
    """What one of several processes computes of each step's clips, with the clips' numbers in the step.

    Items are ``(images, targets, numbers (B,) int)``. However many processes share a step's ``batch`` clips, and in how
    many micro-batches, together they see the same ones.

    Raises
    ------
    RDSInputError
        If the clips of a step cannot be shared out evenly.
    """

    def __init__(self, sequences, *, batch: int, process: int = 0, processes: int = 1, accumulate: int = 1, **options):
        if batch % (processes * accumulate):
            raise RDSInputError(
                f"batch is {batch}: the clips of a step, which {processes} processes with {accumulate} micro-batches "
                f"each share; give a multiple of {processes * accumulate}, or change --nproc-per-node or accumulate"
            )
        super().__init__(sequences, batch=batch, **options)
        own = batch // processes
        self.numbers = range(process * own, (process + 1) * own)

    def __getitem__(self, item: int):
        return *super().__getitem__(item), torch.tensor(self.numbers)


def _recolour(frames, rng):
    """Frames (T, H, W, 3) uint8 in another light: a gain per channel, one for all and an offset, for the whole clip."""
    gain = np.exp(rng.normal(0, RECOLOUR, 3) + rng.normal(0, RECOLOUR))
    return np.clip(frames * gain + 255 * rng.normal(0, RECOLOUR / 4), 0, 255).astype(np.uint8)


def label_map(sequence, t: int) -> np.ndarray:
    """The ground truth of a sequence's frame t as labels, (H, W) uint8, see `label_numbers`; 0 is background."""
    numbers = label_numbers(sequence.obj_ids)
    labels = np.zeros(sequence.size, np.uint8)
    for obj_id, mask in sequence.masks(t).items():
        labels[mask] = numbers[obj_id]
    return labels


def fit_clip(frames, masks, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Squeeze RGB frames and bool masks (T, H, W) to ``size`` px squares: uint8 (T, S, S, 3) and bool (T, S, S)."""
    return np.stack([squeeze(frame, size) for frame in frames]), fit_masks(masks, size)


def fit_masks(masks, size: int) -> np.ndarray:
    """Squeeze bool masks (T, H, W) to ``size`` px squares: a pixel counts if half of it is covered, bool (T, S, S)."""
    areas = (cv2.resize(mask.astype(np.float32), (size, size), interpolation=cv2.INTER_AREA) for mask in masks)
    return np.stack([area >= 0.5 for area in areas])
