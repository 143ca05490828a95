"""Train the mini SAM2 from scratch: generated clips, and objects of BSDS500 where its folder is given.

Follows SAM2's recipe in small: clips with a mask, box or click on the first frame, its loss, stochastic depth, AdamW
with a cosine; image size and clip length grow in phases. Every step's data and noise come from (seed, step), so a run
that is stopped and started again ends at the same weights.
"""

import csv
import logging
import math
import os
import time
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn
from tqdm import tqdm

from rds_lib.errors import RDSInputError
from rds_lib.losses import mask_iou, sam2_loss
from rds_lib.sam2_models import build_model, set_image_size
from rds_lib.tracking import make_prompt, track_clip
from rds_lib.training_data import GeneratedBatches, loader

log = logging.getLogger(__name__)
PROMPT_SHARES = {"mask": 0.6, "box": 0.2, "point": 0.2}
WARM_UP = 200  # steps


def pretrain(
    *, workdir: Path, seed: int, phases, lr: float, weight_decay: float = 0.05, drop_path: float = 0.1,
    ema_decay: float = 0.999, clip_norm: float = 1.0, bsds_root: str = "", compile_blocks: bool = False,
    workers: int = 1, save_every: int = 200, config_file: str = "mini", device: str | None = None,
) -> Path:
    """Train, resuming from ``workdir`` if it holds a state, and return the path of the averaged weights.

    Parameters
    ----------
    workdir : Path
        Receives ``state.pt`` (resume), ``log.csv`` and ``weights.safetensors`` (half precision).
    phases : sequence of (image_size, frames, batch, steps)
        The curriculum; px, frames a clip, clips a step, steps.
    bsds_root : str
        A folder of BSDS500, or "" for generated clips alone.
    compile_blocks : bool
        Compile each encoder block; pays off from about a thousand steps.
    """
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    workdir.mkdir(parents=True, exist_ok=True)
    overrides = [f"++model.image_encoder.trunk.drop_path_rate={drop_path}"]
    model = build_seeded(seed, config_file, overrides).to(device).train()
    if compile_blocks:
        torch._dynamo.config.recompile_limit = 64
        for block in model.image_encoder.trunk.blocks:
            block.compile(dynamic=False)
    run = _Run(model, workdir, seed=seed, lr=lr, weight_decay=weight_decay, ema_decay=ema_decay, clip_norm=clip_norm,
               total=sum(phase[3] for phase in phases), save_every=save_every)
    run.resume()
    first = 0
    for size, frames, batch, steps in phases:
        todo = first + steps - run.step
        if 0 < todo:
            set_image_size(model, size)
            data = GeneratedBatches(seed=seed, split="train", batch=batch, frames=frames, size=size,
                                    first_step=run.step, steps=min(todo, steps), bsds_root=bsds_root)
            for images, targets in tqdm(loader(data, workers=workers), desc=f"{size} px, {frames} frames"):
                run.advance(images.to(device), targets.to(device))
        first += steps
    run.save()
    return export_weights(run.ema, workdir / "weights.safetensors")


def build_seeded(seed, config_file, overrides):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build_model(config_file, False, overrides=overrides)


def export_weights(state, path: Path) -> Path:
    """Write weights in half precision, atomically; the models read them back as float32."""
    temporary = path.with_name(path.name + ".part")
    save_file({name: tensor.half().contiguous().cpu() for name, tensor in state.items()}, temporary)
    os.replace(temporary, path)
    return path


class _Run:
    """Optimiser, average and log of one training, and their state on disk."""

    def __init__(self, model, workdir, *, seed, lr, weight_decay, ema_decay, clip_norm, total, save_every):
        self.model, self.workdir, self.seed, self.total, self.save_every = model, workdir, seed, total, save_every
        self.ema_decay, self.clip_norm, self.lr, self.step = ema_decay, clip_norm, lr, 0
        decayed = [p for p in model.parameters() if p.dim() > 1]
        plain = [p for p in model.parameters() if p.dim() <= 1]
        self.optimizer = torch.optim.AdamW(
            [{"params": decayed, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}], lr=lr)
        self.ema = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
        self.rows = []

    def rate(self):
        progress = self.step / max(self.total, 1)
        return self.lr * min(1.0, (self.step + 1) / WARM_UP) * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * progress)))

    def advance(self, images, targets):
        torch.manual_seed((self.seed << 20) + self.step)
        generator = torch.Generator().manual_seed((self.seed << 20) + self.step)
        started = time.perf_counter()
        loss, iou = clip_loss(self.model, images, targets, generator)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.clip_norm)
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate()
        if norm.isfinite():
            self.optimizer.step()
        else:
            log.warning("step %d: gradient is not finite, step left out", self.step)
        self._average()
        self.rows.append([self.step, images.shape[-1], images.shape[1], round(loss.item(), 4), round(iou, 4), round(time.perf_counter() - started, 3)])
        self.step += 1
        if self.step % self.save_every == 0:
            self.save()

    def _average(self):
        decay = min(self.ema_decay, (1 + self.step) / (10 + self.step))
        for name, tensor in self.model.state_dict().items():
            if tensor.is_floating_point():
                self.ema[name].lerp_(tensor, 1 - decay)

    def save(self):
        path = self.workdir / "state.pt"
        temporary = path.with_name("state.pt.part")
        torch.save({"step": self.step, "model": self.model.state_dict(), "ema": self.ema,
                    "optimizer": self.optimizer.state_dict()}, temporary)
        os.replace(temporary, path)
        with open(self.workdir / "log.csv", "a", newline="") as handle:
            writer = csv.writer(handle)
            if handle.tell() == 0:
                writer.writerow(["step", "image_size", "frames", "loss", "iou", "seconds"])
            writer.writerows(self.rows)
        if self.rows:
            recent = self.rows[-100:]
            log.info("step %d of %d, loss %.3f, IoU %.3f", self.step, self.total,
                     sum(r[3] for r in recent) / len(recent), sum(r[4] for r in recent) / len(recent))
        self.rows = []

    def resume(self):
        path = self.workdir / "state.pt"
        if not path.exists():
            return
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
            self.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
        except Exception as cause:
            raise RDSInputError(f"{path} is not a state of this training; delete it to start again") from cause
        self.ema, self.step = state["ema"], state["step"]


def clip_loss(model, images, targets, generator):
    """Loss summed over the frames that SAM2 predicts, and the mean IoU on frames after the first."""
    batch, frames = images.shape[:2]
    kinds, shares = zip(*PROMPT_SHARES.items())
    kind = kinds[torch.multinomial(torch.tensor(shares), 1, generator=generator).item()]
    prompt = make_prompt(kind, targets[:, 0].cpu(), generator)
    prompt = type(prompt)(*(None if x is None else x.to(images.device) for x in (prompt.masks, prompt.points, prompt.labels)))
    whole = model.forward_image(images.transpose(0, 1).flatten(0, 1))

    def encode(t, previous):
        return {key: [level[t * batch : (t + 1) * batch] for level in whole[key]] for key in ("backbone_fpn", "vision_pos_enc")}

    outputs = track_clip(model, frames, prompt, encode)
    scored = range(1 if kind == "mask" else 0, frames)
    loss = sum(sam2_loss(outputs[t], targets[:, t]) for t in scored) / len(scored)
    ious = [mask_iou(outputs[t].mask_logits[:, 0], targets[:, t]).mean().item() for t in range(1, frames)]
    return loss, sum(ious) / max(len(ious), 1)


@torch.inference_mode()
def held_out_iou(model, *, seed: int, clips: int, frames: int, size: int, split: str = "calibration", bsds_root: str = "", kind: str = "mask") -> float:
    """Mean IoU, frames after the first, of unseen clips at the model's size; for model selection."""
    data = GeneratedBatches(seed=seed, split=split, batch=1, frames=frames, size=size, first_step=0, steps=clips, bsds_root=bsds_root)
    generator = torch.Generator().manual_seed(seed)
    scores = []
    for images, targets in (data[i] for i in range(clips)):
        prompt = make_prompt(kind, targets[:, 0], generator)
        outputs = track_clip(model, frames, prompt, lambda t, previous: model.forward_image(images[:, t]))
        scores += [mask_iou(outputs[t].mask_logits[:, 0], targets[:, t]).item() for t in range(1, frames)]
    return sum(scores) / len(scores)
