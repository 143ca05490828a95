"""The page on distillation says what its tables say, and the profiles have the default that it names."""

import importlib.util
from pathlib import Path

import pytest

from rds_lib import load_params
from rds_lib.core.artifacts import read_table

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "reports" / "dinov3" / "distillation"


@pytest.fixture(scope="module")
def levers():
    spec = importlib.util.spec_from_file_location("levers", ROOT / "benchmarks" / "levers.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_has_the_table_of_its_trials(levers):
    assert levers.summary(FOLDER) in (FOLDER / "README.md").read_text(encoding="utf-8")


def test_three_seeds_do_not_tell_the_ways_apart_so_the_default_is_the_plain_one(levers):
    objects = read_table(FOLDER / "objects.csv")
    rows = objects[objects["variant"] == "damage"]
    gap = levers.minus_plain(rows, objects, "damage", 0.6)
    assert rows["seed"].nunique() == 3 and gap.low < 0 < gap.high
    assert all(load_params(name).dinov3.distil == 0 for name in ("smoke", "mini", "mini_all", "evidence", "paper"))
