"""How a claim is judged: what it says, what is measured, and what counts as reproduced.

A claim is reproduced where its whole interval lies on the claimed side of its bound, contradicted where the whole
interval lies on the other side, and undecided otherwise. What has no interval is undecided, whatever its effect.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from rds_lib.metrics.statistics import Interval
from rds_lib.report.basis import Basis, always
from rds_lib.report.evidence import Evidence, Measure
from rds_lib.report.markdown import table

VERDICTS = REPRODUCED, CONTRADICTED, UNDECIDED, UNTESTED = (
    "reproduced",
    "contradicted",
    "undecided",
    "not testable here",
)
HERE = "Settled for this base, these clips and these trainings."


@dataclass(frozen=True)
class Claim:
    """One claim: where the paper makes it, how it is tested, and the bounds that its whole interval must lie within.

    ``rests_on`` tells what the evidence is beside the interval; ``settles`` what would decide it.
    """

    key: str
    claim: str
    source: str
    test: str
    unit: str
    measure: Measure
    above: float = 0.0
    below: float = float("inf")
    settles: str = ""
    rests_on: Basis = always("")


def judge(claims, evidence: Evidence) -> pd.DataFrame:
    """One row per claim: ``key, claim, source, test, effect, unit, ci_low, ci_high, verdict, rests_on, note``.

    A claim whose methods are not among the evidence is not testable here. ``note`` says what would settle it.
    """
    return pd.DataFrame([_row(claim, *_found(claim, evidence)) for claim in claims]).round(3)


def _found(claim, evidence):
    try:
        found = claim.measure(evidence)
    except LookupError as absent:
        return Interval(float("nan")), "", f"no measurement of {absent.args[0]}"
    try:
        return found, claim.rests_on(evidence), ""
    except LookupError:
        return found, "", ""


def _row(claim, found, rests_on, lacking) -> dict:
    verdict = verdict_of(found, above=claim.above, below=claim.below)
    settles = {REPRODUCED: "", CONTRADICTED: HERE}.get(verdict, claim.settles)
    return {
        "key": claim.key,
        "claim": claim.claim,
        "source": claim.source,
        "test": claim.test,
        "effect": found.effect,
        "unit": claim.unit,
        "ci_low": found.low,
        "ci_high": found.high,
        "verdict": verdict,
        "rests_on": rests_on,
        "note": ". ".join(filter(None, (lacking, settles))),
    }


def verdict_of(found: Interval, *, above: float, below: float) -> str:
    """The word for an effect that is claimed to lie between two bounds: one of `VERDICTS`."""
    if np.isnan(found.effect):
        return UNTESTED
    if np.isnan(found.low) or np.isnan(found.high):
        return UNDECIDED
    if found.low > above and found.high < below:
        return REPRODUCED
    return CONTRADICTED if found.high < above or found.low > below else UNDECIDED


def as_page(ledger: pd.DataFrame, *, profile: str, dataset: str) -> str:
    """The ledger as Markdown."""
    counts = ", ".join(f"{(ledger['verdict'] == verdict).sum()} {verdict}" for verdict in VERDICTS)
    rows = [
        [row.claim, row.source, row.test, shown(row), f"**{row.verdict}**", row.rests_on, row.note]
        for row in ledger.fillna({"rests_on": "", "note": ""}).itertuples()
    ]
    heads = ["claim", "where", "test", "effect", "verdict", "rests on", "what would settle it"]
    return f"""# The paper's claims at this scale

Profile `{profile}`, data set `{dataset}`: {counts}.

- Reproduced: the whole interval lies on the claimed side of the bound. Contradicted: the whole interval lies on the
  other side. Undecided: it holds the bound, or there is none.
- Intervals are 95 %: of quality over videos, and over trainings where there are several; of speed over the timed frames
  of one run. Between runs on one machine ratios of speeds move as well.
- Speeds are over SAM2's in the same run. Bounds that the paper does not state are ours, and some tests were changed
  after first results had been seen: the history of `rds_lib/report/claims.py` has each change with its reason.

{table(heads, rows)}
"""


def shown(row) -> str:
    """An effect with its interval and unit, as text; empty where nothing was measured."""
    if np.isnan(row.effect):
        return ""
    sign = "" if row.unit.startswith("times") else "+"
    effect, low, high = (format(value, f"{sign}.2f") for value in (row.effect, row.ci_low, row.ci_high))
    return f"{effect}{'' if np.isnan(row.ci_low) else f' ({low} to {high})'} {row.unit}"
