"""How keep probabilities become a route, and the record of what was decided for each frame."""

from dataclasses import dataclass, field
from math import exp, sqrt
from typing import NamedTuple

import pandas as pd
import torch

from rds_lib.router import NEAR_UNIFORM
from rds_lib.router_folding import FoldedRouter
from rds_lib.routing import sample_route, top_n_route


class FrameRoute(NamedTuple):
    """What was decided for one frame."""

    active: tuple[bool, ...]
    keep_prob: tuple[float, ...]
    reason: str  # "first_frame", "no_previous_mask", "prompted" or "routed"


@dataclass
class RouteLog:
    """The routing side of an inference state."""

    frames: dict[int, FrameRoute] = field(default_factory=dict)
    start: int | None = None  # first frame of the running propagation
    reverse: bool = False
    invalid_frames: int = 0  # frames that fell back to the full encoder because of NaN
    generator: torch.Generator = field(default_factory=lambda: torch.Generator().manual_seed(0))

    def table(self) -> pd.DataFrame:
        """One row per frame and block; see ``RDSVideoPredictor.route_table``."""
        rows = [
            (frame_idx, block, active, keep_prob, frame.reason)
            for frame_idx, frame in sorted(self.frames.items())
            for block, (active, keep_prob) in enumerate(zip(frame.active, frame.keep_prob))]
        table = pd.DataFrame(rows, columns=["frame_idx", "block", "active", "keep_prob", "reason"])
        table = table.astype({"frame_idx": int, "block": int, "active": bool, "keep_prob": float})
        table.attrs["invalid_frames"] = self.invalid_frames
        return table


@dataclass(frozen=True)
class RoutingPolicy:
    """How keep probabilities become a route."""

    router: FoldedRouter
    budget: float
    mode: str
    tau: float
    n_active: int

    def keep_probabilities(self, logits: list[float]) -> list[float]:
        """Lines 5 and 6 of Algorithm 1 on the host, for one frame's L logits of mean 0.

        ``router.probabilities_of`` and ``routing.normalize_to_budget`` in Python, which handles so few numbers faster.
        """
        scale = -self.router.logit_spread / sqrt(sum([x * x for x in logits]) / len(logits) + NEAR_UNIFORM)
        p = [1 / (1 + exp(scale * x)) for x in logits]
        share = self.budget * len(p) / sum(p)
        return [1.0 if (value := share * each) > 1 else value for each in p]

    def decide(self, w: list[float], generator: torch.Generator) -> list[bool]:
        """Flags of one frame for its L keep probabilities; ``routing``'s functions, the threshold in a few microseconds."""
        if self.mode == "threshold":
            active = [value >= self.tau for value in w]
            for i in self.router.always_on:
                active[i] = True
            return active
        values = torch.tensor(w)
        if self.mode == "sample":
            return sample_route(values, self.router.always_on, generator).bool().tolist()
        return top_n_route(values, self.router.always_on, self.n_active).bool().tolist()
