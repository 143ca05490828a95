"""The claims ledger on evidence made by hand, for which each verdict is known."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from rds_lib.core.errors import RDSInputError
from rds_lib.metrics.statistics import Interval
from rds_lib.report.claims import VERDICTS, Claim, as_page, judge, the_claims
from rds_lib.report.evidence import (
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


def evidence(*, objects=(), route_tables=(), speed=None, global_score=None):
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
        pd.DataFrame({"method": ["full", "RDS"], "level": [1.0, 0.4], "speedup": speed or [1.0, 1.5]}),
        resamples=300,
    )


BASE = np.array([40, 45, 50, 55, 60, 65, 70, 75.0])


def test_a_difference_is_reproduced_only_where_the_whole_interval_is_on_its_side():
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
        Claim(str(n), "c", "s", "t", "u", difference("RDS", 0.4, *other), above=above)
        for n, (other, above) in enumerate(
            [(("worse",), 0), (("alike",), 0), (("SAM2", 1.0), 0), (("SAM2", 1.0), -2), (("absent",), 0)]
        )
    ]
    assert judge(claims, e)["verdict"].tolist() == [VERDICTS[0], VERDICTS[1], VERDICTS[1], VERDICTS[0], VERDICTS[2]]
    assert "absent" in judge(claims, e)["note"].iloc[-1]
    narrow = Claim("n", "c", "s", "t", "u", difference("RDS", 0.4, "worse"), below=5.5)
    assert judge([narrow], e)["verdict"].tolist() == ["not reproduced"], "its interval goes beyond the upper bound"


def test_objects_of_one_video_are_resampled_together():
    """Two videos: the interval runs from one video's difference to the other's, however many objects they have."""
    rows = (
        [("a", i, "RDS", 0.60) for i in range(9)]
        + [("b", 1, "RDS", 0.50)]
        + [("a", i, "X", 0.50) for i in range(9)]
        + [("b", 1, "X", 0.50)]
    )
    objects = pd.DataFrame(rows, columns=["sequence", "object", "method", "JF"]).assign(level=0.4)
    found = difference("RDS", 0.4, "X")(evidence(objects=[objects]))
    assert found.effect == pytest.approx(9) and found.low == pytest.approx(0) and found.high == pytest.approx(10)


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


def test_speed_is_compared_with_the_papers_ratio():
    assert speed_ratio(0.4)(evidence()).effect == pytest.approx(1.5 / (46.5 / 29.8))
    fast, slow = (
        judge([Claim("x", "c", "s", "t", "u", speed_ratio(0.4), above=0.95)], evidence(speed=[1.0, value]))
        for value in (1.5, 1.4)
    )
    assert (fast["verdict"][0], slow["verdict"][0]) == VERDICTS[:2]
    with pytest.raises(LookupError):
        speed_ratio(0.6)(evidence())


def test_the_ledger_holds_every_claim_and_says_what_is_missing():
    table = judge(the_claims(), evidence(objects=[arm("RDS", 0.4, BASE), arm("random routes", 0.4, BASE - 3)]))
    assert table["key"].is_unique and set(table["verdict"]) <= set(VERDICTS)
    verdicts = table.set_index("key")["verdict"]
    assert verdicts["random"] == "reproduced" and verdicts["pbd"] == verdicts["quality"] == "not testable here"
    page = as_page(table, profile="mini", dataset="toy")
    assert page.count("\n| ") == len(table) + 2 and "**reproduced**" in page and "no measurement of PBD" in page
    with pytest.raises(RDSInputError, match="0.45"):
        the_claims(level=0.45)


def test_the_same_evidence_gives_the_same_ledger():
    e = evidence(objects=[arm("RDS", 0.4, BASE), arm("random routes", 0.4, BASE[::-1].copy())])
    assert judge(the_claims(), e).equals(judge(the_claims(), e))


def quick(fps, eta=None, active=None):
    """The benchmark's table from frames a second by (method, level)."""
    return pd.DataFrame(
        {
            "method": [method for method, _ in fps],
            "level": [level for _, level in fps],
            "fps": list(fps.values()),
            "frame_ms": [1e3 / value for value in fps.values()],
            "active_blocks": [(active or {}).get(arm, 48.0) for arm in fps],
            "eta": [(eta or {}).get(arm, np.nan) for arm in fps],
        }
    )


FULL = ("full", 1.0)


def test_speed_at_equal_quality_takes_the_fastest_budget_that_is_as_good():
    fps = {FULL: 10.0, ("RDS", 0.8): 12.0, ("RDS", 0.4): 20.0, ("DyT", 0.8): 6.0, ("DyT", 0.4): 8.0}
    e = evidence(
        objects=[arm("RDS", 0.8, BASE + 2), arm("RDS", 0.4, BASE), arm("DyT", 0.8, BASE + 1), arm("DyT", 0.4, BASE - 1)]
    )
    e = dataclasses.replace(e, speed=quick(fps))
    found = speed_at_equal_quality("DyT")(e)
    assert found == pytest.approx(Interval(*[((12 / 6) * (20 / 8)) ** 0.5] * 3))
    better = dataclasses.replace(
        e, objects=pd.concat([e.objects[e.objects["method"] == "RDS"], arm("DyT", 0.8, BASE + 9)])
    )
    assert np.isnan(speed_at_equal_quality("DyT")(better).effect), "no budget is as good: nothing to compare"
    mixed = dataclasses.replace(
        e,
        objects=pd.concat(
            [e.objects[e.objects["method"] == "RDS"], arm("DyT", 0.8, BASE + 9), arm("DyT", 0.4, BASE - 1)]
        ),
    )
    assert speed_at_equal_quality("DyT")(mixed).effect == pytest.approx(20 / 8)
    with pytest.raises(LookupError, match="AdaViT"):
        speed_at_equal_quality("AdaViT")(e)


def test_equal_quality_is_judged_by_the_mean_over_objects():
    many = pd.DataFrame([("s0", i, 0.9) for i in range(9)] + [("s1", 1, 0.1)], columns=["sequence", "object", "JF"])
    few = many.assign(JF=[0.7] * 9 + [0.6])  # better by video, worse by object
    objects = pd.concat([many.assign(method="RDS", level=0.4), few.assign(method="DyT", level=0.4)])
    e = dataclasses.replace(
        evidence(), objects=objects, speed=quick({FULL: 10.0, ("RDS", 0.4): 20.0, ("DyT", 0.4): 10.0})
    )
    assert speed_at_equal_quality("DyT")(e).effect == pytest.approx(2)


def test_realisation_is_the_difference_of_the_saved_shares():
    e = dataclasses.replace(
        evidence(),
        speed=quick(
            {("RDS", 0.4): 1.0, ("AdaViT", 0.4): 1.0, ("DyT", 0.4): 1.0}, {("RDS", 0.4): 0.98, ("AdaViT", 0.4): 0.7}
        ),
    )
    assert realisation("AdaViT", 0.4)(e).effect == pytest.approx(0.28)
    with pytest.raises(LookupError, match="DyT 0.4"):
        realisation("DyT", 0.4)(e)


def test_speeds_are_those_of_the_blocks_that_run_on_the_scored_videos():
    """40 ms with 48 blocks, 20 ms with 24 on the benchmark's clip: 36 blocks take 30 ms."""
    speed = quick({FULL: 25.0, ("AdaViT", 0.4): 50.0, ("DyT", 0.4): 20.0}, active={("AdaViT", 0.4): 24.0})
    active = pd.Series({("AdaViT", 0.4): 36.0, ("DyT", 0.4): 48.0})
    e = dataclasses.replace(evidence(), speed=speed, active=active)
    assert e.fps("AdaViT", 0.4) == pytest.approx(1000 / 30) and e.fps("DyT", 0.4) == pytest.approx(20)
    assert dataclasses.replace(e, active=pd.Series(dtype=float)).fps("AdaViT", 0.4) == pytest.approx(50)
