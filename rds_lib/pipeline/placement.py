"""Stage `placement`: RDS once more at one budget, with adapters on other blocks than I-LoRA's."""

import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from rds_lib.core.artifacts import atomic_write, read_npz, read_table, require, write_table
from rds_lib.core.parallel import cpu_workers, map_items
from rds_lib.core.paths import resolve_or_none
from rds_lib.data.sources import training_sequences
from rds_lib.evaluation.products import weights_file
from rds_lib.methods.placement import PLACEMENTS, equal_rank, place_adapters
from rds_lib.model.adapters import TARGETS
from rds_lib.model.encoder import always_on_blocks
from rds_lib.model.sam2 import build_model
from rds_lib.pipeline.train import adapted_blocks, calibrate_run, run_training, train_blocks
from rds_lib.routing.algorithm1 import threshold_route
from rds_lib.routing.weights import load_rds


def run_placement(params, workdir: Path, out: Path) -> None:
    """Train and calibrate RDS with every other placement of its adapters, all else as in stage `train`.

    Writes ``rds_<placement>.safetensors``, and ``placements.csv``: a row per placement and one for I-LoRA itself, with
    ``blocks``, ``rank``, ``parameters`` of the adapters, ``shared`` (blocks in common with I-LoRA) and ``calibration_active``.
    """
    budget, (_, calibration) = params.baselines.placement_budget, training_sequences(params, workdir)
    train = require("train", workdir, build=lambda path: run_training(params, workdir, path), stage="train")
    chosen = choose(params, workdir, train)
    trained = map_items(lambda kind: train_blocks(params, workdir, kind, (budget,), *chosen[kind]), PLACEMENTS, workers=cpu_workers())
    active = {"I-LoRA": _calibration(train).loc[str(budget), "calibration_active"]}
    files = {"I-LoRA": weights_file(train, str(budget))}
    for kind, weights in zip(PLACEMENTS, trained, strict=True):
        files[kind] = weights_file(out, kind)
        with atomic_write(files[kind]) as temporary:
            shutil.copyfile(weights, temporary)
        (row,), _ = calibrate_run(params, files[kind], (budget,), calibration)
        active[kind] = row["calibration_active"]
    selected, rows = set(adapted_blocks(params, workdir)), []
    for kind, path in files.items():
        weights = load_rds(path)
        rows.append({"placement": kind, "blocks": len(weights.blocks), "rank": weights.rank,
                     "parameters": sum(tensor.numel() for tensor in weights.lora.values()), "shared": len(selected & set(weights.blocks)),
                     "calibration_active": round(active[kind], 2), "which": " ".join(map(str, weights.blocks))})
    write_table(out / "placements.csv", pd.DataFrame(rows))


def choose(params, workdir: Path, train: Path) -> dict[str, tuple[list[int], int]]:
    """Blocks and rank of every placement."""
    trunk = build_model(params.model.config, resolve_or_none(params.model.checkpoint)).image_encoder.trunk
    selected, always_on, section = adapted_blocks(params, workdir), always_on_blocks(trunk), params.train
    budget = params.baselines.placement_budget
    tau = _calibration(train).loc[str(budget), "tau"]
    w = torch.from_numpy(read_npz(train / "calibration_w.npz")[f"{budget}/{budget}"])
    activity = threshold_route(w, always_on, tau).mean(0).numpy()
    starts = [0, *(end + 1 for end in trunk.stage_ends[:-1])]
    stages = [sum(i >= start for start in starts) for i in range(len(trunk.blocks))]
    rng = np.random.default_rng(section.seed)
    placed = partial(place_adapters, selected=selected, always_on=always_on, stages=stages, activity=activity, rng=rng)
    size = partial(_parameters_a_rank, trunk)
    blocks = {kind: placed(kind) for kind in PLACEMENTS}
    return {kind: (chosen, equal_rank(section.lora_rank, size(selected), size(chosen)) if chosen else 0) for kind, chosen in blocks.items()}


def _calibration(train) -> pd.DataFrame:
    table = read_table(train / "calibration.csv").astype({"run": str})
    return table.set_index("run")


def _parameters_a_rank(trunk, blocks) -> int:
    layers = [trunk.blocks[i].get_submodule(target) for i in blocks for target in TARGETS]
    return sum(layer.in_features + layer.out_features for layer in layers)
