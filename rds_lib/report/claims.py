"""The paper's claims as tests: what is measured, on what, and when a claim counts as reproduced.

A claim is reproduced where its whole interval, a bootstrap over sequences, lies on the claimed side.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from rds_lib.core.errors import RDSInputError
from rds_lib.evaluation.names import ADAPTED, ADAPTERS, ONE_FOR_ALL, OWN_MEAN, PLACES, PLANS, RANDOM, RDS, SAM2, TOP_N
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
from rds_lib.report.markdown import table

POINTS = "J&F points"
QUALITY = "RDS at 0.6 stays close to SAM2 (89.6 against 90.0)"
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
        rows.append(
            {
                "key": claim.key,
                "claim": claim.claim,
                "source": claim.source,
                "test": claim.test,
                "effect": found.effect,
                "unit": claim.unit,
                "ci_low": found.low,
                "ci_high": found.high,
                "verdict": _verdict(claim, found),
                "note": note,
            }
        )
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
    speeds = [_speed(each) for each in sorted({0.8, middle, level}, reverse=True)]
    return [
        *_quality(level, middle),
        *_rivals(level),
        *_routes(level),
        *_adapters(middle),
        *speeds,
        _one_for_all(middle),
    ]


def _beats(key, claim, source, rival, at, settles, test="RDS minus {rival}, at {at}") -> Claim:
    """RDS's J&F is above a rival's at one level."""
    measure = difference(RDS, at, rival)
    return Claim(key, claim, source, test.format(rival=rival, at=at), POINTS, measure, settles=settles)


def _quality(level, middle):
    close = difference(RDS, middle, SAM2, 1.0)
    source, test = "Table 9", f"RDS {middle} minus SAM2, at most 2 points lost"
    yield Claim("quality", QUALITY, source, test, POINTS, close, above=-2.0, settles=REAL)
    for plan in PLANS.values():
        yield _beats(plan, f"RDS beats static {plan}", "C.2, Figure 12", plan, level, REAL)
    test = "RDS minus as many of the most important blocks, at {at}"
    yield _beats("static", "RDS beats the most important blocks as a static plan", "ours", TOP_N, level, LONGER, test)
    test = "RDS minus random routes of its size, at {at}"
    yield _beats("random", "the router's choice beats chance", "ours", RANDOM, level, LONGER, test)
    test = "RDS minus its own mean route as a fixed plan, at {at}"
    yield _beats("frames", "quality comes from routes that follow the frame", "C.2, D.2", OWN_MEAN, level, REAL, test)


def _rivals(level):
    source = "Table 9"
    yield _beats("pbd", "RDS beats block dropping with fine-tuning", source, "PBD", level, REAL)
    claim, test = "RDS beats channel pruning of equal work", f"RDS {level} minus SlimSAM 6/9"
    equal_work = difference(RDS, level, "SlimSAM", 0.667)
    yield Claim("slimsam", claim, source, test, POINTS, equal_work, settles=REAL)
    test = "speed of RDS's fastest budget that is as good, over the rival's; mean over levels that some budget equals"
    for rival in ("DyT", "AdaViT"):
        claim, measure = f"RDS is faster than {rival} at equal quality", speed_at_equal_quality(rival)
        yield Claim(rival.lower(), claim, source, test, "ratio", measure, above=1.0, settles=REAL)
    claim = "a router before every block costs the time that skipping saves"
    test = f"share of the skipped blocks' time that is saved, RDS minus AdaViT, at {level}"
    yield Claim("dense", claim, source, test, "share", realisation("AdaViT", level), settles=MACHINE)
    claim = "static plans vary more over sequences than RDS"
    test = f"standard deviation of the loss against SAM2, plans A and B minus RDS, at {level}"
    measure = extra_variation(PLANS.values(), level)
    yield Claim("variation", claim, "Figure 12", test, POINTS, measure, settles=REAL)


def _routes(level):
    claim = "the blocks that run are no contiguous prefix"
    test = f"blocks that mostly run after one that mostly does not, at {level}"
    yield Claim("prefix", claim, "B.1", test, "blocks", beyond_the_prefix(level))
    claim = "a stable core stays active as the budget falls"
    test = f"share of the lowest budget's core (on {OFTEN:.0%} of the frames) that is core at higher ones, minus chance"
    yield Claim("core", claim, "B.1, Figure 10", test, "share", stable_core)
    claim = "how often a block runs and how important it is are related, but not the same"
    test = "Spearman correlation above 0 and below 0.95"
    yield Claim("frequency", claim, "B.1", test, "correlation", frequency_against_importance, below=0.95)


def _adapters(middle):
    for kind, label in ADAPTERS.items():
        if kind != "none":
            claim = f"I-LoRA beats as many parameters {PLACES[kind]}"
            yield _beats(f"placement, {kind}", claim, "B.2", label, middle, REAL)
    yield _beats("adapters", "the adapters are needed at all", "B.2", ADAPTERS["none"], middle, LONGER)
    claim = "fine-tuning alone gains on this data (rows of Table 9 above 90.0)"
    test, measure = "SAM2 + I-LoRA at full depth minus SAM2", difference(ADAPTED, 1.0, SAM2)
    yield Claim("fine-tuning", claim, "ours", test, POINTS, measure, settles=LONGER)


def _speed(level):
    claim = f"RDS {level} is {PAPER_FPS[level] / PAPER_SAM2_FPS:.2f} times as fast as SAM2"
    test = "our ratio over the paper's, at least 0.95"
    return Claim(f"speed {level}", claim, "Table 9", test, "ratio", speed_ratio(level), above=0.95, settles=MACHINE)


def _one_for_all(middle):
    claim, test = "one router per budget beats one router for all", "RDS minus one training for all budgets, at {at}"
    return _beats("one for all", claim, "ours", ONE_FOR_ALL, middle, LONGER, test)


def as_page(ledger: pd.DataFrame, *, profile: str, dataset: str) -> str:
    """The ledger as Markdown."""
    counts = ", ".join(f"{(ledger['verdict'] == verdict).sum()} {verdict}" for verdict in VERDICTS)
    rows = [
        [row.claim, row.source, row.test, _effect(row), f"**{row.verdict}**", row.note * (row.verdict != VERDICTS[0])]
        for row in ledger.itertuples()
    ]
    heads = ["claim", "where", "test", "effect", "verdict", "what would settle it"]
    return f"""# The paper's claims at this scale

Profile `{profile}`, data set `{dataset}`: {counts}.
Intervals are 95 % bootstraps over sequences. A claim is reproduced if its whole interval lies on the claimed side.
The stage `report` makes this page from tables; `rds_lib/report/claims.py` holds the tests and their bounds.

{table(heads, rows)}
"""


def _effect(row):
    if np.isnan(row.effect):
        return ""
    interval = "" if np.isnan(row.ci_low) else f" ({row.ci_low:+.2f} to {row.ci_high:+.2f})"
    return f"{row.effect:+.2f}{interval} {row.unit}"
