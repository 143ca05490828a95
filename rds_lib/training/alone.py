"""Teach a router before its adapters: alone, on single frames, by what its routes do to the features.

An object once lost stays lost, so the loss of tracking says little about the route of one frame. The damage to the
frame's features says it at once, for the price of an encoder. It does not say which blocks tracking needs, so what all
frames share is not learnt here: it stays as it was, and the frames' part of the logits is centred over the frames.
"""

from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rds_lib.data.batches import TrainingBatches, loader
from rds_lib.model.backbone import Backbone
from rds_lib.model.losses import squared_damage
from rds_lib.routing.router import PredictionAwareRouter, RunningNorm
from rds_lib.training.loop import Schedule, fit
from rds_lib.training.run import TrainingRun, join_processes
from rds_lib.training.tasks import clip_generators, draw_budgets, in_micro_batches

NEAR = 5  # tokens: side of the square around a token of the object within which features count more
SHARE_NEAR = 0.5  # of the weight; the rest lies evenly on the frame


class Centred(nn.Module):
    """A last layer whose products have mean 0 over the frames seen, so that its bias alone says what all share."""

    def __init__(self, last: nn.Linear):
        super().__init__()
        self.last, self.seen = last, RunningNorm(last.out_features)
        last.bias.requires_grad_(False)

    def forward(self, features):
        products = F.linear(features, self.last.weight)
        if self.training:
            self.seen.see(products.detach().float())
        return products - self.seen.mean + self.last.bias

    @torch.no_grad()
    def folded(self) -> nn.Linear:
        """The same function as a plain layer."""
        self.last.bias -= self.seen.mean
        return self.last


def teach_router(
    backbone: Backbone, router: PredictionAwareRouter, sequences, budgets, schedule: Schedule, workdir: Path, lr: float
) -> None:
    """Train a router in place, resuming from ``workdir``, and leave it frozen.

    Every frame runs under a route drawn from the router, which sees the true mask of the frame before. The loss is
    `losses.squared_damage`, near the object above all. The last layer's bias keeps the order of the blocks.

    Parameters
    ----------
    schedule : Schedule
        Steps of ``batch`` single frames.
    """
    (rank, world), seed = join_processes(), schedule.seed
    router.mlp[-1] = Centred(router.mlp[-1]).to(router.alpha.device)
    learnt = [p for p in router.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW([{"params": learnt, "peak": lr, "weight_decay": 0.0}])
    parts = {"router": router.train(), "optimizer": optimizer}
    run = TrainingRun(workdir, parts, total=schedule.steps, save_every=schedule.save_every, writes=rank == 0)
    todo = {"first_step": run.step, "steps": schedule.steps - run.step, "frames": 2}
    data = TrainingBatches(sequences, size=backbone.image_size, **schedule.share(rank, world), **todo)
    device = router.alpha.device

    def step_loss(batch, step):
        images, targets = (tensor.to(device) for tensor in batch[:2])
        generators = clip_generators(seed, step, schedule.batch, batch[2], device)
        budget = draw_budgets(budgets, generators)
        masks = F.avg_pool2d(targets, backbone.token_stride)  # (B, 2, h, w), shares of a token
        with torch.no_grad():
            tokens = backbone.embed(images[:, 1])
            whole = backbone.run(tokens)
        _, w, route = router(tokens, masks[:, :1] - 0.5, budget=budget, mode="sample", generator=generators)
        loss = squared_damage(backbone.run(tokens, route), whole, weight=near_object(masks[:, 1:])).mean()
        return loss, {"loss": round(loss.item(), 4), "spread": round(w.detach().std(0, correction=0).mean().item(), 5)}

    what = {"label": "router alone", "world": world, "schedule": replace(schedule, precision="float32")}
    losses = in_micro_batches(router if schedule.accumulate > 1 else None, step_loss)
    fit(batches=loader(data, device=device), run=run, optimizer=optimizer, parameters=learnt, **losses, **what)
    router.mlp[-1] = router.mlp[-1].folded()
    router.requires_grad_(False).eval()


def near_object(masks: Tensor) -> Tensor:
    """Weights of tokens, (B, 1, h, w), mean 1: half of it lies near the object; masks (B, 1, h, w) in [0, 1]."""
    near = F.max_pool2d(masks, NEAR, 1, NEAR // 2)
    share = SHARE_NEAR * near.flatten(1).any(1).float()[:, None, None, None]  # none without an object
    return share * near / near.mean((2, 3), keepdim=True).clamp(min=1e-6) + 1 - share
