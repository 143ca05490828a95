"""Recorded runs: masks, routes and quality of every frame, read from an evaluation's products or made on the spot."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pandas as pd

from rds_lib.core.artifacts import read_json, read_table
from rds_lib.core.errors import RDSInputError
from rds_lib.data.batches import label_map
from rds_lib.data.changing import CLEAR
from rds_lib.data.datasets import Sequence as VideoSequence
from rds_lib.data.images import image_size, read_frame, read_labels
from rds_lib.data.labels import label_numbers
from rds_lib.data.layouts import check_name
from rds_lib.data.sources import Source
from rds_lib.evaluation.names import run_name
from rds_lib.metrics.masks import region_similarity
from rds_lib.model.backbone import backbone_of
from rds_lib.model.shape import EncoderShape
from rds_lib.model.track import Tracked, track_sequence

FULL = "full"  # the reason of a frame that was never routed, as SAM2's are
SHAPE = "encoder.json"  # in an evaluation's products: the layout of the encoder's blocks
ROUTE = ("frame_idx", "block", "active", "keep_prob", "reason")  # columns of a route table
RUNS = "runs.csv"  # in the folder of a data set's predictions: which folder holds which method and level


@dataclass(frozen=True)
class Run:
    """One predictor's pass over a video of T frames with an encoder of L blocks."""

    name: str  # such as "RDS 0.6"; for people
    labels: np.ndarray  # (T, H, W) uint8, one of each object, 0 where there is none
    active: np.ndarray  # (T, L) bool
    keep_prob: np.ndarray  # (T, L) float, 1 where a block had to run
    reasons: tuple[str, ...]  # per frame, as in ``route_table``
    quality: Mapping[int, np.ndarray]  # object -> J per frame (T,), NaN on its prompt and where nothing is annotated
    method: str = ""  # as tables have it; "" for a run that is in no table
    level: float | None = None

    @property
    def is_routed(self) -> np.ndarray:
        """Whether the router decided a frame, (T,) bool."""
        return np.array([reason == "routed" for reason in self.reasons])

    @property
    def active_blocks(self) -> float:
        """Mean active blocks over routed frames; over all frames if none was."""
        return float(self.active[self.is_routed if self.is_routed.any() else slice(None)].sum(1).mean())

    @property
    def mean_quality(self) -> np.ndarray:
        """J per frame, mean over the objects that have one there, (T,); NaN on frames without any."""
        per_object = np.array([*self.quality.values()] or [np.full(len(self.reasons), np.nan)])
        counts = np.isfinite(per_object).sum(0)
        return np.where(counts, np.nansum(per_object, 0) / np.maximum(counts, 1), np.nan)


@dataclass(frozen=True)
class Recording:
    """A video with the runs on it; pixels are read when asked for.

    Objects go by their labels, as `label_numbers` gives them: SA-V's objects 0 and 1 are 1 and 2 here.
    """

    name: str
    frame_paths: tuple[Path, ...]
    obj_ids: tuple[int, ...]
    shape: EncoderShape
    runs: tuple[Run, ...]
    truth: np.ndarray | None = None  # (T, H, W) uint8, 255 on frames without annotation; None where there is no truth
    conditions: tuple[str, ...] = ()  # what held on each frame of a clip whose conditions change, "" where nothing did

    def __len__(self) -> int:
        return len(self.frame_paths)

    @cached_property
    def size(self) -> tuple[int, int]:
        """(H, W) in px."""
        return image_size(self.frame_paths[0])

    @property
    def depth(self) -> int:
        """Number of blocks L."""
        return self.shape.depth

    @property
    def always_on(self) -> tuple[int, ...]:
        """The blocks of K, ascending."""
        return self.shape.always_on

    @property
    def stage_starts(self) -> tuple[int, ...]:
        """The first block of every stage."""
        return self.shape.stage_starts

    def frame(self, t: int) -> np.ndarray:
        """Frame t as (H, W, 3) uint8 RGB."""
        return read_frame(self.frame_paths[t])

    def run(self, name: str) -> Run:
        """The run of a name."""
        for run in self.runs:
            if run.name == name:
                return run
        raise RDSInputError(f"{self.name}: no run {name!r}; it has: {', '.join(run.name for run in self.runs)}")

    def run_at(self, method: str, level: float) -> Run:
        """The run of a method at a level, as in tables."""
        for run in self.runs:
            if (run.method, run.level) == (method, level):
                return run
        raise RDSInputError(
            f"{self.name}: no run of {run_name(method, level)}; it has: {', '.join(run.name for run in self.runs)}"
        )

    def with_run(self, run: Run) -> "Recording":
        """A copy with one run more, or with another in place of the one of that name."""
        others = tuple(old for old in self.runs if old.name != run.name)
        return replace(self, runs=(*others, run))


def recorded_runs(folder: Path, source: Source) -> pd.DataFrame:
    """The runs of a data set whose masks an evaluation kept: ``folder, method, level``, in the order they were made."""
    index = folder / "predictions" / source.name / RUNS
    if not index.is_file():
        return pd.DataFrame(columns=["folder", "method", "level"])
    table = read_table(index, columns=("folder", "method", "level"))
    for name in table["folder"]:
        check_name(name, f"{index}: folder")
    return table


def recorded_names(folder: Path, source: Source) -> list[str]:
    """Names of these runs, such as "SAM2" and "RDS 0.6"."""
    return [run_name(row.method, row.level) for row in recorded_runs(folder, source).itertuples()]


def read_shape(folder: Path) -> EncoderShape:
    """The layout of the encoder that an evaluation ran, from its products."""
    content = read_json(folder / SHAPE)
    depth = content["depth"]
    blocks = [content[name] for name in ("stage_starts", "always_on")]
    is_depth = type(depth) is int and 0 < depth <= 1024
    if not is_depth or not all(isinstance(each, list) and set(each) <= set(range(depth)) for each in blocks):
        raise RDSInputError(f"{folder / SHAPE}: describes no encoder of 1 to 1024 blocks; make it again: dvc repro")
    return EncoderShape.from_dict(content)


def read_recordings(
    folder: Path, source: Source, *, names: Sequence[str] | None = None, shape: EncoderShape | None = None
) -> list[Recording]:
    """The videos of a DAVIS-shaped data set with the runs whose masks stage ``evaluation`` kept.

    Parameters
    ----------
    folder : Path
        The stage's products.
    names : sequence of str, optional
        Which videos, in this order; all by default.
    shape : EncoderShape, optional
        Layout of the encoder that ran; by default what ``folder`` says.

    Raises
    ------
    RDSInputError
        If a video is not in the data set, or the folder lacks its masks.
    """
    if source.layout != "davis2017":
        raise RDSInputError(f"{source.name}: a data set of layout {source.layout}; recordings are read from davis2017")
    by_name = {sequence.name: sequence for sequence in source.sequences()}
    wanted = list(by_name) if names is None else list(names)
    missing = [name for name in wanted if name not in by_name]
    if missing:
        raise RDSInputError(f"{source.name} has no video {', '.join(missing)}; it has: {', '.join(by_name)}")
    shape, kept = shape or read_shape(folder), list(recorded_runs(folder, source).itertuples())
    routes = read_table(folder / "routes.csv", columns=("dataset", "sequence", "method", "level", *ROUTE))
    routes = dict(list(routes[routes["dataset"] == source.name].groupby(["sequence", "method", "level"])))
    recordings = []
    for sequence in (by_name[name] for name in wanted):
        truth, runs = _truth(sequence), []
        for row in kept:
            masks = folder / "predictions" / source.name / row.folder / sequence.name
            labels = np.stack([_prediction(masks / f"{stem}.png", sequence.size) for stem in sequence.frame_names])
            name, table = run_name(row.method, row.level), routes.get((sequence.name, row.method, row.level))
            if table is not None:
                _check_routes(table, folder / "routes.csv", len(sequence), shape.depth)
            run = make_run(name, labels, table, depth=shape.depth, truth=truth, starts=sequence.prompt_frame)
            runs.append(replace(run, method=row.method, level=row.level))
        what = (sequence.name, sequence.frame_paths, sequence.obj_ids, shape, tuple(runs), truth, _conditions(sequence))
        recordings.append(Recording(*what))
    return recordings


def record(name: str, predictor, sequence: VideoSequence) -> Recording:
    """Track a sequence of a data set and keep what happened, as a recording of one run."""
    shape, tracked = backbone_of(predictor).shape, track_sequence(predictor, sequence)
    run, labels = run_of(name, tracked, sequence, depth=shape.depth), label_numbers(sequence.obj_ids)
    return Recording(sequence.name, sequence.frame_paths, tuple(labels.values()), shape, (run,), _truth(sequence))


def run_of(name: str, tracked: Tracked, sequence: VideoSequence, *, depth: int) -> Run:
    """A run from what `track_sequence` gives; where masks overlap, as in SA-V, labels show the last, J is of all."""
    labels, numbers = np.zeros((len(sequence), *sequence.size), np.uint8), label_numbers(sequence.obj_ids)
    for t, masks in tracked.masks.items():
        for obj_id, mask in masks.items():
            labels[t][mask] = numbers[obj_id]
    quality = {number: np.full(len(sequence), np.nan) for number in numbers.values()}
    nothing = np.zeros(sequence.size, bool)
    for t in sequence.annotated:
        truth, found = sequence.masks(t), tracked.masks.get(t, {})
        for obj_id, start in sequence.prompt_frame.items():
            if t > start:
                pair = found.get(obj_id, nothing), truth.get(obj_id, nothing)
                quality[numbers[obj_id]][t] = region_similarity(*pair)
    return replace(make_run(name, labels, tracked.routes, depth=depth), quality=quality)


def make_run(
    name: str, labels: np.ndarray, routes: pd.DataFrame | None, *, depth: int, truth=None, starts=MappingProxyType({})
) -> Run:
    """A run from label maps (T, H, W) and a route table; frames without a route ran all blocks.

    ``truth`` is (T, H, W) uint8, 255 where nothing is known; ``starts`` has each object's prompted frame.
    """
    active, keep_prob = np.ones((len(labels), depth), bool), np.ones((len(labels), depth))
    reasons = [FULL] * len(labels)
    if routes is not None and len(routes):
        t, block = routes["frame_idx"].to_numpy(), routes["block"].to_numpy()
        active[t, block], keep_prob[t, block] = routes["active"].to_numpy(bool), routes["keep_prob"].to_numpy(float)
        for frame_idx, reason in routes.groupby("frame_idx")["reason"].first().items():
            reasons[frame_idx] = reason
    objects = starts.items() if truth is not None else ()
    quality = {obj_id: _quality(labels, truth, obj_id, start) for obj_id, start in objects}
    return Run(name, labels, active, keep_prob, tuple(reasons), quality)


def _prediction(path, size):
    labels = read_labels(path)
    if labels.shape != size:
        raise RDSInputError(f"{path}: {labels.shape[::-1]} px, its video has {size[::-1]}; make it again: dvc repro")
    return labels


def _check_routes(routes, path, frames, depth):
    """Raise for a row that no frame or block belongs to, or that is none by its numbers."""
    for name, last in (("frame_idx", frames - 1), ("block", depth - 1), ("active", 1), ("keep_prob", 1)):
        values = pd.to_numeric(routes[name], errors="coerce")
        wrong = routes.loc[~values.between(0, last), name]
        if len(wrong):
            raise RDSInputError(f"{path}: {name} = {wrong.iloc[0]}; expected numbers from 0 to {last}: dvc repro")


def _truth(sequence):
    truth = np.full((len(sequence), *sequence.size), 255, np.uint8)
    for t in sequence.annotated:
        truth[t] = label_map(sequence, t)
    return truth


def _conditions(sequence) -> tuple[str, ...]:
    table = sequence.conditions()
    return () if table is None else tuple(table["condition"].replace(CLEAR, ""))


def _quality(labels, truth, obj_id, start):
    """J of one object per frame, after its prompt; NaN where nothing is annotated."""
    quality = np.full(len(labels), np.nan)
    for t in range(start + 1, len(labels)):
        if (truth[t] != 255).any():
            quality[t] = region_similarity(labels[t] == obj_id, truth[t] == obj_id)
    return quality
