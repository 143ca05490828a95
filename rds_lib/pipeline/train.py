"""Stage `train`: every training of a profile, then a calibrated threshold per router and budget."""

import argparse
import shutil
from functools import partial
from pathlib import Path

import pandas as pd

from rds_lib.core.artifacts import atomic_write, read_table, write_npz, write_table
from rds_lib.core.parallel import cpu_workers, map_items
from rds_lib.core.params import load_params
from rds_lib.core.paths import workdir as default_workdir
from rds_lib.data.sources import training_sequences
from rds_lib.evaluation.products import training_runs, weights_file
from rds_lib.pipeline.training_runs import adapted_blocks, calibrate_run, train_blocks


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
