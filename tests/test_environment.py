"""The lock, the package's metadata and the conda environment name the same packages and versions."""

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from ruamel.yaml import YAML

from rds_lib.core import paths
from rds_lib.core.errors import RDSInputError


def pins(lines):
    """Return {name: version} of the lines `name==version`."""
    found = {}
    for line in lines:
        spec = line.partition("#")[0].strip()
        if spec and not spec.startswith("-"):
            name, version = re.fullmatch(r"([\w.-]+)==([\w.+!]+)( ;.*)?", spec).groups()[:2]
            assert canonicalize_name(name) not in found
            found[canonicalize_name(name)] = version
    return found


@pytest.fixture(scope="module")
def locked():
    return pins((paths.ROOT / "requirements.lock").read_text().splitlines())


@pytest.fixture(scope="module")
def required():
    """What the package asks for, with what its site is built from."""
    project = tomllib.loads((paths.ROOT / "pyproject.toml").read_text())["project"]
    return [Requirement(text) for text in [*project["dependencies"], *project["optional-dependencies"]["site"]]]


def test_lock_satisfies_what_the_package_requires(locked, required):
    for item in required:
        assert item.specifier.contains(locked[canonicalize_name(item.name)]), item


def test_lock_is_closed(locked):
    """Every package that a locked one needs on Linux, on either Python, is locked too."""
    from importlib.metadata import PackageNotFoundError, requires

    for python in ["3.11", "3.12"]:
        environment = {"python_version": python, "python_full_version": f"{python}.0", "extra": ""}
        for name in locked:
            try:
                needed = [Requirement(text) for text in requires(name) or []]
            except PackageNotFoundError:
                continue
            for item in needed:
                if item.marker is None or item.marker.evaluate(environment):
                    assert canonicalize_name(item.name) in locked, f"{name} needs {item}"


def test_conda_environment_pins_the_same_versions(locked, required):
    content = YAML(typ="safe").load((paths.ROOT / "environment.yml").read_text())
    conda, pip = [item for item in content["dependencies"] if isinstance(item, str)], content["dependencies"][-1]["pip"]
    named = pins(pip)
    assert "python=3.11" in conda and pip[-1] == "-e ."
    assert named.items() <= locked.items()
    assert {canonicalize_name(item.name) for item in required} <= named.keys()


def test_lock_names_no_package_index():
    for name in ["requirements.lock", "environment.yml", "pyproject.toml", "Makefile"]:
        assert not re.search(r"https?://|--(extra-)?index-url", (paths.ROOT / name).read_text()), name


PYTHON = """#!{interpreter}
import os, pathlib, shutil, sys
me, arguments = pathlib.Path(sys.argv[0]), sys.argv[1:]
if "venv" in arguments:
    (pathlib.Path(arguments[-1]) / "bin").mkdir(parents=True)
    for name in ("python", "dvc"):
        shutil.copy(me, pathlib.Path(arguments[-1]) / "bin" / name)
elif me.name == "dvc" or "pip" in arguments:
    asked = pathlib.Path(arguments[-1]).read_text() if "-r" in arguments else " ".join(arguments[-2:])
    with open("{calls}", "a") as log:
        log.write(f"CALL {me.name}\\n{asked}\\n")
"""


def test_make_installs_the_lock_with_sam2_after_torch_and_then_runs(tmp_path, locked):
    """With an interpreter that writes down what it is asked for."""
    calls, python = tmp_path / "calls", tmp_path / "python"
    python.write_text(PYTHON.replace("{interpreter}", sys.executable).replace("{calls}", str(calls)))
    python.chmod(0o755)
    subprocess.run(
        ["make", "repro", f"VENV={tmp_path / 'venv'}", f"PYTHON={python}"],
        cwd=paths.ROOT,
        check=True,
        capture_output=True,
    )
    first, last, project, run = calls.read_text().split("CALL ")[1:]
    assert pins(first.splitlines()[1:]) == {name: version for name, version in locked.items() if name != "sam2"}
    assert pins(last.splitlines()[1:]) == {"sam2": locked["sam2"]}
    assert project.split() == ["python", "-e", "."] and run.split() == ["dvc", "repro"]


@pytest.mark.parametrize("has_git", [True, False])
def test_make_tells_dvc_where_there_is_no_git(has_git, tmp_path):
    """In a copy of what the target needs, with tools that write down what they are asked for."""
    calls, tools = tmp_path / "calls", tmp_path / "venv" / "bin"
    tools.mkdir(parents=True)
    (tools / "dvc").write_text(f'#!/bin/sh\necho "$@" >> {calls}\n')
    (tools / "dvc").chmod(0o755)
    for name in ("Makefile", "requirements.lock", "pyproject.toml"):
        (tmp_path / name).write_text((paths.ROOT / name).read_text())
    (tmp_path / "venv" / ".ready").write_text("")
    if has_git:
        (tmp_path / ".git").write_text("gitdir: elsewhere")
    subprocess.run(["make", "repro", "VENV=venv"], cwd=tmp_path, check=True, capture_output=True)
    told = ["config --local core.no_scm true"]
    assert calls.read_text().splitlines() == told * (not has_git) + ["repro"]


@pytest.mark.skipif(not (paths.ROOT / ".git").exists() or not shutil.which("git"), reason="no clone of its own")
def test_an_archive_of_the_tree_tells_dvc_that_it_has_no_git(tmp_path):
    """GitHub makes its ZIP as `git archive` does, which fills in what .gitattributes names."""
    from dvc.config import Config

    tree = tmp_path / "tree"
    (tree / ".dvc").mkdir(parents=True)
    for name in (".dvc/config", ".gitattributes"):
        (tree / name).write_text((paths.ROOT / name).read_text())
    git = ["git", "-C", str(tree), "-c", "user.name=a", "-c", "user.email=a@example.org"]
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "a"], ["archive", "-o", "../a.tar", "HEAD"]):
        subprocess.run([*git, *command], check=True)
    with tarfile.open(tmp_path / "a.tar") as archive:
        archive.extractall(tmp_path / "out", filter="data")
    found = [
        Config(str(folder / ".dvc"), validate=True)["core"].get("no_scm", False) for folder in (tree, tmp_path / "out")
    ]
    assert found == [False, True]


def test_a_built_package_has_the_shipped_model_and_profiles_and_says_what_needs_the_repository(tmp_path):
    """What `pip install .` copies; no build for wheels, which takes longer."""
    build = ["-q", "egg_info", "--egg-base", str(tmp_path), "build_py", "--build-lib", str(tmp_path / "site")]
    tree = tmp_path / "tree"
    tree.mkdir()
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE", "rds_lib", "assets", "params", "params.yaml"):
        (tree / name).symlink_to(paths.ROOT / name)
    subprocess.run([sys.executable, "setup.py", *build], cwd=tree, check=True, capture_output=True)
    code = """
import sys
from rds_lib.core import paths
from rds_lib.core.errors import RDSInputError
from rds_lib.pipeline.params import load_params
assert str(paths.ROOT).startswith(sys.argv[1])
load_params(), load_params("paper")
for name in ("mini_sam2.yaml", "mini_sam2.safetensors", "mini_sam2_half.safetensors", "rds.safetensors"):
    paths.shipped(paths.MINI_SAM2 / name)
for name in ("config.json", "model.safetensors"):
    paths.shipped(paths.ASSETS / "mini_dinov3" / name)
from rds_lib.__main__ import app
for command in (["train", "any"], ["notebook", "source"], ["report"]):
    try:
        app(command, standalone_mode=False)
    except SystemExit as error:
        assert error.code == 2
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "site")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("no repository, which the pipeline needs; pip install -e .") == 3


def test_a_package_without_its_files_says_how_to_install_it(tmp_path):
    with pytest.raises(RDSInputError, match=r"mini.yaml is missing: rds_lib was installed without it; use pip install"):
        paths.shipped(tmp_path / "mini.yaml")


def test_style_is_checked_with_the_locked_ruff(locked):
    assert "ruff" in locked and "make lint" in (paths.ROOT / ".ci" / "run").read_text()
