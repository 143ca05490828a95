"""A frame rate that is held, beside fixed numbers of blocks that cost as much: frames in time, blocks, J&F.

    python benchmarks/pace.py [--clips 12] [--frames 48] [--targets 0.9 1.1 1.3] [--out reports/pace.md]

On each generated clip first the full model runs, whose own rate there times 0.9, 1.1 and 1.3 are the targets. For each
target the paced session runs, and right after it one that runs as many blocks on every routed frame as the paced one
did on average: so whatever else the machine does slows both, and the fixed one knows beforehand what the clip allows.
In time is what `routing.pace.Pace` says it is, of the wall times of steps alone; the full model is judged by it too.
With --cpu-time a step takes what this process computed for it, whatever else the machine does.
J&F are means over objects and the frames after their prompts. Intervals are over clips.
"""

import argparse
import gc
import time
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from rds_lib import build_rds_video_predictor
from rds_lib.core.artifacts import write_text
from rds_lib.data.clips import Clip, generate_clip
from rds_lib.metrics.masks import contour_accuracy, region_similarity
from rds_lib.metrics.statistics import Interval, mean_interval
from rds_lib.model.stopwatch import clock_of
from rds_lib.model.track import separate
from rds_lib.pipeline.machine import machine_facts
from rds_lib.report.markdown import table
from rds_lib.routing.costs import Costs
from rds_lib.routing.pace import Pace, pace_of
from rds_lib.routing.session import TrackingSession

SIZE = {"height": 180, "width": 320}
FIXED, PACED, FULL = "same blocks, fixed", "paced", "all blocks"


@dataclass
class Run:
    """A clip, tracked."""

    ms: list[float]  # of every step
    routes: list  # of every frame on which the encoder ran
    masks: list[dict[int, np.ndarray]]
    prompts: dict[int, int]  # object -> frame

    @property
    def blocks(self) -> float:
        """Mean over the frames on which the encoder ran."""
        return float(np.mean([sum(route.active) for route in self.routes]))

    @property
    def blocks_routed(self) -> float:
        """Mean over routed frames."""
        return float(np.mean([sum(route.active) for route in self.routes if route.reason == "routed"] or [48]))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=12)
    parser.add_argument("--frames", type=int, default=48)
    parser.add_argument("--targets", type=float, nargs="+", default=[0.9, 1.1, 1.3], help="of the full model's rate")
    parser.add_argument("--cpu-time", action="store_true", help="in place of the wall's")
    parser.add_argument("--device", help="by default CUDA if there is one, else cpu")
    parser.add_argument("--out", type=Path, help="Markdown file to write")
    given = parser.parse_args()
    full = build_rds_video_predictor("mini", routing="full", device=given.device)
    routed = build_rds_video_predictor("mini", budget=0.6, device=given.device)
    clock, warm = time.process_time if given.cpu_time else clock_of(full.device), clip_of(0, 6)
    for predictor in (full, routed):
        play(predictor, warm, clock)
    clips = (clip_of(n, given.frames) for n in range(given.clips))
    rows = [row for clip in clips for row in measure(full, routed, clip, given.targets, clock)]
    text = page(pd.DataFrame(rows), full, given)
    print(text)
    if given.out:
        write_text(given.out, f"{text}\n")


def clip_of(index: int, frames: int) -> Clip:
    return generate_clip(17, index, split="val", frames=frames, **SIZE)


def measure(full, routed, clip, targets, clock) -> list[dict]:
    """A row for each target and arm on one clip."""
    policy, whole = routed.policy, play(full, clip, clock)
    own = 1e3 / np.median(whole.ms)
    rows = []
    for target in targets:
        fps = target * own
        paced = play(routed, clip, clock, pace_of(routed, fps, clock=clock))
        n_active = round(paced.blocks_routed)
        share = max((n_active - len(routed.always_on)) / (routed.depth - len(routed.always_on)), 0.001)
        routed.set_policy(replace(policy, mode="top_n", n_active=n_active, budget=share))
        fixed = play(routed, clip, clock)
        routed.set_policy(policy)
        for arm, run in ((PACED, paced), (FIXED, fixed), (FULL, whole)):
            scores = {"in_time": 100 * in_time(run.ms, fps), "blocks": run.blocks, "JF": quality(clip, run)}
            rows.append({"clip": clip.name, "target": target, "arm": arm, "fps": fps} | scores)
    return rows


def play(predictor, clip: Clip, clock, pace: Pace | None = None) -> Run:
    """Track a clip frame by frame; each object's prompt is its mask where it first appears."""
    run = Run([], [], [], {})
    gc.collect()
    with TrackingSession(predictor, pace=pace) as session:  # predictor.start(fps=...), with a clock of our own
        for t, frame in enumerate(clip.frames):
            new = [int(i) for i in np.unique(clip.masks[t]) if i and int(i) not in run.prompts]
            run.prompts |= dict.fromkeys(new, t)
            began = clock()
            result = session.step(frame, {i: clip.masks[t] == i for i in new})
            run.ms.append(1e3 * (clock() - began))
            run.masks.append(separate(result.obj_ids, result.mask_logits) if result.obj_ids else {})
            run.routes += [result.route] if result.route is not None else []
    return run


def in_time(ms: list[float], fps: float) -> float:
    """The share of steps in time, for any arm as `Pace` has it."""
    now = [0.0]
    pace = Pace(fps, Costs((1.0,), 0.0, 0.0, "ms"), (0,), clock=lambda: now[0])
    for one in ms:
        pace.frame_started()
        now[0] += one / 1e3
        pace.frame_ended(None, 0)
    return pace.report().in_time


def quality(clip: Clip, run: Run) -> float:
    """J&F in points."""
    scores = []
    for obj_id, start in run.prompts.items():
        pairs = [(run.masks[t][obj_id], clip.masks[t] == obj_id) for t in range(start + 1, len(clip.frames))]
        scores += (
            [np.mean([(region_similarity(*pair) + contour_accuracy(*pair)) / 2 for pair in pairs])] if pairs else []
        )
    return 100 * float(np.mean(scores))


def page(rows: pd.DataFrame, predictor, given) -> str:
    """What was found, as Markdown."""
    cells, heads = [], ["target", "arm", "frames in time, %", "blocks a frame", "J&F"]
    for target, group in rows.groupby("target"):
        arms = {arm: group[group["arm"] == arm].set_index("clip") for arm in (PACED, FIXED, FULL)}
        for arm, own in arms.items():
            tops = {"in_time": 100, "blocks": predictor.depth, "JF": 100}
            cells.append([f"{target:g}", arm, *(spread(own[name], top=top) for name, top in tops.items())])
        gaps = (spread(arms[PACED][name] - arms[FIXED][name], "+") for name in ("in_time", "blocks", "JF"))
        cells.append([f"{target:g}", "paced minus fixed", *gaps])
    device = (
        torch.cuda.get_device_name(predictor.device)
        if predictor.device.type == "cuda"
        else machine_facts()["processor"]
    )
    where = f"{device}, {torch.get_num_threads()} threads, float32, torch {torch.__version__}, {date.today()}"
    about = f"# A frame rate that is held\n\nMini SAM2 on {where}; {given.clips} clips of "
    about += f"{given.frames} frames, {SIZE['width']}x{SIZE['height']} px. Targets are shares of the full model's own "
    about += f"rate on each clip, {rows['fps'].div(rows['target']).median():.1f} frames a second in the middle."
    about += " Times are of the CPU." if given.cpu_time else ""
    return f"{about}\n\n{table(heads, cells)}"


def spread(values: pd.Series, sign: str = "", top: float | None = None) -> str:
    """A mean over clips, with its interval where there are enough; inside 0 and ``top``, if it lies there."""
    found: Interval = mean_interval(values.to_numpy(), seed=0)
    low, high = (found.low, found.high) if top is None else (max(found.low, 0), min(found.high, top))
    bounds = f" ({low:{sign}.1f} to {high:{sign}.1f})" if np.isfinite(found.low) else ""
    return f"{found.effect:{sign}.1f}{bounds}"


if __name__ == "__main__":
    main()
