"""The lock, the package's metadata and the conda environment name the same packages and versions."""

import re
import subprocess
import sys
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from ruamel.yaml import YAML

from rds_lib.core import paths


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
def project():
    return tomllib.loads((paths.ROOT / "pyproject.toml").read_text())["project"]


def test_lock_satisfies_what_the_package_requires(locked, project):
    for text in project["dependencies"]:
        required = Requirement(text)
        assert required.specifier.contains(locked[canonicalize_name(required.name)]), text


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


def test_conda_environment_pins_the_same_versions(locked, project):
    content = YAML(typ="safe").load((paths.ROOT / "environment.yml").read_text())
    conda, pip = [item for item in content["dependencies"] if isinstance(item, str)], content["dependencies"][-1]["pip"]
    named = pins(pip)
    assert "python=3.11" in conda and pip[-1] == "-e ."
    assert named.items() <= locked.items()
    assert {canonicalize_name(Requirement(text).name) for text in project["dependencies"]} <= named.keys()


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


def test_style_is_checked_with_the_locked_ruff(locked):
    assert "ruff" in locked and "make lint" in (paths.ROOT / ".ci" / "run").read_text()
