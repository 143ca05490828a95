"""The arms of the evaluation: RDS, plain SAM2, and the controls that tell routing from fine-tuning and from luck."""

from pathlib import Path

import numpy as np
import pandas as pd

from rds_lib.baselines.static import PLANS, PUBLISHED_DEPTH, published_plan
from rds_lib.evaluate import (
    Scores, copy_first_mask, fixed_route, keep_prob_matrix, paired_difference, random_routes, score_tracker, track_sequence,
)
from rds_lib.metrics import bootstrap_ci
from rds_lib.parallel import cpu_workers
from rds_lib.products import ANY, CONTROL, adapted_full_predictor, predictor_for, weights_file

HEADLINE = {"davis2017": "JF", "sav": "JF", "ytvos": "G"}
CONTROLS = ("random routes", "static top-n", "own mean w", "best fixed route", "oracle of fixed routes")


def evaluate_source(params, source, weights: Path, ranking: pd.DataFrame, *, keep: Path) -> dict:
    """Score every arm on one data set; the controls run on DAVIS-shaped sets only.

    The controls run with RDS's own adapted weights and at its own number of active blocks:
    ``random routes`` draws afresh on every frame; ``static top-n`` keeps the most important blocks; ``own mean w`` is
    the fixed route made of RDS's mean keep probabilities on these very clips; ``best fixed route`` is the best of N
    random fixed routes, and ``oracle of fixed routes`` takes the best of the same N for every clip. At the lowest budget
    also the supplement's ``plan A`` and ``plan B``, 24 blocks each.

    Returns
    -------
    dict ``(method, level) -> Scores``
    """
    sequences, arms = source.sequences(), {}

    def run(method, level, track, folder=None):
        arms[method, level] = score_tracker(track, sequences, source.root, layout=source.layout, split=source.split, keep=folder,
                                            workers=cpu_workers(), label=f"{source.name}: {method} {level}")

    def tracker(predictor):
        return lambda sequence: track_sequence(predictor, sequence)

    run("copy first mask", 0.0, copy_first_mask)
    run("SAM2", 1.0, tracker(predictor_for(params, routing="full")), keep / source.name / "SAM2")
    run("SAM2 + I-LoRA", 1.0, tracker(adapted_full_predictor(params, weights_file(weights, CONTROL))))
    for budget in params.evaluation.budgets:
        predictor = predictor_for(params, weights_file(weights, str(budget)), budget=budget)
        run("RDS", budget, tracker(predictor), keep / source.name / f"RDS_{budget}")
        run("RDS, one for all", budget, tracker(predictor_for(params, weights_file(weights, ANY), budget=budget)))
        if source.layout == "davis2017":
            _run_controls(params, run, arms, predictor, budget, ranking)
    return arms


def _run_controls(params, run, arms, predictor, budget, ranking):
    rds, seed = arms["RDS", budget], params.evaluation.seed
    depth, always_on, n_active = predictor.depth, predictor.always_on, round(rds.active)

    def fixed(route):
        def track(sequence):
            predictor.set_fixed_route(route(sequence.name) if callable(route) else route)
            return track_sequence(predictor, sequence)
        return track

    run("random routes", budget, fixed(
        lambda name: random_routes(name, depth=depth, always_on=always_on, n_active=n_active, seed=seed)))
    importance = -(ranking["global_score"].rank(ascending=False) + ranking["local_score"].rank(ascending=False))
    run("static top-n", budget, fixed(fixed_route(importance.fillna(importance.min()), always_on, n_active)))
    run("own mean w", budget, fixed(fixed_route(keep_prob_matrix(rds.routes).mean(0), always_on, n_active)))
    rng, plans = np.random.default_rng([seed, n_active]), []
    for number in range(params.evaluation.fixed_routes):
        run(f"fixed route {number}", budget, fixed(fixed_route(rng.random(depth), always_on, n_active)))
        plans.append(arms.pop((f"fixed route {number}", budget)))
    if depth == PUBLISHED_DEPTH and budget == min(params.evaluation.budgets):
        for name in PLANS:
            run(f"plan {name}", budget, fixed(published_plan(name, depth)))
    if plans:
        arms["best fixed route", budget] = max(plans, key=lambda scores: scores.objects["JF"].mean())
        arms["oracle of fixed routes", budget] = best_per_sequence(plans)
    predictor.set_fixed_route(None)


def best_per_sequence(plans: list[Scores]) -> Scores:
    """For every sequence the plan with the best mean J&F: what a router that only chose among these plans could reach."""
    means = pd.DataFrame({n: plan.objects.groupby("sequence")["JF"].mean() for n, plan in enumerate(plans)})
    winner = means.idxmax(axis=1)
    rows = [plans[n].objects[plans[n].objects["sequence"] == name] for name, n in winner.items()]
    routes = [plans[n].routes[plans[n].routes["sequence"] == name] for name, n in winner.items()]
    objects = pd.concat(rows, ignore_index=True)
    objects.attrs["summary"] = {"JF": float(objects["JF"].mean())}
    return Scores(objects, pd.concat(routes, ignore_index=True), float("nan"), plans[0].frames)


def summarise(arms: dict, *, generator, n: int) -> pd.DataFrame:
    """One row per data set, method and level: headline value in points, bootstrap interval, active blocks."""
    rows = []
    for dataset, group in arms.items():
        for (method, level), scores in group.items():
            objects = scores.objects
            metric = "G" if "G" in objects.attrs["summary"] else "JF"
            low, high = bootstrap_ci(100 * objects["JF"].to_numpy(), generator=generator, n=n, groups=objects["sequence"].to_numpy())
            rows.append({"dataset": dataset, "method": method, "level": level, "metric": metric,
                         "value": 100 * objects.attrs["summary"][metric], "ci_low": low, "ci_high": high,
                         "active_blocks": scores.active, "sequences": objects["sequence"].nunique(), "objects": len(objects)})
    return pd.DataFrame(rows).round(3)


def compare_arms(arms: dict, *, generator, n: int) -> pd.DataFrame:
    """RDS minus every other arm at the same level, and minus the full models, paired object by object."""
    rows = []
    for dataset, group in arms.items():
        for (method, level), scores in group.items():
            if method != "RDS":
                continue
            for (other, other_level), rival in group.items():
                if other != "RDS" and (other_level == level or other.startswith("SAM2")):
                    rows.append({"dataset": dataset, "level": level, "against": other,
                                 **paired_difference(scores, rival, generator=generator, n=n)})
    return pd.DataFrame(rows).round(3)
