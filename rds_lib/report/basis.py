"""What a verdict rests on, in words made from the evidence: trainings, timed frames, levels, work."""

from collections.abc import Callable
from contextlib import suppress

from rds_lib.metrics.statistics import matched
from rds_lib.report.evidence import Evidence
from rds_lib.report.speeds import levels_compared

Basis = Callable[[Evidence], str]  # LookupError where there is nothing to tell
ONE_TRAINING = "one training each; what another seed would change is not in the interval"


def together(*parts: Basis) -> Basis:
    """Several things that a verdict rests on; what cannot be told is left out."""

    def tell(evidence):
        told = []
        for part in parts:
            with suppress(LookupError):
                told.append(part(evidence))
        return "; ".join(filter(None, told))

    return tell


def always(text: str) -> Basis:
    """A remark that no evidence changes."""
    return lambda evidence: text


def trainings(method: str, level: float, other: str, other_level: float | None = None) -> Basis:
    """How many trainings of two arms are compared."""

    def tell(evidence):
        arms = (method, level), (other, level if other_level is None else other_level)
        number = max(table.shape[1] for table in matched(evidence.objects, *arms))
        return ONE_TRAINING if number == 1 else f"{number} trainings each, in the interval"

    return tell


def averaged(*methods: str) -> Basis:
    """How many trainings of methods are averaged where only sequences are resampled."""

    def tell(evidence):
        rows = evidence.objects[evidence.objects["method"].isin(methods)]
        number = rows.groupby(["method", "level"])["seed"].nunique().max() if "seed" in rows else 1
        return ONE_TRAINING if number < 2 else f"{number} trainings each, averaged: the interval does not hold them"

    return tell


def work(*arms: tuple[str, float]) -> Basis:
    """GMACs a frame that arms really spend."""

    def tell(evidence):
        return ", ".join(f"{arm[0]} {evidence.gmacs[arm]:.3f}" for arm in arms) + " GMACs a frame"

    return tell


def timed_frames(evidence: Evidence) -> str:
    """How many frames a speed comes from."""
    if evidence.frames.empty:
        return "no times of single frames, so no interval"
    count = evidence.frames.groupby(["method", "level"]).size().iloc[0]
    clips = evidence.frames["clip"].nunique() if "clip" in evidence.frames else 1
    return f"{count} timed frames of {'one clip' if clips == 1 else f'{clips} clips'}, one run"


def equal_levels(rival: str) -> Basis:
    """How many of a rival's levels enter a comparison at equal quality."""

    def tell(evidence):
        reached, known = levels_compared(rival, evidence)
        return f"{reached} of {rival}'s {known} levels: no budget is as good as the others" if reached < known else ""

    return tell


def blocks_left(*arms: tuple[str, float]) -> Basis:
    """Blocks that arms ran on the timed clip."""

    def tell(evidence):
        ran = [f"{method} {evidence.timed(method, level)['active_blocks']:.1f}" for method, level in arms]
        return f"blocks on the timed clip: {', '.join(ran)}"

    return tell
