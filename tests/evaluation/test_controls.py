"""Controls: which blocks each keeps, and what is made of several random plans."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from rds_lib.evaluation.controls import (
    CONTROLS,
    Situation,
    best_per_sequence,
    best_plan,
    mean_of_plans,
    published_plan,
    random_plans,
)
from rds_lib.evaluation.names import OWN_MEAN, RANDOM, TOP_N
from rds_lib.evaluation.scores import Scores
from rds_lib.methods.static import PLANS
from rds_lib.model.shape import EncoderShape

K = (0, 2, 8, 44, 47)


def scores(jf, *, active=1):
    """Scores from ``{(sequence, object): JF}``; every sequence has one routed frame with ``active`` blocks of 4."""
    objects = pd.DataFrame([(name, obj, x) for (name, obj), x in jf.items()], columns=["sequence", "object", "JF"])
    rows = [(name, 1, i, i < active, 0.5, "routed") for name in dict.fromkeys(objects["sequence"]) for i in range(4)]
    routes = pd.DataFrame(rows, columns=["sequence", "frame_idx", "block", "active", "keep_prob", "reason"])
    boxes = objects[["sequence", "object"]].assign(success=float(active))
    return Scores(objects, routes, 1.0, 7, boxes, 2.0 * active, float(active))


FIXED = [
    scores({("a", 1): 0.9, ("a", 2): 0.1, ("b", 1): 0.3}, active=1),
    scores({("a", 1): 0.4, ("a", 2): 0.5, ("b", 1): 0.8}, active=2),
    scores({("a", 1): 0.8, ("a", 2): 0.4, ("b", 1): 0.1}, active=3),
]


@pytest.fixture
def given():
    """RDS ran 20 blocks of 48 and is surest of the first ones; the last ones are the most important."""
    block = np.arange(48)
    routes = pd.DataFrame(
        {
            "sequence": "a",
            "frame_idx": 1,
            "block": block,
            "active": block < 20,
            "reason": "routed",
            "keep_prob": 1 - block / 100,
        }
    )
    first = routes.assign(frame_idx=0, active=True, reason="first_frame", keep_prob=1.0)
    routes = pd.concat([first, routes])
    ranking = pd.DataFrame({"global_score": block.astype(float), "local_score": block.astype(float)})
    ranking.loc[list(K)] = np.nan
    return Situation(Scores(pd.DataFrame(), routes, 1.0, 1), EncoderShape(48, K[:-1], K), ranking, seed=3)


def kept(route):
    return np.flatnonzero(route).tolist()


def test_each_control_keeps_the_blocks_it_is_named_for_and_as_many_as_rds(given):
    free = [i for i in range(48) if i not in K]
    assert given.n_active == 20
    assert kept(CONTROLS[TOP_N](given)) == sorted([*K, *free[-15:]])
    assert kept(CONTROLS[OWN_MEAN](given)) == sorted([*K, *free[:15]])
    sequence = SimpleNamespace(name="a")
    drawn = [kept(CONTROLS[RANDOM](given)(sequence)(t)) for t in range(4)]
    assert all(len(blocks) == 20 and set(K) <= set(blocks) for blocks in drawn) and drawn[0] != drawn[1]
    assert kept(published_plan("A")(given)) == list(PLANS["A"])
    half = replace(given, shape=EncoderShape(24, (0,), (0, 23)))
    assert published_plan("A")(half) is None, "the published plans are for 48 blocks"


def test_the_first_random_plans_stay_when_more_are_drawn(given):
    plans = random_plans(given, 3)
    assert random_plans(given, 2) == plans[:2] and plans[0] != plans[1]
    assert all(sum(plan) == 20 and set(K) <= set(kept(plan)) for plan in plans)


def test_the_oracle_takes_the_best_plan_of_every_sequence():
    best = best_per_sequence(FIXED)
    assert dict(zip(zip(best.objects["sequence"], best.objects["object"]), best.objects["JF"])) == {
        ("a", 1): 0.8,
        ("a", 2): 0.4,
        ("b", 1): 0.8,
    }
    assert best.objects.attrs["summary"]["JF"] == pytest.approx(2 / 3)
    assert best.routes.groupby("sequence")["active"].sum().to_dict() == {"a": 3, "b": 2}
    assert best.frames == 7 and best.gmacs == 5 and best.gmacs_routed == 2.5


def test_the_oracle_is_at_least_as_good_as_the_best_plan():
    rng = np.random.default_rng(0)
    plans = [scores({(name, 1): x for name, x in zip("abcd", rng.random(4))}) for _ in range(5)]
    means = [plan.objects["JF"].mean() for plan in plans]
    assert best_plan(plans).objects["JF"].mean() == max(means) < best_per_sequence(plans).objects["JF"].mean()


def test_random_static_plans_are_scored_by_their_mean():
    mean = mean_of_plans(FIXED)
    assert mean.objects.set_index(["sequence", "object"])["JF"].to_dict() == pytest.approx(
        {("a", 1): 0.7, ("a", 2): 1 / 3, ("b", 1): 0.4}
    )
    assert mean.objects.attrs["summary"]["JF"] == pytest.approx((0.7 + 1 / 3 + 0.4) / 3)
    assert mean.active == 2 and mean.gmacs == 4 and mean.gmacs_routed == 2 and (mean.boxes["success"] == 2).all()
