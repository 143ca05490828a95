"""The stage `evaluation`: which arms run, what each of them runs, and the files that are left."""

import shutil

import numpy as np
import pandas as pd
import pytest

from rds_lib.core.artifacts import read_json, read_table, write_table
from rds_lib.core.errors import RDSInputError
from rds_lib.evaluation.controls import CONTROLS, OF_PLANS
from rds_lib.evaluation.names import ADAPTERS
from rds_lib.methods.placement import PLACEMENTS
from rds_lib.methods.static import PLANS
from rds_lib.pipeline import evaluation
from rds_lib.pipeline.arms import arms, repeated_arms
from rds_lib.pipeline.params import load_params

K = (0, 2, 8, 44, 47)
BASELINES = {"SlimSAM": 0.667, "PBD": 0.5, "DyT": 0.5, "AdaViT": 0.5}
ALIKE = (*CONTROLS, *OF_PLANS)  # controls with RDS's own number of blocks


@pytest.fixture(scope="module")
def params(mini_weights, davis_root, tmp_path_factory):
    """The smoke profile at one level, on the one clip that moves fast."""
    root = tmp_path_factory.mktemp("data") / "set"
    shutil.copytree(davis_root, root)
    (root / "ImageSets" / "2017" / "val.txt").write_text("val-0001-fast_motion\n", encoding="utf-8")
    return (
        load_params(profile="smoke")
        .with_section("model", checkpoint=str(mini_weights))
        .with_section("data", generated=False, davis_root=str(root))
        .with_section("baselines", levels=[0.5], ninths=[6], placement_budget=0.5)
        .with_section("evaluation", budgets=[0.5], fixed_routes=2, datasets=["davis"])
    )


@pytest.fixture(scope="module")
def workdir(rds_file, baselines_folder, tmp_path_factory):
    """Products of the stages before, with the same weights for every training."""
    folder = tmp_path_factory.mktemp("evaluation")
    shutil.copytree(baselines_folder, folder / "baselines")
    for stage, names in (("train", ("0.5", "any", "full")), ("baselines/placement", PLACEMENTS)):
        (folder / stage).mkdir()
        for name in names:
            shutil.copyfile(rds_file, folder / stage / f"rds_{name}.safetensors")
    write_table(
        folder / "train" / "trained.csv", pd.DataFrame({"run": ["0.5", "any", "full"], "parameters": [10, 20, 30]})
    )
    write_table(
        folder / "baselines" / "placement" / "placements.csv",
        pd.DataFrame({"placement": ["I-LoRA", *PLACEMENTS], "trained_params": [10, 41, 42, 43, 44]}),
    )
    for name, level in (("slimsam", 6), ("pbd", 0.5), ("dyt", 0.5), ("adavit", 0.5)):
        write_table(folder / "baselines" / name / "levels.csv", pd.DataFrame({"level": [level], "trained_params": [7]}))
    score = np.where(np.isin(np.arange(48), K), np.nan, np.arange(48.0))
    write_table(
        folder / "importance" / "importance.csv",
        pd.DataFrame({"block": range(48), "global_score": score, "local_score": score}),
    )
    return folder


@pytest.fixture(scope="module")
def scored(params, workdir):
    """The results of all arms, and the folder that the stage wrote."""
    found, evaluate = {}, evaluation.evaluate_arms
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            evaluation, "evaluate_arms", lambda *args, **options: found.update(evaluate(*args, **options)) or found
        )
        evaluation.run(params, workdir, workdir / "evaluation")
    return found["davis"], workdir / "evaluation"


def test_every_arm_runs_in_order(params, workdir, scored):
    assert list(scored[0]) == [(arm.method, arm.level) for arm in arms(params, workdir)]
    assert list(scored[0]) == [
        ("copy first mask", 0.0),
        ("SAM2", 1.0),
        ("SAM2 + I-LoRA", 1.0),
        ("mini_half", 1.0),
        *BASELINES.items(),
        ("RDS", 0.5),
        ("RDS, one for all", 0.5),
        *((name, 0.5) for name in (*CONTROLS, "plan A", "plan B", *OF_PLANS, *ADAPTERS.values())),
    ]
    assert list(CONTROLS) == ["random routes", "static top-n", "own mean w"]


def test_every_placement_has_a_name_in_the_tables():
    assert tuple(ADAPTERS) == PLACEMENTS


def test_plans_run_at_the_lowest_budget_alone(params, workdir):
    more = params.with_section("evaluation", budgets=[0.8, 0.5])
    assert [(arm.method, arm.level) for arm in arms(more, workdir) if arm.method.startswith("plan")] == [
        ("plan A", 0.5),
        ("plan B", 0.5),
    ]


def test_controls_run_as_many_blocks_as_rds(scored):
    wanted = round(scored[0]["RDS", 0.5].active_routed)
    assert 5 < wanted < 48
    assert {method: scored[0][method, 0.5].active_routed for method in ALIKE} == dict.fromkeys(ALIKE, wanted)


def test_each_control_runs_the_blocks_it_is_named_for(scored):
    def routes(method):
        table = scored[0][method, 0.5].routes
        return table[table["reason"] == "routed"].pivot(index="frame_idx", columns="block", values="active").to_numpy()

    n_active = round(scored[0]["RDS", 0.5].active_routed)
    best = [i for i in range(47, -1, -1) if i not in K][: n_active - 5]
    assert np.flatnonzero(routes("static top-n")[0]).tolist() == sorted([*K, *best])
    for fixed in ("static top-n", "own mean w", "best fixed route"):
        assert (routes(fixed) == routes(fixed)[0]).all()
    assert not (routes("random routes") == routes("random routes")[0]).all()
    for name, plan in PLANS.items():
        assert all(np.flatnonzero(row).tolist() == list(plan) for row in routes(f"plan {name}"))


def test_the_full_arms_run_every_block(scored):
    for key in (("SAM2", 1.0), ("SAM2 + I-LoRA", 1.0)):
        assert scored[0][key].routes["active"].all()


def test_baselines_say_what_ran_and_their_work_follows_from_it(scored):
    found = {method: scores for (method, _), scores in scored[0].items()}
    assert found["PBD"].active == 28 and found["DyT"].active == 48
    assert found["SlimSAM"].active == 48 and found["mini_half"].active == 24
    assert 5 < found["AdaViT"].active < 48
    whole = found["SAM2"].gmacs
    assert found["SlimSAM"].gmacs == pytest.approx(whole) and 0.5 < found["PBD"].gmacs / whole < 0.7
    shares = found["DyT"].routes["keep_prob"]
    mlps = 0.58  # their share of a whole encoder's work; the adapters add a little
    assert 0.1 < shares.mean() < 0.9
    assert found["DyT"].gmacs / whole == pytest.approx(1 - mlps * (1 - shares.mean()), abs=0.05)
    ran = found["AdaViT"].routes.astype({"active": float}).groupby("block")["active"].mean()
    assert found["AdaViT"].gmacs == pytest.approx(whole * ran.mean(), rel=0.1), "blocks cost about the same"
    assert found["RDS"].gmacs < whole
    assert found["oracle of fixed routes"].gmacs == pytest.approx(found["random static plans"].gmacs, rel=0.05)


def test_boxes_are_scored_for_every_arm(scored):
    table = read_table(scored[1] / "boxes.csv").set_index("method")
    numbers = table.drop(columns=["dataset", "level"])
    assert (
        len(table) == len(scored[0])
        and numbers.notna().all(axis=None)
        and ((numbers >= 0) & (numbers <= 100)).all(axis=None)
    )
    still = scored[0]["copy first mask", 0.0].boxes.iloc[0]
    assert still["frames"] == 4 and table.loc["copy first mask", "AO"] == pytest.approx(100 * still["AO"], abs=0.01)


def test_the_masks_of_rds_and_sam2_are_kept_and_an_index_says_where(scored):
    kept = scored[1] / "predictions" / "davis"
    index = read_table(kept / "runs.csv")
    assert index[["method", "level"]].to_records(index=False).tolist() == [("SAM2", 1.0), ("RDS", 0.5)]
    for folder in index["folder"]:
        assert len(list((kept / folder / "val-0001-fast_motion").glob("*.png"))) == 5


def test_the_encoders_layout_is_written_down(scored):
    weights = read_json(scored[1] / "model.json")
    assert weights["model"]["sha256"] and [row["config"] for row in weights["smaller"]] == ["mini_half"]
    shape = read_json(scored[1] / "encoder.json")
    assert shape == {"depth": 48, "stage_starts": [0, 2, 8, 44], "always_on": list(K)}


def test_the_table_says_how_much_each_training_moved(scored):
    trained = read_table(scored[1] / "table.csv").set_index(["method", "level"])["params_trained"].dropna().to_dict()
    placed = {(label, 0.5): number for label, number in zip(ADAPTERS.values(), (41, 42, 43, 44))}
    assert trained == {("RDS", 0.5): 10, ("RDS, one for all", 0.5): 20, ("SAM2 + I-LoRA", 1.0): 30} | placed | {
        arm: 7 for arm in BASELINES.items()
    }


def test_what_is_missing_is_named_with_its_stage(params, workdir, tmp_path):
    for stage in ("importance", "train"):
        (tmp_path / stage).mkdir()
    other = params.model_copy(update={"profile": "mini"})
    with pytest.raises(ValueError, match="make it with: dvc repro baselines"):
        evaluation.run(other, tmp_path, tmp_path / "out")


def test_another_seed_repeats_baselines_rds_and_its_main_controls(params, workdir):
    again = repeated_arms(params.with_section("train", budgets=[0.5]), workdir, 3)
    assert [(arm.method, arm.level) for arm in again] == [
        *BASELINES.items(),
        *((method, 0.5) for method in ("RDS", *CONTROLS)),
    ]
    other = params.with_section("train", budgets=[0.5, 0.4, 0.3], repeated=2)
    assert {arm.method for arm in repeated_arms(other, workdir, 3)} == {*BASELINES}, "0.5 is not among the lowest two"
    assert not any(arm.keep_masks for arm in again)
    with pytest.raises(RDSInputError, match=r"rds_0\.5-seed3\.safetensors"):
        again[-1].build()
    with pytest.raises(RDSInputError, match=r"pbd/0\.5-seed3\.safetensors"):
        again[1].build()
