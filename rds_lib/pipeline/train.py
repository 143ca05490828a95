"""Stage `train`: every training of a profile, then a calibrated threshold per router and budget."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pandas as pd

from rds_lib.core.artifacts import copied, read_table, write_npz, write_table
from rds_lib.core.errors import RDSInputError
from rds_lib.data.sources import training_sequences
from rds_lib.pipeline.kept import take_or_make
from rds_lib.pipeline.kept_trainings import about
from rds_lib.pipeline.training_runs import adapted_blocks, calibrate_run, train_blocks
from rds_lib.pipeline.weights import moved_parameters, training_runs, weights_file
from rds_lib.work.parallel import cpu_workers, map_items


def run(params, workdir: Path, out: Path) -> None:
    """Train every run of the profile, then calibrate a threshold per router and budget.

    Writes ``rds_<run>.safetensors``, ``train_log.csv`` (all steps of all runs), ``trained.csv`` (``run`` and
    ``parameters``, how many numbers that training moved, and whether it is ``shipped``),
    ``calibration.csv`` (a threshold per router and budget) and
    ``calibration_w.npz`` (the keep probabilities it was found on, by ``run/budget``).
    """
    take_or_make("train", _train, params, workdir, out, after=("importance",))


def _train(params, workdir, out):
    _, calibration = training_sequences(params, workdir)
    logs, trained, thresholds, seen_w = [], [], [], {}
    adapted_blocks(params, workdir)  # before the processes start, so that not each of them measures them
    runs, jobs = training_runs(params.train), trainings(params, workdir)
    done = map_items(lambda job: job(), jobs.values(), workers=cpu_workers(), together=True)
    for (name, (budgets, _)), weights in zip(runs.items(), done, strict=True):
        with copied(weights, weights_file(out, name)) as path:  # no file has its name before its thresholds
            trained.append({"run": name, "parameters": moved_parameters(path), "shipped": about(weights)["shipped"]})
            rows, w = calibrate_run(params, path, budgets, calibration)
        logs.append(read_table(weights.with_name("log.csv")).assign(run=name))
        thresholds += [{"run": name, **row} for row in rows]
        seen_w |= {f"{name}/{budget}": values for budget, values in w.items()}
    write_table(out / "train_log.csv", pd.concat(logs, ignore_index=True))
    write_table(out / "trained.csv", pd.DataFrame(trained))
    write_table(out / "calibration.csv", pd.DataFrame(thresholds))
    write_npz(out / "calibration_w.npz", **seen_w)


def trainings(params, workdir: Path) -> dict[str, Callable[[], Path]]:
    """A call by name for each training, which does it or finds it done, and returns its weights."""
    return {name: partial(train_run, params, workdir, name) for name in training_runs(params.train)}


def train_run(params, workdir: Path, name: str) -> Path:
    """Train one run of the profile, or find it trained, and return its weights in ``.cache/train``.

    Under ``torchrun`` every process takes part.

    Raises
    ------
    RDSInputError
        If the profile has no such run.
    """
    runs = training_runs(params.train)
    if name not in runs:
        raise RDSInputError(f"run {name!r} is unknown; profile {params.profile} has: {', '.join(runs)}")
    budgets, seed = runs[name]
    params = params.with_section("train", seed=seed)
    return train_blocks(params, workdir, name, budgets, adapted_blocks(params, workdir), params.train.lora_rank)
