"""Tables made from scores: points with intervals, paired differences, and no number that depends on the arms' order."""

import numpy as np
import pandas as pd
import pytest

from rds_lib.evaluation.scores import Scores
from rds_lib.evaluation.tables import box_scores, compare_arms, objects_table, score_table


def scores(jf, *, active=None, metric="JF", value=None):
    """Scores from ``{(sequence, object): JF}``; every sequence has one routed frame with ``active`` blocks of 4."""
    objects = pd.DataFrame([(name, obj, x) for (name, obj), x in jf.items()], columns=["sequence", "object", "JF"])
    objects.attrs["summary"] = {metric: objects["JF"].mean() if value is None else value}
    rows = [
        (name, 1, i, i < (active or 0), 0.5, "routed") for name in dict.fromkeys(objects["sequence"]) for i in range(4)
    ]
    routes = pd.DataFrame(rows, columns=["sequence", "frame_idx", "block", "active", "keep_prob", "reason"])
    return Scores(objects, routes if active else pd.DataFrame(), 1.0, 7)


def test_the_summary_has_points_intervals_active_blocks_and_what_was_trained():
    arms = {
        "set": {
            ("RDS", 0.5): scores({("a", 1): 0.4, ("a", 2): 0.5, ("b", 1): 0.8}, active=2),
            ("SAM2", 1.0): scores({("a", 1): 0.5, ("b", 1): 0.7}),
            ("YT", 0.5): scores({("a", 1): 0.5}, metric="G", value=0.25),
        }
    }
    table = score_table(arms, seed=0, n=200, trained={("RDS", 0.5): 1234}).set_index("method")
    assert table.loc["RDS", ["value", "active_blocks", "sequences", "objects"]].tolist() == [
        pytest.approx(56.6667),
        2,
        2,
        3,
    ]
    assert table.loc["RDS", "ci_low"] == 45 and table.loc["RDS", "ci_high"] == 80
    assert table.loc["RDS", "params_trained"] == 1234 and pd.isna(table.loc["SAM2", "params_trained"])
    assert np.isnan(table.loc["SAM2", "active_blocks"]) and table.loc["SAM2", "value"] == 60
    assert table.loc["YT", ["metric", "value"]].tolist() == ["G", 25]


def test_rds_is_compared_with_its_own_level_and_with_the_full_models():
    one = scores({("a", 1): 0.5})
    group = {
        ("copy first mask", 0.0): one,
        ("SAM2", 1.0): one,
        ("SAM2 + I-LoRA", 1.0): one,
        ("RDS", 0.5): scores({("a", 1): 0.7}),
        ("RDS", 0.8): one,
        ("random routes", 0.5): one,
        ("random routes", 0.8): one,
    }
    table = compare_arms(objects_table({"set": group}), seed=0, n=20)
    found = {(row.level, row.against): row.effect for row in table.itertuples()}
    assert found == {
        (0.5, "SAM2"): 20,
        (0.5, "SAM2 + I-LoRA"): 20,
        (0.5, "random routes"): 20,
        (0.8, "SAM2"): 0,
        (0.8, "SAM2 + I-LoRA"): 0,
        (0.8, "random routes"): 0,
    }


def test_no_number_depends_on_the_order_of_the_arms():
    rng = np.random.default_rng(0)
    names = [(f"s{n}", 1) for n in range(6)]
    group = {key: scores(dict(zip(names, rng.random(6)))) for key in (("SAM2", 1.0), ("RDS", 0.5), ("PBD", 0.5))}
    first, turned = ({"set": arms} for arms in (group, dict(reversed(group.items()))))
    tables = [score_table(arms, seed=0, n=50).sort_values("method", ignore_index=True) for arms in (first, turned)]
    assert tables[0].equals(tables[1])
    pairs = [
        compare_arms(objects_table(arms), seed=0, n=50).sort_values("against", ignore_index=True)
        for arms in (first, turned)
    ]
    assert pairs[0].equals(pairs[1]) and len(pairs[0]) == 2


def test_data_sets_are_not_mixed():
    rds, sam2 = (scores({("a", 1): x}) for x in (0.7, 0.5))
    worse = scores({("a", 1): 0.1})
    table = compare_arms(
        objects_table(
            {"one": {("RDS", 0.5): rds, ("SAM2", 1.0): sam2}, "two": {("RDS", 0.5): worse, ("SAM2", 1.0): sam2}}
        ),
        seed=0,
        n=20,
    )
    assert dict(zip(table["dataset"], table["effect"])) == {"one": 20, "two": -40}


def test_arms_without_boxes_have_no_row_among_them():
    assert box_scores({"set": {("SAM2", 1.0): scores({("a", 1): 0.5})}}).empty
