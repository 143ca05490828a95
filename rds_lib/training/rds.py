"""The RDS loop: router and I-LoRA learn on clips, with the router in the loop frame by frame.

The paper does not state its training losses; we use SAM2's own loss on the predicted frames and nothing else. The
budget is met by construction (line 6 of Algorithm 1). Only the router and the adapters are trained.
"""

import logging
from dataclasses import dataclass, field
from pathlib import Path

import torch
from tqdm import tqdm

from rds_lib.data.batches import SequenceBatches, loader
from rds_lib.model.adapters import add_lora
from rds_lib.model.encoder import always_on_blocks, embed_patches, encode_image
from rds_lib.model.sam2 import build_model
from rds_lib.routing.router import PredictionAwareRouter
from rds_lib.routing.weights import save_rds
from rds_lib.training.run import (
    TrainingRun,
    average_gradients,
    join_processes,
    learning_rate,
    local_device,
    optimizer_step,
)
from rds_lib.training.tasks import clip_loss

log = logging.getLogger(__name__)
WARM_UP = 10  # steps
CLIP_NORM = 1.0
PREFERENCE_RATE = 30.0  # times the router's rate, for the bias of its last layer


@dataclass
class RoutedClip:
    """Features of one batch of clips, each frame after the first encoded under the route that the router draws."""

    model: torch.nn.Module
    router: PredictionAwareRouter | None
    images: torch.Tensor  # (B, T, 3, S, S)
    budget: torch.Tensor | None  # (B,)
    generator: torch.Generator
    probabilities: list = field(default_factory=list)  # p of every routed frame, (B, L)
    routes: list = field(default_factory=list)

    def encode(self, t, previous):
        """``encode`` of ``track_clip``: full on the first frame or without a router, routed afterwards."""
        tokens = embed_patches(self.model.image_encoder.trunk, self.images[:, t])
        if previous is None or self.router is None:
            return encode_image(self.model, self.images[:, t], tokens=tokens)
        mask = previous.low_res_logits.detach()
        p, _, route = self.router(tokens, mask, budget=self.budget, mode="sample", generator=self.generator)
        self.probabilities.append(p.detach())
        self.routes.append(route.detach())
        return encode_image(self.model, self.images[:, t], route=route, tokens=tokens)

    def statistics(self):
        """Mean active blocks, and the standard deviation of p over clips and frames, averaged over the routed blocks."""
        if not self.routes:
            return {"active": float(len(self.model.image_encoder.trunk.blocks)), "spread": 0.0}
        p = torch.cat(self.probabilities)
        free = torch.ones(p.shape[1], dtype=torch.bool)
        free[list(self.router.always_on)] = False
        return {"active": round(torch.cat(self.routes).sum(1).mean().item(), 2),
                "spread": round(p[:, free].std(0, correction=0).mean().item(), 5)}


def train_rds(
    *, sequences, blocks, budgets, out: Path, workdir: Path, seed: int, steps: int, batch: int, frames: int,
    lr_router: float, lr_lora: float, lora_rank: int, router_hidden: int | None = None,
    config_file: str = "mini", checkpoint: Path | None = None,
    save_every: int = 50, device: str | None = None,
) -> Path:
    """Train one router with its I-LoRA, resuming from ``workdir``, and write both to ``out``.

    Parameters
    ----------
    sequences : list of Sequence
        Training videos; see ``datasets.read_dataset``.
    blocks : sequence of int
        Blocks that receive adapters, from ``importance.rank_blocks``; without any the router alone is trained.
    budgets : sequence of float
        One value trains a router for that budget; several draw a budget per clip, for one router that serves all;
        an empty one trains the adapters of the full encoder and no router (the control).
    out : Path
        A safetensors file for ``build_rds_video_predictor(rds_path=...)``.
    steps, batch, frames : int
        Optimiser steps, clips a step and process, frames a clip. Under ``torchrun`` every process draws its own clips.
    router_hidden : int, optional
        Width of the router's head; see ``PredictionAwareRouter``.

    Returns
    -------
    Path
        ``out``. The log of the run lies in ``workdir/log.csv``.
    """
    rank, world = join_processes()
    device = device or local_device()
    model = build_model(config_file, checkpoint, device=device).requires_grad_(False)
    torch.manual_seed(seed)
    if blocks:
        add_lora(model, blocks, rank=lora_rank)
    router = _new_router(model, router_hidden).to(device) if budgets else None
    adapters = [p for p in model.parameters() if p.requires_grad]
    groups = [{"params": adapters, "peak": lr_lora, "weight_decay": 0.0}] if blocks else []
    if router is not None:
        groups += _router_groups(router, lr_router)
    optimizer = torch.optim.AdamW(groups)
    parts = {"adapters": torch.nn.ParameterList(adapters), "optimizer": optimizer}
    if router is not None:
        parts["router"] = router.train()
    run = TrainingRun(workdir, parts, total=steps, save_every=save_every, writes=rank == 0)
    data = SequenceBatches(sequences, seed=seed * world + rank, batch=batch, frames=frames, size=model.image_size,
                           first_step=run.step, steps=steps - run.step)
    label = "full" if not budgets else "any" if len(budgets) > 1 else str(budgets[0])
    for images, targets in tqdm(loader(data, device=device), desc=f"RDS, budget {label}", disable=None if rank == 0 else True):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(run.step, steps, group["peak"], warm_up=WARM_UP)
        generator = torch.Generator(device).manual_seed((seed << 24) + run.step * world + rank)
        budget = _draw_budgets(budgets, len(images), generator)
        clip = RoutedClip(model, router, images.to(device), budget, generator)
        loss, iou = clip_loss(model, clip.encode, targets.to(device))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        trained = [p for group in optimizer.param_groups for p in group["params"]]
        average_gradients(trained, world)
        optimizer_step(optimizer, trained, clip_norm=CLIP_NORM)
        run.finish_step(loss=round(loss.item(), 4), iou=round(iou, 4), budget=label, **clip.statistics())
    if rank == 0:
        save_rds(out, router, model, budgets=list(budgets), blocks=list(blocks), rank=lora_rank if blocks else 0,
                 config_file=config_file)
    return out


def _router_groups(router, lr):
    """The last bias learns faster: which blocks all frames want must lie there, and the features say how a frame differs.

    Otherwise a frame unlike those of the training gets another count of blocks under the same threshold.
    """
    bias = router.mlp[-1].bias
    others = [p for p in router.parameters() if p is not bias]
    return [{"params": others, "peak": lr, "weight_decay": 0.0}, {"params": [bias], "peak": PREFERENCE_RATE * lr, "weight_decay": 0.0}]


def _new_router(model, hidden) -> PredictionAwareRouter:
    trunk = model.image_encoder.trunk
    return PredictionAwareRouter(
        trunk.patch_embed.proj.out_channels, len(trunk.blocks), always_on_blocks(trunk), image_size=model.image_size, hidden=hidden)


def _draw_budgets(budgets, batch, generator):
    """One of the budgets for each clip, (B,)."""
    if not budgets:
        return None
    chosen = torch.randint(len(budgets), (batch,), generator=generator, device=generator.device)
    return torch.tensor(budgets, device=generator.device)[chosen]
