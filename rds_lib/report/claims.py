"""The paper's claims as tests: what is measured, on what, and when a claim counts as reproduced.

A claim is reproduced where its whole interval, a bootstrap over sequences, lies on the claimed side.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from rds_lib.core.errors import RDSInputError
from rds_lib.evaluation.names import (
    ADAPTED,
    ADAPTERS,
    ONE_FOR_ALL,
    OWN_MEAN,
    PLACES,
    PLANS,
    RANDOM,
    RDS,
    SAM2,
    TOP_N,
)
from rds_lib.metrics.statistics import Interval
from rds_lib.report.evidence import (
    OFTEN,
    PAPER_FPS,
    PAPER_SAM2_FPS,
    Evidence,
    Measure,
    beyond_the_prefix,
    difference,
    extra_variation,
    frequency_against_importance,
    realisation,
    speed_at_equal_quality,
    speed_ratio,
    stable_core,
)

POINTS = "J&F points"
LONGER = "Longer training: profile mini gives each run half a minute."
REAL = "Longer training (profile mini gives each run half a minute), and the paper's model and data (profile paper)."
MACHINE = "The paper's GPUs (profile paper)."
VERDICTS = ("reproduced", "not reproduced", "not testable here")


@dataclass(frozen=True)
class Claim:
    """One claim: where the paper makes it, how it is tested, and the bounds that its whole interval must lie within."""

    key: str
    claim: str
    source: str
    test: str
    unit: str
    measure: Measure
    above: float = 0.0
    below: float = float("inf")
    settles: str = ""


def judge(claims, evidence: Evidence) -> pd.DataFrame:
    """One row per claim: ``key, claim, source, test, effect, unit, ci_low, ci_high, verdict, note``.

    A claim whose methods are not among the evidence is not testable here.
    """
    rows = []
    for claim in claims:
        try:
            found, note = claim.measure(evidence), claim.settles
        except LookupError as absent:
            found, note = Interval(float("nan")), f"no measurement of {absent.args[0]}. {claim.settles}".strip()
        rows.append({"key": claim.key, "claim": claim.claim, "source": claim.source, "test": claim.test,
                     "effect": found.effect, "unit": claim.unit, "ci_low": found.low, "ci_high": found.high,
                     "verdict": _verdict(claim, found), "note": note})
    return pd.DataFrame(rows).round(3)


def _verdict(claim, found):
    if np.isnan(found.effect):
        return VERDICTS[2]
    low, high = (found.effect if np.isnan(bound) else bound for bound in found[1:])
    return VERDICTS[0] if low > claim.above and high < claim.below else VERDICTS[1]


def the_claims(level: float = 0.4, middle: float = 0.6) -> list[Claim]:
    """The ledger. ``level`` is the budget at which the paper compares with static models of 24 blocks."""
    if not {level, middle} <= PAPER_FPS.keys():
        raise RDSInputError(f"levels {level} and {middle}; choose among the paper's {sorted(PAPER_FPS)}")
    return [*_quality(level, middle), *_rivals(level), *_routes(level), *_adapters(middle),
            *(Claim(f"speed {each}", f"RDS {each} is {PAPER_FPS[each] / PAPER_SAM2_FPS:.2f} times as fast as SAM2",
                    "Table 9", "our ratio over the paper's, at least 0.95", "ratio", speed_ratio(each), above=0.95,
                    settles=MACHINE) for each in sorted({0.8, middle, level}, reverse=True)),
            Claim("one for all", "one router per budget beats one router for all", "ours",
                  f"RDS minus one training for all budgets, at {middle}", POINTS,
                  difference(RDS, middle, ONE_FOR_ALL), settles=LONGER)]


def _quality(level, middle):
    return [
        Claim("quality", "RDS at 0.6 stays close to SAM2 (89.6 against 90.0)", "Table 9",
              f"RDS {middle} minus SAM2, at most 2 points lost", POINTS, difference(RDS, middle, SAM2, 1.0), above=-2.0,
              settles=REAL),
        *[Claim(plan, f"RDS beats static {plan}", "C.2, Figure 12", f"RDS minus {plan}, at {level}", POINTS,
                difference(RDS, level, plan), settles=REAL) for plan in PLANS.values()],
        Claim("static", "RDS beats the most important blocks as a static plan", "ours",
              f"RDS minus as many of the most important blocks, at {level}", POINTS, difference(RDS, level, TOP_N),
              settles=LONGER),
        Claim("random", "the router's choice beats chance", "ours", f"RDS minus random routes of its size, at {level}",
              POINTS, difference(RDS, level, RANDOM), settles=LONGER),
        Claim("frames", "quality comes from routes that follow the frame", "C.2, D.2",
              f"RDS minus its own mean route as a fixed plan, at {level}", POINTS,
              difference(RDS, level, OWN_MEAN), settles=REAL)]


def _rivals(level):
    return [
        Claim("pbd", "RDS beats block dropping with fine-tuning", "Table 9", f"RDS minus PBD, at {level}", POINTS,
              difference(RDS, level, "PBD"), settles=REAL),
        Claim("slimsam", "RDS beats channel pruning of equal work", "Table 9", f"RDS {level} minus SlimSAM 6/9", POINTS,
              difference(RDS, level, "SlimSAM", 0.667), settles=REAL),
        *[Claim(rival.lower(), f"RDS is faster than {rival} at equal quality", "Table 9",
                "speed of RDS's fastest budget that is as good, over the rival's; mean over the rival's levels that some "
                "budget equals", "ratio", speed_at_equal_quality(rival), above=1.0, settles=REAL)
          for rival in ("DyT", "AdaViT")],
        Claim("dense", "a router before every block costs the time that skipping saves", "Table 9",
              f"share of the skipped blocks' time that is saved, RDS minus AdaViT, at {level}", "share",
              realisation("AdaViT", level), settles=MACHINE),
        Claim("variation", "static plans vary more over sequences than RDS", "Figure 12",
              f"standard deviation of the loss against SAM2, plans A and B minus RDS, at {level}", POINTS,
              extra_variation(PLANS.values(), level), settles=REAL)]


def _routes(level):
    return [
        Claim("prefix", "the blocks that run are no contiguous prefix", "B.1",
              f"blocks that mostly run after one that mostly does not, at {level}", "blocks", beyond_the_prefix(level)),
        Claim("core", "a stable core stays active as the budget falls", "B.1, Figure 10",
              f"share of the lowest budget's core (on {OFTEN:.0%} of the frames) that is core at higher ones, minus chance",
              "share", stable_core),
        Claim("frequency", "how often a block runs and how important it is are related, but not the same", "B.1",
              "Spearman correlation above 0 and below 0.95", "correlation", frequency_against_importance, below=0.95)]


def _adapters(middle):
    return [
        *[Claim(f"placement, {kind}", f"I-LoRA beats as many parameters {PLACES[kind]}", "B.2",
                f"RDS minus {label}, at {middle}", POINTS, difference(RDS, middle, label), settles=REAL)
          for kind, label in ADAPTERS.items() if kind != "none"],
        Claim("adapters", "the adapters are needed at all", "B.2", f"RDS minus {ADAPTERS['none']}, at {middle}", POINTS,
              difference(RDS, middle, ADAPTERS["none"]), settles=LONGER),
        Claim("fine-tuning", "fine-tuning alone gains on this data (rows of Table 9 above 90.0)", "ours",
              "SAM2 + I-LoRA at full depth minus SAM2", POINTS, difference(ADAPTED, 1.0, SAM2), settles=LONGER)]


def as_page(table: pd.DataFrame, *, profile: str, dataset: str) -> str:
    """The ledger as Markdown."""
    counts = ", ".join(f"{(table['verdict'] == verdict).sum()} {verdict}" for verdict in VERDICTS)
    lines = ["# The paper's claims at this scale", "",
             f"Profile `{profile}`, data set `{dataset}`: {counts}.",
             "Intervals are 95 % bootstraps over sequences. A claim is reproduced if its whole interval lies on the "
             "claimed side.", "The stage `report` makes this page from tables; `rds_lib/report/claims.py` holds tests and bounds.", "",
             "| claim | where | test | effect | verdict | what would settle it |", "|---|---|---|---|---|---|"]
    for row in table.itertuples():
        interval = "" if np.isnan(row.ci_low) else f" ({row.ci_low:+.2f} to {row.ci_high:+.2f})"
        effect = "" if np.isnan(row.effect) else f"{row.effect:+.2f}{interval} {row.unit}"
        note = "" if row.verdict == VERDICTS[0] else row.note
        lines.append(f"| {row.claim} | {row.source} | {row.test} | {effect} | **{row.verdict}** | {note} |")
    return "\n".join(lines) + "\n"
