"""Track sequences and score the masks, a sequence at a time."""

import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from rds_lib.core.parallel import map_items
from rds_lib.data.datasets import Sequence, write_masks
from rds_lib.metrics.boxes import box_table
from rds_lib.metrics.masks import score_masks, summarise
from rds_lib.model.track import Tracked
from rds_lib.routing.route_table import mean_active, routed_frames


@dataclass(frozen=True)
class Scores:
    """Scores of one method on one data set."""

    objects: pd.DataFrame  # one row per object, from ``score_masks``
    routes: pd.DataFrame  # route tables of all sequences, with a column ``sequence``
    seconds: float
    frames: int
    boxes: pd.DataFrame = field(default_factory=pd.DataFrame)  # from ``box_table``, on DAVIS-shaped sets
    gmacs: float = float("nan")  # of the encoder's blocks, mean over all frames
    gmacs_routed: float = float("nan")  # over routed frames

    @property
    def active(self) -> float:
        """Mean active blocks over all frames, those that run the whole encoder included; NaN without a model."""
        return mean_active(self.routes)

    @property
    def active_routed(self) -> float:
        """Mean active blocks over routed frames; NaN without any. A method without a router decides on every frame."""
        return mean_active(routed_frames(self.routes))


class Job(NamedTuple):
    """A sequence to track and score."""

    sequence: Sequence
    gt_root: Path
    layout: str
    split: str
    folder: Path  # receives the predicted masks


def score_tracker(
    track: Callable[[Sequence], Tracked],
    sequences: Iterable[Sequence],
    gt_root: Path,
    *,
    layout: str,
    split: str = "val",
    keep: Path | None = None,
    label: str = "",
    workers: int = 1,
) -> Scores:
    """Track sequences, write the masks in the data set's own form, and score them by its protocol.

    Parameters
    ----------
    track : callable
        ``Sequence -> Tracked``.
    gt_root, split : Path, str
        Root and split of the sequences' data set; it may have more sequences than these.
    keep : Path, optional
        Folder for the predicted masks; by default they are deleted.
    workers : int
        Processes; see `map_items`.
    """
    with tempfile.TemporaryDirectory() as temporary:
        jobs = [Job(sequence, gt_root, layout, split, keep or Path(temporary)) for sequence in sequences]
        return collect_scores(score_jobs(track, jobs, label=label, workers=workers), layout)


def score_jobs(
    track: Callable[[Sequence], Tracked], jobs: list[Job], *, label: str = "", workers: int = 1
) -> list[tuple]:
    """What `collect_scores` takes, for every job in order. The longest run first, so that workers end together."""

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
    """The scores of one data set, from its part of what `score_jobs` gave."""
    tables, routes, seconds, frames, boxes = zip(*results)
    objects = pd.concat(tables, ignore_index=True)
    objects.attrs["summary"] = tables[0].attrs["summary"] | summarise(objects, layout)
    return Scores(
        objects, pd.concat(routes, ignore_index=True), sum(seconds), sum(frames), pd.concat(boxes, ignore_index=True)
    )
