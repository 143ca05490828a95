"""Tables made from scores: points with intervals, paired differences, and no number that depends on the arms' order."""

import numpy as np
import pandas as pd
import pytest

from rds_lib.evaluation.scores import Scores
from rds_lib.evaluation.tables import box_scores, compare_arms, objects_table, score_table
from rds_lib.metrics.masks import summarise
from rds_lib.metrics.statistics import mean_interval, resample


def scores(jf, *, active=None, metric="JF", value=None):
    """Scores from ``{(sequence, object): JF}``; of two frames a sequence all 4 blocks ran on one, ``active`` on one."""
    objects = pd.DataFrame([(name, obj, x) for (name, obj), x in jf.items()], columns=["sequence", "object", "JF"])
    objects.attrs["summary"] = {metric: objects["JF"].mean() if value is None else value}
    rows = [
        (name, t, i, not t or i < (active or 0), 0.5, "routed" if t else "first_frame")
        for name in dict.fromkeys(objects["sequence"])
        for t in range(2)
        for i in range(4)
    ]
    routes = pd.DataFrame(rows, columns=["sequence", "frame_idx", "block", "active", "keep_prob", "reason"])
    return Scores(objects, routes if active else pd.DataFrame(), 1.0, 7, gmacs=0.3, gmacs_routed=0.2)


def clips(seed=0, number=8):
    """J&F of one or two objects in each of some clips."""
    rng = np.random.default_rng(seed)
    return {(f"s{n}", obj): rng.random() for n in range(number) for obj in range(1, 2 + n % 2)}


def test_the_summary_has_points_intervals_work_and_what_was_trained():
    many = clips()
    arms = {"set": {("RDS", 0.5): scores(many, active=2), ("SAM2", 1.0): scores({("a", 1): 0.5, ("b", 1): 0.7})}}
    table = score_table(arms, seed=0, n=200, trained={("RDS", 0.5): 1234}).set_index("method")
    mean = 100 * np.mean(list(many.values()))
    names = ["value", "active_blocks", "active_blocks_routed", "gmacs", "gmacs_routed", "sequences", "objects"]
    assert table.loc["RDS", names].tolist() == [pytest.approx(mean, abs=1e-4), 3, 2, 0.3, 0.2, 8, 12]
    sequences = [name for name, _ in many]
    expected = mean_interval([100 * x for x in many.values()], groups=sequences, seed=0, n=200)
    assert tuple(table.loc["RDS", ["value", "ci_low", "ci_high"]]) == pytest.approx(expected, abs=1e-4)
    assert table.loc["RDS", "params_trained"] == 1234 and pd.isna(table.loc["SAM2", "params_trained"])
    assert np.isnan(table.loc["SAM2", "active_blocks"]) and table.loc["SAM2", "value"] == 60
    assert table.loc["SAM2", ["ci_low", "ci_high"]].isna().all(), "two videos are too few"


def of_categories(number, *, unseen):
    """Scores as YouTube-VOS counts them, of two objects a clip; ``unseen`` says of which clips the second is unseen."""
    rng = np.random.default_rng(1)
    rows = [(f"s{n:02d}", obj, *rng.random(2), not (obj == 2 and n in unseen)) for n in range(number) for obj in (1, 2)]
    objects = pd.DataFrame(rows, columns=["sequence", "object", "J", "F", "seen"])
    objects["JF"] = objects[["J", "F"]].mean(axis=1)
    objects.attrs["summary"] = summarise(objects, "ytvos")
    return Scores(objects, pd.DataFrame(), 1.0, 7)


def test_g_has_an_interval_of_g_itself():
    """Resampled by hand: sequences drawn, and the protocol's own summary of what was drawn."""
    found = of_categories(12, unseen=(2, 5, 6, 9))
    row = score_table({"tube": {("RDS", 0.5): found}}, seed=0, n=400).iloc[0]
    assert row["metric"] == "G" and row["value"] == pytest.approx(100 * found.objects.attrs["summary"]["G"], abs=1e-4)
    by_name = dict(list(found.objects.groupby("sequence")))
    by_hand = resample(
        list(by_name),
        lambda names: 100 * summarise(pd.concat([by_name[name] for name in names]), "ytvos")["G"],
        seed=0,
        n=400,
    )
    assert tuple(row[["value", "ci_low", "ci_high"]]) == pytest.approx(by_hand, abs=1e-3)
    objects = found.objects
    plain = mean_interval(100 * objects["JF"], groups=objects["sequence"], seed=0, n=400)
    assert row["ci_high"] - row["ci_low"] > 1.2 * (plain.high - plain.low), "the few unseen ones weigh as much"


def test_g_without_an_unseen_object_is_that_of_the_seen_ones():
    row = score_table({"tube": {("RDS", 0.5): of_categories(8, unseen=())}}, seed=0, n=100).iloc[0]
    assert row["ci_low"] < row["value"] < row["ci_high"]


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


def test_several_trainings_of_an_arm_are_compared_together():
    """The column ``seed`` of the objects reaches the differences: as many trainings, one row, a wider interval."""
    groups = [{("SAM2", 1.0): scores(clips()), ("RDS", 0.5): scores(clips(seed))} for seed in (1, 2, 3)]
    tables = [objects_table({"set": group}).assign(seed=seed) for seed, group in enumerate(groups)]
    stacked = pd.concat(tables)
    stacked.loc[stacked["method"] == "SAM2", "seed"] = np.nan
    found = compare_arms(stacked.drop_duplicates(["method", "sequence", "object", "seed"]), seed=0, n=100)
    single = [compare_arms(table, seed=0, n=100)["effect"].item() for table in tables]
    assert found["effect"].item() == pytest.approx(np.mean(single), abs=2e-3) and np.ptp(single) > 1


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


def test_repeated_trainings_are_averaged_and_an_arm_without_a_seed_meets_all_of_them():
    names = list(clips())
    first, second = ({name: base + 0.01 * n for n, name in enumerate(names)} for base in (0.5, 0.6))
    results = {"set": {("SAM2", 1.0): scores(dict.fromkeys(names, 0.5)), ("RDS", 0.5): scores(first, active=2)}}
    repeated = {7: {"set": {("RDS", 0.5): scores(second, active=4)}}}
    objects = objects_table(results, repeated, first=3)
    assert objects[objects["method"] == "SAM2"]["seed"].isna().all()
    assert objects[objects["method"] == "RDS"].groupby("seed")["JF"].first().to_dict() == {3: 0.5, 7: 0.6}
    assert "seed" not in objects_table(results)
    row = score_table(results, repeated, seed=0, n=200).set_index("method").loc["RDS"]
    assert row["value"] == pytest.approx(100 * np.mean([*first.values(), *second.values()]), abs=1e-3)
    assert (row["trainings"], row["active_blocks_routed"]) == (2, 3)
    one = score_table(results, seed=0, n=200).set_index("method").loc["RDS"]
    assert row["ci_high"] - row["ci_low"] > 5 + one["ci_high"] - one["ci_low"], "ten points lie between the trainings"
    gap = compare_arms(objects, seed=0, n=200).set_index("against").loc["SAM2"]
    assert gap["effect"] == pytest.approx(row["value"] - 50, abs=1e-3) and gap["ci_low"] < 0 < gap["effect"]
