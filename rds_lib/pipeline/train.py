"""Stage `train`: every training of a profile, then a calibrated threshold per router and budget."""

import argparse
import shutil
from functools import partial
from pathlib import Path

import pandas as pd

from rds_lib.core.artifacts import atomic_write, read_json, read_table, require, write_npz, write_table
from rds_lib.core.fingerprint import training_key
from rds_lib.core.parallel import cpu_workers, map_items
from rds_lib.core.params import load_params
from rds_lib.core.paths import CACHE, resolve_or_none, workdir as default_workdir
from rds_lib.data.sources import training_sequences
from rds_lib.evaluation.products import predictor_for, training_runs, weights_file
from rds_lib.model.clip_tracking import SAM2Clips
from rds_lib.model.sam2 import build_model
from rds_lib.pipeline.importance import run_importance
from rds_lib.routing.algorithm1 import target_active
from rds_lib.routing.calibration import calibrate, threshold_curve
from rds_lib.routing.weights import set_taus
from rds_lib.training.loop import Schedule
from rds_lib.training.rds import train_rds
from rds_lib.training.run import local_device

ROOMS = ("data", "model", "routing", "training")  # code that shapes a training; see dvc.yaml


def run_training(params, workdir: Path, out: Path) -> None:
    """Train every run of the profile, then calibrate a threshold per router and budget.

    Writes ``rds_<name>.safetensors``, ``train_log.csv`` (all steps of all runs), ``calibration.csv`` (a threshold per
    router and budget) and ``calibration_w.npz`` (the keep probabilities it was found on, by ``run/budget``).
    """
    _, calibration = training_sequences(params, workdir)
    logs, thresholds, seen_w = [], [], {}
    adapted_blocks(params, workdir)  # so that the processes find them and do not each measure them
    runs = training_runs(params)
    weights = map_items(partial(train_run, params, workdir), runs, workers=cpu_workers())
    for (name, budgets), trained in zip(runs.items(), weights):
        path = weights_file(out, name)
        with atomic_write(path) as temporary:
            shutil.copyfile(trained, temporary)
        logs.append(read_table(trained.with_name("log.csv")).assign(run=name))
        rows, w = calibrate_run(params, path, budgets, calibration)
        thresholds += [{"run": name, **row} for row in rows]
        seen_w |= {f"{name}/{budget}": values for budget, values in w.items()}
    write_table(out / "train_log.csv", pd.concat(logs, ignore_index=True))
    write_table(out / "calibration.csv", pd.DataFrame(thresholds))
    write_npz(out / "calibration_w.npz", **seen_w)


def train_run(params, workdir: Path, name: str) -> Path:
    """Train one run of the profile, or find it trained already, and return its weights in ``.cache/train``.

    Under ``torchrun`` every process takes part; see ``main``.
    """
    return train_blocks(params, workdir, name, training_runs(params)[name], adapted_blocks(params, workdir), params.train.lora_rank)


def train_blocks(params, workdir: Path, name: str, budgets, blocks, rank: int) -> Path:
    """Train a router for ``budgets`` with adapters of ``rank`` on ``blocks``, or find it trained already in ``.cache/train``."""
    section = params.train
    scratch = CACHE / "train" / f"{name}-{fingerprint(params, budgets, blocks, rank)}"
    sequences, _ = training_sequences(params, workdir)
    model = build_model(params.model.config, resolve_or_none(params.model.checkpoint), device=local_device())
    return train_rds(
        SAM2Clips(model.requires_grad_(False)), sequences=sequences, blocks=blocks, budgets=budgets,
        schedule=Schedule(section.steps, section.batch, section.frames, section.seed),
        out=scratch / "rds.safetensors", workdir=scratch, lr_router=section.lr_router, lr_lora=section.lr_lora,
        lora_rank=rank, router_hidden=section.router_hidden, config_file=params.model.config)


def adapted_blocks(params, workdir) -> list[int]:
    """The blocks that importance chose for the adapters; measured first in a smoke run."""
    importance = require("importance", workdir, build=lambda path: run_importance(params, workdir, path), stage="importance")
    return read_json(importance / "blocks.json")["blocks"]


def calibrate_run(params, path: Path, budgets, sequences) -> tuple[list[dict], dict]:
    """Find and store the threshold of every budget that a weights file serves; also returns w (N, L) per budget."""
    rows, seen_w = [], {}
    for budget in budgets:
        predictor = predictor_for(params, path, budget=budget, tau=0.5)
        goal = target_active(budget, predictor.depth, predictor.always_on)
        tau, w = calibrate(predictor, sequences, target_active=goal, frames=params.train.calibration_frames, workers=cpu_workers())
        active, half = threshold_curve(w, predictor.always_on, [tau, 0.5])[1]
        rows.append({"budget": budget, "target_active": goal, "tau": tau, "calibration_active": active, "active_at_half": half})
        seen_w[budget] = w
    if rows:
        set_taus(path, {row["budget"]: row["tau"] for row in rows})
    return rows, seen_w


def fingerprint(params, *parts, rooms=ROOMS) -> str:
    """Short hash of all that a training depends on; see ``training_key``."""
    own = params.train.model_dump(exclude={"budgets", "lora_rank", "calibration_frames"})  # a run's own are among the parts
    return training_key(params, rooms, own, *parts)


def main() -> None:
    """Train one run by itself, on one GPU or under ``torchrun`` on several."""
    parser = argparse.ArgumentParser(prog="python -m rds_lib.pipeline.train", description=main.__doc__)
    parser.add_argument("--profile", default=None, help="by default the one that params.yaml names")
    parser.add_argument("--run", required=True, help="a budget of the profile, 'any' or 'full'")
    options = parser.parse_args()
    params = load_params(options.profile)
    if options.run not in training_runs(params):
        parser.error(f"--run {options.run}: choose one of {', '.join(training_runs(params))}")
    train_run(params, default_workdir(params.profile), options.run)


if __name__ == "__main__":
    main()
