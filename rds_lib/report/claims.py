"""The paper's claims as tests: what is measured, on what, and when a claim counts as reproduced.

A claim is reproduced where its whole interval, a bootstrap over sequences, lies on the claimed side. Everything is computed from
the tables of the stages importance, evaluation and benchmark.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from rds_lib.core.errors import RDSInputError
from rds_lib.evaluation.controls import ADAPTERS
from rds_lib.metrics.statistics import Interval
from rds_lib.report.evidence import (
    OFTEN,
    PAPER_FPS,
    PAPER_SAM2_FPS,
    Evidence,
    beyond_the_prefix,
    difference,
    extra_variation,
    frequency_against_importance,
    realisation,
    speed_at_equal_quality,
    speed_ratio,
    stable_core,
)

LONGER = "Longer training: profile mini gives each run half a minute."
REAL = "Longer training (profile mini gives each run half a minute), and the paper's model and data (profile paper)."
MACHINE = "The paper's GPUs (profile paper)."
VERDICTS = ("reproduced", "not reproduced", "not testable here")


@dataclass(frozen=True)
class Claim:
    """One claim: where the paper makes it, how it is tested, and the effect's bounds within which its interval must lie."""

    key: str
    claim: str
    source: str
    test: str
    unit: str
    measure: Callable[[Evidence], Interval]
    above: float = 0.0
    below: float = float("inf")
    settles: str = ""


def judge(claims, evidence: Evidence) -> pd.DataFrame:
    """One row per claim: ``claim, source, test, effect, unit, ci_low, ci_high, verdict, note``.

    A claim whose methods are not among the evidence is not testable here.
    """
    rows = []
    for claim in claims:
        try:
            finding, note = claim.measure(evidence), claim.settles
        except LookupError as absent:
            finding, note = Interval(float("nan")), f"no measurement of {absent.args[0]}. {claim.settles}".strip()
        low, high = (finding.effect if np.isnan(bound) else bound for bound in finding[1:])
        verdict = VERDICTS[2] if np.isnan(finding.effect) else VERDICTS[0] if low > claim.above and high < claim.below else VERDICTS[1]
        rows.append({"key": claim.key, "claim": claim.claim, "source": claim.source, "test": claim.test, "effect": finding.effect,
                     "unit": claim.unit, "ci_low": finding.low, "ci_high": finding.high, "verdict": verdict, "note": note})
    return pd.DataFrame(rows).round(3)


def the_claims(level: float = 0.4, middle: float = 0.6) -> list[Claim]:
    """The ledger. ``level`` is the budget at which the paper compares with static models of 24 blocks."""
    if not {level, middle} <= PAPER_FPS.keys():
        raise RDSInputError(f"levels {level} and {middle}; choose among the paper's {sorted(PAPER_FPS)}")
    points = "J&F points"
    return [
        Claim("quality", "RDS at 0.6 stays close to SAM2 (89.6 against 90.0)", "Table 9", f"RDS {middle} minus SAM2, at most 2 points lost",
              points, difference("RDS", middle, "SAM2", 1.0), above=-2.0, settles=REAL),
        *[Claim(f"plan {name}", f"RDS beats static plan {name}", "C.2, Figure 12", f"RDS minus plan {name}, at {level}",
                points, difference("RDS", level, f"plan {name}"), settles=REAL) for name in ("A", "B")],
        Claim("static", "RDS beats the most important blocks as a static plan", "ours", f"RDS minus these, as many as it runs, at {level}",
              points, difference("RDS", level, "static top-n"), settles=LONGER),
        Claim("random", "what the router chooses is better than chance", "ours", f"RDS minus random routes of its size, at {level}",
              points, difference("RDS", level, "random routes"), settles=LONGER),
        Claim("frames", "routes follow the frame, and that is what gives the quality", "C.2, D.2", f"RDS minus its own mean route as a fixed plan, at {level}",
              points, difference("RDS", level, "own mean w"), settles=REAL),
        Claim("pbd", "RDS beats block dropping with fine-tuning", "Table 9", f"RDS minus PBD, at {level}", points, difference("RDS", level, "PBD"), settles=REAL),
        Claim("slimsam", "RDS beats channel pruning of equal work", "Table 9", f"RDS {level} minus SlimSAM 6/9", points, difference("RDS", level, "SlimSAM", 0.667), settles=REAL),
        *[Claim(rival.lower(), f"RDS is faster than {rival} at equal quality", "Table 9",
                "speed of RDS's fastest budget that is as good as the rival, over the rival's; mean over its levels that a budget equals", "ratio",
                speed_at_equal_quality(rival), above=1.0, settles=REAL) for rival in ("DyT", "AdaViT")],
        Claim("dense", "a router before every block costs the time that skipping saves", "Table 9",
              f"share of the skipped blocks' time that is saved, RDS minus AdaViT, at {level}", "share", realisation("AdaViT", level), settles=MACHINE),
        Claim("variation", "static plans vary more over sequences than RDS", "Figure 12", f"standard deviation of the loss against SAM2, plans A and B minus RDS, at {level}",
              points, extra_variation(("plan A", "plan B"), level), settles=REAL),
        Claim("prefix", "the blocks that run are no contiguous prefix", "B.1", f"blocks that mostly run after one that mostly does not, at {level}", "blocks", beyond_the_prefix(level)),
        Claim("core", "a stable core stays active as the budget falls", "B.1, Figure 10", f"share of the lowest budget's core (on {OFTEN:.0%} of the frames) that is core at higher ones, minus chance",
              "share", stable_core),
        Claim("frequency", "how often a block runs and how important it is are related, and not the same", "B.1", "Spearman correlation above 0 and below 0.95",
              "correlation", frequency_against_importance, below=0.95),
        *[Claim(f"placement, {kind}", f"I-LoRA beats as many parameters {label.removeprefix('RDS, adapters ')}", "B.2",
                f"RDS minus {label}, at {middle}", points, difference("RDS", middle, label), settles=REAL)
          for kind, label in ADAPTERS.items() if kind != "none"],
        Claim("adapters", "the adapters are needed at all", "B.2", f"RDS minus {ADAPTERS['none']}, at {middle}", points,
              difference("RDS", middle, ADAPTERS["none"]), settles=LONGER),
        Claim("fine-tuning", "fine-tuning alone gains on this data (rows of Table 9 above 90.0)", "ours", "SAM2 + I-LoRA at full depth minus SAM2", points,
              difference("SAM2 + I-LoRA", 1.0, "SAM2"), settles=LONGER),
        *[Claim(f"speed {each}", f"RDS {each} is {PAPER_FPS[each] / PAPER_SAM2_FPS:.2f} times as fast as SAM2", "Table 9", "our ratio over the paper's, at least 0.95",
                "ratio", speed_ratio(each), above=0.95, settles=MACHINE) for each in sorted({0.8, middle, level}, reverse=True)],
        Claim("one for all", "one router per budget beats one that serves all", "ours", f"RDS minus one training for all budgets, at {middle}", points,
              difference("RDS", middle, "RDS, one for all"), settles=LONGER),
    ]


def as_page(table: pd.DataFrame, *, profile: str, dataset: str) -> str:
    """The ledger as Markdown."""
    counts = ", ".join(f"{(table['verdict'] == verdict).sum()} {verdict}" for verdict in VERDICTS)
    lines = ["# The paper's claims at this scale", "",
             f"Profile `{profile}`, data set `{dataset}`: {counts}. Made by the stage `report` from the tables of the stages before it; tests and bounds stand in `rds_lib/report/claims.py`.",
             "An effect's interval is a 95 % bootstrap over sequences; a claim is reproduced where the whole interval lies on the claimed side.", "",
             "| claim | where | test | effect | verdict | what would settle it |", "|---|---|---|---|---|---|"]
    for row in table.itertuples():
        interval = "" if np.isnan(row.ci_low) else f" ({row.ci_low:+.2f} to {row.ci_high:+.2f})"
        effect = "" if np.isnan(row.effect) else f"{row.effect:+.2f}{interval} {row.unit}"
        note = "" if row.verdict == VERDICTS[0] else row.note
        lines.append(f"| {row.claim} | {row.source} | {row.test} | {effect} | **{row.verdict}** | {note} |")
    return "\n".join(lines) + "\n"
