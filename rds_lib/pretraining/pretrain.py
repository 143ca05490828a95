"""Train the mini SAM2: generated clips, objects of BSDS500 and real videos where their folders are given.

Follows SAM2's recipe in small: clips with a mask, box or click on the first frame, its loss, AdamW with a cosine; image
size and clip length grow in phases. Clips are made on the device that trains (`maker`), a few objects are followed in
one pass over a clip's features, and the average that does best on held-out videos is exported (`held_out`).
Stochastic depth leaves out whole blocks for a whole step, as routing will: what is left out costs nothing, and the
model learns to be right under many routes. Every step's data and noise come from (seed, step), so a run that is
stopped and started again ends at the same weights.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

import torch

from rds_lib.core.artifacts import write_tensors
from rds_lib.core.paths import CACHE
from rds_lib.data.batches import loader
from rds_lib.data.datasets import read_dataset
from rds_lib.data.sources import split_held_out
from rds_lib.model.backbone import Backbone, backbone_of
from rds_lib.model.clip_tracking import frame_by_frame, make_prompt, track_clip
from rds_lib.model.losses import clip_iou, sam2_loss
from rds_lib.model.sam2 import build_model, set_image_size
from rds_lib.pretraining.batches import RecipeBatches
from rds_lib.pretraining.footage import open_footage
from rds_lib.pretraining.held_out import Choice, held_out_iou, held_out_videos_iou
from rds_lib.pretraining.maker import ClipMaker, Clips
from rds_lib.pretraining.stock import open_stock
from rds_lib.pretraining.vit import VIT, VitPupil, build_vit
from rds_lib.training.loop import fit
from rds_lib.training.run import Averaged, TrainingRun, join_processes, local_device

PROMPT_SHARES = {"mask": 0.6, "box": 0.2, "point": 0.2}
STILL_SHARES = {"box": 0.5, "point": 0.5}
MASKS_ONLY = 0.4  # share of a run from nothing that tracks masks alone: what boxes and clicks give is not worth it yet
WARM_UP = 200  # steps
CHECK_SEED, CHECK_CLIPS, CHECK_FRAMES = 4099, 24, 8  # the generated clips to choose by where there are no real videos
EMA_DECAY = 0.999
SAVE_MINUTES = 3.0


class Pupil(Protocol):
    """A model that learns from clips: what differs between SAM2 and another tracker."""

    model: torch.nn.Module

    def set_size(self, size: int) -> None:
        """Take square images of ``size`` px from now on."""

    def loss(self, clips: Clips, generator: torch.Generator, done: float) -> tuple[torch.Tensor, float]:
        """Loss and IoU of one step; ``done`` is the share of the training that is over."""

    def score(self, model: torch.nn.Module, videos: Sequence, bsds_root: str) -> float:
        """IoU on held-out videos, or on held-out clips where there are none."""


class Sam2Pupil:
    """SAM2, from a mask alone for the share ``masks_only`` of the run, then from a box or a click too.

    Stochastic depth with ``drop_path``.
    """

    def __init__(self, model, drop_path: float, masks_only: float, run_in: int = 0):
        self.model, self.drop_path, self.masks_only, self.run_in = model, drop_path, masks_only, run_in

    def set_size(self, size):
        set_image_size(self.model, size)

    def loss(self, clips, generator, done):
        shares = PROMPT_SHARES if done >= self.masks_only else {"mask": 1.0}
        route = draw_route(backbone_of(self.model), self.drop_path, generator)
        images, targets, owner = clips
        start = draw_start(self.run_in, generator)
        end = start + images.shape[1] - self.run_in
        return prompted_loss(
            self.model,
            images[:, :end],
            targets[:, :end],
            generator,
            owner=owner,
            shares=shares,
            route=route,
            start=start,
        )

    def score(self, model, videos, bsds_root):
        if videos:
            return held_out_videos_iou(model, videos)
        return held_out_iou(model, seed=CHECK_SEED, clips=CHECK_CLIPS, frames=CHECK_FRAMES, bsds_root=bsds_root)


def pretrain(
    *,
    workdir: Path,
    seed: int,
    phases,
    lr: float,
    hold: float = 0.0,
    drop_path: float = 0.3,
    weight_decay: float = 0.05,
    bsds_root: str = "",
    davis_root: str = "",
    real_share: float = 0.5,
    objects: int = 1,
    run_in: int = 0,
    check_every: int = 0,
    start_from: Path | None = None,
    compile_blocks: bool = False,
    save_every: int = 100,
    config_file: str = "mini",
    device: str | None = None,
    cache: Path = CACHE,
) -> Path:
    """Train, resuming from ``workdir`` if it holds a state, and return the path of the averaged weights.

    Parameters
    ----------
    workdir : Path
        Receives ``state.pt`` (resume), ``log.csv`` and ``weights.safetensors`` (half precision).
    phases : sequence of (image_size, frames, batch, steps)
        The curriculum; px, frames a clip, clips a step and process, steps. Every process draws its own clips.
    lr, hold : float
        Peak rate, and the share of all steps that it holds before it falls.
    bsds_root, davis_root : str
        Folders of BSDS500 and of a set in DAVIS's layout, whose train list is used; "" for none.
    real_share : float
        Of the clips, where there are real videos.
    objects : int
        Objects of a clip that are followed in one pass, at most.
    run_in : int
        In every second step SAM2 first tracks 1 to ``run_in`` frames more without learning from them, so that it meets
        the masks and memories of its own that long videos lead to. It does not count in the curriculum's frames.
    check_every : int
        Score the average on what is held out every so many steps and export the best; 0: export the last. See `Choice`.
    save_every : int
        Steps between two saves; three minutes end the wait too.
    cache : Path
        Where clips' pictures and real frames lie decoded.
    """
    rank, world = join_processes()
    device = device or local_device()
    torch.set_flush_denormal(True)
    pupil = _pupil(seed, config_file, start_from, compile_blocks, drop_path, run_in, device)
    model = pupil.model
    optimizer = torch.optim.AdamW(parameter_groups(model, lr, weight_decay))
    videos, held_out = real_videos(davis_root)
    average, total = Averaged(model, EMA_DECAY), sum(phase[3] for phase in phases)
    score = partial(pupil.score, videos=held_out, bsds_root=bsds_root)
    choice = Choice(model, average, check_every, total, score)
    parts = {"model": model, "optimizer": optimizer, "average": average, "choice": choice}
    run = TrainingRun(workdir, parts, total=total, save_every=save_every, save_minutes=SAVE_MINUTES, writes=rank == 0)
    stock, footage = open_stock(cache, bsds_root), open_footage(cache, videos) if videos else None
    maker = ClipMaker(stock, footage, objects=objects, device=device)
    own_seed, parameters, end = seed * world + rank, list(model.parameters()), 0
    learning = _Learning(pupil, maker, average, choice, run, own_seed)
    learn = partial(fit, run=run, optimizer=optimizer, parameters=parameters, warm_up=WARM_UP, hold=hold, world=world)
    for size, frames, batch, steps in phases:
        end += steps
        todo = min(end - run.step, steps)
        if todo <= 0:
            continue
        pupil.set_size(size)
        learning.size = size
        draw = partial(RecipeBatches, stock, footage, real_share=real_share, seed=own_seed, batch=batch)
        data = loader(draw(frames=frames + run_in, first_step=run.step, steps=todo), device=device)
        learn(learning.step_loss, data, after_step=learning.after_step, label=f"{size} px, {frames} frames")
    weights = workdir / "weights.safetensors"
    return export_weights(choice.tensors or average.tensors, weights) if rank == 0 else weights


def real_videos(davis_root: str) -> tuple[list, list]:
    """The real videos to train on, and those that are held out of the same list to choose by; none without a root."""
    if not davis_root:
        return [], []
    return split_held_out(read_dataset(Path(davis_root), layout="davis2017", split="train"))


@dataclass
class _Learning:
    """What happens in a step beside the optimiser's part; all its draws follow from seed and step."""

    pupil: Pupil
    maker: ClipMaker
    average: Averaged
    choice: Choice
    run: TrainingRun
    seed: int
    size: int = 0  # px
    started: float = 0.0

    def step_loss(self, batch, step):
        self.started = time.perf_counter()
        torch.manual_seed((self.seed << 20) + step)
        generator = torch.Generator().manual_seed((self.seed << 20) + step)
        clips = self.maker(batch.made, batch.real, self.size)
        loss, iou = self.pupil.loss(clips, generator, step / self.run.total)
        row = {"image_size": self.size, "frames": clips.targets.shape[1], "objects": len(clips.targets)}
        return loss, row | {"loss": round(loss.item(), 4), "iou": round(iou, 4)}

    def after_step(self, row):
        self.average.update(self.pupil.model)
        row["seconds"] = round(time.perf_counter() - self.started, 3)
        row["held_out"] = self.choice.look(self.run.step + 1) if self.run.writes else None


def export_weights(state, path: Path) -> Path:
    """Write weights, in half precision; the models read them back as float32."""
    write_tensors(path, state)
    return path


def draw_route(backbone: Backbone, drop_path: float, generator) -> list[bool]:
    """Flags of the blocks that run in one step: one rate from [0, ``drop_path``) for all blocks that may be skipped."""
    rate, *draws = torch.rand(1 + backbone.depth, generator=generator).tolist()
    return [i in backbone.always_on or draw >= rate * drop_path for i, draw in enumerate(draws)]


def _pupil(seed, config_file, start_from, compile_blocks, drop_path, run_in, device) -> Pupil:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if config_file == VIT:
            return VitPupil(build_vit(start_from, device))
        model = build_model(config_file, start_from or False)
    if compile_blocks:
        torch._dynamo.config.recompile_limit = 64  # eight kinds of block, two image sizes, with and without gradient
        for block in model.image_encoder.trunk.blocks:
            block.compile(dynamic=False)
    return Sam2Pupil(model.to(device).train(), drop_path, 0.0 if start_from else MASKS_ONLY, run_in)


def parameter_groups(model, lr: float, weight_decay: float) -> list[dict]:
    """Weight decay on matrices only, as in SAM2's recipe."""
    return [
        {"params": [p for p in model.parameters() if p.dim() > 1], "peak": lr, "weight_decay": weight_decay},
        {"params": [p for p in model.parameters() if p.dim() <= 1], "peak": lr, "weight_decay": 0.0},
    ]


def draw_start(run_in: int, generator) -> int:
    """Frames that are tracked before those to learn from: none in every second step, else 1 to ``run_in``."""
    if not run_in or torch.rand((), generator=generator) < 0.5:
        return 0
    return int(torch.randint(1, run_in + 1, (), generator=generator))


def prompted_loss(model, images, targets, generator, *, owner=None, shares=PROMPT_SHARES, route=None, start=0):
    """Mean loss of the frames that SAM2 predicts, and the mean IoU on frames after the first.

    ``owner`` (K,) names the clip of each object of ``targets`` (K, T, S, S); by default each clip has one.
    ``shares`` are the odds of the prompt kinds; ``route`` the blocks that run, all by default. The frames before
    ``start`` are tracked without a gradient and do not count in the loss.

    All frames are encoded at once: without a router no frame waits for the one before it. Where the prompt is a mask,
    the first frame is also segmented from a box or a click, so every step teaches prompts at little cost.
    """
    frames, first = images.shape[1], targets[:, 0].cpu()
    kind = _draw(shares, generator)
    prompt = make_prompt(kind, first, generator).to(images.device)
    encode = _encoded(backbone_of(model), images, route, owner, start)
    outputs = track_clip(model, frames, prompt, encode, learn_from=start)
    scored = range(max(start, 1 if kind == "mask" else 0), frames)
    loss = sum(sam2_loss(outputs[t], targets[:, t]) for t in scored) / len(scored)
    if kind == "mask":
        still = make_prompt(_draw(STILL_SHARES, generator), first, generator).to(images.device)
        loss = loss + sam2_loss(track_clip(model, 1, still, encode)[0], targets[:, 0])
    return loss, clip_iou(outputs, targets)


def _encoded(backbone, images, route, owner, start):
    """The features of all frames for `track_clip`; those before ``start`` are made without a gradient."""
    batch, parts = images.shape[0], []
    for part, learns in ((images[:, :start], False), (images[:, start:], True)):
        if part.shape[1]:
            with torch.set_grad_enabled(torch.is_grad_enabled() and learns):
                parts.append(backbone.run(backbone.embed(part.transpose(0, 1).flatten(0, 1)), route))
    encoders = [frame_by_frame(features, batch, owner) for features in parts]

    def encode(t, previous):
        return encoders[-1](t - start, previous) if t >= start else encoders[0](t, previous)

    return encode


def _draw(shares, generator):
    kinds, odds = zip(*shares.items())
    return kinds[torch.multinomial(torch.tensor(odds), 1, generator=generator).item()]
