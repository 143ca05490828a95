"""The arms of the evaluation: RDS, plain SAM2, the baselines, and controls that tell routing from fine-tuning and from luck."""

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from rds_lib.core.parallel import cpu_workers
from rds_lib.evaluation import baseline_products as baselines
from rds_lib.evaluation.products import (
    ANY,
    CONTROL,
    adapted_full_predictor,
    predictor_for,
    smaller_predictors,
    weights_file,
)
from rds_lib.evaluation.scores import Job, Scores, collect_scores, score_jobs
from rds_lib.methods.files import gated
from rds_lib.methods.placement import PLACEMENTS
from rds_lib.methods.static import PLANS, PUBLISHED_DEPTH, fixed_route, published_plan, random_plan, random_routes
from rds_lib.metrics.boxes import summarise_boxes
from rds_lib.metrics.statistics import bootstrap_ci, difference
from rds_lib.model.macs import block_macs
from rds_lib.model.track import copy_first_mask, track_sequence
from rds_lib.routing.route_table import keep_prob_matrix

CONTROLS = ("random routes", "static top-n", "own mean w", "random static plans", "best fixed route", "oracle of fixed routes")
ADAPTERS = {kind: f"RDS, adapters {where}" for kind, where in zip(
    PLACEMENTS, ("on all blocks", "on random blocks", "on the most active blocks", "nowhere"), strict=True)}


def evaluate_sources(params, sources, folder: Path, *, ranking: pd.DataFrame, keep: Path) -> dict[str, dict]:
    """Score every arm on all data sets; the controls run on DAVIS-shaped sets only.

    The controls run with RDS's own adapted weights and at its own number of active blocks:
    ``random routes`` draws afresh on every frame; ``static top-n`` keeps the most important blocks; ``own mean w`` is
    the fixed route made of RDS's mean keep probabilities on these very clips. ``random static plans`` is the mean of N
    random fixed routes, ``best fixed route`` the best of them, and ``oracle of fixed routes`` takes the best for every
    clip. At the lowest budget also the supplement's ``plan A`` and ``plan B``, 24 blocks each, and at
    ``baselines.placement_budget`` RDS with its adapters on other blocks.

    Parameters
    ----------
    sources : sequence of sources.Source
    folder : Path
        Holds the products of the stages: ``train``, ``baselines/<method>`` and ``placement``.
    ranking : DataFrame
        ``importance.csv``.
    keep : Path
        Receives the masks of SAM2 and of RDS, by data set and method.

    Returns
    -------
    dict ``source name -> (method, level) -> Scores``
    """
    with tempfile.TemporaryDirectory() as temporary:
        run = _Runner(sources, Path(temporary), keep)
        shaped = [source for source in sources if source.layout == "davis2017"]
        run("copy first mask", 0.0, None, copy_first_mask)
        run("SAM2", 1.0, predictor_for(params, routing="full"), masks="SAM2")
        run("SAM2 + I-LoRA", 1.0, adapted_full_predictor(params, weights_file(folder / "train", CONTROL)))
        for config, predictor in smaller_predictors(params).items():
            run(config, 1.0, predictor)
        for method, label, level, file in baselines.rows(params):
            predictor = baselines.baseline_predictor(params, method, folder / "baselines" / method / file)
            run(label, level, predictor, baselines.tracker(predictor))
        for budget in params.evaluation.budgets:
            predictor = predictor_for(params, weights_file(folder / "train", str(budget)), budget=budget)
            run("RDS", budget, predictor, masks=f"RDS_{budget}")
            run("RDS, one for all", budget, predictor_for(params, weights_file(folder / "train", ANY), budget=budget))
            for source in shaped:
                _run_controls(params, run, source, predictor, budget, ranking)
        budget = params.baselines.placement_budget
        for kind, label in ADAPTERS.items() if shaped else ():
            run(label, budget, predictor_for(params, weights_file(folder / "placement", kind), budget=budget), sources=shaped)
    return run.arms


class _Runner:
    """Runs one arm after another, each over the sequences of all data sets at once, and keeps the scores."""

    def __init__(self, sources, temporary: Path, keep: Path):
        self.sources, self.temporary, self.keep = {source: source.sequences() for source in sources}, temporary, keep
        self.arms = {source.name: {} for source in sources}

    def __call__(self, method, level, predictor, track=None, *, masks="", sources=None):
        track = track or (lambda sequence: track_sequence(predictor, sequence))
        sources = list(sources or self.sources)
        jobs = [Job(sequence, source.root, source.layout, source.split, (self.keep if masks else self.temporary) / source.name / masks)
                for source in sources for sequence in self.sources[source]]
        results = iter(score_jobs(track, jobs, workers=cpu_workers(), label=f"{method} {level}"))
        for source in sources:
            scores = collect_scores([next(results) for _ in self.sources[source]], source.layout)
            self.arms[source.name][method, level] = scores if predictor is None else replace(scores, gmacs=realised_gmacs(predictor, scores.routes))


def _run_controls(params, run, source, predictor, budget, ranking):
    arms, seed = run.arms[source.name], params.evaluation.seed
    rds = arms["RDS", budget]
    depth, always_on, n_active = predictor.depth, predictor.always_on, round(rds.active)

    def run_fixed(name, route):
        def track(sequence):
            predictor.set_fixed_route(route(sequence.name) if callable(route) else route)
            return track_sequence(predictor, sequence)
        run(name, budget, predictor, track, sources=[source])

    run_fixed("random routes", lambda name: random_routes(name, depth=depth, always_on=always_on, n_active=n_active, seed=seed))
    importance = -(ranking["global_score"].rank(ascending=False) + ranking["local_score"].rank(ascending=False))
    run_fixed("static top-n", fixed_route(importance.fillna(importance.min()), always_on, n_active))
    run_fixed("own mean w", fixed_route(keep_prob_matrix(rds.routes).mean(0), always_on, n_active))
    rng, plans = np.random.default_rng([seed, n_active]), []
    for number in range(params.evaluation.fixed_routes):
        run_fixed(f"fixed route {number}", random_plan(n_active, depth, always_on, rng))
        plans.append(arms.pop((f"fixed route {number}", budget)))
    if depth == PUBLISHED_DEPTH and budget == min(params.evaluation.budgets):
        for name in PLANS:
            run_fixed(f"plan {name}", published_plan(name, depth))
    if plans:
        arms["random static plans", budget] = mean_of_plans(plans)
        arms["best fixed route", budget] = max(plans, key=lambda scores: scores.objects["JF"].mean())
        arms["oracle of fixed routes", budget] = best_per_sequence(plans)
    predictor.set_fixed_route(None)


def realised_gmacs(predictor, routes: pd.DataFrame) -> float:
    """GMACs of the encoder's blocks, mean over the routed frames of a route table; see ``macs.block_macs``."""
    trunk, depth = predictor.image_encoder.trunk, len(predictor.image_encoder.trunk.blocks)
    without, whole = (np.array(block_macs(trunk, predictor.image_size, [share] * depth)) for share in (0.0, 1.0))
    means = routes[routes["reason"] == "routed"].astype({"active": float}).groupby("block")[["active", "keep_prob"]].mean()
    ran = means["active"].to_numpy()
    kept = means["keep_prob"].to_numpy() if gated(predictor) else ran  # of a router it is a probability, not a share
    return float(ran @ without + kept @ (whole - without)) / 1e9


def mean_of_plans(plans: list[Scores]) -> Scores:
    """Object by object the mean score of several plans of one size: what to expect of one that is drawn at random."""
    objects = pd.concat([plan.objects for plan in plans]).groupby(["sequence", "object"], sort=False, as_index=False).mean(numeric_only=True)
    objects.attrs["summary"] = {"JF": float(objects["JF"].mean())}
    boxes = pd.concat([plan.boxes for plan in plans]).groupby(["sequence", "object"], sort=False, as_index=False).mean(numeric_only=True)
    return Scores(objects, pd.concat([plan.routes.assign(sequence=f"{n} " + plan.routes["sequence"]) for n, plan in enumerate(plans)]),
                  float("nan"), plans[0].frames, boxes, float(np.mean([plan.gmacs for plan in plans])))


def best_per_sequence(plans: list[Scores]) -> Scores:
    """For every sequence the plan with the best mean J&F: what a router that only chose among these plans could reach."""
    means = pd.DataFrame({n: plan.objects.groupby("sequence")["JF"].mean() for n, plan in enumerate(plans)})
    winner = means.idxmax(axis=1)

    def gather(name):
        tables = [(getattr(plans[n], name), sequence) for sequence, n in winner.items()]
        return pd.concat([pd.DataFrame(), *(table[table["sequence"] == sequence] for table, sequence in tables if len(table))], ignore_index=True)

    objects = gather("objects")
    objects.attrs["summary"] = {"JF": float(objects["JF"].mean())}
    return Scores(objects, gather("routes"), float("nan"), plans[0].frames, gather("boxes"), float(np.mean([plans[n].gmacs for n in winner])))


def score_table(arms: dict, *, seed: int, n: int) -> pd.DataFrame:
    """One row per data set, method and level: headline value in points, bootstrap interval, active blocks, GMACs."""
    rows = []
    for dataset, group in arms.items():
        for (method, level), scores in group.items():
            objects = scores.objects
            metric = "G" if "G" in objects.attrs["summary"] else "JF"
            low, high = bootstrap_ci(100 * objects["JF"].to_numpy(), seed=seed, n=n, groups=objects["sequence"].to_numpy())
            rows.append({"dataset": dataset, "method": method, "level": level, "metric": metric,
                         "value": 100 * objects.attrs["summary"][metric], "ci_low": low, "ci_high": high,
                         "active_blocks": scores.active, "gmacs": scores.gmacs, "sequences": objects["sequence"].nunique(), "objects": len(objects)})
    return pd.DataFrame(rows).round(4)


def box_scores(arms: dict) -> pd.DataFrame:
    """One row per DAVIS-shaped data set, method and level: LaSOT's and GOT-10k's scores of the masks' boxes, in percent."""
    rows = [{"dataset": dataset, "method": method, "level": level, **{name: 100 * value for name, value in summarise_boxes(scores.boxes).items()}}
            for dataset, group in arms.items() for (method, level), scores in group.items() if len(scores.boxes)]
    return pd.DataFrame(rows).round(2)


def objects_table(arms: dict) -> pd.DataFrame:
    """Every object's score under every arm, rounded as ``objects.csv`` holds it: what all comparisons are made from."""
    return stack(arms, lambda scores: scores.objects).round(5)


def stack(arms: dict, pick) -> pd.DataFrame:
    """One table of what ``pick`` takes from each arm's scores, with columns ``dataset``, ``method`` and ``level``."""
    return pd.concat([pick(scores).assign(dataset=dataset, method=method, level=level)
                      for dataset, group in arms.items() for (method, level), scores in group.items()], ignore_index=True)


def compare_arms(objects: pd.DataFrame, *, seed: int, n: int) -> pd.DataFrame:
    """RDS minus every other arm at the same level, and minus the whole models, paired object by object.

    ``objects`` is what :func:`objects_table` gives; the order of its arms is the order of the rows and changes no number.
    """
    rows = []
    for dataset, own in objects.groupby("dataset", sort=False):
        arms = list(own[["method", "level"]].drop_duplicates().itertuples(index=False, name=None))
        for level in [level for method, level in arms if method == "RDS"]:
            for other, other_level in arms:
                if other != "RDS" and other_level in (level, 1.0):
                    found = difference(own, ("RDS", level), (other, other_level), seed=seed, n=n)
                    rows.append({"dataset": dataset, "level": level, "against": other,
                                 "effect": found.effect, "ci_low": found.low, "ci_high": found.high})
    return pd.DataFrame(rows).round(3)
