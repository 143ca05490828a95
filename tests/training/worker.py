"""Small trainings at 64 px, alone or under torchrun, as a command of the package; see `test_training_processes`.

    torchrun --standalone --nproc-per-node 2 tests/training/worker.py small OUT rds --root DAVIS --checkpoint WEIGHTS

Every training leaves its state in ``OUT/<name>``, and every process what it ended with in ``OUT/<name>/<rank>.pt``.
"""

import logging
import os
import signal
from pathlib import Path
from typing import Annotated

import torch
import typer

from rds_lib.__main__ import app
from rds_lib.data.datasets import read_dataset
from rds_lib.methods import METHODS, base
from rds_lib.methods.base import Setup
from rds_lib.model.clip_tracking import SAM2Clips
from rds_lib.model.sam2 import build_model, set_image_size
from rds_lib.pipeline import commands
from rds_lib.training import loop, run
from rds_lib.training.loop import Schedule
from rds_lib.training.rds import Recipe, train_rds
from rds_lib.work.processes import begin_command

RANK = os.environ.get("RANK", "0")
SLIMSAM = {"importance_steps": 1, "lr_align": 1e-3, "lr_encoder": 1e-3, "lr_head": 1e-3}
OPTIONS = {"dyt": {"lr_gate": 1e-2, "width": 4}, "adavit": {"lr_gate": 1e-2}, "pbd": {}, "slimsam": SLIMSAM}
LEVELS = {"slimsam": 6}


def small_model(config, checkpoint=None, **options):
    model = build_model(config, checkpoint, **options)
    set_image_size(model, 64)
    return model


def train(name: str, out: Path, root, checkpoint, schedule: Schedule) -> dict:
    """One training in ``out``; returns all tensors of the modules that it trained, by folder, part and name."""
    sequences, runs = read_dataset(root, layout="davis2017", split="val"), []
    base.build_model = small_model
    start = run.TrainingRun.__init__

    def remember(self, *args, **options):
        runs.append(self)
        start(self, *args, **options)

    run.TrainingRun.__init__ = remember
    try:
        if name == "rds":
            train_small_rds(sequences, checkpoint, schedule, out)
        else:
            config = "mini_half" if name == "slimsam" else "mini"
            weights = None if name == "slimsam" else checkpoint
            setup = Setup(schedule, sequences, sequences[:1], [0, 5, 12, 44], 2, 1e-2, config, weights, "cpu")
            files = {"out": out / "weights.safetensors", "workdir": out}
            METHODS[name].train(LEVELS.get(name, 0.4), setup, **files, **OPTIONS[name])
    finally:
        run.TrainingRun.__init__ = start
    return {
        f"{each.workdir.name}.{part}.{key}": tensor
        for each in runs
        for part, state in each.parts.items()
        if part != "optimizer"
        for key, tensor in state.state_dict().items()
    }


def train_small_rds(sequences, checkpoint, schedule, out):
    """One router for two budgets, with adapters, and the loss that is not tracking's."""
    model = small_model("mini", checkpoint).requires_grad_(False)
    rates = {"lr_router": 1e-2, "lr_lora": 1e-2, "preference_rate": 30.0}
    what = {"blocks": [0, 5, 12, 44], "budgets": (0.4, 0.8), "lora_rank": 2, "recipe": Recipe(damage=0.1)}
    files = {"out": out / "weights.safetensors", "workdir": out}
    train_rds(SAM2Clips(model), sequences=sequences, schedule=schedule, **rates, **what, **files)


def disturb(out: Path, rank: int, step: int, action: str) -> None:
    """Once, at a step of a rank: "kill" the process, or give it a "nan" among its gradients."""
    average, done, seen = loop.average_gradients, out / "disturbed", []

    def disturbed(parameters, world):
        seen.append(1)
        if int(RANK) == rank and len(seen) == step + 1 and not done.exists():
            done.touch()
            if action == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            next(p for p in parameters if p.grad is not None).grad.view(-1)[0] = float("nan")
        average(parameters, world)

    loop.average_gradients = disturbed


@app.command()
def small(
    out: Path,
    names: list[str],
    root: Annotated[Path, typer.Option()],
    checkpoint: Annotated[Path, typer.Option()],
    steps: int = 3,
    batch: int = 4,
    accumulate: int = 1,
    precision: str = "float32",
    recompute: bool = False,
    disturbance: str = "",
):
    """Train ``names`` in turn; a disturbance is RANK:STEP:kill or RANK:STEP:nan."""
    logging.getLogger().handlers.clear()  # of what was imported; the package's commands import it later
    commands._log()
    torch.set_num_threads(1)
    out.mkdir(parents=True, exist_ok=True)
    average = loop.average_gradients
    if disturbance:
        rank, step, action = disturbance.split(":")
        disturb(out, int(rank), int(step), action)
    for name in names:
        how = {"accumulate": accumulate, "precision": precision, "recompute_blocks": recompute}
        schedule = Schedule(steps, batch, 3, seed=1, save_every=2, **how)
        torch.save(train(name, out / name, root, checkpoint, schedule), out / name / f"{RANK}.pt")
        logging.info("%s is done", name)
    loop.average_gradients = average


if __name__ == "__main__":
    begin_command()
    app(prog_name="small")
