"""What the pipeline's notebooks run: each stage from parameters and earlier products to a folder of its own."""

import hashlib
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from rds_lib.artifacts import atomic_write, read_json, read_table, require, write_json, write_npz, write_table
from rds_lib.comparison import compare_arms, evaluate_source, summarise
from rds_lib.evaluate import calibrate, route_spread, threshold_curve
from rds_lib.importance import measure_importance, rank_blocks
from rds_lib.lora import set_taus
from rds_lib.paths import CACHE, is_smoke
from rds_lib.pretrain import PROMPT_SHARES, held_out_iou, pretrain
from rds_lib.products import predictor_for, training_runs, weights_file
from rds_lib.routing import always_on_blocks, target_active
from rds_lib.sam2_models import MINI_WEIGHTS, build_model
from rds_lib.sources import training_sequences, validation_sources
from rds_lib.train import train_rds
from rds_lib.training_data import SequenceBatches


def run_pretrain(params, workdir: Path, out: Path) -> None:
    """Train the mini SAM2 and score it on held-out clips; outside smoke runs its weights become the shipped ones.

    Writes ``weights.safetensors``, ``log.csv`` and ``scores.csv``. Resumes from ``.cache/pretrain``.
    """
    section = params.pretrain
    digest = hashlib.sha256(repr(section).encode()).hexdigest()[:12]
    scratch = CACHE / "pretrain" / f"{params.profile}-{digest}"
    weights = pretrain(
        workdir=scratch, seed=section.seed, phases=section.phases, lr=section.lr, drop_path=section.drop_path,
        bsds_root=section.bsds_root, compile_blocks=section.compile_blocks, workers=0 if is_smoke(workdir) else 1)
    model = build_model("mini", weights)
    rows = [{"clips": clips, "prompt": kind, "iou": held_out_iou(
                model, seed=section.seed + 1, clips=section.held_out, frames=8, bsds_root=root, kind=kind)}
            for clips, root in (("generated", ""), ("BSDS500 objects", section.bsds_root)) if clips == "generated" or root
            for kind in PROMPT_SHARES]
    write_table(out / "log.csv", read_table(scratch / "log.csv"))
    write_table(out / "scores.csv", pd.DataFrame(rows).round(4))
    for target in [out / "weights.safetensors"] + ([] if is_smoke(workdir) else [MINI_WEIGHTS]):
        with atomic_write(target) as temporary:
            shutil.copyfile(weights, temporary)


def run_importance(params, workdir: Path, out: Path) -> None:
    """Measure both importances on training clips and choose the blocks that I-LoRA adapts.

    Writes ``importance.csv`` (one row per block) and ``blocks.json`` (the selection and the full model's J&F).
    """
    section = params.importance
    model = _model(params)
    train, _ = training_sequences(params, workdir)
    batches = SequenceBatches(train, seed=section.seed, batch=section.clips, frames=section.frames,
                              size=model.image_size, first_step=0, steps=1)
    table = measure_importance(model, [batches[0]])
    always_on = always_on_blocks(model.image_encoder.trunk)
    blocks = rank_blocks(table["global_score"], table["local_score"], always_on, section.k_sel)
    write_table(out / "importance.csv", table.assign(selected=table["block"].isin(blocks)).round(6))
    write_json(out / "blocks.json", {"blocks": blocks, "always_on": list(always_on), "jf_full": round(table.attrs["jf_full"], 3)})


def run_training(params, workdir: Path, out: Path) -> None:
    """Train every run of the profile, then calibrate a threshold per router and budget.

    Writes ``rds_<name>.safetensors``, ``train_log.csv`` (all steps of all runs), ``calibration.csv`` (a threshold per
    router and budget) and ``calibration_w.npz`` (the keep probabilities it was found on, by ``run/budget``).
    """
    section = params.train
    importance = require("importance", workdir, build=lambda path: run_importance(params, workdir, path), stage="importance")
    blocks = read_json(importance / "blocks.json")["blocks"]
    train, calibration = training_sequences(params, workdir)
    logs, thresholds, seen_w = [], [], {}
    for name, budgets in training_runs(params).items():
        scratch = CACHE / "train" / f"{params.profile}-{name}-{_fingerprint(params, blocks)}"
        path = train_rds(
            sequences=train, blocks=blocks, budgets=budgets, out=weights_file(out, name), workdir=scratch,
            seed=section.seed, steps=section.steps, batch=section.batch, frames=section.frames,
            lr_router=section.lr_router, lr_lora=section.lr_lora, lora_rank=section.lora_rank,
            config_file=params.model.config, checkpoint=params.model.checkpoint)
        logs.append(read_table(scratch / "log.csv").assign(run=name))
        rows, w = calibrate_run(params, path, budgets, calibration)
        thresholds += [{"run": name, **row} for row in rows]
        seen_w |= {f"{name}/{budget}": values for budget, values in w.items()}
    write_table(out / "train_log.csv", pd.concat(logs, ignore_index=True))
    write_table(out / "calibration.csv", pd.DataFrame(thresholds))
    write_npz(out / "calibration_w.npz", **seen_w)


def calibrate_run(params, path: Path, budgets, sequences) -> tuple[list[dict], dict]:
    """Find and store the threshold of every budget that a weights file serves; also returns w (N, L) per budget."""
    rows, seen_w = [], {}
    for budget in budgets:
        predictor = predictor_for(params, path, budget=budget)
        goal = target_active(budget, predictor.depth, predictor.always_on)
        tau, w = calibrate(predictor, sequences, target_active=goal)
        active, half = threshold_curve(w, predictor.always_on, [tau, 0.5])[1]
        rows.append({"budget": budget, "target_active": goal, "tau": tau, "calibration_active": active, "active_at_half": half})
        seen_w[budget] = w
    if rows:
        set_taus(path, {row["budget"]: row["tau"] for row in rows})
    return rows, seen_w


def run_evaluation(params, workdir: Path, out: Path) -> None:
    """Score all arms on all data sets of the profile.

    Writes ``table.csv`` (one row per method, level and data set), ``objects.csv`` (every object's score),
    ``comparisons.csv`` (paired differences with intervals), ``routes.csv`` and ``spread.csv`` (what RDS ran, per
    frame and block) and ``metrics.json``.
    """
    weights = require("train", workdir, build=lambda path: run_training(params, workdir, path), stage="train")
    ranking = read_table(workdir / "importance" / "importance.csv")
    arms = {}
    for source in validation_sources(params, workdir):
        arms[source.name] = evaluate_source(params, source, weights, ranking, keep=out / "predictions")
    generator = np.random.default_rng(params.evaluation.seed)
    table = summarise(arms, generator=generator, n=params.evaluation.bootstrap)
    write_table(out / "table.csv", table)
    write_table(out / "comparisons.csv", compare_arms(arms, generator=generator, n=params.evaluation.bootstrap))
    write_table(out / "objects.csv", _stack(arms, lambda scores: scores.objects).round(5))
    routed = {name: {key: s for key, s in group.items() if key[0] == "RDS"} for name, group in arms.items()}
    write_table(out / "routes.csv", _stack(routed, lambda scores: scores.routes).round(4))
    write_table(out / "spread.csv", _stack(routed, lambda scores: route_spread(scores.routes)).round(5))
    metrics = {}
    for row in table.itertuples():
        metrics.setdefault(row.dataset, {}).setdefault(row.method, {})[str(row.level)] = round(row.value, 2)
    write_json(out / "metrics.json", metrics, schema=None)


def _stack(arms, pick) -> pd.DataFrame:
    parts = [
        pick(scores).assign(dataset=dataset, method=method, level=level)
        for dataset, group in arms.items() for (method, level), scores in group.items()
    ]
    return pd.concat(parts, ignore_index=True)


def _model(params):
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return build_model(params.model.config, params.model.checkpoint or None, device=device).requires_grad_(False)


def _fingerprint(params, blocks) -> str:
    """Short hash of all that a training depends on, so that a changed setting starts afresh instead of resuming."""
    text = repr((params.model, params.clips, params.data, params.train, blocks))
    return hashlib.sha256(text.encode()).hexdigest()[:12]
