"""Stage `evaluation`: score all arms on all data sets of a profile."""

from pathlib import Path

from rds_lib.core.artifacts import read_table, write_json, write_table
from rds_lib.data.origin import FILE
from rds_lib.data.sources import validation_sources
from rds_lib.evaluation.evaluate import evaluate_arms
from rds_lib.evaluation.names import RDS
from rds_lib.evaluation.recordings import SHAPE
from rds_lib.evaluation.tables import box_scores, compare_arms, objects_table, score_table, stack, with_truth
from rds_lib.model.backbone import backbone_of
from rds_lib.model.sam2 import build_model
from rds_lib.pipeline.arms import arms, repeated_arms, trained_parameters
from rds_lib.pipeline.kept import arms_folder
from rds_lib.pipeline.stages import require
from rds_lib.pipeline.weights import origins
from rds_lib.routing.route_table import route_spread

AFTER = ("importance", "train", "baselines")
RANKS = ("block", "global_score", "local_score")


def run(params, workdir: Path, out: Path) -> None:
    """Score all arms on all data sets of the profile.

    Writes ``table.csv`` (a row per method, level and data set), ``boxes.csv`` (the same for the masks' boxes),
    ``objects.csv`` (every object's score), ``comparisons.csv`` (paired differences with intervals), ``routes.csv`` and
    ``spread.csv`` (what RDS ran, per frame and block), ``encoder.json`` (the layout of the encoder's blocks),
    ``model.json`` (which weights), ``metrics.json``, and the masks of SAM2 and RDS below ``predictions``. Routes and
    masks are of the first seed. A data set whose ground truth is kept back, as YouTube-VOS 2019 valid, has masks and
    routes and no scores. Arms that are done are kept in ``.cache/evaluation``.
    """
    for stage in AFTER:
        require(stage, params, workdir)
    section, ranking = params.evaluation, read_table(workdir / "importance" / "importance.csv", columns=RANKS)
    trained = trained_parameters(params, workdir)
    sources, options = validation_sources(params, workdir), {"ranking": ranking, "seed": section.seed}
    cache = arms_folder("evaluation", params, workdir, after=AFTER)
    first = {"cache": cache / "first", "keep": out / "predictions", "plans": section.fixed_routes}
    results = evaluate_arms(arms(params, workdir), sources, **first, **options)
    repeated = {
        seed: evaluate_arms(repeated_arms(params, workdir, seed), sources, cache=cache / f"seed{seed}", **options)
        for seed in params.train.more_seeds
    }
    scored = with_truth(results)
    objects = objects_table(scored, {seed: with_truth(own) for seed, own in repeated.items()}, first=params.train.seed)
    table = score_table(scored, repeated, seed=section.seed, n=section.bootstrap, trained=trained)
    write_table(out / "table.csv", table)
    write_table(out / "boxes.csv", box_scores(scored))
    write_table(out / "comparisons.csv", compare_arms(objects, seed=section.seed, n=section.bootstrap))
    write_table(out / "objects.csv", objects)
    routed = {name: {key: scores for key, scores in group.items() if key[0] == RDS} for name, group in results.items()}
    write_table(out / "routes.csv", stack(routed, lambda scores: scores.routes).round(4))
    write_table(out / "spread.csv", stack(routed, lambda scores: route_spread(scores.routes)).round(5))
    write_json(out / FILE, origins(params))
    write_json(out / SHAPE, backbone_of(build_model(params.model.config, False)).shape.as_dict())
    metrics = {}
    for row in table.itertuples():
        metrics.setdefault(row.dataset, {}).setdefault(row.method, {})[str(row.level)] = round(row.value, 2)
    write_json(out / "metrics.json", metrics, schema=None)
