"""The repository's root and its few named folders; nothing else spells a location out."""

import os
from pathlib import Path

from rds_lib.core.errors import RDSInputError

_PACKAGE = Path(__file__).resolve().parent.parent
_COPY = _PACKAGE / "shipped"  # in an installed package: the files that it takes along, see setup.py
ROOT = _COPY if _COPY.is_dir() else _PACKAGE.parent
NOTEBOOKS = ROOT / "notebooks"
PARAMS = ROOT / "params"
ASSETS = ROOT / "assets"
MINI_SAM2 = ASSETS / "mini_sam2"
MINI_SAM2_VIDEOS = ("blackswan", "bmx-trees", "camel", "parkour", "soapbox")  # of DAVIS: they trained these weights
REPORTS = ROOT / "reports"
BUILD = ROOT / "build"
RUNS = ROOT / "runs"
SMOKE = ROOT / ".smoke"
CACHE = ROOT / ".cache"
DATA = ROOT / "data"

PUBLISHED = "mini"  # the profile whose results lie in reports/ itself


def shipped(path: Path) -> Path:
    """Return a file that comes with the package; say how to install it where it did not come."""
    if not path.is_file():
        raise RDSInputError(
            f"{path} is missing: rds_lib was installed without it; use pip install . or -e . in a clone"
        )
    return path


def check_checkout() -> None:
    """Raise in an installed package: the pipeline's notebooks, stages and data lie in the repository."""
    if ROOT == _COPY:
        raise RDSInputError(f"{_PACKAGE}: no repository, which the pipeline needs; pip install -e . in a clone of it")


def reports(profile: str) -> Path:
    """Return the folder of a profile's committed results."""
    return REPORTS if profile == PUBLISHED else REPORTS / profile


def products(profile: str) -> Path:
    """Return the folder that the stages of one profile write to, as ``dvc.yaml`` says; tests set ``RDS_WORKDIR``."""
    named = os.environ.get("RDS_WORKDIR")
    return Path(named) if named else RUNS / profile


def workdir(profile: str) -> Path:
    """Return the folder that a notebook works in: `products`, which its runner sets as ``RDS_WORKDIR``.

    A notebook opened by hand has profile smoke, whose stages it must not disturb, and works in ``.smoke``.
    """
    return SMOKE if profile == "smoke" and not os.environ.get("RDS_WORKDIR") else products(profile)


def resolve(text: str) -> Path:
    """Return a path written in a profile: relative ones start at the repository's root."""
    return ROOT / Path(text).expanduser()


def resolve_or_none(text: str) -> Path | None:
    """Return a path written in a profile as ``resolve`` does; None for the empty text."""
    return resolve(text) if text else None


def shown(path: Path) -> str:
    """Return a path as messages print it: relative to the root where it lies below it."""
    path = Path(path).absolute()
    return path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else str(path)
