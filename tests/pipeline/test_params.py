"""load_params: typed, frozen, and errors that name file, key and allowed range."""

import re

import pytest
from pydantic import ValidationError

from rds_lib.core import paths
from rds_lib.core.errors import RDSInputError
from rds_lib.data import generate
from rds_lib.data.clips import DIFFICULTIES
from rds_lib.data.layouts import LAYOUTS
from rds_lib.pipeline import profile_rules
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
    ours |= {"final_spread": 0, "deployed_share": 0}
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


@pytest.mark.parametrize(
    ("section", "key", "line", "words"),
    [
        (
            "clips",
            "frames",
            "  frames: 2\n",
            ["train.frames = 3: must be at most clips.frames, 2", "must be 9 or more"],
        ),
        ("train", "frames", "  frames: 10\n", ["train.frames = 10: must be at most clips.frames, 9"]),
        ("importance", "frames", "  frames: 10\n", ["importance.frames = 10: must be at most clips.frames, 9"]),
        ("headroom", "length", "  length: 2\n", ["headroom.frames = 2: must be less than the 2 frames"]),
        ("headroom", "split", "  split: calibration\n", ["headroom.split = 'calibration'", "draws 1"]),
        (
            "train",
            "budgets",
            "  budgets: [0.8]\n",
            ["evaluation.budgets = [0.8, 0.4]: [0.4]", "placement_budget = 0.4"],
        ),
        ("train", "budgets", "  budgets: [0.8, 0.4, 0.8]\n", ["train.budgets", "each budget once"]),
        ("train", "more_seeds", "  more_seeds: [0]\n", ["train.more_seeds = [0]", "train.seed, 0"]),
        ("train", "accumulate", "  accumulate: 2\n", ["train.accumulate = 2: must divide train.batch, 1"]),
        ("train", "precision", "  precision: half\n", ["train.precision = 'half'", "'float32' or 'bfloat16'"]),
        (
            "evaluation",
            "budgets",
            "  budgets: [0.8]\n",
            ["figures.budget = 0.4", "'RDS 0.4' must be one of", "RDS 0.8"],
        ),
        ("evaluation", "datasets", "  datasets: [sav]\n", ["datasets = ['sav']: must have davis or changing"]),
        ("evaluation", "datasets", "  datasets: [davis, changing]\n", ["'changing' must have clips"]),
        ("clips", "sav", "  sav: 0\n", ["'sav' must have clips"]),
        (
            "clips",
            "val",
            "  val: 1\n",
            ["figures.videos: val-0001-fast_motion", "inspect.videos: val-0001-fast_motion"],
        ),
        ("figures", "compared", "  compared: [val-0000-occlusion]\n", ["figures.compared: val-0000-occlusion must be"]),
        ("inspect", "runs", "  runs: [SAM2, RDS 0.6]\n", ["inspect.runs: 'RDS 0.6'", "SAM2, RDS 0.8, RDS 0.4"]),
        ("data", "generated", "  generated: false\n", ["data.davis_root = ''", "davis, sav must have a root"]),
    ],
)
def test_sections_that_do_not_go_together_are_refused(edited, section, key, line, words):
    with pytest.raises(RDSInputError) as caught:
        load_params(path=edited(section, key, line))
    for word in ["edited.yaml", *words]:
        assert word in str(caught.value)


def test_the_names_of_drawn_clips_are_those_that_are_drawn():
    clips = load_params("evidence").clips
    jobs = generate._sets(clips)
    for dataset, name in (("davis", "davis2017"), ("changing", "changing")):
        kinds = [DIFFICULTIES[job.index % len(DIFFICULTIES)] for job in jobs[name]]
        drawn = [
            f"val-{job.index:04d}-{'changing' if job.kind == 'changing' else kind}"
            for job, kind in zip(jobs[name], kinds)
        ]
        assert profile_rules.drawn_names(clips, dataset) == drawn


@pytest.mark.parametrize(("dataset", "stride", "first"), [("davis", 1, 2), ("sav", 4, 2), ("ytvos", 5, 1)])
def test_the_fewest_frames_with_a_score_follow_from_the_layouts(dataset, stride, first):
    """DAVIS and SA-V leave out the first and the last annotation, YouTube-VOS an object's first."""
    assert LAYOUTS[{"davis": "davis2017"}.get(dataset, dataset)].stride == stride
    assert profile_rules.SCORED_FROM[dataset] == first * stride + 1


def test_exponents_without_a_point_are_numbers(edited):
    assert load_params(path=edited("pretrain", "lr", "  lr: 1e-05\n")).pretrain.lr == 1e-5


def test_unknown_profile_lists_the_known_ones():
    with pytest.raises(RDSInputError, match="'papr'.*evidence, mini, mini_all, paper, smoke"):
        load_params("papr")


@pytest.mark.parametrize("value", [1200 * "[" + 1200 * "]", 5000 * "9"])
def test_values_that_no_parser_takes_are_an_error(edited, value):
    with pytest.raises(RDSInputError, match=r"edited\.yaml: cannot be read as YAML"):
        load_params(path=edited("train", "seed", f"  seed: {value}\n"))


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
