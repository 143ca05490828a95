"""Python, the packages of ``requirements.lock``, SAM2's extension and the browser. Nothing is imported from them."""

import importlib.metadata
import os
import re
import shutil
import sys
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path

from rds_lib.core import paths
from rds_lib.core.artifacts import read_text
from rds_lib.pipeline.doctor.finding import ERROR, EVERY, OK, WARNING, Finding, listed

PYTHONS = ((3, 11), (3, 12))
TOOLS = {
    "ruff",
    "pytest",
    "pytest-xdist",
    "nbval",
    "hypothesis",
    "playwright",
    "jupyterlab",
    "setuptools",
    "sphinx",
    "myst-nb",
    "furo",
}  # no stage's
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def check_python(version: tuple[int, ...] = sys.version_info[:3]) -> Finding:
    """The interpreter, which the packages of the lock are made for."""
    text = ".".join(map(str, version))
    if version[:2] in PYTHONS:
        return Finding("Python", OK, text)
    return Finding("Python", ERROR, f"{text}, but 3.11 or 3.12 is needed", "make repro PYTHON=python3.12", EVERY)


def check_packages() -> Iterator[Finding]:
    """One line on packages that are missing, and one on those of another version than the lock's.

    A package is missed where the project names it, or where an installed one asks for it: a torch for the CPU alone
    asks for none of NVIDIA's.
    """
    lock, here = _locked(), _installed()
    asked = _asked_for(here, lock.keys())
    absent = [name for name, (_, is_own) in lock.items() if name not in here and (is_own or name in asked)]
    needed, tools = ([n for n in absent if (n in TOOLS) == is_tool] for is_tool in (False, True))
    fix = "make -B .venv/.ready (installs requirements.lock anew)"
    if needed:
        yield Finding("packages", ERROR, f"missing: {listed(needed, 8)}", fix, EVERY)
    elif tools:
        yield Finding("packages", WARNING, f"missing: {listed(tools, 8)}, for tests and JupyterLab", fix)
    else:
        yield Finding("packages", OK, f"all of the lock that this platform needs, {len(here.keys() & lock.keys())}")
    other = [
        f"{name} {here[name].version} (lock: {version})"
        for name, (version, _) in lock.items()
        if name in here and here[name].version.partition("+")[0] != version
    ]
    if other:
        yield Finding("versions", WARNING, listed(other), f"{fix}; other versions may give other digits")
    else:
        yield Finding("versions", OK, "those of requirements.lock")


def check_extension() -> Finding:
    """SAM2's compiled part. Without it SAM2 leaves small holes in masks; the stages fill none on any machine."""
    name, spec = "SAM2's extension", find_spec("sam2")
    if spec is None:
        return Finding(name, ERROR, "sam2 is not installed", "pip install as in requirements.lock", EVERY)
    folders = [Path(folder) for folder in spec.submodule_search_locations or ()]
    if any(file.suffix in (".so", ".pyd") for folder in folders for file in folder.glob("_C.*")):
        return Finding(name, OK, "sam2._C is there: `track` fills small holes in masks")
    found = "no sam2._C: `track` and predictors fill no small holes in masks, as they do elsewhere; stages never do"
    return Finding(name, WARNING, found, "nothing for the pipeline; else build sam2 with SAM2_BUILD_CUDA=1 and nvcc")


def check_browser(environ: Mapping[str, str] = os.environ) -> Finding:
    """Chromium, which the tests of pages and widgets drive."""
    named = environ.get("CHROMIUM")
    path = next(filter(None, map(shutil.which, [named] if named else BROWSERS)), None)
    if path:
        return Finding("Chromium", OK, path)
    found = f"CHROMIUM={named} is no program" if named else "none: the tests in a browser are skipped"
    return Finding("Chromium", WARNING, found, "apt install chromium, or name one in $CHROMIUM")


def _locked() -> dict[str, tuple[str, bool]]:
    """Version by name of what the lock has for this platform, and whether the project itself names it.

    The project's own are those of the lock's first part, up to an empty line.
    """
    from packaging.markers import Marker

    found, parts = {}, read_text(paths.ROOT / "requirements.lock").split("\n\n")
    for number, part in enumerate(parts):
        for line in part.splitlines():
            spec, _, marker = line.partition("#")[0].partition(";")
            name, _, version = spec.strip().partition("==")
            if version and (not marker.strip() or Marker(marker.strip()).evaluate()):
                found[_plain(name)] = version.strip(), number <= 1
    return found


def _installed() -> dict[str, importlib.metadata.Distribution]:
    found = {}
    for distribution in importlib.metadata.distributions():
        if distribution.metadata["Name"]:
            found.setdefault(_plain(distribution.metadata["Name"]), distribution)
    return found


def _asked_for(here: Mapping, names) -> set[str]:
    """What the installed ones of these packages require on this platform, without extras."""
    from packaging.requirements import Requirement

    texts = [text for name in names if name in here for text in here[name].requires or ()]
    wanted = map(Requirement, [text for text in texts if "extra ==" not in text])
    return {_plain(item.name) for item in wanted if item.marker is None or item.marker.evaluate({"extra": ""})}


def _plain(name: str) -> str:
    """A package's name as the index compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()
