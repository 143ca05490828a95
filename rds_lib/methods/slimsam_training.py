"""SlimSAM from end to end: prune the width, align, prune the bottlenecks, align again, fine-tune on tracking.

The supplement aligns on shard ``sav-000`` for 150 epochs and fine-tunes on ``sav-006`` and DAVIS 2017 with 3e-6 for the
encoder and 5e-6 for the rest. Here all parts see the clips that the other methods are trained on.
"""

import copy
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from rds_lib.core.errors import RDSInputError
from rds_lib.data.batches import loader
from rds_lib.methods import slimsam
from rds_lib.methods.base import Method, clip_step, register
from rds_lib.methods.slimsam_align import bottleneck_aligning, bottleneck_share, embedding_aligning, embedding_share
from rds_lib.training.loop import fit
from rds_lib.training.run import TrainingRun, join_processes, local_device


class SlimSAM(Method):
    """A narrower encoder in a model that is trained as a whole. A level is a number of ninths, so 6 is the row 6/9.

    Of the width and of the bottlenecks ``level`` / 9 stay, so some (level / 9)^2 of the work does.
    """

    name, label = "slimsam", "SlimSAM"

    def levels(self, section) -> tuple[float, ...]:
        return section.ninths

    def table_level(self, level: float) -> float:
        return round(level / 9, 3)

    def options(self, section) -> dict:
        return {}  # the file holds the whole model, and the channels that were kept

    def recipe(self, section) -> dict:
        return {name: getattr(section, name) for name in ("importance_steps", "lr_align", "lr_encoder", "lr_head")}

    def train(self, level, setup, *, out, workdir, importance_steps, lr_align, lr_encoder, lr_head) -> Path:
        """Make and train one SlimSAM, resuming from ``workdir``, and write it to ``out``.

        Both alignments together take as many steps as the fine-tuning; each part logs into ``workdir/<part>``. The
        importance is summed over ``importance_steps`` batches before each pruning. ``lr_align`` is the alignments' peak
        rate, ``lr_encoder`` and ``lr_head`` are those of the fine-tuning, for the image encoder and for the rest.
        """
        if level not in range(4, 10):
            raise RDSInputError(f"SlimSAM's level is {level}/9; give 4 to 9 ninths, as in the paper's Table 9")
        device, seed, steps = setup.device or local_device(), setup.schedule.seed, setup.schedule.steps
        teacher, student = setup.model(device).requires_grad_(False), setup.model(device)
        for model in (teacher, student):
            slimsam.split_attention(model)
        images = [frames.to(device) for frames in setup.images(student, seed + 1, importance_steps)]
        learn = partial(_learn, student, setup)

        kept = _cut(student, "width", level / 9, teacher, images, seed)
        aligning = _aligning(partial(bottleneck_aligning, student, teacher), bottleneck_share)
        learn(workdir / "width", steps // 2, aligning, lr_align)
        slimmed = copy.deepcopy(student).requires_grad_(False)
        kept |= _cut(student, "bottleneck", level / 9, slimmed, images, seed)
        aligning = _aligning(partial(embedding_aligning, student, slimmed, teacher), embedding_share)
        learn(workdir / "bottleneck", steps - steps // 2, aligning, lr_align)
        slimsam.fuse_attention(student)
        learn(workdir / "tune", steps, partial(_tracking, student), lr_encoder, lr_head)
        if join_processes()[0] == 0:
            slimsam.save_slim(out, student, kept)
        return out

    def load(self, model, path: Path):
        slimsam.load_slim(model, path)
        return model.eval()

    def trained_parameters(self, model, path: Path) -> int:
        return sum(p.numel() for p in model.parameters())


register(SlimSAM())


def _cut(student, phase, keep, reference, images, seed):
    """Prune one phase; under ``torchrun`` all processes see the same images and cut alike."""
    if keep == 1:
        return {}
    features, generator = partial(slimsam.feature_maps, reference), torch.Generator().manual_seed(seed)
    slimsam.disturbed_taylor(student, features, images, generator=generator)
    return slimsam.prune(student, phase, keep)


def _learn(student, setup, workdir, steps, loss_of, lr, lr_head=0.0):
    """One part of the training; ``loss_of(clips, targets, progress)`` gives a loss and numbers for the log."""
    rank, world = join_processes()
    encoder, schedule = list(student.image_encoder.parameters()), setup.schedule
    own, device = {id(p) for p in encoder}, encoder[0].device
    rest = [p for p in student.parameters() if id(p) not in own]
    student.requires_grad_(bool(lr_head)).image_encoder.requires_grad_(True)
    groups = [{"params": group, "peak": peak} for group, peak in ((encoder, lr), (rest, lr_head)) if peak]
    optimizer = torch.optim.AdamW(groups, weight_decay=0.0)
    parts = {"model": student, "optimizer": optimizer}
    run = TrainingRun(workdir, parts, total=steps, save_every=schedule.save_every, writes=rank == 0)

    def step_loss(batch, step):
        loss, numbers = loss_of(*(tensor.to(device) for tensor in batch[:2]), step / steps)
        return loss, {"loss": round(loss.item(), 5), **numbers}

    data = loader(setup.batches(student, run.step, steps), device=device)
    trained = [p for group in groups for p in group["params"]]
    schedule = schedule if lr_head else replace(schedule, precision="float32")  # alignments compare activations
    how = {"schedule": schedule, "blocks": student.image_encoder.trunk.blocks, "world": world}
    fit(step_loss, data, run, optimizer, trained, label=f"SlimSAM {workdir.name}", **how)


def _aligning(loss, share):
    return lambda clips, targets, progress: (loss(clips.flatten(0, 1), share(progress)), {})


def _tracking(model, clips, targets, progress):
    loss, iou, _ = clip_step(model, clips, targets)
    return loss, {"iou": round(iou, 4)}
