"""What was decided for each frame, and summaries of it: active blocks, keep probabilities, their spread."""

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch


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
