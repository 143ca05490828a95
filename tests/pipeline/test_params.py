"""load_params: typed, frozen, and errors that name file, key and allowed range."""

import re

import pytest
from pydantic import ValidationError

from rds_lib.core import paths
from rds_lib.core.errors import RDSInputError
from rds_lib.pipeline.params import load_params

PROFILES = ["smoke", "mini", "mini_all", "evidence", "paper"]


@pytest.fixture
def edited(tmp_path):
    """Return a function that writes a copy of smoke.yaml with the line of one key replaced."""

    def edit(section, key, line):
        text = (paths.PARAMS / "smoke.yaml").read_text()
        pattern = rf"(^{section}:\n(?:  .*\n)*?)  {key}:.*\n" if key else rf"()^{section}:\n"
        changed, count = re.subn(pattern, lambda found: found[1] + line, text, count=1, flags=re.MULTILINE)
        assert count == 1
        file = tmp_path / "edited.yaml"
        file.write_text(changed)
        return file

    return edit


@pytest.mark.parametrize("profile", PROFILES)
def test_every_profile_loads_and_knows_its_name(profile):
    assert load_params(profile).profile == profile


def test_profiles_have_the_same_keys():
    keys = {
        tuple(
            (section, key)
            for section, values in load_params(profile).model_dump(exclude={"profile"}).items()
            for key in values
        )
        for profile in PROFILES
    }
    assert len(keys) == 1


def test_the_profile_with_all_levels_is_mini_but_for_its_levels():
    six, nine = (0.9, 0.8, 0.7, 0.6, 0.5, 0.4), (8, 7, 6, 5, 4)
    mini, every = load_params("mini"), load_params("mini_all")
    for section in ("train", "evaluation", "benchmark"):
        mini = mini.with_section(section, budgets=six)
    assert every == mini.with_section("baselines", levels=six, ninths=nine).model_copy(update={"profile": "mini_all"})


def test_the_paper_profile_has_the_papers_line_5_and_the_others_ours():
    routers = {profile: load_params(profile).router.model_dump() for profile in PROFILES}
    assert routers["smoke"] == routers["mini"] == routers["mini_all"] == routers["evidence"]
    ours = {"normalise": True, "logit_spread": 1.0, "learn_spread": False, "preference_rate": 30.0, "calibrate": True}
    assert routers["mini"] == ours and routers["paper"] == ours | {"normalise": False, "preference_rate": 1.0}


def test_the_profile_with_more_evidence_holds_the_clips_of_mini_and_enough_others():
    mini, evidence = load_params("mini").clips, load_params("evidence").clips
    own = {"wide", "wide_ytvos", "changing_train", "changing_calibration", "changing", "photographs"}
    assert evidence.model_dump(exclude=own) == mini.model_dump(exclude=own)
    assert evidence.val + evidence.wide >= 60 and all(getattr(evidence, name) for name in own)
    assert not any(getattr(mini, name) for name in own)
    assert "changing" in load_params("evidence").evaluation.datasets


@pytest.mark.parametrize("profile", ["smoke", "paper"])
def test_default_profile_is_the_one_that_params_yaml_names(profile, tmp_path, monkeypatch):
    (tmp_path / "params.yaml").write_text(f"profile: {profile}\n")
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    assert load_params() == load_params(profile)


def test_params_yaml_holds_nothing_but_a_profile(tmp_path, monkeypatch):
    assert load_params().profile in PROFILES, "this checkout's own"
    (tmp_path / "params.yaml").write_text("profile: mini\nseed: 3\n")
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    with pytest.raises(RDSInputError, match=r"params\.yaml: one line is allowed.*seed"):
        load_params()


def test_params_are_frozen():
    params = load_params("smoke")
    with pytest.raises(ValidationError, match="frozen"):
        params.train.steps = 3
    assert isinstance(params.train.budgets, tuple)


@pytest.mark.parametrize(
    ("section", "key", "line", "words"),
    [
        ("importance", "k_sel", "  k_sel: 49\n", ["importance.k_sel = 49", "less than or equal to 48"]),
        ("importance", "k_sel", "  k_sell: 24\n", ["k_sell is unknown", "did you mean k_sel?", "k_sel is missing"]),
        ("importance", "", "importances:\n", ["importances is unknown", "did you mean importance?"]),
        ("train", "lora_rank", "", ["train.lora_rank is missing"]),
        ("evaluation", "fixed_routes", "  fixed_routes: true\n", ["evaluation.fixed_routes = True", "integer"]),
        (
            "evaluation",
            "datasets",
            "  datasets: [lvos]\n",
            ["datasets.0 = 'lvos'", "'davis', 'sav', 'ytvos' or 'changing'"],
        ),
        ("evaluation", "datasets", "  datasets: []\n", ["evaluation.datasets", "must have at least 1 item"]),
        ("your_video", "box", "  box: [1, 2, 3]\n", ["your_video.box", "x0, y0, x1, y1", "got 3"]),
        ("pretrain", "drop_path", "  drop_path: .nan\n", ["pretrain.drop_path = nan: must be a finite number"]),
        ("pretrain", "drop_path", "  drop_path: 1\n", ["pretrain.drop_path = 1: must be less than 1"]),
        ("inspect", "runs", "  runs: [SAM2, RDS 0.8, RDS 0.4]\n", ["inspect.runs", "must have at most 2 items"]),
        ("pretrain", "drop_path", '  drop_path: "0.1"\n', ["pretrain.drop_path = '0.1'", "valid number"]),
        ("pretrain", "lr", "  lr: 1.0\n  lr: 0.5\n", ["cannot be read as YAML", "lr"]),
    ],
)
def test_bad_value_names_file_key_and_allowed(edited, section, key, line, words):
    with pytest.raises(RDSInputError) as caught:
        load_params(path=edited(section, key, line))
    for word in ["edited.yaml", *words]:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("budget", "allowed"),
    [
        ("0", "greater than 0"),
        ("-0.1", "greater than 0"),
        ("1.5", "less than or equal to 1"),
        (".inf", "a finite number"),
    ],
)
def test_rejects_budget_outside_unit_interval(edited, budget, allowed):
    with pytest.raises(RDSInputError, match=rf"your_video\.budget = .*: must be {allowed}"):
        load_params(path=edited("your_video", "budget", f"  budget: {budget}\n"))


def test_exponents_without_a_point_are_numbers(edited):
    assert load_params(path=edited("pretrain", "lr", "  lr: 1e-05\n")).pretrain.lr == 1e-5


def test_unknown_profile_lists_the_known_ones():
    with pytest.raises(RDSInputError, match="'papr'.*evidence, mini, mini_all, paper, smoke"):
        load_params("papr")


def test_file_that_is_no_mapping_is_an_error(tmp_path):
    file = tmp_path / "list.yaml"
    file.write_text("- 1\n")
    with pytest.raises(RDSInputError, match=r"list\.yaml: a mapping"):
        load_params(path=file)


def test_a_notebook_opened_by_hand_keeps_out_of_the_stages_folder(monkeypatch, tmp_path):
    monkeypatch.delenv("RDS_WORKDIR", raising=False)
    assert paths.workdir("smoke") == paths.SMOKE
    assert paths.workdir("mini") == paths.products("mini") == paths.RUNS / "mini"
    assert paths.products("smoke") == paths.RUNS / "smoke"
    monkeypatch.setenv("RDS_WORKDIR", str(tmp_path))
    assert paths.workdir("smoke") == paths.products("mini") == tmp_path
