"""What the mini SAM2 is trained on: generated clips, and videos of a real training list where its folder is given."""

from pathlib import Path

import numpy as np
from torch.utils.data import Dataset

from rds_lib.data.batches import GeneratedBatches, SequenceBatches
from rds_lib.data.datasets import read_dataset

REAL_SHARE = 0.3  # of the batches; a real list is short, and a model trained on it alone would learn it by heart


class PretrainBatches(Dataset):
    """Batches of generated clips and of real videos, in turn at random; batch ``step`` depends on seed and step alone.

    Parameters
    ----------
    davis_root : str
        A data set in DAVIS's layout, whose train list is used; "" for generated clips alone.
    **options
        As in ``GeneratedBatches``, ``bsds_root`` included; its split is ``train``.

    Raises
    ------
    RDSInputError
        If the folder is no such data set, or none of its videos has as many frames as a clip.
    """

    def __init__(self, *, davis_root: str = "", bsds_root: str = "", **options):
        self.generated = GeneratedBatches(split="train", bsds_root=bsds_root, **options)
        self.real = None
        if davis_root:
            videos = read_dataset(Path(davis_root), layout="davis2017", split="train")
            self.real = SequenceBatches(videos, vary=True, **options)

    def __len__(self):
        return len(self.generated)

    def __getitem__(self, item: int):
        return (self.real if self.is_real(item) else self.generated)[item]

    def is_real(self, item: int) -> bool:
        """Whether an item shows a real video."""
        step = self.generated.first_step + item
        return self.real is not None and np.random.default_rng([self.generated.seed, step]).random() < REAL_SHARE
