"""Real videos, decoded once: frames and label maps of one size as uint8 arrays on disk, memory-mapped."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from rds_lib.core.artifacts import read_json, write_json
from rds_lib.core.errors import RDSInputError
from rds_lib.data.batches import label_map
from rds_lib.work.locks import require

HEIGHT, WIDTH = 240, 424  # px; a video of another shape is squeezed to this one, as all are to the model's square later


@dataclass(frozen=True)
class Footage:
    """All annotated frames of some videos, one after another."""

    frames: np.ndarray  # (N, HEIGHT, WIDTH, 3) uint8 RGB
    labels: np.ndarray  # (N, HEIGHT, WIDTH) uint8 object ids, 0 = background
    spans: tuple[tuple[int, int], ...]  # first frame and number of frames of each video
    names: tuple[str, ...]

    def at_least(self, frames: int) -> "Footage":
        """The same without the videos of fewer frames.

        Raises
        ------
        RDSInputError
            If none is left.
        """
        kept = [n for n, (_, length) in enumerate(self.spans) if length >= frames]
        if not kept:
            longest = max(length for _, length in self.spans)
            raise RDSInputError(
                f"no sequence has {frames} annotated frames; the longest has {longest}. Choose fewer frames a clip"
            )
        names, spans = (tuple(each[n] for n in kept) for each in (self.names, self.spans))
        return Footage(self.frames, self.labels, spans, names)


def open_footage(folder: str | Path, sequences: Sequence) -> Footage:
    """Open the decoded frames of sequences in ``folder``; they are decoded first if missing or if a file changed.

    Parameters
    ----------
    sequences : sequence of `rds_lib.data.datasets.Sequence`
        Their annotated frames are kept, shrunk to 240 x 424 px: 0.4 MB a frame.
    """
    path = require(f"footage-{_key(sequences)}", folder, partial(_decode, sequences), stage="pretrain")
    index = read_json(path / "index.json")
    frames, labels = (np.load(path / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in ("frames", "labels"))
    return Footage(frames, labels, tuple(map(tuple, index["spans"])), tuple(index["names"]))


def _key(sequences):
    digest = hashlib.sha256(f"{HEIGHT}x{WIDTH}".encode())
    for sequence in sequences:
        files = [sequence.frame_paths[t] for t in sequence.annotated]
        files += [path for t in sequence.annotated for path in sequence.mask_paths[t].values()]
        stats = [(file.name, (stat := file.stat()).st_size, stat.st_mtime_ns) for file in files]
        digest.update(repr((sequence.name, stats)).encode())
    return digest.hexdigest()[:12]


def _decode(sequences, path):
    path.mkdir()
    lengths = [len(sequence.annotated) for sequence in sequences]
    shape = (sum(lengths), HEIGHT, WIDTH)
    frames = np.lib.format.open_memmap(path / "frames.npy", mode="w+", dtype=np.uint8, shape=(*shape, 3))
    labels = np.lib.format.open_memmap(path / "labels.npy", mode="w+", dtype=np.uint8, shape=shape)
    pairs = ((sequence, t) for sequence in sequences for t in sequence.annotated)
    for n, (sequence, t) in enumerate(pairs):
        frames[n] = cv2.resize(sequence.frame(t), (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
        labels[n] = cv2.resize(label_map(sequence, t), (WIDTH, HEIGHT), interpolation=cv2.INTER_NEAREST)
    frames.flush()
    labels.flush()
    spans = list(zip(np.cumsum([0, *lengths[:-1]]).tolist(), lengths, strict=True))
    write_json(path / "index.json", {"spans": spans, "names": [sequence.name for sequence in sequences]})
