"""What was decided for each frame, and summaries of it: active blocks, keep probabilities, their spread."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
import torch

if TYPE_CHECKING:
    from rds_lib.routing.pace import Pace


class FrameRoute(NamedTuple):
    """What was decided for one frame."""

    active: tuple[bool, ...]
    keep_prob: tuple[float, ...]
    reason: str  # "first_frame", "prompted", "routed" or "no_previous_mask": none there, all empty, or NaN in one


@dataclass
class RouteLog:
    """The routing side of an inference state."""

    frames: dict[int, FrameRoute] = field(default_factory=dict)
    start: int | None = None  # first frame of the running propagation
    reverse: bool = False
    invalid_frames: int = 0  # frames that fell back to the full encoder because of NaN
    flaws: dict[int, torch.Tensor] = field(default_factory=dict)  # frame -> 0, or NaN if its features hold one
    generator: torch.Generator = field(default_factory=lambda: torch.Generator().manual_seed(0))
    pace: "Pace | None" = None  # says what each routed frame may cost, in place of the policy's budget

    def forget(self, oldest: int, limit: int) -> None:
        """Drop all but the latest ``limit`` routes, and the flaws of frames before ``oldest``."""
        for frame_idx in sorted(self.frames)[: max(0, len(self.frames) - limit)]:
            del self.frames[frame_idx]
        for frame_idx in [t for t in self.flaws if t < oldest]:
            del self.flaws[frame_idx]

    def table(self) -> pd.DataFrame:
        """One row per frame and block; see ``RDSVideoPredictor.route_table``."""
        rows = [
            (frame_idx, block, active, keep_prob, frame.reason)
            for frame_idx, frame in sorted(self.frames.items())
            for block, (active, keep_prob) in enumerate(zip(frame.active, frame.keep_prob))
        ]
        table = pd.DataFrame(rows, columns=["frame_idx", "block", "active", "keep_prob", "reason"])
        table = table.astype({"frame_idx": int, "block": int, "active": bool, "keep_prob": float})
        table.attrs["invalid_frames"] = self.invalid_frames
        return table


class RouteTotals:
    """Sums over the routes of a video of any length, each counted as its frame was first tracked."""

    def __init__(self, depth: int):
        self.frames, self.routed = 0, 0
        self._active, self._active_routed, self._keep_prob = np.zeros(depth, int), np.zeros(depth, int), np.zeros(depth)

    def add(self, route: FrameRoute) -> None:
        """Count the route of one more frame."""
        active = np.array(route.active, int)
        self.frames += 1
        self._active += active
        if route.reason == "routed":
            self.routed += 1
            self._active_routed += active
            self._keep_prob += route.keep_prob

    def table(self) -> pd.DataFrame:
        """One row per block; see `session.TrackingSession.route_totals`."""
        frames, routed = self.frames or float("nan"), self.routed or float("nan")
        table = pd.DataFrame(
            {
                "block": np.arange(len(self._active)),
                "active_share": self._active / frames,
                "active_share_routed": self._active_routed / routed,
                "mean_keep_prob": self._keep_prob / routed,
            }
        )
        table.attrs |= {"frames": self.frames, "routed": self.routed}
        table.attrs |= {"mean_active": float(self._active.sum() / frames)}
        table.attrs |= {"mean_active_routed": float(self._active_routed.sum() / routed)}
        return table


def routed_frames(routes: pd.DataFrame) -> pd.DataFrame:
    """The rows of frames that were routed, without those that had to run the whole encoder."""
    return routes[routes["reason"] == "routed"] if len(routes) else routes


def mean_active(routes: pd.DataFrame) -> float:
    """Mean number of active blocks over all frames of a route table; NaN without any. See `routed_frames`."""
    if not len(routes):
        return float("nan")
    return float(routes.groupby(["sequence", "frame_idx"])["active"].sum().mean())


def keep_prob_matrix(routes: pd.DataFrame) -> np.ndarray:
    """Keep probabilities of all routed frames, (N, L)."""
    routed = routed_frames(routes)
    return routed.pivot(index=["sequence", "frame_idx"], columns="block", values="keep_prob").to_numpy(copy=True)


def clip_deviations(routes: pd.DataFrame) -> tuple[float, float]:
    """Deviation of keep probabilities within and between clips over routed frames, mean over clips and blocks."""
    clips = [keep_prob_matrix(clip) for _, clip in routed_frames(routes).groupby("sequence")]
    within, between = [clip.std(0).mean() for clip in clips], np.std([clip.mean(0) for clip in clips], 0)
    return float(np.mean(within)), float(between.mean())


def route_spread(routes: pd.DataFrame) -> pd.DataFrame:
    """Mean and deviation of each block's keep probability over routed frames, and the share of them on which it ran."""
    routed = routed_frames(routes)
    columns = {"mean_keep_prob": ("keep_prob", "mean"), "std_keep_prob": ("keep_prob", "std")}
    return routed.groupby("block").agg(**columns, active_share=("active", "mean")).reset_index()
