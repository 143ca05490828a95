"""What the paper's figures are drawn from, once for the static ones and for the pages: the products of a profile as tables."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from rds_lib.core.artifacts import read_table, require
from rds_lib.core.errors import RDSInputError
from rds_lib.data.sources import validation_sources
from rds_lib.evaluation.recordings import Recording, Run, read_recordings
from rds_lib.report.evidence import Evidence
from rds_lib.report.paper import PAPER
from rds_lib.report.table9 import level_name
from rds_lib.show.notebook_figures import STAGES

PLANS = ("plan A", "plan B")
SKIPPED, HAD_TO_RUN, CHOSEN = 0, 1, 2  # what became of a block on a frame
RIGHT, ADDED, MISSED, SWAPPED = 1, 2, 3, 4  # what became of a pixel; 0: background, and taken for it
MOST_VIDEOS, MOST_COMPARED = 5, 3  # the paper's figures 13 to 22 and 23 to 25


@dataclass(frozen=True)
class Study:
    """One profile's products on its first DAVIS-shaped data set, and the videos that are shown of it."""

    profile: str
    dataset: str
    budget: float
    videos: tuple[str, ...]
    compared: tuple[str, ...]
    inspected: tuple[str, ...]
    scores: pd.DataFrame
    comparisons: pd.DataFrame
    evidence: Evidence
    recordings: dict[str, Recording]

    @property
    def importance(self) -> pd.DataFrame:
        """A row per block: both importances, whether it is in K, whether it is adapted."""
        return self.evidence.importance

    @property
    def always_on(self) -> tuple[int, ...]:
        """The blocks of K, ascending."""
        return always_on_of(self.importance)

    @property
    def length(self) -> int:
        """Number of videos in the data set."""
        return self.evidence.objects["sequence"].nunique()

    def run(self, name: str) -> Run:
        """What RDS left behind on a video, at the budget of the figures."""
        return self.recordings[name].run(f"RDS {self.budget}")


def always_on_of(importance: pd.DataFrame) -> tuple[int, ...]:
    """The blocks that a table of importance marks as always on."""
    return tuple(int(block) for block in importance.loc[importance["always_on"].astype(bool), "block"])


def read_study(params, workdir: Path) -> Study:
    """Read what the stages ``importance``, ``evaluation`` and ``benchmark`` made of a profile.

    Raises
    ------
    RDSInputError
        If a product is missing, no data set has the layout of DAVIS 2017, or a video is not in it.
    """
    section = params.figures
    for names, most, key in ((section.videos, MOST_VIDEOS, "videos"), (section.compared, MOST_COMPARED, "compared")):
        if len(names) > most:
            raise RDSInputError(f"figures.{key} names {len(names)} videos; the paper's figures have numbers for {most}: leave some out")
    sources = [source for source in validation_sources(params, workdir) if source.layout == "davis2017"]
    if not sources:
        raise RDSInputError(f"profile {params.profile}: evaluation.datasets = {list(params.evaluation.datasets)} has no davis; the figures are of a DAVIS-shaped set")
    source = sources[0]
    scores, comparisons, objects, routes = (read_table(require(f"evaluation/{name}.csv", workdir, stage="evaluation"), columns=("dataset",))
                                            for name in ("table", "comparisons", "objects", "routes"))
    importance, speed = (read_table(require(name, workdir, stage=name.split("/")[0])) for name in ("importance/importance.csv", "benchmark/table.csv"))
    evidence = Evidence.of_dataset(source.name, params.evaluation, scores=scores, objects=objects, routes=routes, importance=importance, speed=speed)
    recordings = read_recordings(workdir / "evaluation", source, names=tuple(dict.fromkeys((*section.videos, *section.compared, *params.inspect.videos))),
                                 always_on=always_on_of(importance))
    return Study(params.profile, source.name, section.budget, section.videos, section.compared, params.inspect.videos,
                 scores[scores["dataset"] == source.name], comparisons[comparisons["dataset"] == source.name], evidence,
                 {recording.name: recording for recording in recordings})


def stage_of(block: int) -> int:
    """The stage that a block belongs to, from 1."""
    return 1 + sum(block >= start for start in STAGES[1:-1])


def activation(routes: pd.DataFrame) -> pd.DataFrame:
    """``share`` of the routed frames on which each block ran, ``ran`` of ``frames``, by level (falling) and block."""
    routed = routes[routes["reason"] == "routed"]
    table = routed.groupby(["level", "block"])["active"].agg(ran="sum", frames="size").reset_index()
    table = table.assign(ran=table["ran"].astype(int), share=table["ran"] / table["frames"])
    return table.sort_values(["level", "block"], ascending=[False, True], ignore_index=True)


def video_activation(study: Study, name: str) -> pd.DataFrame:
    """``activation`` of one video at the budget of the figures."""
    routes = study.evidence.routes
    return activation(routes[(routes["sequence"] == name) & (routes["level"] == study.budget)])


def quality_against_speed(study: Study) -> pd.DataFrame:
    """Every timed row of Table 9, the paper's and ours: speed over its own SAM2's, and J&F minus its own SAM2's, in points.

    Columns: ``source`` (``ours``, ``paper``), ``method``, ``level`` as written, ``speedup``, ``change``, ``low`` and ``high`` (of a
    paired difference, RDS's alone), ``quality``, ``fps``. SAM2 itself is the point (1, 0).
    """
    evidence, arms = study.evidence, set(study.evidence.speed["arm"])
    quality = study.scores.set_index(["method", "level"])["value"]
    reference = evidence.speed.set_index("arm").loc["SAM2", "fps"]
    paired = study.comparisons[study.comparisons["against"] == "SAM2"].set_index("level")
    rows = []
    for method, level in quality.index:
        if f"{method}_{level}" in arms:
            fps = evidence.fps(method, level)
        elif method in arms:
            fps = evidence.speed.set_index("arm").loc[method, "fps"]
        else:
            continue
        low, high = paired.loc[level, ["ci_low", "ci_high"]] if method == "RDS" else (np.nan, np.nan)
        rows.append(("ours", method, level_name(method, level), fps / reference, quality[method, level] - quality["SAM2", 1.0], low, high,
                     quality[method, level], fps))
    (theirs, *_, their_fps), = PAPER["SAM2"][1]
    for method, (levels, numbers) in PAPER.items():
        rows += [("paper", method, level, fps / their_fps, value - theirs, np.nan, np.nan, value, fps)
                 for level, (value, *_, fps) in zip(levels, numbers, strict=True)]
    return pd.DataFrame(rows, columns=["source", "method", "level", "speedup", "change", "low", "high", "quality", "fps"])


def quality_by_sequence(study: Study) -> pd.DataFrame:
    """J&F of every sequence in points under SAM2, the static plans and RDS at its lowest budget; SAM2's best sequence first."""
    level = study.evidence.budgets()[0]
    wanted = {"SAM2": ("SAM2", 1.0)} | {name: (name, level) for name in PLANS} | {f"RDS {level:g}": ("RDS", level)}
    present = set(zip(study.evidence.objects["method"], study.evidence.objects["level"]))
    table = pd.DataFrame({label: study.evidence.by_sequence(*arm) for label, arm in wanted.items() if arm in present})
    return table.rename_axis("sequence").sort_values(["SAM2", "sequence"], ascending=[False, True])


def block_states(run: Run, always_on: Sequence[int]) -> np.ndarray:
    """``SKIPPED``, ``CHOSEN`` or ``HAD_TO_RUN`` (K, and every block of a frame that is not routed), (T, L) uint8."""
    free = run.is_routed[:, None] & ~np.isin(np.arange(run.active.shape[1]), always_on)
    return np.where(run.active, np.where(free, CHOSEN, HAD_TO_RUN), SKIPPED).astype(np.uint8)


def error_map(labels: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """What became of every pixel: ``RIGHT``, ``ADDED`` (false positive), ``MISSED`` (false negative), ``SWAPPED`` (another object's).

    ``labels`` and ``truth`` are (H, W) object ids; 255 in ``truth``, not known, and background that was left alone give 0.
    """
    known, ours, theirs = truth != 255, labels > 0, truth > 0
    codes = np.select([labels == truth, ~theirs, ~ours], [RIGHT, ADDED, MISSED], SWAPPED)
    return np.where(known & (ours | theirs), codes, 0).astype(np.uint8)


def spread_frames(first: int, last: int, most: int) -> list[int]:
    """At most ``most`` frames from ``first`` to ``last``, both among them, evenly spread."""
    return np.unique(np.linspace(first, last, min(most, last - first + 1)).round().astype(int)).tolist()


def even_frames(length: int, most: int) -> list[int]:
    """At most ``most`` frames of a video of ``length``, from its first one on, at one distance."""
    return list(range(0, length, -(-length // most)))


def points(value: float) -> str:
    """J or J&F in [0, 1] as points, for labels; a dash where there is none."""
    return f"{100 * value:.0f}" if np.isfinite(value) else "–"
