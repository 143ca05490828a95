"""What is compared: one method at one level, how its predictor is built, and how it is run."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from rds_lib.model.track import track_sequence


@dataclass(frozen=True)
class Arm:
    """One row of the tables.

    Parameters
    ----------
    method, level : str, float
        Columns of every table. A whole model has level 1.
    build : callable ``() -> predictor``, optional
        Called when the arm's turn comes. Arms with the same ``build`` share one predictor; None runs no model.
    track : callable ``predictor -> (Sequence -> Tracked)``
    kind : str
        What decides how much of the encoder runs: ``none`` (all of it runs), ``learned`` or ``forced`` (a trained or a
        random router), ``blocks`` or ``tokens`` (the encoder itself, over these), ``smaller`` (another encoder).
    keep_masks : bool
        Keep the predicted masks for figures.
    davis_only : bool
        Run on DAVIS-shaped sets alone.
    route : callable ``Situation -> route``, optional
        A control: the fixed route that takes the router's place; see `controls`.
    combine : callable ``list of Scores -> Scores``, optional
        A control made of the scores of several random plans.
    """

    method: str
    level: float
    build: Callable[[], nn.Module] | None = None
    track: Callable = lambda predictor: lambda sequence: track_sequence(predictor, sequence)
    kind: str = "none"
    keep_masks: bool = False
    davis_only: bool = False
    route: Callable | None = None
    combine: Callable | None = None
