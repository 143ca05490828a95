"""The evaluation's arms: which ones run, how the controls are chosen, and the tables that compare them."""

import shutil

import numpy as np
import pandas as pd
import pytest

from rds_lib.core.params import load_params
from rds_lib.data.datasets import read_dataset
from rds_lib.data.sources import Source
from rds_lib.evaluation.controls import (
    ADAPTERS,
    CONTROLS,
    best_per_sequence,
    box_scores,
    compare_arms,
    evaluate_sources,
    mean_of_plans,
    objects_table,
    score_table,
)
from rds_lib.evaluation.scores import Scores
from rds_lib.methods.static import PLANS


def scores(jf, *, active=None, metric="JF", value=None):
    """Scores from ``{(sequence, object): JF}``; every sequence has one routed frame with ``active`` blocks of 4."""
    objects = pd.DataFrame([(name, obj, x) for (name, obj), x in jf.items()], columns=["sequence", "object", "JF"])
    objects.attrs["summary"] = {metric: objects["JF"].mean() if value is None else value}
    rows = [(name, 1, i, i < (active or 0), 0.5, "routed") for name in dict.fromkeys(objects["sequence"]) for i in range(4)]
    routes = pd.DataFrame(rows, columns=["sequence", "frame_idx", "block", "active", "keep_prob", "reason"])
    return Scores(objects, routes if active else pd.DataFrame(), 1.0, 7)


FIXED = [
    scores({("a", 1): 0.9, ("a", 2): 0.1, ("b", 1): 0.3}, active=1),
    scores({("a", 1): 0.4, ("a", 2): 0.5, ("b", 1): 0.8}, active=2),
    scores({("a", 1): 0.8, ("a", 2): 0.4, ("b", 1): 0.1}, active=3),
]


def test_the_oracle_takes_the_best_plan_of_every_sequence():
    best = best_per_sequence(FIXED)
    assert dict(zip(zip(best.objects["sequence"], best.objects["object"]), best.objects["JF"])) == {
        ("a", 1): 0.8, ("a", 2): 0.4, ("b", 1): 0.8}
    assert best.objects.attrs["summary"]["JF"] == pytest.approx(2 / 3)
    assert best.routes.groupby("sequence")["active"].sum().to_dict() == {"a": 3, "b": 2}
    assert best.frames == 7


def test_the_oracle_is_at_least_as_good_as_every_plan():
    rng = np.random.default_rng(0)
    plans = [scores({(name, 1): x for name, x in zip("abcd", rng.random(4))}, active=1) for _ in range(5)]
    best = best_per_sequence(plans).objects["JF"].mean()
    assert all(best >= plan.objects["JF"].mean() for plan in plans)


def test_the_summary_has_points_intervals_and_active_blocks():
    arms = {"set": {("RDS", 0.5): FIXED[1], ("SAM2", 1.0): scores({("a", 1): 0.5, ("b", 1): 0.7}),
                    ("YT", 0.5): scores({("a", 1): 0.5}, metric="G", value=0.25)}}
    table = score_table(arms, seed=0, n=200).set_index("method")
    assert table.loc["RDS", ["value", "active_blocks", "sequences", "objects"]].tolist() == [pytest.approx(56.6667), 2, 2, 3]
    assert table.loc["RDS", "ci_low"] == 45 and table.loc["RDS", "ci_high"] == 80
    assert np.isnan(table.loc["SAM2", "active_blocks"]) and table.loc["SAM2", "value"] == 60
    assert table.loc["YT", ["metric", "value"]].tolist() == ["G", 25]


def test_rds_is_compared_with_its_own_level_and_with_the_full_models():
    one = scores({("a", 1): 0.5})
    group = {("copy first mask", 0.0): one, ("SAM2", 1.0): one, ("SAM2 + I-LoRA", 1.0): one, ("RDS", 0.5): scores({("a", 1): 0.7}),
             ("RDS", 0.8): one, ("random routes", 0.5): one, ("random routes", 0.8): one}
    table = compare_arms(objects_table({"set": group}), seed=0, n=20)
    found = {(row.level, row.against): row.effect for row in table.itertuples()}
    assert found == {
        (0.5, "SAM2"): 20, (0.5, "SAM2 + I-LoRA"): 20, (0.5, "random routes"): 20,
        (0.8, "SAM2"): 0, (0.8, "SAM2 + I-LoRA"): 0, (0.8, "random routes"): 0}


def test_no_number_depends_on_the_order_of_the_arms():
    rng = np.random.default_rng(0)
    names = [(f"s{n}", 1) for n in range(6)]
    group = {key: scores(dict(zip(names, rng.random(6)))) for key in (("SAM2", 1.0), ("RDS", 0.5), ("PBD", 0.5))}
    first, turned = ({"set": arms} for arms in (group, dict(reversed(group.items()))))
    tables = [score_table(arms, seed=0, n=50).sort_values("method", ignore_index=True) for arms in (first, turned)]
    assert tables[0].equals(tables[1])
    pairs = [compare_arms(objects_table(arms), seed=0, n=50).sort_values("against", ignore_index=True) for arms in (first, turned)]
    assert pairs[0].equals(pairs[1]) and len(pairs[0]) == 2


@pytest.fixture(scope="module")
def arms(mini_weights, rds_file, baselines_folder, davis_root, tmp_path_factory):
    """All arms on the one clip that moves fast, with the same weights for every training."""
    folder = tmp_path_factory.mktemp("arms")
    for stage, names in (("train", ("0.5", "any", "full")), ("placement", ADAPTERS)):
        (folder / stage).mkdir()
        for name in names:
            shutil.copyfile(rds_file, folder / stage / f"rds_{name}.safetensors")
    (folder / "baselines").symlink_to(baselines_folder)
    root = folder / "set"
    shutil.copytree(davis_root, root)
    (root / "ImageSets" / "2017" / "val.txt").write_text("val-0001-fast_motion\n", encoding="utf-8")
    smoke = load_params(profile="smoke")
    params = smoke.model_copy(update={
        "model": smoke.model.model_copy(update={"checkpoint": str(mini_weights)}),
        "baselines": smoke.baselines.model_copy(update={"levels": (0.5,), "ninths": (6,), "placement_budget": 0.5}),
        "evaluation": smoke.evaluation.model_copy(update={"budgets": (0.5,), "fixed_routes": 2})})
    ranking = pd.DataFrame({"global_score": np.arange(48.0), "local_score": np.arange(48.0)})
    ranking.loc[[0, 2, 8, 44, 47]] = np.nan
    source = Source("tiny", root, "davis2017")
    assert len(read_dataset(root, layout="davis2017")) == 1
    return evaluate_sources(params, [source], folder, ranking=ranking, keep=folder / "kept")["tiny"], folder / "kept"


def test_every_arm_runs(arms):
    names = {"copy first mask", "SAM2", "SAM2 + I-LoRA", "mini_half", "RDS", "RDS, one for all", *CONTROLS, *ADAPTERS.values()}
    assert {method for method, _ in arms[0]} == names | {"plan A", "plan B", "SlimSAM", "PBD", "DyT", "AdaViT"}
    assert {level for method, level in arms[0] if method in ("PBD", "DyT", "AdaViT")} == {0.5} and ("SlimSAM", 0.667) in arms[0]
    assert {level for method, level in arms[0] if method in CONTROLS} == {0.5}


def test_controls_run_as_many_blocks_as_rds(arms):
    wanted = round(arms[0]["RDS", 0.5].active)
    assert 5 < wanted < 48
    assert {method: arms[0][method, 0.5].active for method in CONTROLS} == dict.fromkeys(CONTROLS, wanted)


def test_each_control_keeps_the_blocks_it_is_named_for(arms):
    def routes(method):
        table = arms[0][method, 0.5].routes
        return table[table["reason"] == "routed"].pivot(index="frame_idx", columns="block", values="active").to_numpy()

    n_active = round(arms[0]["RDS", 0.5].active)
    static = np.flatnonzero(routes("static top-n")[0]).tolist()
    best = [i for i in range(47, -1, -1) if i not in (0, 2, 8, 44, 47)][: n_active - 5]
    assert static == sorted([0, 2, 8, 44, 47, *best])
    for fixed in ("static top-n", "own mean w", "best fixed route"):
        assert (routes(fixed) == routes(fixed)[0]).all()
    assert not (routes("random routes") == routes("random routes")[0]).all()
    for name, plan in PLANS.items():
        assert all(np.flatnonzero(row).tolist() == list(plan) for row in routes(f"plan {name}"))


def test_the_full_arms_run_every_block(arms):
    for key in (("SAM2", 1.0), ("SAM2 + I-LoRA", 1.0)):
        assert arms[0][key].routes["active"].all()


def test_predictions_of_rds_and_sam2_are_kept(arms):
    assert sorted(path.name for path in (arms[1] / "tiny").iterdir()) == ["RDS_0.5", "SAM2"]


def test_baselines_say_what_ran_and_their_work_follows_from_it(arms):
    found = {method: scores for (method, _), scores in arms[0].items()}
    assert found["PBD"].active == 28 and found["DyT"].active == 48 and found["SlimSAM"].active == 48 and found["mini_half"].active == 24
    assert 5 < found["AdaViT"].active < 48
    whole = found["SAM2"].gmacs
    assert found["SlimSAM"].gmacs == pytest.approx(whole) and 0.5 < found["PBD"].gmacs / whole < 0.7
    shares = found["DyT"].routes["keep_prob"]
    mlps = 0.58  # their share of a whole encoder's work; the adapters add a little
    assert 0.1 < shares.mean() < 0.9 and found["DyT"].gmacs / whole == pytest.approx(1 - mlps * (1 - shares.mean()), abs=0.05)
    ran = found["AdaViT"].routes.astype({"active": float}).groupby("block")["active"].mean()
    assert found["AdaViT"].gmacs == pytest.approx(whole * ran.mean(), rel=0.1), "blocks cost about the same"
    assert found["RDS"].gmacs < whole and found["oracle of fixed routes"].gmacs == pytest.approx(found["random static plans"].gmacs, rel=0.05)


def test_random_static_plans_are_scored_by_their_mean():
    mean = mean_of_plans([s.__class__(s.objects, s.routes, s.seconds, s.frames, s.objects[["sequence", "object"]].assign(success=n), float(n))
                          for n, s in enumerate(FIXED)])
    assert mean.objects.set_index(["sequence", "object"])["JF"].to_dict() == pytest.approx({("a", 1): 0.7, ("a", 2): 1 / 3, ("b", 1): 0.4})
    assert mean.objects.attrs["summary"]["JF"] == pytest.approx((0.7 + 1 / 3 + 0.4) / 3)
    assert mean.active == 2 and mean.gmacs == 1 and (mean.boxes["success"] == 1).all()


def test_boxes_are_scored_for_every_arm(arms):
    table = box_scores({"tiny": arms[0]}).set_index("method")
    assert len(table) == len(arms[0]) and table[["success", "AO"]].notna().all(axis=None)
    assert ((table.drop(columns=["dataset", "level"]) >= 0) & (table.drop(columns=["dataset", "level"]) <= 100)).all(axis=None)
    still = arms[0]["copy first mask", 0.0].boxes.iloc[0]
    assert still["frames"] == 4 and table.loc["copy first mask", "AO"] == pytest.approx(100 * still["AO"], abs=0.01)
