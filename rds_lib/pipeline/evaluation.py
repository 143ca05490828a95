"""Stage `evaluation`: score all arms on all data sets of a profile."""

from pathlib import Path

from rds_lib.core.artifacts import read_table, require, write_json, write_table
from rds_lib.data.sources import validation_sources
from rds_lib.evaluation.baseline_products import LABELS
from rds_lib.evaluation.controls import box_scores, compare_arms, evaluate_sources, objects_table, score_table, stack
from rds_lib.pipeline.baselines import run_baseline
from rds_lib.pipeline.placement import run_placement
from rds_lib.pipeline.train import run_training
from rds_lib.routing.route_table import route_spread


def run_evaluation(params, workdir: Path, out: Path) -> None:
    """Score all arms on all data sets of the profile.

    Writes ``table.csv`` (one row per method, level and data set), ``boxes.csv`` (the same for the masks' boxes),
    ``objects.csv`` (every object's score),
    ``comparisons.csv`` (paired differences with intervals), ``routes.csv`` and ``spread.csv`` (what RDS ran, per
    frame and block) and ``metrics.json``.
    """
    require("train", workdir, build=lambda path: run_training(params, workdir, path), stage="train")
    require("placement", workdir, build=lambda path: run_placement(params, workdir, path), stage="placement")
    for method in LABELS:
        require(f"baselines/{method}", workdir, build=lambda path: run_baseline(params, workdir, method, path), stage="baseline")
    ranking = read_table(workdir / "importance" / "importance.csv")
    arms = evaluate_sources(params, validation_sources(params, workdir), workdir, ranking=ranking, keep=out / "predictions")
    seed, n, objects = params.evaluation.seed, params.evaluation.bootstrap, objects_table(arms)
    table = score_table(arms, seed=seed, n=n)
    write_table(out / "table.csv", table)
    write_table(out / "boxes.csv", box_scores(arms))
    write_table(out / "comparisons.csv", compare_arms(objects, seed=seed, n=n))
    write_table(out / "objects.csv", objects)
    routed = {name: {key: s for key, s in group.items() if key[0] == "RDS"} for name, group in arms.items()}
    write_table(out / "routes.csv", stack(routed, lambda scores: scores.routes).round(4))
    write_table(out / "spread.csv", stack(routed, lambda scores: route_spread(scores.routes)).round(5))
    metrics = {}
    for row in table.itertuples():
        metrics.setdefault(row.dataset, {}).setdefault(row.method, {})[str(row.level)] = round(row.value, 2)
    write_json(out / "metrics.json", metrics, schema=None)

