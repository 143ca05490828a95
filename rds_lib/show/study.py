"""What the paper's figures are drawn from, pictures and pages alike: one profile's products as tables."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from rds_lib.evaluation.names import PLANS
from rds_lib.evaluation.recordings import Recording, Run
from rds_lib.model.shape import EncoderShape
from rds_lib.report.evidence import Evidence
from rds_lib.report.paper import PAPER
from rds_lib.report.table9 import level_name
from rds_lib.show.style import ADDED, CHOSEN, HAD_TO_RUN, MISSED, RIGHT, SKIPPED, SWAPPED

SOURCES = {"ours": "ours", "paper": "the paper's"}  # of quality_against_speed, as titles


@dataclass(frozen=True, kw_only=True)
class VideoStudy:
    """What the figures of single videos are drawn from: videos of a set with the runs of SAM2 and of RDS on them."""

    profile: str
    dataset: str
    shape: EncoderShape
    budget: float
    recordings: dict[str, Recording]
    weights: tuple[str, ...] = ()  # files of those that tracked, where no stage of a pipeline did
    cautions: Mapping[str, str] = field(default_factory=dict)  # by video: a sentence that its captions end with
    page_bytes: int | None = None  # of a page that steps through a video, where it may have more than the pipeline's

    def run(self, name: str) -> Run:
        """What RDS left behind on a video, at the budget of the figures."""
        return self.recordings[name].run_at("RDS", self.budget)


@dataclass(frozen=True, kw_only=True)
class Study(VideoStudy):
    """One profile's products on its first DAVIS-shaped data set, and the videos that are shown of it."""

    videos: tuple[str, ...]
    compared: tuple[str, ...]
    inspected: tuple[str, ...]
    story: str  # the video of the picture that tells the project
    scores: pd.DataFrame
    comparisons: pd.DataFrame
    evidence: Evidence

    @property
    def importance(self) -> pd.DataFrame:
        """A row per block: both importances, whether it is in K, whether it is adapted."""
        return self.evidence.importance

    @property
    def length(self) -> int:
        """Number of videos in the data set."""
        return self.evidence.objects["sequence"].nunique()


def activation(routes: pd.DataFrame) -> pd.DataFrame:
    """``share`` of the routed frames on which each block ran, ``ran`` of ``frames``, by level (falling) and block."""
    routed = routes[routes["reason"] == "routed"]
    table = routed.groupby(["level", "block"])["active"].agg(ran="sum", frames="size").reset_index()
    table = table.assign(ran=table["ran"].astype(int), share=table["ran"] / table["frames"])
    return table.sort_values(["level", "block"], ascending=[False, True], ignore_index=True)


def video_activation(study: VideoStudy, name: str) -> pd.DataFrame:
    """``activation`` of one video at the budget of the figures; shares are 0 where none of its frames was routed."""
    run = study.run(name)
    routed = run.active[run.is_routed]
    ran = routed.sum(0)
    about = {"level": study.budget, "block": np.arange(study.shape.depth), "ran": ran, "frames": len(routed)}
    return pd.DataFrame(about | {"share": ran / max(len(routed), 1)})


def speed(evidence: Evidence, method: str, level: float) -> float:
    """Frames a second at the blocks that a method runs on these videos; NaN where it was not timed."""
    try:
        return evidence.fps(method, level)
    except LookupError:
        return np.nan


def quality_against_speed(study: Study) -> pd.DataFrame:
    """Every timed row of Table 9, the paper's and ours: speed over its own SAM2's, J&F minus its own SAM2's in points.

    Columns: ``source`` (of ``SOURCES``), ``method``, ``level`` as written, ``speedup``, ``change``, ``low`` and
    ``high`` (of RDS's paired difference), ``quality``, ``fps``. SAM2 itself is the point (1, 0).
    """
    quality = study.scores.set_index(["method", "level"])["value"]
    paired = study.comparisons[study.comparisons["against"] == "SAM2"].set_index("level")
    timed = {arm: fps for arm in quality.index if np.isfinite(fps := speed(study.evidence, *arm))}
    reference, rows = timed["SAM2", 1.0], []
    for (method, level), fps in timed.items():
        low, high = paired.loc[level, ["ci_low", "ci_high"]] if method == "RDS" else (np.nan, np.nan)
        value = quality[method, level]
        rows.append(
            (
                "ours",
                method,
                level_name(method, level),
                fps / reference,
                value - quality["SAM2", 1.0],
                low,
                high,
                value,
                fps,
            )
        )
    ((theirs, *_, their_fps),) = PAPER["SAM2"][1]
    for method, (levels, numbers) in PAPER.items():
        rows += [
            ("paper", method, level, fps / their_fps, value - theirs, np.nan, np.nan, value, fps)
            for level, (value, *_, fps) in zip(levels, numbers, strict=True)
        ]
    names = ["source", "method", "level", "speedup", "change", "low", "high", "quality", "fps"]
    return pd.DataFrame(rows, columns=names)


def quality_by_sequence(study: Study) -> pd.DataFrame:
    """J&F of every sequence in points under SAM2, the static plans and RDS at its lowest budget; SAM2's best first."""
    level = study.evidence.budgets()[0]
    arms = [("SAM2", 1.0), *((name, level) for name in PLANS.values()), ("RDS", level)]
    present = set(zip(study.evidence.objects["method"], study.evidence.objects["level"]))
    table = pd.DataFrame({arm[0]: study.evidence.by_sequence(*arm) for arm in arms if arm in present})
    return table.rename_axis("sequence").sort_values(["SAM2", "sequence"], ascending=[False, True])


def plan_name(method: str, level: float) -> str:
    """What a column of ``quality_by_sequence`` is called in a legend."""
    return f"RDS {level:g}" if method == "RDS" else f"static {method}" if method in PLANS.values() else method


def spread_of(table: pd.DataFrame, method: str) -> str:
    """How far J&F swings over the sequences of ``quality_by_sequence``, and how far its difference to SAM2 does."""
    loss = table[method] - table["SAM2"]
    return f"std {table[method].std():.1f}" + (f", of the difference {loss.std():.1f}" if method != "SAM2" else "")


def block_states(run: Run, shape: EncoderShape) -> np.ndarray:
    """``SKIPPED``, ``CHOSEN`` or ``HAD_TO_RUN`` (K, and every block of a frame that is not routed), (T, L) uint8."""
    free = run.is_routed[:, None] & ~np.isin(np.arange(shape.depth), shape.always_on)
    return np.where(run.active, np.where(free, CHOSEN, HAD_TO_RUN), SKIPPED).astype(np.uint8)


def error_map(labels: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Sort every pixel: ``RIGHT``, ``ADDED`` (false positive), ``MISSED`` (false negative), ``SWAPPED`` (wrong object).

    ``labels`` and ``truth`` are (H, W) object ids. Agreed background, and 255 in ``truth`` (not annotated), give 0.
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
