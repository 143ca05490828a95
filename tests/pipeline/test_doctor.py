"""`doctor`: a good checkout passes, and each fault of a broken one is named in exactly one line."""

import json
import os
import pickle
import shutil
import subprocess
import sys
from functools import cache
from importlib.metadata import distributions
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file
from sam2.build_sam import HF_MODEL_ID_TO_FILENAMES
from typer.testing import CliRunner

from rds_lib.__main__ import app
from rds_lib.core import paths
from rds_lib.pipeline.arms import arms, repeated_arms, timed_arms
from rds_lib.pipeline.doctor import checks_checkout, checks_machine, checks_model, checks_python, work
from rds_lib.pipeline.doctor.chain import read_chain
from rds_lib.pipeline.doctor.checks_data import frames_of
from rds_lib.pipeline.doctor.estimate import Speeds, estimate
from rds_lib.pipeline.doctor.examine import examine
from rds_lib.pipeline.doctor.finding import ERROR, EVERY, OK, WARNING, Finding
from rds_lib.pipeline.doctor.report import duration
from rds_lib.pipeline.params import load_params
from rds_lib.pipeline.weights import training_runs

FILES = ("params", "params.yaml", "dvc.yaml", "dvc.lock", "data.dvc", "requirements.lock")
OF_THE_MACHINE = {"SAM2's extension", "Chromium", "memory", "processors", "versions", "devices"}
PLENTY = SimpleNamespace(free=10**12)  # bytes of disk, whatever the tests' own machine has left
MINI, OF_MINI = "assets/mini_sam2/mini_sam2.safetensors", "facebook/sam2-mini"
HOLD = """
import sys, time
from rds_lib.work.locks import claim
with claim(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""
_look = checks_python.check_packages
_fits, _packages = cache(checks_model._fits), cache(lambda: list(_look()))


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A checkout of what `doctor` looks at: copies, but for links to the weights, which a test replaces."""
    root = tmp_path / "checkout"
    root.mkdir()
    for name in FILES:
        (shutil.copytree if (paths.ROOT / name).is_dir() else shutil.copyfile)(paths.ROOT / name, root / name)
    shutil.copytree(paths.ASSETS, root / "assets", copy_function=os.symlink)
    monkeypatch.setitem(HF_MODEL_ID_TO_FILENAMES, OF_MINI, ("mini", "mini.safetensors"))
    (root / ".dvc").mkdir()
    (root / ".dvc" / "config").write_text("[core]\n    no_scm = true\n")
    places = {"ROOT": "", "PARAMS": "params", "ASSETS": "assets", "MINI_SAM2": "assets/mini_sam2", "BUILD": "build"}
    places |= {"RUNS": "runs", "CACHE": ".cache", "DATA": "data"}
    for name, place in places.items():
        monkeypatch.setattr(paths, name, root / place)
    monkeypatch.delenv("RDS_WORKDIR", raising=False)
    monkeypatch.setattr(checks_machine.shutil, "disk_usage", lambda path: PLENTY)
    run = checks_checkout._run
    monkeypatch.setattr(checks_checkout, "_run", lambda *command: None if "dvc" in command else run(*command))
    weights = checks_model._fits

    def fits(config, path):
        """What is linked is what it was in the test before."""
        _fits(config, path.resolve()) if path.is_symlink() else weights(config, path)

    monkeypatch.setattr(checks_model, "_fits", fits)
    return root


@pytest.fixture
def known_packages(monkeypatch):
    """The packages of this environment, looked at once."""
    monkeypatch.setattr(checks_python, "check_packages", _packages)


def faults(report):
    """All lines that are not ok, without those on the machine that the tests run on."""
    return [line for line in report.checks if line.state != OK and line.name not in OF_THE_MACHINE]


def edit(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def replace(path, content):
    path.unlink()
    path.write_bytes(content)


class Code:
    """Executes when it is unpickled."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


def add_profile(root, name="own", like="mini", **edits):
    text = (root / "params" / f"{like}.yaml").read_text()
    for old, new in edits.values():
        assert old in text
        text = text.replace(old, new, 1)
    (root / "params" / f"{name}.yaml").write_text(text)
    edit(root / "params.yaml", "profile: mini", f"profile: {name}")


def add_davis(root, *, listed=("a", "b"), there=("a", "b")):
    """A profile that works on real clips, and empty files in DAVIS's layout."""
    where = root / "datasets" / "DAVIS"
    for split in ("train", "val"):
        (where / "ImageSets" / "2017").mkdir(parents=True, exist_ok=True)
        (where / "ImageSets" / "2017" / f"{split}.txt").write_text("\n".join(listed if split == "val" else there))
    for name in there:
        for kind, file in (("JPEGImages", "00000.jpg"), ("Annotations", "00000.png")):
            (where / kind / "480p" / name).mkdir(parents=True)
            (where / kind / "480p" / name / file).touch()
    add_profile(
        root,
        "real",
        "smoke",
        data=('generated: true\n  davis_root: ""', "generated: false\n  davis_root: datasets/DAVIS"),
        sets=("datasets: [davis, sav]", "datasets: [davis]"),
        figures=("videos: [val-0000-plain, val-0001-fast_motion]", "videos: [a, b]"),
        compared=("compared: [val-0000-plain]", "compared: [a]"),
        inspect=("videos: [val-0000-plain, val-0001-fast_motion]", "videos: [a, b]"),
    )


def cut(root):
    path = root / MINI
    replace(path, path.read_bytes()[:5_000_000])


def changed(root):
    tensors = load_file(root / MINI)
    (root / MINI).unlink()
    save_file(tensors, root / MINI, metadata={"by": "me"})


def with_code(root):
    """SAM2's format, with more than tensors in it."""
    torch.save({"model": {"weight": Code(root / "ran")}}, root / "own.pt")
    add_profile(root, model=('checkpoint: ""', "checkpoint: own.pt"))


def with_id(root, model):
    add_profile(root, model=('checkpoint: ""', f"checkpoint: {model}"))


def half_a_checkpoint(root):
    torch.save({"model": {"weight": torch.zeros(1000)}}, root / "own.pt")
    replace(root / "own.pt", (root / "own.pt").read_bytes()[:3000])
    add_profile(root, model=('checkpoint: ""', "checkpoint: own.pt"))


def lose_clip(root):
    (root / "data/train/ImageSets/2017").mkdir(parents=True)
    (root / "data/train/ImageSets/2017/train.txt").write_text("gone")


def without(name):
    return lambda: [each for each in distributions() if each.metadata["Name"] != name]


def other_version(name):
    def found():
        for each in distributions():
            if each.metadata["Name"] == name:
                each = type("Other", (), {"metadata": each.metadata, "version": "0.1", "requires": each.requires})
            yield each

    return found


BROKEN = {  # what is wrong: how, the line's name, its state, words in it, and words of what mends it
    "a key of the profile is missing": (
        lambda root: edit(root / "params" / "mini.yaml", "  lora_rank: 8\n", ""),
        ("profile", ERROR, "params/mini.yaml: train.lora_rank", "edit params/mini.yaml"),
    ),
    "a value of the profile is out of range": (
        lambda root: edit(root / "params" / "mini.yaml", "lr_lora: 1.0e-3", "lr_lora: 5.0"),
        ("profile", ERROR, "train.lr_lora = 5.0", "edit params/mini.yaml"),
    ),
    "params.yaml names no profile that there is": (
        lambda root: edit(root / "params.yaml", "mini", "nonsense"),
        (
            "profile",
            ERROR,
            "unknown profile 'nonsense'; params has: evidence, mini",
            "in params.yaml, or with --profile",
        ),
    ),
    "dvc.yaml is cut": (
        lambda root: (root / "dvc.yaml").write_text("stages:\n  clips: ["),
        ("profile", ERROR, "dvc.yaml: has no stages that can be read", "git checkout dvc.yaml"),
    ),
    "the shipped weights are cut": (
        cut,
        (MINI, ERROR, "is cut short, 5000000 of 9168004 bytes", f"git checkout -- {MINI}"),
    ),
    "the shipped weights are a pickle with code": (
        lambda root: replace(root / MINI, pickle.dumps(Code(root / "ran"))),
        (MINI, ERROR, "is a bare pickle, which may hold code and was not run", f"git checkout -- {MINI}"),
    ),
    "the shipped weights are a pointer": (
        lambda root: replace(root / MINI, b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"),
        (MINI, ERROR, "is a pointer of Git LFS", f"git checkout -- {MINI}"),
    ),
    "the shipped weights are missing": (
        lambda root: (root / MINI).unlink(),
        (MINI, ERROR, "does not exist", f"git checkout -- {MINI}"),
    ),
    "the shipped weights are others": (changed, (MINI, WARNING, "not as committed: 9 MB, sha256 ", "git checkout")),
    "the shipped router is cut": (
        lambda root: replace(root / "assets/mini_sam2/rds.safetensors", b"\0" * 100),
        ("assets/mini_sam2/rds.safetensors", ERROR, "not a readable RDS file", "git checkout -- assets/mini_sam2/rds"),
    ),
    "a shipped configuration is missing": (
        lambda root: (root / "assets/mini_sam2/mini_sam2.yaml").unlink(),
        ("shipped files", ERROR, "missing: assets/mini_sam2/mini_sam2.yaml", "git checkout -- assets/mini_sam2/mini"),
    ),
    "the profile's checkpoint is missing": (
        lambda root: add_profile(root, model=('checkpoint: ""', "checkpoint: none.pt")),
        ("model.checkpoint", ERROR, "none.pt is missing", "name another one in params/own.yaml (model.checkpoint)"),
    ),
    "the profile's checkpoint is of another size": (
        lambda root: add_profile(
            root, model=('checkpoint: ""', "checkpoint: assets/mini_sam2/mini_sam2_half.safetensors")
        ),
        ("model.checkpoint", ERROR, "its tensors are those of 'mini_half'", "name another one in params/own.yaml"),
    ),
    "the profile's checkpoint has code in it": (
        with_code,
        (
            "model.checkpoint",
            ERROR,
            "own.pt could not be read as weights: asks for code beside tensors, which was not run",
            "fetch it again",
        ),
    ),
    "the profile's checkpoint is an id that is not on this machine": (
        lambda root: with_id(root, OF_MINI),
        (
            "model.checkpoint",
            WARNING,
            f"{OF_MINI}: not on this machine; the first stage that needs it fetches it",
            "name",
        ),
    ),
    "the profile's checkpoint is cut": (
        half_a_checkpoint,
        (
            "model.checkpoint",
            ERROR,
            "own.pt could not be read as weights: is cut short, at 3000 bytes",
            "fetch it again",
        ),
    ),
    "a folder of DINOv3 lacks its weights": (
        lambda root: ((root / "dino").mkdir(), add_profile(root, dino=("checkpoint: mini", "checkpoint: dino"))),
        ("dinov3.checkpoint", ERROR, "dino has no config.json, model.safetensors", "fetch it again, or name the hub's"),
    ),
    "the data folder is missing": (
        lambda root: (add_davis(root), shutil.rmtree(root / "datasets")),
        ("data.davis_root", ERROR, "datasets/DAVIS is no folder", "edit params/real.yaml (data.davis_root)"),
    ),
    "the val list names a sequence that is missing": (
        lambda root: add_davis(root, listed=("a", "b", "gone")),
        ("data.davis_root (val)", ERROR, "names 3 sequences, without frames or masks: gone", "unpack them again"),
    ),
    "a figure shows a video that no list has": (
        lambda root: (add_davis(root), edit(root / "params" / "real.yaml", "compared: [a]", "compared: [gone]")),
        ("figures.videos", ERROR, "not in DAVIS's list val: gone", "edit figures and inspect in params/real.yaml"),
    ),
    "a generated clip is missing": (
        lose_clip,
        ("data", WARNING, "data/ is not whole, it lacks train: gone", "dvc repro data.dvc"),
    ),
    "params.yaml is missing": (
        lambda root: (root / "params.yaml").unlink(),
        ("profile", ERROR, "params.yaml is missing", "git checkout params.yaml"),
    ),
    "photographs are missing": (
        lambda root: add_profile(root, clips=('photographs: ""', "photographs: datasets/BSDS500")),
        ("clips.photographs", ERROR, "datasets/BSDS500: no photographs", 'set photographs: ""'),
    ),
    "dvc.lock is missing": (
        lambda root: (root / "dvc.lock").unlink(),
        ("DVC", WARNING, "dvc.lock is missing: every stage runs", "git checkout dvc.lock"),
    ),
    "there is no DVC": (
        lambda root: shutil.rmtree(root / ".dvc"),
        ("DVC", ERROR, "no folder .dvc", "git checkout .dvc"),
    ),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_a_fault_is_named_in_one_line_with_what_mends_it(fault, root, known_packages):
    harm, (name, state, words, fix) = BROKEN[fault]
    harm(root)
    report = examine(quick=True)
    found = [line for line in faults(report) if not (line.name == "git" and not (root / ".dvc").exists())]
    assert [(line.name, line.state) for line in found] == [(name, state)]
    assert words in found[0].found and fix in found[0].fix and "\n" not in found[0].found
    assert report.code == (2 if state == ERROR else 0)
    assert not (root / "ran").exists()


def test_a_good_copy_has_no_fault_and_nothing_is_left_in_it(root, known_packages):
    before = {path for path in root.rglob("*")}
    report = examine(quick=True)
    assert faults(report) == [] and report.code == 0
    assert {path for path in root.rglob("*")} == before
    shown = {line.name: line.found for line in report.checks}
    assert "sha256 16b3d18fe40d" in shown[MINI] and shown["shipped files"].startswith(("3 ", "4 "))


def test_an_id_in_the_hubs_cache_is_checked_as_a_file_is(root, known_packages, monkeypatch):
    with_id(root, OF_MINI)
    monkeypatch.setattr("rds_lib.data.hub.cached", lambda model: paths.ROOT / MINI)
    (line,) = [line for line in examine(quick=True).checks if line.name == "model.checkpoint"]
    assert line.state == OK and f"{OF_MINI}, in the hub's cache: 9 MB, sha256 16b3d18fe40d" in line.found
    monkeypatch.setattr(
        "rds_lib.data.hub.cached", lambda model: paths.ROOT / "assets/mini_sam2/mini_sam2_half.safetensors"
    )
    (line,) = faults(examine(quick=True))
    assert line.state == ERROR and "its tensors are those of 'mini_half'" in line.found


def test_what_an_error_stops_follows_from_the_chain(root, known_packages):
    replace(root / "assets/mini_sam2/mini_sam2_half.safetensors", b"")
    stopped = {line.name for line in examine(quick=True).stages if line.state == ERROR}
    assert stopped == {f"stage {name}" for name in ("evaluation", "benchmark", "report", "figures", "check")}
    chain = read_chain("mini")
    assert "pretrain" in chain.frozen and chain.after(["pretrain"]) == {"pretrain"}
    assert chain.after(["report"]) == {"report", "check"} and {"data", "train"} <= chain.after(["clips"])
    assert chain.stopped([Finding("x", ERROR, "", "", EVERY)]).keys() == chain.deps.keys() - {"pretrain"}


def test_a_full_disk_is_an_error_with_the_estimate(root, known_packages, monkeypatch):
    full = type("Usage", (), {"free": 10**8})()
    monkeypatch.setattr(checks_machine.shutil, "disk_usage", lambda path: full)
    (line,) = faults(examine(quick=True))
    assert (line.name, line.state) == ("disk", ERROR) and "100 MB free, a run writes about" in line.found


def test_places_that_may_not_be_written_are_an_error(root, known_packages, monkeypatch):
    def refuse(path, *_, **__):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "mkdir", refuse)
    (line,) = faults(examine(quick=True))
    assert (line.name, line.state) == (
        "places to write",
        ERROR,
    ) and "cannot be written (Permission denied)" in line.found


def test_a_package_that_is_missing_is_an_error_and_another_version_a_warning(root, monkeypatch):
    for found, name, words in (
        (without("torch"), "packages", "missing: torch"),
        (without("fsspec"), "packages", "missing: fsspec"),  # which installed ones ask for
    ):
        monkeypatch.setattr(checks_python.importlib.metadata, "distributions", found)
        report = examine(quick=True)
        assert [(line.name, line.state) for line in faults(report)] == [(name, ERROR)] and report.code == 2
        assert words in faults(report)[0].found
    monkeypatch.setattr(checks_python.importlib.metadata, "distributions", without("ruff"))
    packages, _ = checks_python.check_packages()
    assert (packages.state, packages.found) == (WARNING, "missing: ruff, for tests and JupyterLab")
    monkeypatch.setattr(checks_python.importlib.metadata, "distributions", other_version("pandas"))
    packages, versions = checks_python.check_packages()
    assert packages.state == OK and versions.state == WARNING and "pandas 0.1 (lock: " in versions.found


def test_a_run_of_another_process_is_named(root, known_packages):
    place = root / "runs" / "mini" / "train"
    command = [sys.executable, "-c", HOLD, str(place)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2])
    try:
        assert process.stdout.readline() == "held\n"
        report = examine(quick=True)
    finally:
        process.kill()
        process.communicate()
    (line,) = faults(report)
    assert (line.name, line.state, line.stops) == ("other runs", ERROR, ("train",))
    assert f"runs/mini/train: in use by process {process.pid} (" in line.found
    assert faults(examine(quick=True)) == [], "the lock of a killed run holds nothing"


def test_dvc_at_work_is_named_and_a_dead_one_is_not(root):
    (root / ".dvc" / "tmp").mkdir()
    gone = subprocess.Popen(["true"])
    gone.wait()
    for pid, runs in ((os.getpid(), True), (gone.pid, False)):
        lock = {"write": {"runs/mini/train": {"pid": pid, "cmd": "dvc repro"}}, "read": {}}
        (root / ".dvc" / "tmp" / "rwlock").write_text(json.dumps(lock))
        (line,) = checks_checkout.check_runs("mini", read_chain("mini"))
        assert ("DVC is at work: process" in line.found) == runs and line.state == (WARNING if runs else OK)


@pytest.mark.parametrize(
    ("status", "words", "stages"),
    [
        ('{"report": [{"changed deps": {}}]}', "would run: report, check", {"report", "check"}),
        ('{"clips": [], "data.dvc": []}', "would run: clips, data, ", None),
        ("{}", "all stages are up to date", set()),
        (None, "which stages would run is not known", None),
    ],
)
def test_stages_that_would_run_are_those_of_dvc_and_all_that_follow(status, words, stages, root, monkeypatch):
    monkeypatch.setattr(checks_checkout, "_run", lambda *_: status)
    line, todo = checks_checkout.check_dvc("mini", "mini", read_chain("mini"))
    assert line.state == OK and words in line.found and (stages is None or todo == stages)
    line, todo = checks_checkout.check_dvc("paper", "mini", read_chain("paper"))
    assert todo is None and line.fix == "dvc exp run -S profile=paper"


def test_a_torch_that_cannot_be_loaded_is_one_error(root, known_packages, monkeypatch):
    def broken(params):
        raise ImportError("libcudart.so: cannot open shared object file")

    monkeypatch.setattr(checks_model, "check_devices", broken)
    monkeypatch.delitem(sys.modules, "torch")
    report = examine(quick=True)
    assert [line.name for line in report.checks if line.state == ERROR] == ["devices"] and report.code == 2


@pytest.mark.parametrize(
    ("config", "environ", "state"),
    [
        ("mini", {}, OK),
        ("mini", {"OMP_NUM_THREADS": "1"}, WARNING),
        ("mini", {"OMP_NUM_THREADS": "1", "RDS_CPU_WORKERS": "2"}, OK),
        ("mini", {"OMP_NUM_THREADS": "4"}, WARNING),
        ("configs/sam2.1/sam2.1_hiera_l.yaml", {"OMP_NUM_THREADS": "4"}, OK),
    ],
)
def test_threads_that_slow_the_stages_are_a_warning(config, environ, state, monkeypatch):
    monkeypatch.setattr(checks_machine, "cpu_count", lambda: 2)
    assert checks_machine.check_processors(config, environ).state == state


def test_python_and_memory_have_limits(tmp_path):
    assert [checks_python.check_python((3, minor, 1)).state for minor in (10, 11, 12, 13)] == [ERROR, OK, OK, ERROR]
    (tmp_path / "meminfo").write_text("MemTotal: 9 kB\nMemAvailable: 3000000 kB\n")
    states = [checks_machine.check_memory("mini", workers, tmp_path / "meminfo").state for workers in (1, 2)]
    assert states == [OK, WARNING] and checks_machine.check_memory("mini", 2, tmp_path / "none").state == OK


def test_a_profile_that_needs_a_gpu_says_so_where_there_is_none(root, known_packages, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    report = examine("paper", quick=True)
    (line,) = [line for line in report.checks if line.name == "devices"]
    assert line.state == ERROR and "no GPU, which paper needs" in line.found and "train" in line.stops
    stages = {line.name: line.found for line in report.stages}
    assert stages["stage train"] == "could not end; its time cannot be estimated without a GPU"
    assert stages["stage clips"].startswith("could end") and report.code == 2


@pytest.mark.parametrize("profile", ["mini", "mini_all", "evidence"])
def test_work_is_counted_as_the_stages_do_it(profile, tmp_path):
    params, sets = load_params(profile), {"generated-davis": (3, 60), "sav": (2, 10)}
    found = [*arms(params, tmp_path)]
    found += [arm for seed in params.train.more_seeds for arm in repeated_arms(params, tmp_path, seed)]
    models = [arm for arm in found if arm.build is not None]
    everywhere = sum(not arm.davis_only and arm.combine is None for arm in models)
    aside = sum(arm.davis_only and arm.combine is None for arm in models)
    aside += params.evaluation.fixed_routes * len(params.evaluation.budgets)
    counted = work.work_of(params, sets)
    frames = (everywhere * 70 + aside * 60) * work.ROUTED * work.OBJECTS
    assert counted["evaluation"].frames == pytest.approx(frames)
    assert counted["train"].steps == len(training_runs(params.train)) * params.train.steps
    assert counted.keys() == set(read_chain(profile).stopped([]))
    timed = len([*timed_arms(params)]) + sum(len(m.levels(params.baselines)) for m in work.METHODS.values())
    clips = len(params.benchmark.difficulties)
    passes = clips * params.benchmark.repeats * (params.benchmark.warmup + params.benchmark.frames + 2)
    assert counted["benchmark"].frames == passes * (timed + len(params.evaluation.smaller))


def test_times_follow_from_speeds_and_processes():
    params = load_params("mini")
    assert frames_of(params)["train"] == (40, 800) and frames_of(params)["generated-davis"] == (18, 360)
    one, two = (estimate(params, frames_of(params), Speeds(0.05, 1.0, "cpu"), n) for n in (1, 2))
    assert 900 < sum(two.values()) < 4500 and sum(two.values()) < 0.75 * sum(one.values())
    assert two["benchmark"] == one["benchmark"]
    slow = estimate(params, frames_of(params), Speeds(0.1, 2.0, "cpu"), 1)
    assert sum(slow.values()) == pytest.approx(2 * sum(one.values()), rel=0.05)
    assert [duration(seconds) for seconds in (0.2, 70, 600, 9000, 9e5)] == ["1 s", "70 s", "10 min", "2.5 h", "10 days"]


def test_this_checkout_is_good_and_every_stage_has_a_time(monkeypatch):
    monkeypatch.setattr(checks_checkout, "check_runs", lambda *_: [])  # a run may be under way
    report = examine("mini")
    assert [line for line in report.checks if line.state == ERROR] == [] and report.code == 0
    assert {line.name for line in report.stages} == report.seconds.keys() and min(report.seconds.values()) > 0
    assert "every stage could end here" in report.as_text() and "Timed now: " in report.as_text()


def test_the_command_prints_one_line_a_check_and_ends_with_2_where_a_stage_could_not_end(root, known_packages):
    done = CliRunner().invoke(app, ["doctor", "--quick"])
    lines = done.output.splitlines()
    assert done.exit_code == 0 and lines[0].split() == "check state what was found -> what to do".split()
    assert sum(line.startswith("stage ") for line in lines) == 13 and lines[-1].startswith("Profile mini: every stage")
    done = CliRunner().invoke(app, ["doctor", "--quick", "--json", "--profile", "nonsense"])
    found = json.loads(done.output)
    assert done.exit_code == 2 and not found["finishes"]
    assert [line["name"] for line in found["checks"] if line["state"] == "error"] == ["profile"]
