"""Track sequences and score the masks, a sequence at a time."""

import tempfile
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from rds_lib.core.errors import RDSInputError
from rds_lib.data.datasets import Sequence, write_masks
from rds_lib.metrics.boxes import box_table
from rds_lib.metrics.masks import UNSCORED, score_masks, summarise, warn_of_unscored
from rds_lib.model.track import Tracked
from rds_lib.routing.route_table import mean_active, routed_frames
from rds_lib.work.parallel import map_items


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
    faults: dict[str, str] = field(default_factory=dict)  # sequence -> why it was not tracked or not scored

    @property
    def has_truth(self) -> bool:
        """Whether any object has a score; published validation sets may show the prompts alone."""
        return bool(len(self.objects)) and bool(self.objects["JF"].notna().any())

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
    keep_going: bool = False,
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
    keep_going : bool
        Note a sequence that cannot be tracked or scored in ``faults`` and go on, so that no other's masks are lost.
    """
    with tempfile.TemporaryDirectory() as temporary:
        jobs = [Job(sequence, gt_root, layout, split, keep or Path(temporary)) for sequence in sequences]
        results = score_jobs(track, jobs, label=label, workers=workers, keep_going=keep_going)
        return collect_scores(results, layout)


def score_jobs(
    track: Callable[[Sequence], Tracked],
    jobs: list[Job],
    *,
    label: str = "",
    workers: int = 1,
    keep_going: bool = False,
) -> list[tuple]:
    """What `collect_scores` takes, for every job in order. The longest run first, so that workers end together."""

    def run(n):
        job, tracked = jobs[n], Tracked({}, pd.DataFrame(), 0.0)
        table, boxes, fault = pd.DataFrame(), pd.DataFrame(), {}
        try:
            tracked = track(job.sequence)
            write_masks(job.folder, job.sequence, tracked.masks, layout=job.layout)
            table, boxes = _score(job, tracked)
        except RDSInputError as error:
            if not keep_going:
                raise
            fault = {job.sequence.name: str(error)}
        routes = tracked.routes.assign(sequence=job.sequence.name)
        return table, routes, tracked.seconds, len(tracked.masks), boxes, fault

    order = sorted(range(len(jobs)), key=lambda n: -len(jobs[n].sequence) * (2 + len(jobs[n].sequence.obj_ids)))
    done = dict(zip(order, map_items(run, order, workers=workers, label=label), strict=True))
    return [done[n] for n in range(len(jobs))]


def _score(job: Job, tracked: Tracked) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Masks and boxes of one sequence; of objects without a score `collect_scores` tells, once for the data set."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", f".*{UNSCORED}")
        table = score_masks(
            job.gt_root, job.folder, protocol=job.layout, split=job.split, sequences=[job.sequence.name]
        )
    return table, box_table(job.sequence, tracked.masks) if job.layout == "davis2017" else pd.DataFrame()


def collect_scores(results: list[tuple], layout: str) -> Scores:
    """The scores of one data set, from its part of what `score_jobs` gave."""
    tables, routes, seconds, frames, boxes, faults = zip(*results)
    scored = [table for table in tables if len(table)]
    objects = pd.concat(scored, ignore_index=True) if scored else pd.DataFrame(columns=["sequence", "object", "JF"])
    if scored:
        warn_of_unscored(objects, layout)
        objects.attrs["summary"] = scored[0].attrs["summary"] | summarise(objects, layout)
    routes, boxes = (
        pd.concat([table for table in each if len(table)] or each[:1], ignore_index=True) for each in (routes, boxes)
    )
    faults = {name: why for fault in faults for name, why in fault.items()}
    return Scores(objects, routes, sum(seconds), sum(frames), boxes, faults=faults)
