"""Videos as a measurement takes them: which frames to track, which to measure, decoded once with their masks."""

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from rds_lib.core.errors import RDSInputError
from rds_lib.data.datasets import Sequence
from rds_lib.data.video import load_video


@dataclass(frozen=True)
class Clip:
    """A video from its first mask on, as the model takes it."""

    name: str
    images: Tensor  # (T, 3, S, S) float, normalised
    targets: Tensor  # (O, T, S, S) float 0/1, of the objects of frame 0; zeros where nothing is annotated
    annotated: tuple[int, ...]  # frames with ground truth; the prompt's is 0
    measured: tuple[int, ...]  # N of them, never 0, which runs all blocks whatever the route

    def mirrored(self) -> "Clip":
        """The same video, left and right swapped: harmless to what is seen, and a second measurement of a route."""
        return Clip(self.name, self.images.flip(-1), self.targets.flip(-1), self.annotated, self.measured)


def frames_of(sequence: Sequence, n_frames: int, length: int | None = None) -> tuple[range, list[int], list[int]]:
    """The frames of a video to track, those with ground truth, and the ``n_frames`` to measure, evenly spread.

    Tracking starts at the first annotation and ends after ``length`` frames, or with the video.

    Raises
    ------
    RDSInputError
        If fewer than two frames are to be measured, or the video has fewer annotated ones.
    """
    start = min(sequence.prompt_frame.values())
    tracked = range(start, len(sequence) if length is None else min(len(sequence), start + length))
    objects = [obj for obj, first in sequence.prompt_frame.items() if first == start]
    known = [t for t in sequence.annotated if t in tracked and _shows(sequence.mask_paths[t], objects)]
    if n_frames < 2:
        raise RDSInputError(f"frames = {n_frames}: at least 2 a video are needed, to tell videos from frames")
    if len(known) - 1 < n_frames:
        raise RDSInputError(
            f"{sequence.name}: {len(known) - 1} annotated frames after the first mask"
            f"{'' if length is None else f' among the first {length}'}, {n_frames} are to be measured; choose fewer "
            "frames or leave the video out"
        )
    places = np.linspace(1, len(known) - 1, n_frames).round().astype(int)
    return tracked, known, [known[place] for place in places]


def load_clip(sequence: Sequence, size: int, n_frames: int, length: int | None = None) -> Clip:
    """Decode the frames that `frames_of` names, as ``size`` px squares, with the masks of the first frame's objects.

    Raises
    ------
    RDSInputError
        As `frames_of`, for a frame that cannot be read, and if no object is large enough to be seen at ``size`` px.
    """
    tracked, known, measured = frames_of(sequence, n_frames, length)
    start = tracked.start
    images, _, _ = load_video(sequence.frame_paths[start : tracked.stop], size)
    objects = [obj for obj, first in sequence.prompt_frame.items() if first == start]
    targets = torch.zeros(len(objects), len(tracked), size, size)
    for t in known:
        masks = sequence.masks(t)
        for row, obj in enumerate(objects):
            if obj in masks:
                small = cv2.resize(masks[obj].astype(np.float32), (size, size), interpolation=cv2.INTER_AREA)
                targets[row, t - start] = torch.from_numpy(small >= 0.5)
    targets = targets[targets[:, 0].flatten(1).any(1)]
    if not len(targets):
        raise RDSInputError(f"{sequence.name}: its first masks vanish at the model's {size} px; leave the video out")
    return Clip(sequence.name, images, targets, *(tuple(t - start for t in times) for times in (known, measured)))


def _shows(paths, objects):
    """Whether an annotated frame has the masks of all objects: one PNG for all, or one of each."""
    return None in paths or all(obj in paths for obj in objects)
