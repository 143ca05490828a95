"""SlimSAM from end to end: prune the width, align, prune the bottlenecks, align again, fine-tune on tracking.

The supplement aligns on shard ``sav-000`` for 150 epochs and fine-tunes on ``sav-006`` and DAVIS 2017 with 3e-6 for the encoder
and 5e-6 for the rest. Here all parts see the clips that the other methods are trained on.
"""

import copy
from functools import partial
from pathlib import Path

import torch
from tqdm import tqdm

from rds_lib.core.errors import RDSInputError
from rds_lib.data.batches import SequenceBatches, loader
from rds_lib.methods.gated_training import encode_clips
from rds_lib.methods.slimsam import disturbed_taylor, feature_maps, fuse_attention, prune, save_slim, split_attention
from rds_lib.methods.slimsam_align import bottleneck_aligning, embedding_aligning, embedding_share
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

ALIGNING = 0.5  # share of the inner terms in the first half of phase 1
CLIP_NORM = 1.0
WARM_UP = 10  # steps


def train_slimsam(
    ninths: int, *, sequences, out: Path, workdir: Path, seed: int, steps: int, importance_steps: int, batch: int, frames: int,
    lr_align: float, lr_encoder: float, lr_head: float, config_file: str = "mini", checkpoint: Path | None = None,
    save_every: int = 50, device: str | None = None,
) -> Path:
    """Make and train one SlimSAM, resuming from ``workdir``, and write it to ``out``.

    Parameters
    ----------
    ninths : int
        4 to 9; of the width and of the bottlenecks, ``ninths`` / 9 stay, so that some (ninths / 9)^2 of the work does.
    seed : int
        Under ``torchrun`` every process draws its own clips; what is pruned follows from the same images in all of them.
    steps : int
        Of the fine-tuning, and in all of the two alignments before it, half each.
    importance_steps : int
        Batches over which the disturbed Taylor importance is summed, before each pruning.
    lr_align, lr_encoder, lr_head : float
        Peak rates of the alignments, and of the fine-tuning for the image encoder and for everything else.

    Returns
    -------
    Path
        ``out``, for ``slimsam.load_slim``; the logs lie in ``workdir/<part>/log.csv``.
    """
    if ninths not in range(4, 10):
        raise RDSInputError(f"SlimSAM's level is {ninths}/9; give 4 to 9 ninths, as in the paper's Table 9")
    rank, world = join_processes()
    device = device or local_device()
    build = partial(build_model, config_file, checkpoint, device=device)
    teacher, student = build().requires_grad_(False), build()
    for model in (teacher, student):
        split_attention(model)
    data = partial(SequenceBatches, sequences, batch=batch, frames=frames, size=student.image_size)
    images = [item[0].flatten(0, 1).to(device) for item in _batches(data(seed=seed + 1, first_step=0, steps=importance_steps))]

    kept = _cut(student, "width", ninths / 9, partial(feature_maps, teacher), images, seed)
    run = partial(_train, student, data=data, seed=seed * world + rank, save_every=save_every)
    run(workdir / "width", steps // 2, lr_align, label="align bottlenecks", loss_of=lambda batch, progress: (
        bottleneck_aligning(student, teacher, batch[0].to(device).flatten(0, 1), ALIGNING if progress < 0.5 else 0.0), {}))
    slimmed = copy.deepcopy(student).requires_grad_(False)
    kept |= _cut(student, "bottleneck", ninths / 9, partial(feature_maps, slimmed), images, seed)
    run(workdir / "bottleneck", steps - steps // 2, lr_align, label="align embeddings", loss_of=lambda batch, progress: (
        embedding_aligning(student, slimmed, teacher, batch[0].to(device).flatten(0, 1), embedding_share(progress)), {}))
    fuse_attention(student)
    run(workdir / "tune", steps, lr_encoder, lr_head, label="fine-tune", loss_of=lambda batch, progress: _tracking_loss(
        student, batch[0].to(device), batch[1].to(device)))
    if rank == 0:
        save_slim(out, student, kept)
    return out


def _batches(data):
    return (data[i] for i in range(len(data)))


def _cut(student, phase, keep, reference, images, seed):
    if keep == 1:
        return {}
    disturbed_taylor(student, reference, images, generator=torch.Generator().manual_seed(seed))
    return prune(student, phase, keep)


def _train(student, workdir, steps, lr, lr_head=0.0, *, label, loss_of, data, seed, save_every):
    """One part of the training; ``loss_of(batch, progress)`` gives a loss and numbers for the log."""
    rank, world = join_processes()
    encoder = list(student.image_encoder.parameters())
    own = {id(p) for p in encoder}
    groups = [{"params": encoder, "peak": lr}, {"params": [p for p in student.parameters() if id(p) not in own], "peak": lr_head}]
    student.requires_grad_(bool(lr_head)).image_encoder.requires_grad_(True)
    optimizer = torch.optim.AdamW([group for group in groups if group["peak"]], weight_decay=0.0)
    run = TrainingRun(workdir, {"model": student, "optimizer": optimizer}, total=steps, save_every=save_every, writes=rank == 0)
    batches = data(seed=seed, first_step=run.step, steps=steps - run.step)
    for batch in tqdm(loader(batches, device=encoder[0].device), desc=f"SlimSAM, {label}", disable=None if rank == 0 else True):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(run.step, steps, group["peak"], warm_up=WARM_UP)
        loss, numbers = loss_of(batch, run.step / steps)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        trained = [p for group in optimizer.param_groups for p in group["params"]]
        average_gradients(trained, world)
        optimizer_step(optimizer, trained, clip_norm=CLIP_NORM)
        run.finish_step(loss=round(loss.item(), 5), **numbers)


def _tracking_loss(model, images, targets):
    loss, iou = clip_loss(model, frame_by_frame(encode_clips(model, images), len(images)), targets)
    return loss, {"iou": round(iou, 4)}
