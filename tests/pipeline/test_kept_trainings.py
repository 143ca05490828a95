"""Trainings are taken from those that are shipped, where nothing that they follow from differs, and else done."""

from functools import partial

import pytest

from rds_lib import load_params
from rds_lib.core.artifacts import read_table
from rds_lib.core.errors import RDSInputError
from rds_lib.pipeline import kept_trainings, ship, training_runs
from rds_lib.pipeline.kept_trainings import about, renewing
from rds_lib.pipeline.training_runs import train_blocks
from rds_lib.work.steps import Enough, first_steps


@pytest.fixture
def params(mini_weights):
    return (
        load_params("smoke")
        .with_section("model", checkpoint=str(mini_weights))
        .with_section("train", steps=3, frames=2)
    )


@pytest.fixture
def train(params, sequences, tmp_path, monkeypatch):
    """Train in a cache of a name; another ``code`` gives another key."""
    monkeypatch.setattr(training_runs, "training_sequences", lambda *_: (sequences, sequences))
    monkeypatch.setattr(kept_trainings, "SHIPPED", tmp_path / "shipped")
    monkeypatch.setattr(ship, "SHIPPED", tmp_path / "shipped")
    monkeypatch.setattr(ship, "CARD", tmp_path / "shipped" / "CARD.md")
    done = []

    def run(cache, code=(), **changed):
        monkeypatch.setattr(kept_trainings, "CACHE", tmp_path / cache)
        monkeypatch.setattr(training_runs, "fingerprint", partial(fingerprint, rooms=("training", *code)))
        return train_blocks(params.with_section("train", **changed), tmp_path, "0.4", (0.4,), [0], 2)

    inner, fingerprint = training_runs.train_rds, training_runs.fingerprint
    monkeypatch.setattr(training_runs, "train_rds", lambda *args, **options: (done.append(1), inner(*args, **options)))
    run.done = done
    return run


@pytest.fixture
def shipped(train, params, tmp_path, monkeypatch):
    """The training of the first cache, shipped."""
    weights = train("first")
    one = ship.Training("train", "RDS", 0.4, 0, weights)
    monkeypatch.setattr(ship, "trainings", lambda *_: [one])
    ship.ship(params, tmp_path)
    return weights


def test_a_shipped_training_is_taken_as_it_was_done(train, shipped):
    weights = train("second")
    assert train.done == [1] and weights != shipped and weights.read_bytes() == shipped.read_bytes()
    assert len(read_table(weights.with_name("log.csv"))) == 3
    assert about(weights)["shipped"] and about(weights)["seconds"] == about(shipped)["seconds"] > 0
    assert not about(shipped)["shipped"]


def test_what_differs_is_trained(train, shipped):
    assert not about(train("second", lr_lora=1e-5))["shipped"] and train.done == [1, 1]


def test_a_shipped_training_that_was_changed_is_refused(train, shipped, tmp_path):
    file = tmp_path / "shipped" / shipped.parent.name / "rds.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(RDSInputError, match="not as it was shipped; git checkout"):
        train("second")


def test_a_training_of_other_code_is_kept_if_its_first_steps_are_the_same(train, shipped):
    with renewing(2):
        weights = train("second", code=("metrics",))
    assert weights.parent.name != shipped.parent.name and weights.read_bytes() == shipped.read_bytes()
    assert about(weights)["shipped"] and len(read_table(weights.with_name("log.csv"))) == 3


def test_a_training_of_other_code_is_done_again_if_its_first_steps_differ(train, shipped):
    with renewing(2):
        weights = train("second", code=("metrics",), lr_router=0.5)
    assert not about(weights)["shipped"] and weights.read_bytes() != shipped.read_bytes()
    assert not about(train("third", code=("metrics",)))["shipped"], "nobody asked to look at the first steps"


def test_first_steps_are_those_of_the_whole_training(train, shipped, tmp_path):
    with pytest.raises(Enough), first_steps(2):
        train("second", code=("metrics",))
    (log,) = (tmp_path / "second").rglob("log.csv")
    whole = shipped.with_name("log.csv").read_text()
    assert len(read_table(log)) == 2 and whole.startswith(log.read_text())


def test_the_card_names_every_training_and_what_is_no_longer_one_goes(train, shipped, params, tmp_path, monkeypatch):
    text = (tmp_path / "shipped" / "CARD.md").read_text()
    assert "| train | RDS | 0.4 | 0 | 3 x 1 |" in text and shipped.parent.name in text
    other = train("second", lr_lora=1e-5)
    monkeypatch.setattr(ship, "trainings", lambda *_: [ship.Training("train", "RDS", 0.4, 0, other)])
    monkeypatch.setattr(ship, "MOST", 0)
    with pytest.raises(RDSInputError, match="may be shipped: fewer levels"):
        ship.ship(params, tmp_path)
    assert (tmp_path / "shipped" / shipped.parent.name).is_dir()
    monkeypatch.setattr(ship, "MOST", 1)
    ship.ship(params, tmp_path)
    assert [path.name for path in (tmp_path / "shipped").iterdir() if path.is_dir()] == [other.parent.name]
