"""Train the mini SAM2: generated clips, objects of BSDS500 and real videos where their folders are given.

Follows SAM2's recipe in small: clips with a mask, box or click on the first frame, its loss, AdamW with a cosine; image
size and clip length grow in phases. Stochastic depth leaves out whole blocks for a whole step, as routing will: what is
left out costs nothing, and the model learns to be right under many routes. Every step's data and noise come from
(seed, step), so a run that is stopped and started again ends at the same weights.
"""

import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from rds_lib.core.artifacts import write_tensors
from rds_lib.data.batches import GeneratedBatches, loader
from rds_lib.model.backbone import Backbone, backbone_of
from rds_lib.model.clip_tracking import frame_by_frame, make_prompt, track_clip
from rds_lib.model.losses import clip_iou, sam2_loss
from rds_lib.model.sam2 import build_model, set_image_size
from rds_lib.pretraining.batches import PretrainBatches
from rds_lib.training.loop import fit
from rds_lib.training.run import Averaged, TrainingRun, join_processes, local_device

PROMPT_SHARES = {"mask": 0.8, "box": 0.1, "point": 0.1}
STILL_SHARES = {"box": 0.5, "point": 0.5}
MASKS_ONLY = 0.4  # share of the run that tracks masks alone: at first, what boxes and clicks give is not worth tracking
WARM_UP = 200  # steps
EMA_DECAY = 0.999


def pretrain(
    *,
    workdir: Path,
    seed: int,
    phases,
    lr: float,
    drop_path: float = 0.3,
    weight_decay: float = 0.05,
    bsds_root: str = "",
    davis_root: str = "",
    start_from: Path | None = None,
    compile_blocks: bool = False,
    save_every: int = 100,
    config_file: str = "mini",
    device: str | None = None,
) -> Path:
    """Train, resuming from ``workdir`` if it holds a state, and return the path of the averaged weights.

    Parameters
    ----------
    workdir : Path
        Receives ``state.pt`` (resume), ``log.csv`` and ``weights.safetensors`` (half precision).
    phases : sequence of (image_size, frames, batch, steps)
        The curriculum; px, frames a clip, clips a step and process, steps. Under ``torchrun`` every process draws its
        own clips.
    drop_path : float
        Every step leaves out each block that may be skipped with one probability, drawn between 0 and this.
    bsds_root : str
        A folder of BSDS500, or "" for no objects cut from photographs.
    davis_root : str
        A data set in DAVIS's layout, or "" for no real videos; see `PretrainBatches`.
    start_from : Path, optional
        Weights to go on from; random ones by default.
    compile_blocks : bool
        Compile each encoder block; pays off after about a thousand steps.
    """
    rank, world = join_processes()
    device = device or local_device()
    torch.set_flush_denormal(True)
    model = _build(seed, config_file, start_from, compile_blocks).to(device).train()
    optimizer = torch.optim.AdamW(parameter_groups(model, lr, weight_decay))
    average = Averaged(model, EMA_DECAY)
    parts, total = {"model": model, "optimizer": optimizer, "average": average}, sum(phase[3] for phase in phases)
    run = TrainingRun(workdir, parts, total=total, save_every=save_every, writes=rank == 0)
    own_seed, parameters, end = seed * world + rank, list(model.parameters()), 0
    learning = _Learning(model, average, own_seed, total, drop_path)
    learn = partial(fit, run=run, optimizer=optimizer, parameters=parameters, warm_up=WARM_UP, world=world)
    for size, frames, batch, steps in phases:
        end += steps
        todo = min(end - run.step, steps)
        if todo <= 0:
            continue
        set_image_size(model, size)
        options = {"batch": batch, "frames": frames, "size": size, "bsds_root": bsds_root, "davis_root": davis_root}
        data = loader(PretrainBatches(seed=own_seed, first_step=run.step, steps=todo, **options), device=device)
        learn(learning.step_loss, data, after_step=learning.after_step, label=f"{size} px, {frames} frames")
    weights = workdir / "weights.safetensors"
    return export_weights(average.tensors, weights) if rank == 0 else weights


@dataclass
class _Learning:
    """What happens in a step beside the optimiser's part; all its draws follow from seed and step."""

    model: torch.nn.Module
    average: Averaged
    seed: int
    total: int
    drop_path: float
    started: float = 0.0

    def step_loss(self, batch, step):
        self.started = time.perf_counter()
        torch.manual_seed((self.seed << 20) + step)
        generator = torch.Generator().manual_seed((self.seed << 20) + step)
        shares = PROMPT_SHARES if step >= MASKS_ONLY * self.total else {"mask": 1.0}
        route = draw_route(backbone_of(self.model), self.drop_path, generator)
        images, targets = (tensor.to(self.model.device) for tensor in batch)
        loss, iou = prompted_loss(self.model, images, targets, generator, shares=shares, route=route)
        row = {"image_size": self.model.image_size, "frames": targets.shape[1]}
        return loss, row | {"loss": round(loss.item(), 4), "iou": round(iou, 4)}

    def after_step(self, row):
        self.average.update(self.model)
        row["seconds"] = round(time.perf_counter() - self.started, 3)


def export_weights(state, path: Path) -> Path:
    """Write weights in half precision; the models read them back as float32."""
    write_tensors(path, {name: tensor.half() for name, tensor in state.items()})
    return path


def draw_route(backbone: Backbone, drop_path: float, generator) -> list[bool]:
    """Flags of the blocks that run in one step: one rate from [0, ``drop_path``) for all blocks that may be skipped."""
    rate, *draws = torch.rand(1 + backbone.depth, generator=generator).tolist()
    return [i in backbone.always_on or draw >= rate * drop_path for i, draw in enumerate(draws)]


def _build(seed, config_file, start_from, compile_blocks):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build_model(config_file, start_from or False)
    if compile_blocks:
        torch._dynamo.config.recompile_limit = 64  # eight kinds of block, two image sizes, with and without gradient
        for block in model.image_encoder.trunk.blocks:
            block.compile(dynamic=False)
    return model


def parameter_groups(model, lr: float, weight_decay: float) -> list[dict]:
    """Weight decay on matrices only, as in SAM2's recipe."""
    return [
        {"params": [p for p in model.parameters() if p.dim() > 1], "peak": lr, "weight_decay": weight_decay},
        {"params": [p for p in model.parameters() if p.dim() <= 1], "peak": lr, "weight_decay": 0.0},
    ]


def prompted_loss(model, images, targets, generator, *, shares=PROMPT_SHARES, route=None):
    """Mean loss of the frames that SAM2 predicts, and the mean IoU on frames after the first.

    ``shares`` are the odds of the prompt kinds; ``route`` the blocks that run, all by default.

    All frames are encoded at once: without a router no frame waits for the one before it. Where the prompt is a mask,
    the first frame is also segmented from a box or a click, so every step teaches prompts at little cost.
    """
    batch, frames = images.shape[:2]
    kind = _draw(shares, generator)
    prompt = make_prompt(kind, targets[:, 0].cpu(), generator).to(images.device)
    backbone = backbone_of(model)
    features = backbone.run(backbone.embed(images.transpose(0, 1).flatten(0, 1)), route)
    encode = frame_by_frame(features, batch)
    outputs = track_clip(model, frames, prompt, encode)
    scored = range(1 if kind == "mask" else 0, frames)
    loss = sum(sam2_loss(outputs[t], targets[:, t]) for t in scored) / len(scored)
    if kind == "mask":
        still = make_prompt(_draw(STILL_SHARES, generator), targets[:, 0].cpu(), generator).to(images.device)
        loss = loss + sam2_loss(track_clip(model, 1, still, encode)[0], targets[:, 0])
    return loss, clip_iou(outputs, targets)


def _draw(shares, generator):
    kinds, odds = zip(*shares.items())
    return kinds[torch.multinomial(torch.tensor(odds), 1, generator=generator).item()]


@torch.inference_mode()
def held_out_iou(
    model, *, seed: int, clips: int, frames: int, split: str = "calibration", bsds_root: str = "", kind: str = "mask"
) -> float:
    """Mean IoU of unseen clips at the model's own size, with one kind of prompt; for model selection."""
    options = {"batch": 1, "frames": frames, "size": model.image_size, "bsds_root": bsds_root}
    data = GeneratedBatches(seed=seed, split=split, first_step=0, steps=clips, **options)
    generator = torch.Generator().manual_seed(seed)
    scores = []
    for images, targets in (data[i] for i in range(clips)):
        prompt = make_prompt(kind, targets[:, 0], generator)
        outputs = track_clip(model, frames, prompt, lambda t, _, images=images: model.forward_image(images[:, t]))
        scores.append(clip_iou(outputs, targets))
    return sum(scores) / len(scores)
