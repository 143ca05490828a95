"""What the mini SAM2 is trained on: recipes of clips, made ones and windows of real videos."""

from typing import NamedTuple

import numpy as np
from torch.utils.data import Dataset

from rds_lib.pretraining.footage import Footage
from rds_lib.pretraining.recipes import Made, Real, draw_made, draw_real, stack
from rds_lib.pretraining.stock import Stock

_SALT = 60013  # sets these draws apart from other ones of the same seed and step


class Recipes(NamedTuple):
    """The recipes of one batch, by kind; None where a batch has none of a kind."""

    made: Made | None
    real: Real | None


class RecipeBatches(Dataset):
    """Batch ``step`` follows from seed and step alone, clip by clip: a resumed run sees what it would have seen.

    Parameters
    ----------
    stock : Stock
    footage : Footage, optional
        Real videos; without it all clips are made.
    real_share : float
        Of the clips, drawn clip by clip.
    seed, batch, frames, first_step, steps : int
        Clips a batch, frames a clip, the first step and the number of steps.

    Raises
    ------
    RDSInputError
        If no real video has as many frames as a clip.
    """

    def __init__(
        self,
        stock: Stock,
        footage: Footage | None = None,
        *,
        real_share: float,
        seed: int,
        batch: int,
        frames: int,
        first_step: int,
        steps: int,
    ):
        self.stock, self.footage = stock, footage and footage.at_least(frames)
        self.real_share = real_share if footage else 0.0
        self.seed, self.batch, self.frames, self.first_step, self.steps = seed, batch, frames, first_step, steps

    def __len__(self):
        return self.steps

    def __getitem__(self, item: int) -> Recipes:
        if item >= self.steps:
            raise IndexError(item)
        kinds = [], []
        for number in range(self.batch):
            rng = np.random.default_rng([self.seed, _SALT, self.first_step + item, number])
            if rng.random() < self.real_share:
                kinds[1].append(draw_real(rng, self.frames, self.footage))
            else:
                kinds[0].append(draw_made(rng, self.frames, self.stock))
        return Recipes(*map(stack, kinds))
