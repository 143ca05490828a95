"""Stage `baselines`: every method at all its levels, and RDS with its adapters on other blocks than I-LoRA's."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from rds_lib.core.artifacts import copied, copy_file, read_npz, read_table, write_table
from rds_lib.core.errors import RDSInputError
from rds_lib.data.hub import checkpoint_named
from rds_lib.data.sources import training_sequences
from rds_lib.methods import METHODS, method_of
from rds_lib.methods.activity import activity, watch_gates
from rds_lib.methods.base import Setup, calibration_images
from rds_lib.methods.gates import multiplied_gates
from rds_lib.methods.placement import PLACEMENTS, equal_rank, place_adapters
from rds_lib.model.backbone import backbone_of
from rds_lib.model.sam2 import build_model
from rds_lib.pipeline.kept import take_or_make
from rds_lib.pipeline.kept_trainings import about, trained
from rds_lib.pipeline.stages import require
from rds_lib.pipeline.training_runs import ROOMS, adapted_blocks, calibrate_run, fingerprint, schedule_of, train_blocks
from rds_lib.pipeline.weights import level_file, moved_parameters, weights_file
from rds_lib.routing.algorithm1 import threshold_route
from rds_lib.routing.weights import load_rds
from rds_lib.training.run import local_device
from rds_lib.work.parallel import cpu_workers, map_items

LEVEL = "weights.safetensors"  # of a baseline's training in its own folder


def run(params, workdir: Path, out: Path) -> None:
    """Train all methods at all levels and all placements, in one pool of processes where the CPU has the cores.

    Writes for each method ``<method>/<level>.safetensors``, ``log.csv`` (all steps of all levels), ``levels.csv`` and
    ``blocks.csv`` (see `describe_level`); and ``placement/rds_<placement>.safetensors`` with ``placements.csv``. Of the
    repetitions with other seeds the weights alone, under the names of `weights.seeded`.
    """
    take_or_make("baselines", _make, params, workdir, out, after=("importance", "train"))


def _make(params, workdir, out):
    jobs, (rows, repeated) = trainings(params, workdir), _levels(params)
    done = map_items(lambda job: job(), jobs.values(), workers=cpu_workers(), label="baselines", together=True)
    done = dict(zip(jobs, done, strict=True))
    trained, placements = [done[row] for row in rows], {kind: done[kind] for kind in PLACEMENTS}
    jobs = [partial(describe_level, params, workdir, *row, path) for row, path in zip(rows, trained)]
    described = map_items(lambda job: job(), jobs, workers=cpu_workers(), label="what is left of the encoder")
    for row in repeated:
        copy_file(done[row], level_file(out, *row))
    for name in METHODS:
        own = [i for i, row in enumerate(rows) if row[0] == name]
        for i in own:
            copy_file(trained[i], level_file(out, *rows[i]))
        logs = [log.assign(level=rows[i][1], part=part) for i in own for part, log in _logs(trained[i])]
        write_table(out / name / "log.csv", pd.concat(logs, ignore_index=True))
        write_table(out / name / "levels.csv", pd.DataFrame([described[i][0] for i in own]))
        write_table(out / name / "blocks.csv", pd.concat([described[i][1] for i in own], ignore_index=True))
    _write_placements(params, workdir, require("train", params, workdir), out / "placement", placements)


def trainings(params, workdir: Path) -> dict[tuple | str, Callable[[], Path]]:
    """A call for each training of the stage, which does it or finds it done, and returns its weights.

    By ``(method, level)``, ``(method, level, seed)`` for the repetitions with other seeds, or placement.
    """
    found = {row: partial(train_level, params, workdir, *row) for rows in _levels(params) for row in rows}
    placed, budget = place(params, workdir, require("train", params, workdir)), params.baselines.placement_budget
    return found | {kind: partial(train_blocks, params, workdir, kind, (budget,), *placed[kind]) for kind in PLACEMENTS}


def _levels(params) -> tuple[list[tuple], list[tuple]]:
    """Methods with their levels, and the repetitions of these with other seeds."""
    rows = [(name, level) for name, method in METHODS.items() for level in method.levels(params.baselines)]
    section, own = params.train, params.baselines
    again = [(name, level) for name, method in METHODS.items() for level in section.again(method.levels(own))]
    return rows, [(*row, seed) for seed in section.more_seeds for row in again]


def train_level(params, workdir: Path, name: str, level: float, seed: int | None = None) -> Path:
    """Train one method at one level, or find it trained, and return its weights in ``.cache/train``.

    ``seed`` takes the place of ``train.seed``. Under ``torchrun`` every process takes part.
    """
    params = params if seed is None else params.with_section("train", seed=seed)
    method, own, section = method_of(name), params.baselines, params.train
    if level not in method.levels(own):
        known = ", ".join(f"{known:g}" for known in method.levels(own))
        raise RDSInputError(f"{method.label} has no level {level:g} in profile {params.profile}; choose one of {known}")
    blocks = adapted_blocks(params, workdir)
    settings = own.model_dump(exclude={"levels", "ninths", "placement_budget"})
    mark = fingerprint(params, settings, section.lora_rank, blocks, rooms=(*ROOMS, "methods"))

    def train(folder):
        sequences, calibration = training_sequences(params, workdir)
        base = {"config_file": params.model.config, "checkpoint": checkpoint_named(params.model.checkpoint)}
        setup = Setup(schedule_of(section), sequences, calibration, blocks, section.lora_rank, section.lr_lora, **base)
        method.train(level, setup, out=folder / LEVEL, workdir=folder, **method.options(own), **method.recipe(own))

    try:
        return trained(f"{name}-{level:g}-{mark}", LEVEL, train)
    except Exception as error:
        kind = RDSInputError if isinstance(error, RDSInputError | OSError) else RuntimeError
        raise kind(f"{method.label} at level {level:g}: {error}") from error


@torch.inference_mode()
def describe_level(params, workdir: Path, name: str, level: float, path: Path) -> tuple[dict, pd.DataFrame]:
    """What is left of the encoder at one level, on frames of the calibration split.

    Returns
    -------
    facts : dict
        Means over frames: ``active_blocks``, ``kept_tokens`` (share that goes through the MLPs), ``gmacs`` of the
        blocks; also whether the training is ``shipped``, ``encoder_params``, ``trained_params``, and ``disagreement``,
        the largest absolute difference of the features between gates that multiply, as in training, and gates that skip
        (0 without gates).
    blocks : DataFrame
        A row per block that is left, under its number in the whole model: ``ran``, the share of frames on which it
        ran, and ``kept``, the share of the tokens that went through its MLP.
    """
    device, method = local_device(), method_of(name)
    model = build_model(params.model.config, checkpoint_named(params.model.checkpoint), device=device)
    numbers = {block: i for i, block in enumerate(backbone_of(model).blocks)}
    model = method.load(model, path)
    left = [next(numbers[part] for part in block.modules() if part in numbers) for block in backbone_of(model).blocks]
    _, calibration = training_sequences(params, workdir)
    ran, kept, gmacs, apart = [], [], [], 0.0
    for image in calibration_images(calibration, model.image_size):
        image = image.to(device)
        with watch_gates(model) as seen:
            skipped = model.forward_image(image)["backbone_fpn"]
        with multiplied_gates(model, seen[0]):
            masked = model.forward_image(image)["backbone_fpn"]
        apart = max([apart, *((a - b).abs().max().item() for a, b in zip(skipped, masked, strict=True))])
        for values, value in zip((ran, kept), activity(model, seen[0])):
            values.append(value)
        gmacs.append(backbone_of(model).gmacs(ran[-1], kept[-1]))
    facts = {
        "level": level,
        "shipped": about(path)["shipped"],
        "active_blocks": round(float(np.sum(ran) / len(ran)), 2),
        "kept_tokens": round(float(np.mean(kept)), 4),
        "gmacs": round(float(np.mean(gmacs)), 4),
        "encoder_params": sum(p.numel() for p in model.image_encoder.parameters()),
        "trained_params": method.trained_parameters(model, path),
        "disagreement": apart,
    }
    blocks = {"level": level, "block": left, "ran": np.mean(ran, axis=0), "kept": np.mean(kept, axis=0)}
    return facts, pd.DataFrame(blocks).round(4)


def place(params, workdir: Path, train: Path) -> dict[str, tuple[list[int], int]]:
    """Blocks and rank of every placement."""
    backbone = backbone_of(build_model(params.model.config, checkpoint_named(params.model.checkpoint)))
    selected, section, budget = adapted_blocks(params, workdir), params.train, params.baselines.placement_budget
    w = torch.from_numpy(read_npz(train / "calibration_w.npz")[f"{budget}/{budget}"])
    ran = threshold_route(w, backbone.always_on, _calibration(train).loc[str(budget), "tau"]).mean(0).numpy()
    stages, rng = [backbone.shape.stage_of(i) for i in range(backbone.depth)], np.random.default_rng(section.seed)
    choose = partial(
        place_adapters, selected=selected, always_on=backbone.always_on, stages=stages, activity=ran, rng=rng
    )

    def size(chosen):
        layers = [backbone.blocks[i].get_submodule(name) for i in chosen for name in backbone.lora_targets]
        return sum(layer.in_features + layer.out_features for layer in layers)

    placed = {kind: choose(kind) for kind in PLACEMENTS}
    ranks = {kind: equal_rank(section.lora_rank, size(selected), size(placed[kind]) or 1) for kind in PLACEMENTS}
    return {kind: (blocks, ranks[kind] if blocks else 0) for kind, blocks in placed.items()}


def _logs(weights: Path):
    """The logs of one training with the names of its parts; one that is not in parts is called train."""
    for file in sorted(weights.parent.rglob("log.csv")):
        yield "train" if file.parent == weights.parent else file.parent.name, read_table(file)


def _write_placements(params, workdir, train, out, trained):
    """``placements.csv``: a row per placement and one for I-LoRA itself.

    ``blocks``, ``rank``, ``parameters`` of the adapters, ``trained_params`` with the router's, ``shared`` (blocks in
    common with I-LoRA), and ``calibration_active``.
    """
    budget, (_, calibration) = params.baselines.placement_budget, training_sequences(params, workdir)
    active = {"I-LoRA": _calibration(train).loc[str(budget), "calibration_active"]}
    files = {"I-LoRA": weights_file(train, str(budget))}
    for kind, weights in trained.items():
        files[kind] = weights_file(out, kind)
        with copied(weights, files[kind]) as path:
            (row,), _ = calibrate_run(params, path, (budget,), calibration)
        active[kind] = row["calibration_active"]
    selected, rows = set(adapted_blocks(params, workdir)), []
    for kind, path in files.items():
        weights = load_rds(path)
        row = {"placement": kind, "blocks": len(weights.blocks), "rank": weights.rank}
        row |= {"parameters": sum(tensor.numel() for tensor in weights.lora.values())}
        row |= {"trained_params": moved_parameters(path), "shared": len(selected & set(weights.blocks))}
        rows.append(row | {"calibration_active": round(active[kind], 2), "which": " ".join(map(str, weights.blocks))})
    write_table(out / "placements.csv", pd.DataFrame(rows))


def _calibration(train: Path) -> pd.DataFrame:
    return (
        read_table(train / "calibration.csv", columns=("run", "tau", "calibration_active"))
        .astype({"run": str})
        .set_index("run")
    )
