"""Stages `baseline` and `baselines`: one method at all its levels, trained as RDS is, and what became of the encoder."""

import argparse
import inspect
import logging
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from rds_lib.core.artifacts import atomic_write, read_table, read_tensors, write_table
from rds_lib.core.parallel import cpu_workers, map_items
from rds_lib.core.params import load_params
from rds_lib.core.paths import CACHE, resolve_or_none, workdir as default_workdir
from rds_lib.data.sources import training_sequences
from rds_lib.evaluation.baseline_products import LABELS, activity, levels_of, load_into, watch_gates
from rds_lib.evaluation.products import predictor_for
from rds_lib.methods import dyt, files, gated_training as training, pbd
from rds_lib.methods.gated_training import train_baseline
from rds_lib.methods.slimsam_training import train_slimsam
from rds_lib.model.macs import block_macs
from rds_lib.pipeline.train import ROOMS, adapted_blocks, fingerprint
from rds_lib.routing.algorithm1 import target_active

_logger = logging.getLogger(__name__)
SMALLEST_RATE = 0.02  # of tokens that DyT keeps, where it is to match a work that it cannot reach


def run_baseline(params, workdir: Path, method: str, out: Path) -> None:
    """Train one method at all levels of the profile; several side by side where the CPU has the cores.

    There the methods' trainings share one pool, since three levels of one would leave a core of two idle at the end: the first
    stage trains them all, and the next ones find theirs done. Writes ``<level>.safetensors``, ``log.csv`` (all steps of all levels), ``levels.csv`` and ``blocks.csv`` (see :func:`describe_level`).
    """
    adapted_blocks(params, workdir)  # so that the processes find them and do not each measure them
    levels, workers = levels_of(params, method), cpu_workers()
    pool = [(name, level) for name in (LABELS if workers > 1 else [method]) for level in levels_of(params, name)]
    done = dict(zip(pool, map_items(lambda row: train_level(params, workdir, *row), pool, workers=workers), strict=True))
    trained = [done[method, level] for level in levels]
    for level, path in zip(levels, trained, strict=True):
        with atomic_write(out / f"{level:g}.safetensors") as temporary:
            shutil.copyfile(path, temporary)
    logs = [read_table(file).assign(level=level, part=file.parent.name if method == "slimsam" else "train")
            for level, path in zip(levels, trained) for file in sorted(path.parent.rglob("log.csv"))]
    write_table(out / "log.csv", pd.concat(logs, ignore_index=True))
    described, blocks = zip(*map_items(lambda level: describe_level(params, workdir, method, level, out / f"{level:g}.safetensors"), levels,
                                       workers=workers))
    write_table(out / "levels.csv", pd.DataFrame(described))
    write_table(out / "blocks.csv", pd.concat(blocks, ignore_index=True))


def train_level(params, workdir: Path, method: str, level: float) -> Path:
    """Train one row, or find it trained already, and return its weights in ``.cache/train``; under ``torchrun`` every process takes part."""
    own, section, blocks = params.baselines, params.train, adapted_blocks(params, workdir)
    mark = fingerprint(params, own.model_dump(exclude={"levels", "ninths", "placement_budget"}), section.lora_rank, blocks, rooms=(*ROOMS, "methods"))
    scratch = CACHE / "train" / f"{method}-{level:g}-{mark}"
    sequences, calibration = training_sequences(params, workdir)
    common = {"sequences": sequences, "out": scratch / "weights.safetensors", "workdir": scratch, "seed": section.seed,
              "steps": section.steps, "batch": section.batch, "frames": section.frames, "config_file": params.model.config,
              "checkpoint": resolve_or_none(params.model.checkpoint)}
    if common["out"].is_file():
        return common["out"]
    if method == "slimsam":
        return train_slimsam(level, importance_steps=own.importance_steps, lr_align=own.lr_align, lr_encoder=own.lr_encoder,
                             lr_head=own.lr_head, **common)
    return train_baseline(method, level, calibration=calibration, blocks=blocks, lr_lora=section.lr_lora,
                          lr_gate=own.lr_dispatcher if method == "dyt" else own.lr_policy, lora_rank=section.lora_rank, reading=own.reading, width=own.adapter_width,
                          rate=matching_rate(params, level) if method == "dyt" and own.match_macs else None, **common)


def matching_rate(params, level: float) -> float:
    """Share of tokens at which DyT's encoder does the work that RDS is to do at a level; a warning where none does."""
    model = predictor_for(params, routing="full")
    plain = np.array(block_macs(model.image_encoder.trunk, model.image_size))
    goal = plain.sum() * target_active(level, model.depth, model.always_on) / model.depth
    dyt.add_dispatchers(model, width=params.baselines.adapter_width)
    ends = [sum(block_macs(model.image_encoder.trunk, model.image_size, kept=[share] * model.depth)) for share in (0.0, 1.0)]
    rate = (goal - ends[0]) / (ends[1] - ends[0])
    if rate < SMALLEST_RATE:
        _logger.warning("DyT cannot do as little as RDS %s: its attention and adapters alone are %.0f %% of the encoder, %.0f %% are asked for; "
                        "%s of the tokens are kept", level, 100 * ends[0] / plain.sum(), 100 * goal / plain.sum(), SMALLEST_RATE)
    return float(np.clip(rate, SMALLEST_RATE, 1.0))


@torch.inference_mode()
def describe_level(params, workdir: Path, method: str, level: float, path: Path) -> tuple[dict, pd.DataFrame]:
    """What became of the encoder at one level, measured on frames of the calibration split.

    ``active_blocks`` and ``kept_tokens`` (share of the tokens that go through the MLPs), means over frames; ``gmacs`` of the
    blocks as realised; ``encoder_params``; ``trained_params``; ``disagreement``: the largest absolute difference of the feature
    maps between gates that multiply, as in training, and blocks or tokens that are really left out. It is 0 by
    construction for methods without gates, whose modules are gone. The table has a row per block that is left, under its
    number in the whole model: ``ran``, the share of frames on which it ran, and ``kept``, the share of tokens that went through its MLP.
    """
    whole = predictor_for(params, routing="full")
    dropped = pbd.dropped_blocks(level, depth=whole.depth, always_on=whole.always_on, reading=params.baselines.reading) if method == "pbd" else ()
    numbers = [i for i in range(whole.depth) if i not in dropped]
    predictor = load_into(whole, method, path)
    trunk, size = predictor.image_encoder.trunk, predictor.image_size
    _, calibration = training_sequences(params, workdir)
    ran, kept, macs, apart = [], [], [], 0.0
    for image in training.calibration_images(calibration, size):
        image = image.to(predictor.device)
        with watch_gates(predictor) as seen:
            skipped = predictor.forward_image(image)["backbone_fpn"]
        ran_now, kept_now = activity(predictor, seen[0])
        with files.multiplied_gates(predictor, seen[0]):
            masked = predictor.forward_image(image)["backbone_fpn"]
        apart = max([apart, *((a - b).abs().max().item() for a, b in zip(skipped, masked, strict=True))])
        ran.append(ran_now)
        kept.append(kept_now)
        macs.append(float(ran_now @ np.array(block_macs(trunk, size, kept=kept_now))))
    blocks = pd.DataFrame({"level": level, "block": numbers, "ran": np.mean(ran, axis=0), "kept": np.mean(kept, axis=0)})
    facts = {"level": level, "active_blocks": round(float(np.sum(ran) / len(ran)), 2), "kept_tokens": round(float(np.mean(kept)), 4),
            "gmacs": round(float(np.mean(macs)) / 1e9, 4), "encoder_params": sum(p.numel() for p in predictor.image_encoder.parameters()),
            "trained_params": _trained(predictor, method, path), "disagreement": apart}
    return facts, blocks.round(4)


def _trained(predictor, method, path):
    """Parameters that the training moved: those in the file, and SlimSAM's fine-tuning moves the whole model."""
    moved = predictor.parameters() if method == "slimsam" else read_tensors(path)[0].values()
    return sum(tensor.numel() for tensor in moved)


def main() -> None:
    """Train one method at all levels of a profile, or with --level one row, alone or under ``torchrun`` on several GPUs."""
    parser = argparse.ArgumentParser(prog="python -m rds_lib.pipeline.baselines", description=inspect.getdoc(main))
    parser.add_argument("--profile", default=None, help="by default the one that params.yaml names")
    parser.add_argument("--method", required=True, choices=list(LABELS))
    parser.add_argument("--level", type=float, help="train this row alone; the stage then finds it done")
    options = parser.parse_args()
    params = load_params(options.profile)
    folder = default_workdir(params.profile)
    if options.level is None:
        out = folder / "baselines" / options.method
        run_baseline(params, folder, options.method, out)
    elif options.level in levels_of(params, options.method):
        train_level(params, folder, options.method, options.level)
    else:
        parser.error(f"--level {options.level:g}: choose one of {', '.join(f'{level:g}' for level in levels_of(params, options.method))}")


if __name__ == "__main__":
    main()
