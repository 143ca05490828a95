"""Run predictors over data sets and score what they say: RDS, its controls and plain SAM2, on the same clips."""

import tempfile
import time
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from rds_lib.boxes import box_table
from rds_lib.datasets import Sequence, write_masks
from rds_lib.errors import RDSInputError
from rds_lib.metrics import bootstrap_ci, score_masks, summarise
from rds_lib.parallel import map_items
from rds_lib.routing import calibrate_threshold, threshold_route, top_n_route

PROTOCOLS = {"davis2017": "davis2017", "sav": "sav", "ytvos": "ytvos"}


@dataclass(frozen=True)
class Tracked:
    """One tracked sequence: ``masks[t]`` maps object id to bool (H, W); ``routes`` is the predictor's route table."""

    masks: dict[int, dict[int, np.ndarray]]
    routes: pd.DataFrame
    seconds: float  # wall time of prompts and propagation, frames already loaded


def track_sequence(predictor, sequence: Sequence, *, prompt: str = "mask", frames: int | None = None, progress: bool = False) -> Tracked:
    """Track every object from its own first annotation to the last frame, or through the first ``frames`` of the video.

    ``prompt`` is "mask", "box" or "point".

    Objects that appear later are added when they appear, as SAM2's VOS script does for such data sets; the frame on
    which an object is prompted runs the full encoder. A pixel that several objects claim goes to the largest logit.
    Works with stock SAM2 predictors too; the route table is then empty.
    """
    state = predictor.init_state(str(sequence.frame_paths[0].parent))
    length = min(len(sequence), frames or len(sequence))
    starts = [start for start in sorted(set(sequence.prompt_frame.values())) if start < length]
    masks, began = {}, time.perf_counter()
    bar = tqdm(total=length - min(starts, default=0), desc=sequence.name, disable=None if progress else True)
    for start, stop in zip(starts, [*starts[1:], length]):
        for obj_id, prompt_frame in sequence.prompt_frame.items():
            if prompt_frame == start:
                _add_prompt(predictor, state, start, obj_id, sequence.prompt(obj_id), prompt)
        for t, obj_ids, logits in predictor.propagate_in_video(state, start, stop - start - 1):
            masks[t] = separate(obj_ids, logits)
            bar.update()
    seconds = time.perf_counter() - began
    bar.close()
    routes = predictor.route_table(state) if hasattr(predictor, "route_table") else pd.DataFrame()
    return Tracked(masks, routes, seconds)


def _add_prompt(predictor, state, frame_idx, obj_id, mask, kind):
    if kind == "mask":
        predictor.add_new_mask(state, frame_idx, obj_id, mask)
    elif kind == "box":
        predictor.add_new_points_or_box(state, frame_idx, obj_id, box=box_of(mask))
    elif kind == "point":
        predictor.add_new_points_or_box(state, frame_idx, obj_id, points=[click_of(mask)], labels=[1])
    else:
        raise RDSInputError(f"prompt {kind!r} is unknown; choose mask, box or point")


def box_of(mask: np.ndarray) -> list[int]:
    """The tightest box around a bool mask (H, W): x0, y0, x1, y1 in px, the last two just outside."""
    x, y, width, height = cv2.boundingRect(mask.astype(np.uint8))
    return [x, y, x + width, y + height]


def click_of(mask: np.ndarray) -> list[int]:
    """The pixel of a bool mask (H, W) that lies farthest from its outline, x, y: the click that a careful person makes.

    Source: the first click of SAM's evaluation (Kirillov et al. 2023, section 7.1), the maximum of the distance transform.
    """
    inside = cv2.distanceTransform(np.pad(mask, 1).astype(np.uint8), cv2.DIST_L2, 5)[1:-1, 1:-1]
    y, x = np.unravel_index(inside.argmax(), mask.shape)
    return [int(x), int(y)]


def separate(obj_ids, logits: torch.Tensor) -> dict[int, np.ndarray]:
    """Give each pixel to the object of the largest positive logit; logits (O, 1, H, W) -> bool (H, W) per object."""
    best, owner = logits[:, 0].max(0)
    owner = torch.where(best > 0, owner, -1).cpu().numpy()
    return {obj_id: owner == n for n, obj_id in enumerate(obj_ids)}


def copy_first_mask(sequence: Sequence) -> Tracked:
    """The floor that any tracker must beat: every object stays where its prompt was."""
    masks = {}
    for t in range(min(sequence.prompt_frame.values()), len(sequence)):
        masks[t] = {i: sequence.prompt(i) for i, start in sequence.prompt_frame.items() if start <= t}
    return Tracked(masks, pd.DataFrame(), 0.0)


@dataclass(frozen=True)
class Scores:
    """Scores of one method on one data set."""

    objects: pd.DataFrame  # one row per object, from ``score_masks``
    routes: pd.DataFrame  # route tables of all sequences, with a column ``sequence``
    seconds: float
    frames: int
    boxes: pd.DataFrame = field(default_factory=pd.DataFrame)  # from ``box_table``, on DAVIS-shaped sets
    gmacs: float = float("nan")  # of the encoder's blocks, on the frames that a router decided

    @property
    def active(self) -> float:
        """Mean active blocks over the frames that a router decided; NaN without any."""
        return mean_active(self.routes)


class Job(NamedTuple):
    """A sequence to track and to score: by the protocol of its data set's layout, against the set's root and split."""

    sequence: Sequence
    gt_root: Path
    layout: str
    split: str
    folder: Path  # receives the predicted masks


def score_tracker(
    track: Callable[[Sequence], Tracked], sequences: Iterable[Sequence], gt_root: Path, *, layout: str, split: str = "val",
    keep: Path | None = None, label: str = "", workers: int = 1,
) -> Scores:
    """Track all sequences, write the predictions in the data set's own form, and score them by its protocol.

    Parameters
    ----------
    track : callable
        ``Sequence -> Tracked``.
    gt_root, split : Path, str
        Root and split of the data set that the sequences come from; it may have more sequences than these.
    keep : Path, optional
        Folder for the predicted masks; by default they are deleted after scoring.
    workers : int
        Processes that track and score, a sequence at a time; see ``parallel.map_items``.
    """
    with tempfile.TemporaryDirectory() as temporary:
        jobs = [Job(sequence, gt_root, layout, split, keep or Path(temporary)) for sequence in sequences]
        return collect_scores(score_jobs(track, jobs, label=label, workers=workers), layout)


def score_jobs(track: Callable[[Sequence], Tracked], jobs: list[Job], *, label: str = "", workers: int = 1) -> list[tuple]:
    """What :func:`collect_scores` takes, for every job in order; the longest go first, so that no worker waits long at the end."""
    def run(n):
        sequence, gt_root, layout, split, folder = jobs[n]
        tracked = track(sequence)
        write_masks(folder, sequence, tracked.masks, layout=layout)
        table = score_masks(gt_root, folder, protocol=layout, split=split, sequences=[sequence.name])
        boxes = box_table(sequence, tracked.masks) if layout == "davis2017" else pd.DataFrame()
        return table, tracked.routes.assign(sequence=sequence.name), tracked.seconds, len(tracked.masks), boxes

    order = sorted(range(len(jobs)), key=lambda n: -len(jobs[n].sequence) * (2 + len(jobs[n].sequence.obj_ids)))
    done = dict(zip(order, map_items(run, order, workers=workers, label=label), strict=True))
    return [done[n] for n in range(len(jobs))]


def collect_scores(results: list[tuple], layout: str) -> Scores:
    """The scores of one data set, from its part of what :func:`score_jobs` gave."""
    tables, routes, seconds, frames, boxes = zip(*results)
    objects = pd.concat(tables, ignore_index=True)
    objects.attrs["summary"] = tables[0].attrs["summary"] | summarise(objects, layout)
    return Scores(objects, pd.concat(routes, ignore_index=True), sum(seconds), sum(frames), pd.concat(boxes, ignore_index=True))


def mean_active(routes: pd.DataFrame) -> float:
    """Mean number of active blocks on routed frames."""
    routed = routes[routes["reason"] == "routed"] if len(routes) else routes
    if not len(routed):
        return float("nan")
    return float(routed.groupby(["sequence", "frame_idx"])["active"].sum().mean())


def keep_prob_matrix(routes: pd.DataFrame) -> np.ndarray:
    """Keep probabilities of all routed frames, (N, L)."""
    routed = routes[routes["reason"] == "routed"]
    return routed.pivot(index=["sequence", "frame_idx"], columns="block", values="keep_prob").to_numpy(copy=True)


def route_spread(routes: pd.DataFrame) -> pd.DataFrame:
    """Per block: mean and standard deviation of the keep probability over routed frames, and the share of frames it ran."""
    routed = routes[routes["reason"] == "routed"]
    groups = routed.groupby("block")
    return pd.DataFrame({
        "mean_keep_prob": groups["keep_prob"].mean(), "std_keep_prob": groups["keep_prob"].std(),
        "active_share": groups["active"].mean()}).reset_index()


def calibrate(
    predictor, sequences, *, target_active: float, frames: int | None = None, passes: int = 2, workers: int = 1,
) -> tuple[float, np.ndarray]:
    """Threshold whose mean active count over the calibration split is closest to ``target_active``.

    The routes change the masks and the masks change the routes, so the split is tracked again under the new
    threshold, ``passes`` times in all; the first pass keeps the ``target_active`` most probable blocks of each frame.
    Routes differ between videos more than within one: many videos and the first ``frames`` of each serve best.

    Returns
    -------
    tau : float
    w : ndarray, shape (N, L)
        Keep probabilities of the last pass. The predictor is left with ``tau`` set.
    """
    policy = replace(predictor.policy, mode="top_n", n_active=round(target_active))
    for _ in range(passes):
        predictor.set_policy(policy)
        tables = map_items(lambda s: track_sequence(predictor, s, frames=frames).routes.assign(sequence=s.name), sequences,
                           workers=workers)
        w = keep_prob_matrix(pd.concat(tables, ignore_index=True))
        tau = calibrate_threshold(torch.from_numpy(w), predictor.always_on, target_active)
        policy = replace(policy, mode="threshold", tau=tau)
    predictor.set_policy(policy)
    return tau, w


def threshold_curve(w: np.ndarray, always_on, taus=None) -> tuple[np.ndarray, np.ndarray]:
    """Mean active blocks of keep probabilities (N, L) at each threshold; by default 201 thresholds from 0 to 1."""
    taus = np.linspace(0, 1, 201) if taus is None else np.asarray(taus, float)
    w = torch.from_numpy(w)
    return taus, np.array([threshold_route(w, always_on, tau).sum(1).mean().item() for tau in taus])


def random_routes(sequence_name: str, *, depth: int, always_on, n_active: int, seed: int) -> Callable[[int], list[bool]]:
    """A fresh random route of ``n_active`` blocks for every frame; the same for the same seed, sequence and frame."""

    def route(frame_idx: int) -> list[bool]:
        rng = np.random.default_rng([seed, zlib.crc32(sequence_name.encode()), frame_idx])
        return fixed_route(rng.random(depth), always_on, n_active)

    return route


def fixed_route(scores, always_on, n_active: int) -> list[bool]:
    """The route of the ``n_active`` blocks with the highest scores (any numbers), always-on ones among them."""
    ranks = pd.Series(scores).rank(pct=True)
    return top_n_route(torch.from_numpy(ranks.to_numpy(copy=True)), always_on, n_active).bool().tolist()


def paired_difference(first: Scores, second: Scores, *, generator, n: int) -> dict:
    """J&F of ``first`` minus ``second`` in points, object by object, with a 95 % bootstrap interval over sequences."""
    both = first.objects.merge(second.objects, on=["sequence", "object"], suffixes=("_a", "_b"))
    difference = 100 * (both["JF_a"] - both["JF_b"]).to_numpy()
    low, high = bootstrap_ci(difference, generator=generator, n=n, groups=both["sequence"].to_numpy())
    return {"effect": float(difference.mean()), "ci_low": low, "ci_high": high}
