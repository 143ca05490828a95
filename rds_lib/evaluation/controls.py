"""Controls that tell routing from fine-tuning and from luck: fixed routes with RDS's weights and its number of blocks.

To add one, write a function that makes its route from a `Situation` and put ``@control("its name")`` before it.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from rds_lib.evaluation.names import OWN_MEAN, RANDOM, TOP_N
from rds_lib.evaluation.scores import Scores
from rds_lib.methods import static
from rds_lib.model.shape import EncoderShape
from rds_lib.routing.route_table import keep_prob_matrix


@dataclass(frozen=True)
class Situation:
    """What a control is made from: what RDS did at one budget on one data set."""

    rds: Scores
    shape: EncoderShape
    ranking: pd.DataFrame  # importance.csv
    seed: int

    @property
    def n_active(self) -> int:
        """Blocks that a control runs: as many as RDS does, mean over routed frames."""
        return round(self.rds.active_routed)


CONTROLS: dict[str, Callable[[Situation], object]] = {}


def control(name: str) -> Callable:
    """Register a function ``Situation -> route`` as a control that runs at every budget.

    The route is L flags, or a function of a sequence that returns L flags or a function of frame_idx.
    """

    def add(make):
        CONTROLS[name] = make
        return make

    return add


@control(RANDOM)
def random_routes(given: Situation):
    """A fresh random route on every frame."""
    shape = given.shape
    return lambda sequence: static.random_routes(
        sequence.name, depth=shape.depth, always_on=shape.always_on, n_active=given.n_active, seed=given.seed
    )


@control(TOP_N)
def most_important_blocks(given: Situation):
    """The most important blocks, by the sum of both ranks."""
    ranks = given.ranking[["global_score", "local_score"]].rank(ascending=False)
    importance = -(ranks["global_score"] + ranks["local_score"])
    return static.fixed_route(importance.fillna(importance.min()), given.shape.always_on, given.n_active)


@control(OWN_MEAN)
def own_mean_route(given: Situation):
    """RDS's largest mean keep probabilities on these very clips: its choice of blocks without its choice of frames."""
    return static.fixed_route(keep_prob_matrix(given.rds.routes).mean(0), given.shape.always_on, given.n_active)


def published_plan(name: str) -> Callable[[Situation], object]:
    """The supplement's static plan ``A`` or ``B`` of 24 blocks; no route (None) for an encoder of another depth."""

    def make(given):
        return static.published_plan(name, given.shape.depth) if given.shape.depth == static.PUBLISHED_DEPTH else None

    return make


def random_plans(given: Situation, number: int) -> list[list[bool]]:
    """Fixed routes drawn at random; the first ones stay when ``number`` grows."""
    rng = np.random.default_rng([given.seed, given.n_active])
    return [static.random_plan(given.n_active, given.shape.depth, given.shape.always_on, rng) for _ in range(number)]


def mean_of_plans(plans: list[Scores]) -> Scores:
    """Score each object by its mean over several plans: what to expect of a plan drawn at random."""
    objects, boxes = (
        pd.concat(tables).groupby(["sequence", "object"], sort=False, as_index=False).mean(numeric_only=True)
        for tables in ([plan.objects for plan in plans], [plan.boxes for plan in plans])
    )
    objects.attrs["summary"] = {"JF": float(objects["JF"].mean())}
    routes = pd.concat([plan.routes.assign(sequence=f"{n} " + plan.routes["sequence"]) for n, plan in enumerate(plans)])
    return Scores(objects, routes, float("nan"), plans[0].frames, boxes, *_work(plans))


def best_plan(plans: list[Scores]) -> Scores:
    """Take the plan with the best mean J&F over all objects."""
    return max(plans, key=lambda scores: scores.objects["JF"].mean())


def best_per_sequence(plans: list[Scores]) -> Scores:
    """Take each sequence from the plan with its best mean J&F: what a router among these plans could reach."""
    means = pd.DataFrame({n: plan.objects.groupby("sequence")["JF"].mean() for n, plan in enumerate(plans)})
    winner = means.idxmax(axis=1)

    def gather(name):
        tables = [(getattr(plans[n], name), sequence) for sequence, n in winner.items()]
        rows = [table[table["sequence"] == sequence] for table, sequence in tables if len(table)]
        return pd.concat([pd.DataFrame(), *rows], ignore_index=True)

    objects = gather("objects")
    objects.attrs["summary"] = {"JF": float(objects["JF"].mean())}
    work = _work([plans[n] for n in winner])
    return Scores(objects, gather("routes"), float("nan"), plans[0].frames, gather("boxes"), *work)


def _work(plans: list[Scores]) -> tuple[float, float]:
    """Mean GMACs over all and over routed frames."""
    return tuple(float(np.mean([getattr(plan, name) for plan in plans])) for name in ("gmacs", "gmacs_routed"))


OF_PLANS = {
    "random static plans": mean_of_plans,
    "best fixed route": best_plan,
    "oracle of fixed routes": best_per_sequence,
}
