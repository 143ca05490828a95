"""Stage `dinov3`: RDS on a second backbone, the paper's Table 8 in small, with everything else reused.

Its folder has the files of `importance`, `train`, `evaluation` and `benchmark` under their names. The whole model is
called ``DINOv3`` in them, and what is routed as ever.
"""

import tempfile
from functools import partial
from pathlib import Path

import pandas as pd
import torch

from rds_lib.core.artifacts import copied, read_table, write_json, write_table
from rds_lib.data.batches import SequenceBatches
from rds_lib.data.clips import write_timing_clips
from rds_lib.data.origin import FILE
from rds_lib.data.sources import training_sequences, validation_sources
from rds_lib.dinov3.build import build_rds_dino_tracker
from rds_lib.dinov3.tracker import DinoTracker
from rds_lib.evaluation.arm import Arm
from rds_lib.evaluation.benchmark import benchmark_predictors
from rds_lib.evaluation.controls import CONTROLS
from rds_lib.evaluation.evaluate import evaluate_arms
from rds_lib.evaluation.names import DINO, DINO_ADAPTED, FULL, RDS, STILL
from rds_lib.evaluation.recordings import SHAPE
from rds_lib.evaluation.tables import compare_arms, objects_table, score_table, stack
from rds_lib.model.backbone import origin_of
from rds_lib.model.track import copy_first_mask
from rds_lib.pipeline.dinov3_runs import dino_clips, dino_runs, trainings
from rds_lib.pipeline.kept import arms_folder
from rds_lib.pipeline.kept_trainings import about
from rds_lib.pipeline.training_runs import calibrate_run
from rds_lib.pipeline.weights import CONTROL, seeded, weights_file
from rds_lib.routing.importance import measure_importance, rank_blocks
from rds_lib.routing.route_table import route_spread
from rds_lib.routing.weights import load_rds
from rds_lib.work import ranks
from rds_lib.work.parallel import cpu_workers, map_items


def run(params, workdir: Path, out: Path) -> pd.DataFrame:
    """Score blocks, train RDS at every budget and the full-depth control, evaluate and time them; return the scores.

    Writes ``importance.csv``, ``blocks.json``, ``rds_<run>.safetensors``, ``train_log.csv``, ``trained.csv``,
    ``calibration.csv``, ``table.csv``, ``objects.csv``, ``comparisons.csv``, ``routes.csv``, ``spread.csv``,
    ``encoder.json``, ``model.json``, the masks below ``predictions``, and ``speed.csv``, ``blocks.csv`` and
    ``frames.csv`` of the benchmark.
    """
    train, calibration = training_sequences(params, workdir)
    ranking = _rank(params, train, out)
    blocks = ranking.loc[ranking["selected"], "block"].tolist()
    jobs = trainings(params, train, blocks)
    done = map_items(lambda job: job(), jobs.values(), workers=cpu_workers(), label="DINOv3", together=True)
    logs, thresholds, taken, runs = [], [], [], dino_runs(params)
    for name, weights in zip(jobs, done, strict=True):
        budgets = runs[name].budgets
        with copied(weights, weights_file(out, name)) as path:
            found, _ = calibrate_run(params, path, budgets, calibration, build=tracker)
        logs.append(read_table(weights.with_name("log.csv")).assign(run=name))
        thresholds += [{"run": name, **row} for row in found]
        taken.append({"run": name, "shipped": about(weights)["shipped"]})
    write_table(out / "train_log.csv", pd.concat(logs, ignore_index=True))
    write_table(out / "calibration.csv", pd.DataFrame(thresholds))
    write_table(out / "trained.csv", pd.DataFrame(taken))
    if not ranks.is_shared():  # times are those of one process that has the machine to itself
        _time(params, out)
    return _evaluate(params, workdir, ranking, out)


def tracker(params, rds_path: Path | None = None, **options) -> DinoTracker:
    """The profile's tracker; options go to `build_rds_dino_tracker`."""
    section = params.dinov3
    options |= {"short_side": section.short_side, "always_on": section.always_on or None}
    return build_rds_dino_tracker(section.checkpoint, rds_path, **options)


def _rank(params, train, out) -> pd.DataFrame:
    section, clips = params.dinov3, dino_clips(params)
    options = {"seed": section.seed, "batch": section.clips, "frames": 2 * section.frames, "first_step": 0, "steps": 1}
    table = measure_importance(clips, [SequenceBatches(train, size=clips.backbone.image_size, **options)[0]])
    always_on = clips.backbone.always_on
    blocks = rank_blocks(table["global_score"], table["local_score"], always_on, section.k_sel)
    full = round(table.attrs["jf_full"], 3)
    table = table.assign(selected=table["block"].isin(blocks)).round(6)
    write_table(out / "importance.csv", table)
    write_json(out / "blocks.json", {"blocks": blocks, "always_on": list(always_on), "jf_full": full})
    return table


def arms(params, out: Path) -> list[Arm]:
    """The rows of the evaluation, with the weights in ``out``; at each budget RDS is followed by its controls."""
    found = [Arm(STILL, 0.0, track=lambda _: copy_first_mask)]
    found.append(Arm(DINO, 1.0, partial(tracker, params), keep_masks=True))
    found.append(Arm(DINO_ADAPTED, 1.0, partial(_adapted, params, weights_file(out, CONTROL))))
    return found + routed_arms(params, out)


def routed_arms(params, out: Path, seed: int | None = None) -> list[Arm]:
    """RDS and its controls at every budget; ``seed`` is a repetition's."""
    found = []
    budgets = params.dinov3.budgets
    for budget in budgets if seed is None else params.dinov3.again(budgets):
        build = partial(tracker, params, weights_file(out, seeded(str(budget), seed)), budget=budget)
        found.append(Arm(RDS, budget, build, kind="learned", keep_masks=seed is None))
        found += [Arm(name, budget, build, kind="forced", route=make) for name, make in CONTROLS.items()]
    return found


def _evaluate(params, workdir, ranking, out) -> pd.DataFrame:
    section = params.evaluation
    sources = [source for source in validation_sources(params, workdir) if source.layout == "davis2017"]
    options, resampling = {"ranking": ranking, "seed": section.seed}, {"seed": section.seed, "n": section.bootstrap}
    made = [*sorted(out.glob("rds_*.safetensors")), out / "importance.csv"]
    cache = arms_folder("dinov3", params, workdir, files=made)
    results = evaluate_arms(arms(params, out), sources, cache=cache / "first", keep=out / "predictions", **options)
    repeated = {
        seed: evaluate_arms(routed_arms(params, out, seed), sources, cache=cache / f"seed{seed}", **options)
        for seed in params.dinov3.more_seeds
    }
    objects = objects_table(results, repeated, first=params.dinov3.seed)
    table = score_table(results, repeated, **resampling)
    routed = {name: {key: scores for key, scores in group.items() if key[0] == RDS} for name, group in results.items()}
    write_table(out / "table.csv", table)
    write_table(out / "objects.csv", objects)
    write_table(out / "comparisons.csv", compare_arms(objects, **resampling))
    write_table(out / "routes.csv", stack(routed, lambda scores: scores.routes).round(4))
    write_table(out / "spread.csv", stack(routed, lambda scores: route_spread(scores.routes)).round(5))
    backbone = dino_clips(params).backbone
    write_json(out / SHAPE, backbone.shape.as_dict())
    write_json(out / FILE, {"model": origin_of(backbone).as_dict()})
    return table


def _adapted(params, path):
    return load_rds(path).apply_to(tracker(params))


def _time(params, out) -> None:
    """Time the whole model, the same under the stopwatch of every block, and RDS, as stage `benchmark` does."""
    section, threads = params.benchmark, torch.get_num_threads()
    whole = partial(tracker, params)
    arms = [Arm(DINO, 1.0, whole, kind="learned"), Arm(FULL, 1.0, whole, kind="learned")]
    for budget in params.dinov3.budgets:
        build = partial(tracker, params, weights_file(out, str(budget)), budget=budget)
        arms.append(Arm(RDS, budget, build, kind="learned"))
    torch.set_num_threads(section.threads)
    try:
        with tempfile.TemporaryDirectory() as folder:
            look = {"difficulties": section.difficulties, "frames": section.warmup + section.frames + 2}
            clips = write_timing_clips(Path(folder), params.clips, **look)
            protocol = {"warmup": section.warmup, "frames": section.frames, "repeats": section.repeats}
            tables = benchmark_predictors(arms, clips, reference=DINO, **protocol)
    finally:
        torch.set_num_threads(threads)
    for name, table in zip(("speed", "blocks", "frames"), tables, strict=True):
        write_table(out / f"{name}.csv", table.round(4))
