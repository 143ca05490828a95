"""The claims ledger on evidence made by hand, for which each verdict is known."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from rds_lib.core.errors import RDSInputError
from rds_lib.metrics.statistics import Interval
from rds_lib.report.basis import ONE_TRAINING
from rds_lib.report.claims import the_claims
from rds_lib.report.evidence import (
    Evidence,
    beyond_the_prefix,
    difference,
    extra_variation,
    frequency_against_importance,
    relative_loss,
    stable_core,
)
from rds_lib.report.verdicts import CONTRADICTED, REPRODUCED, UNDECIDED, UNTESTED, Claim, as_page, judge, verdict_of

SEQUENCES = [f"s{n}" for n in range(8)]
DEPTH, FREE = 12, [1, 2, 4, 5, 6, 7, 8, 9, 10]


def arm(method, level, scores):
    return pd.DataFrame(
        {"sequence": SEQUENCES, "object": 1, "JF": np.asarray(scores) / 100, "method": method, "level": level}
    )


def routes(level, active):
    """The same blocks on every frame of every sequence, or a mapping of sequences to blocks."""
    rows = []
    for sequence in SEQUENCES:
        on = active[sequence] if isinstance(active, dict) else active
        rows += [
            (sequence, t, block, block in on, "routed" if t else "first_frame", level)
            for t in range(3)
            for block in range(DEPTH)
        ]
    return pd.DataFrame(rows, columns=["sequence", "frame_idx", "block", "active", "reason", "level"])


def evidence(*, objects=(), route_tables=(), global_score=None):
    importance = pd.DataFrame(
        {
            "block": range(DEPTH),
            "global_score": global_score or np.arange(DEPTH, dtype=float),
            "local_score": global_score or np.arange(DEPTH, dtype=float),
            "always_on": [i not in FREE for i in range(DEPTH)],
        }
    )
    return Evidence(
        pd.concat(objects or [arm("RDS", 0.4, [50] * 8)]),
        pd.concat(route_tables or [routes(0.4, FREE)]),
        importance,
        pd.DataFrame({"method": [], "level": []}),
        resamples=100,
    )


BASE = np.array([40, 45, 50, 55, 60, 65, 70, 75.0])


@pytest.mark.parametrize(
    "low, high, above, below, verdict",
    [
        (1, 3, 0, np.inf, REPRODUCED),
        (-1, 3, 0, np.inf, UNDECIDED),
        (-3, -1, 0, np.inf, CONTRADICTED),
        (-3, -1, -4, np.inf, REPRODUCED),
        (0.1, 0.9, 0, 0.95, REPRODUCED),
        (0.1, 0.99, 0, 0.95, UNDECIDED),
        (0.96, 0.99, 0, 0.95, CONTRADICTED),
        (0, 0, 0, np.inf, UNDECIDED),
        (np.nan, np.nan, 0, np.inf, UNDECIDED),
        (1, np.nan, 0, np.inf, UNDECIDED),
        (np.nan, -1, 0, np.inf, UNDECIDED),
    ],
)
def test_the_whole_interval_decides_and_nothing_is_decided_without_one(low, high, above, below, verdict):
    effect = np.nan_to_num((low + high) / 2, nan=2.0)
    assert verdict_of(Interval(effect, low, high), above=above, below=below) == verdict
    assert verdict_of(Interval(np.nan, low, high), above=above, below=below) == UNTESTED


def test_claims_are_judged_by_their_intervals():
    noise = np.array([3, -3, 2, -2, 1, -1, 4, -4.0])
    e = evidence(
        objects=[
            arm("RDS", 0.4, BASE),
            arm("worse", 0.4, BASE - 5 + noise),
            arm("alike", 0.4, BASE - 0.2 + noise),
            arm("SAM2", 1.0, BASE + 1),
        ]
    )
    worse, alike, full = (difference("RDS", 0.4, *other)(e) for other in (("worse",), ("alike",), ("SAM2", 1.0)))
    assert worse.effect == pytest.approx(5) and 2 < worse.low < 5 < worse.high
    assert alike.low < 0 < alike.effect < alike.high
    assert full == pytest.approx(Interval(-1, -1, -1))
    claims = [
        Claim(str(n), "c", "s", "t", "u", difference("RDS", 0.4, *other), above=above, settles="More.")
        for n, (other, above) in enumerate(
            [(("worse",), 0), (("alike",), 0), (("SAM2", 1.0), 0), (("SAM2", 1.0), -2), (("absent",), 0)]
        )
    ]
    ledger = judge(claims, e)
    assert ledger["verdict"].tolist() == [REPRODUCED, UNDECIDED, CONTRADICTED, REPRODUCED, UNTESTED]
    notes = ledger["note"].tolist()
    assert notes[:2] == ["", "More."] and "Settled" in notes[2] and notes[4] == "no measurement of absent. More."
    few = dataclasses.replace(e, objects=e.objects[e.objects["sequence"].isin(SEQUENCES[:5])])
    assert judge(claims, few)["verdict"].tolist() == [UNDECIDED] * 4 + [UNTESTED], "five videos decide nothing"


def test_objects_of_one_video_are_resampled_together():
    """Two videos: the interval runs from one video's difference to the other's, however many objects they have."""
    names = [f"s{n}" for n in range(6)]
    rows = [
        (name, i, method, 0.5 + 0.1 * (method == "RDS" and n < 3))
        for n, name in enumerate(names)
        for i in range(9)
        for method in ("RDS", "X")
    ]
    objects = pd.DataFrame(rows, columns=["sequence", "object", "method", "JF"]).assign(level=0.4)
    found = difference("RDS", 0.4, "X")(evidence(objects=[objects]))
    single = difference("RDS", 0.4, "X")(evidence(objects=[objects[objects["object"] == 0]]))
    assert found.effect == pytest.approx(5) and found == pytest.approx(single)


def test_a_loss_is_taken_in_percent_of_the_other():
    noise = np.array([3, -3, 2, -2, 1, -1, 4, -4.0])
    e = evidence(objects=[arm("RDS", 0.6, 0.98 * BASE + noise), arm("SAM2", 1.0, BASE)])
    found = relative_loss("RDS", 0.6, "SAM2", 1.0)(e)
    assert found.effect == pytest.approx(2) and found.low < 2 < found.high
    points = difference("RDS", 0.6, "SAM2", 1.0)(e)
    assert found.low == pytest.approx(-points.high / BASE.mean() * 100, rel=0.2)
    exact = evidence(objects=[arm("RDS", 0.6, 0.99 * BASE), arm("SAM2", 1.0, BASE)])
    assert relative_loss("RDS", 0.6, "SAM2", 1.0)(exact) == pytest.approx(Interval(1, 1, 1))
    with pytest.raises(LookupError, match="SAM2"):
        relative_loss("RDS", 0.6, "SAM2", 1.0)(evidence(objects=[arm("RDS", 0.6, BASE)]))


def test_plans_that_swing_from_video_to_video_vary_more():
    swing = np.array([8, -8] * 4)
    e = evidence(
        objects=[
            arm("SAM2", 1.0, BASE),
            arm("RDS", 0.4, BASE - 2),
            arm("plan", 0.4, BASE + swing),
            arm("calm", 0.4, BASE - 9),
        ]
    )
    assert extra_variation(("plan",), 0.4)(e).low > 0
    assert extra_variation(("calm",), 0.4)(e).effect == pytest.approx(0), (
        "a loss that is large and the same everywhere is no variation"
    )
    assert (
        extra_variation(("calm",), 0.4)(
            evidence(objects=[arm("SAM2", 1.0, BASE), arm("RDS", 0.4, BASE + swing), arm("calm", 0.4, BASE)])
        ).high
        < 0
    )
    assert extra_variation(("plan", "calm"), 0.4)(e).effect == pytest.approx(
        extra_variation(("plan",), 0.4)(e).effect / 2
    )


@pytest.mark.parametrize("active, beyond", [([1, 2, 4], 0), (FREE, 0), ([1, 2, 9, 10], 2), ([2, 4], 2)])
def test_blocks_beyond_the_prefix_are_counted_among_those_that_may_be_skipped(active, beyond):
    assert beyond_the_prefix(0.4)(evidence(route_tables=[routes(0.4, active)])) == (beyond, beyond, beyond)


def test_only_routed_frames_count():
    table = routes(0.4, [1, 2])
    table.loc[table["frame_idx"] < 2, "reason"] = "prompted"
    table.loc[(table["frame_idx"] < 2) & (table["block"] == 9), "active"] = True
    assert beyond_the_prefix(0.4)(evidence(route_tables=[table])).effect == 0


def test_a_core_that_stays_is_told_from_one_that_is_exchanged():
    def core(low, high):
        return stable_core(
            evidence(
                objects=[arm("RDS", level, BASE) for level in (0.4, 0.8)],
                route_tables=[routes(0.4, low), routes(0.8, high)],
            )
        )

    assert core([1, 2], [1, 2, 4, 5]).effect == pytest.approx(1 - 4 / 9)
    assert core([9, 10], [1, 2, 4, 5]).effect == pytest.approx(-4 / 9)
    assert core([1, 2], FREE).effect == 0, "where everything runs a core cannot be told"
    with pytest.raises(LookupError, match="second budget"):
        stable_core(evidence())


def test_frequency_and_importance_are_correlated_over_blocks_outside_k():
    frequent = {
        name: [b for b in FREE if b >= 1 + n] for n, name in enumerate(SEQUENCES)
    }  # later blocks run more often
    same = frequency_against_importance(evidence(route_tables=[routes(0.4, frequent)]))
    assert same.effect > 0.95
    reverse = frequency_against_importance(
        evidence(route_tables=[routes(0.4, frequent)], global_score=[float(-i) for i in range(DEPTH)])
    )
    assert reverse.effect == pytest.approx(-same.effect)


def test_the_ledger_holds_every_claim_and_says_what_is_missing():
    table = judge(the_claims(), evidence(objects=[arm("RDS", 0.4, BASE), arm("random routes", 0.4, BASE - 3)]))
    assert table["key"].is_unique and set(table["verdict"]) <= {REPRODUCED, CONTRADICTED, UNDECIDED, UNTESTED}
    found = table.set_index("key")
    assert found.loc["random", "verdict"] == REPRODUCED
    for key in ("pbd", "quality", "headline, speed", "headline, loss", "Table 8, quality", "Table 8, speed"):
        assert found.loc[key, "verdict"] == UNTESTED
    page = as_page(table, profile="mini", dataset="toy")
    assert page.count("\n| ") == len(table) + 2 and "**reproduced**" in page and "no measurement of PBD" in page
    assert "no measurement of DINOv3 + RDS" in found.loc["Table 8, quality", "note"]
    with pytest.raises(RDSInputError, match="0.45"):
        the_claims(level=0.45)


def test_no_claim_blames_what_was_not_isolated():
    told = [*(claim.settles for claim in the_claims()), *(claim.claim + claim.test for claim in the_claims())]
    assert not [text for text in told if "onger training" in text or "half a minute" in text]


def test_table_8_is_judged_once_a_second_backbone_is_measured():
    e = evidence(objects=[arm("DINOv3 + RDS", 0.6, BASE + 0.5), arm("DINOv3", 1.0, BASE)])
    assert judge(the_claims(), e).set_index("key").loc["Table 8, quality", "verdict"] == REPRODUCED


def test_every_comparison_says_how_many_trainings_it_rests_on():
    noise = np.array([3, -3, 2, -2, 1, -1, 4, -4.0])
    rivals = [arm("random routes", 0.4, BASE - 9), arm("PBD", 0.4, BASE - 1), arm("SAM2", 1.0, BASE)]
    once = evidence(objects=[arm("RDS", 0.4, BASE), arm("RDS", 0.6, BASE), *rivals])
    table = judge(the_claims(), once).set_index("key")
    for key in ("random", "pbd", "quality", "headline, loss"):
        assert table.loc[key, "rests_on"] == ONE_TRAINING, key
    assert ONE_TRAINING in as_page(table.reset_index(), profile="mini", dataset="toy")
    thrice = [arm("RDS", 0.4, BASE + move + noise).assign(seed=seed) for seed, move in enumerate((-2, 0, 2))]
    found = judge(the_claims(), evidence(objects=[*thrice, *rivals])).set_index("key")
    assert found.loc["random", "rests_on"] == "3 trainings each, in the interval"
    alone = judge(the_claims(), evidence(objects=[thrice[1].drop(columns="seed"), *rivals])).set_index("key")
    widths = [table.loc["random", "ci_high"] - table.loc["random", "ci_low"] for table in (found, alone)]
    assert widths[0] > 1.2 * widths[1]


def test_the_work_of_rivals_stands_beside_their_claim():
    gmacs = pd.Series({("RDS", 0.4): 0.206, ("SlimSAM", 0.667): 0.174})
    e = evidence(objects=[arm("RDS", 0.4, BASE), arm("SlimSAM", 0.667, BASE)])
    told = judge(the_claims(), dataclasses.replace(e, gmacs=gmacs)).set_index("key").loc["slimsam", "rests_on"]
    assert told == f"RDS 0.206, SlimSAM 0.174 GMACs a frame; {ONE_TRAINING}"


def test_the_same_evidence_gives_the_same_ledger():
    e = evidence(objects=[arm("RDS", 0.4, BASE), arm("random routes", 0.4, BASE[::-1].copy())])
    assert judge(the_claims(), e).equals(judge(the_claims(), e))
