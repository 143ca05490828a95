"""Train PBD, DyT and AdaViT on the clips, the prompts and the number of steps that RDS is trained on."""

from pathlib import Path

import torch
from torch.nn import functional as F
from tqdm import tqdm

from rds_lib.data.batches import SequenceBatches, loader
from rds_lib.data.video import load_video
from rds_lib.methods import adavit, dyt
from rds_lib.methods.files import gated, prepare, save_baseline, set_threshold
from rds_lib.methods.gates import rate_threshold
from rds_lib.model.clip_tracking import frame_by_frame
from rds_lib.model.sam2 import build_model
from rds_lib.training.run import (
    TrainingRun,
    average_gradients,
    join_processes,
    learning_rate,
    local_device,
    optimizer_step,
)
from rds_lib.training.tasks import clip_loss

WARM_UP = 10  # steps
CLIP_NORM = 1.0
CALIBRATION_IMAGES = 24
CALIBRATION_PASSES = 8


def train_baseline(
    method: str, level: float, *, sequences, calibration, blocks, out: Path, workdir: Path, seed: int, steps: int, batch: int, frames: int,
    lr_gate: float, lr_lora: float, lora_rank: int, reading: str = "A", width: int = 64, rate: float | None = None,
    config_file: str = "mini", checkpoint: Path | None = None, save_every: int = 50, device: str | None = None,
) -> Path:
    """Train one baseline, resuming from ``workdir``, set the threshold of its gates, and write it to ``out``.

    Parameters
    ----------
    method, level, blocks, reading, width
        See ``files.prepare``.
    sequences, calibration : list of Sequence
        Training videos, and videos that the gates' threshold is set on.
    steps, batch, frames : int
        Optimiser steps, clips a step and process, frames a clip; under ``torchrun`` every process draws its own clips.
    lr_gate, lr_lora : float
        Peak rates of what decides, dispatchers and policies, and of all adapters. Gates that start nearly open do not move
        at the adapters' rate.
    rate : float, optional
        Share of the gates that is to stay open; by default what the level says, see :func:`gate_rate`.

    Returns
    -------
    Path
        ``out``, for ``files.load_baseline``. The log of the run lies in ``workdir/log.csv``.
    """
    rank, world = join_processes()
    device = device or local_device()
    model = build_model(config_file, checkpoint, device=device)
    torch.manual_seed(seed)
    prepare(model, method, level, blocks=blocks, rank=lora_rank, reading=reading, width=width)
    rate = gate_rate(model, method, level) if rate is None else rate
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    groups = [{"params": [p for name, p in trained.items() if is_gate(name) == wanted], "peak": peak, "weight_decay": 0.0}
              for wanted, peak in ((False, lr_lora), (True, lr_gate))]
    optimizer = torch.optim.AdamW([group for group in groups if group["params"]])
    run = TrainingRun(workdir, {"trained": torch.nn.ParameterList(trained.values()), "optimizer": optimizer}, total=steps,
                      save_every=save_every, writes=rank == 0)
    options = {"batch": batch, "frames": frames, "size": model.image_size}
    data = SequenceBatches(sequences, seed=seed * world + rank, first_step=run.step, steps=steps - run.step, **options)
    for images, targets in tqdm(loader(data, device=device), desc=f"{method}, {level}", disable=None if rank == 0 else True):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(run.step, steps, group["peak"], warm_up=WARM_UP)
        torch.manual_seed((seed << 20) + run.step * world + rank)  # DyT's dropout
        generator = torch.Generator(device).manual_seed((seed << 24) + run.step * world + rank)
        loss, iou, kept = _step_loss(model, method, rate, images.to(device), targets.to(device), generator)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        average_gradients(list(trained.values()), world)
        optimizer_step(optimizer, trained.values(), clip_norm=CLIP_NORM)
        run.finish_step(loss=round(loss.item(), 4), iou=round(iou, 4), kept=round(kept, 4))
    threshold = calibrate_gates(model.eval(), rate, [image.to(device) for image in calibration_images(calibration, model.image_size)])
    if rank == 0:
        save_baseline(out, model, {"method": method, "level": level, "blocks": list(blocks), "rank": lora_rank, "reading": reading,
                                   "width": width, "threshold": threshold, "config_file": str(config_file)})
    return out


def is_gate(name: str) -> bool:
    """Whether a parameter belongs to a dispatcher or a policy."""
    return "dispatcher" in name or "policy" in name


def gate_rate(model, method: str, level: float) -> float:
    """Share of its gates that a method is to keep open at a level: of the tokens for DyT, of the gated blocks for AdaViT; PBD has none."""
    if method != "adavit":
        return level
    depth = len(model.image_encoder.trunk.blocks)
    return adavit.target_rate(level, depth=depth, n_always_on=depth - len(adavit.policies(model)))


def _step_loss(model, method, rate, images, targets, generator):
    """Loss of one step, IoU after the first frame, and the share of gates that were open."""
    for module in gated(model):
        module.train().generator = generator
    features = encode_clips(model, images)
    task, iou = clip_loss(model, frame_by_frame(features, len(images)), targets)
    if method == "pbd":
        return task, iou, 1.0
    kept = torch.stack([module.gate.detach().mean() for module in gated(model)]).mean().item()
    if method == "adavit":
        return task + adavit.usage_loss(model, rate), iou, kept
    loss = task + dyt.rate_loss(model, rate)
    with dyt.complete_model(model):
        complete = encode_clips(model, images)
    teacher = [x.detach() for x in complete["backbone_fpn"]]
    distance = sum(F.mse_loss(ours, theirs) for ours, theirs in zip(features["backbone_fpn"], teacher)) / len(teacher)
    return loss + clip_loss(model, frame_by_frame(complete, len(images)), targets)[0] + distance, iou, kept


def encode_clips(model, images) -> dict:
    """Features of all frames of clips (B, T, 3, S, S) at once, for ``frame_by_frame``; bfloat16 on a GPU."""
    with torch.autocast("cuda", torch.bfloat16, enabled=images.is_cuda):
        return model.forward_image(images.transpose(0, 1).flatten(0, 1))


def calibration_images(sequences, size: int, n: int = CALIBRATION_IMAGES) -> list[torch.Tensor]:
    """``n`` frames as a tracker sees them, (1, 3, S, S) each, as evenly from all videos and all their length as may be."""
    rounds = -(-n // len(sequences))
    places = [(sequence, (turn + 1) / (rounds + 1)) for turn in range(rounds) for sequence in sequences][:n]
    return [load_video([sequence.frame_paths[int(place * len(sequence))]], size)[0] for sequence, place in places]


@torch.inference_mode()
def calibrate_gates(model, rate: float, images) -> float:
    """Set the threshold under which a share ``rate`` of a model's gates is open, on average over images (1, 3, S, S).

    A threshold changes the tokens that later gates see, so it is sought by halving an interval, each time with the
    gates as they then are.
    """
    if not gated(model):
        return 0.0
    def run(threshold):
        set_threshold(model, threshold)
        logits, gates = [], []
        for image in images:
            model.forward_image(image)
            logits += [module.logits.flatten() for module in gated(model)]
            gates += [module.gate.float().mean() for module in gated(model)]
        return torch.cat(logits), torch.stack(gates).mean().item()

    threshold, reach = rate_threshold(run(0.0)[0], rate), None
    tried = []
    for _ in range(CALIBRATION_PASSES):
        logits, share = run(threshold)
        tried.append((abs(share - rate), threshold))
        reach = reach or 4 * logits.std().item()
        threshold += reach if share > rate else -reach
        reach /= 2
    threshold = min(tried)[1]
    set_threshold(model, threshold)
    return threshold
