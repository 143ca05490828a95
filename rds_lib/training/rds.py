"""The RDS loop: router and I-LoRA learn on clips, with the router in the loop frame by frame.

The paper does not state its training losses; we use SAM2's own loss on the predicted frames and nothing else. The
budget is met by construction (line 6 of Algorithm 1). Only the router and the adapters are trained.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from rds_lib.data.batches import TrainingBatches, loader
from rds_lib.model.adapters import add_lora
from rds_lib.model.backbone import Backbone
from rds_lib.model.clip_tracking import ClipTracker
from rds_lib.model.losses import squared_damage
from rds_lib.routing.algorithm1 import target_active, top_n_route
from rds_lib.routing.router import PredictionAwareRouter
from rds_lib.routing.weights import save_rds
from rds_lib.training.alone import teach_router
from rds_lib.training.loop import Schedule, fit
from rds_lib.training.run import TrainingRun, join_processes
from rds_lib.training.tasks import clip_generators, draw_budgets, in_micro_batches, tracking_loss


@dataclass(frozen=True)
class Recipe:
    """How the router is taught beside the loss of tracking. The defaults are Algorithm 1 and nothing else."""

    prior: tuple[float, ...] = ()  # what the logits of the blocks start with
    final_spread: float | None = None  # the logits' factor grows or falls to this by the last step
    deployed_share: float = 0.0  # the last share of the steps runs the most probable blocks, as "top_n" does
    damage: float = 0.0  # weight of what the routes did to the features; see `losses.squared_damage`
    alone: int = 0  # steps of single frames before the others; the router then stays as it is, see `alone`

    def is_deployed(self, step: int, total: int) -> bool:
        """Whether a step runs the routes that tracking would run."""
        return step >= (1 - self.deployed_share) * total

    def spread(self, first: float, step: int, total: int) -> float:
        """The factor on the logits, from ``first`` at step 0 to ``final_spread`` at step ``total``."""
        return first if self.final_spread is None else first + (self.final_spread - first) * step / total


@dataclass
class RoutedClip:
    """One batch of clips, each frame after the first encoded under the route that the router draws."""

    backbone: Backbone
    router: PredictionAwareRouter | None
    images: torch.Tensor  # (B, T, 3, S, S)
    budget: torch.Tensor | None  # (B,)
    generators: Sequence[torch.Generator]  # one a clip
    deployed: bool = False  # the most probable blocks, as many as the budget asks for, in place of drawn ones
    measures_damage: bool = False
    probabilities: list = field(default_factory=list)  # p of every routed frame, (at most B, L)
    routes: list = field(default_factory=list)
    damages: list = field(default_factory=list)  # of every frame after the first, (B,); 0 of one that runs in full

    def encode(self, t, previous):
        """Encode frame t for ``ClipTracker.track``: routed, but in full without a router, or a mask to route by.

        The router sees clips whose mask is empty too, and learns nothing from their route: so every process of a
        training asks it equally often.
        """
        tokens = self.backbone.embed(self.images[:, t])
        if previous is None or self.router is None:
            return self.backbone.run(tokens)
        mask = previous.low_res_logits.detach()
        p, w, route = self.router(tokens, mask, budget=self.budget, mode="sample", generator=self.generators)
        route = self._most_probable(w) if self.deployed else route
        shown = (mask > 0).flatten(1).any(1)  # (B,)
        self.probabilities.append(p.detach()[shown])
        self.routes.append(route.detach()[shown])
        features = self.backbone.run(tokens, torch.where(shown[:, None], route, 1.0))
        if self.measures_damage:
            with torch.no_grad():
                whole = self.backbone.run(tokens)
            self.damages.append(squared_damage(features, whole))
        return features

    def _most_probable(self, w):
        """Routes (B, L) of the wanted number of blocks, with the straight-through gradient of drawn ones."""
        always_on, free = self.router.always_on, torch.ones_like(w)
        free[:, list(always_on)] = 0
        counts = [round(target_active(budget, self.backbone.depth, always_on)) for budget in self.budget.tolist()]
        hard = torch.stack([top_n_route(row, always_on, n) for row, n in zip(w, counts)])
        return hard + free * (w - w.detach())

    def damage(self) -> torch.Tensor | float:
        """Mean damage of the frames after the first; 0 where it is not measured."""
        return torch.stack(self.damages).mean() if self.damages else 0.0

    def statistics(self) -> dict[str, float]:
        """Mean active blocks of routed frames, and the deviation of their p, averaged over the blocks outside K."""
        if not any(map(len, self.routes)):
            return {"active": float(self.backbone.depth), "spread": 0.0}
        p = torch.cat(self.probabilities)
        free = torch.ones(p.shape[1], dtype=torch.bool)
        free[list(self.router.always_on)] = False
        active, spread = torch.cat(self.routes).sum(1).mean(), p[:, free].std(0, correction=0).mean()
        return {"active": round(active.item(), 2), "spread": round(spread.item(), 5)}


def train_rds(
    tracker: ClipTracker,
    *,
    sequences,
    blocks,
    budgets,
    schedule: Schedule,
    out: Path,
    workdir: Path,
    lr_router: float,
    lr_lora: float,
    lora_rank: int,
    preference_rate: float,
    router_options: Mapping | None = None,
    recipe: Recipe = Recipe(),
    config_file: str = "mini",
) -> Path:
    """Train one router with its I-LoRA, resuming from ``workdir``, and write both to ``out``.

    Parameters
    ----------
    tracker : ClipTracker
        ``clip_tracking.SAM2Clips(model)`` for SAM2, with the model's weights frozen; it leaves with adapters on.
    sequences : list of Sequence
        Training videos.
    blocks : sequence of int
        Blocks that receive adapters, from ``importance.rank_blocks``; without any, the router alone is trained.
    budgets : sequence of float
        One value trains a router for that budget; several draw a budget per clip, for one router that serves all;
        an empty one trains the adapters of the full encoder and no router (the control).
    out : Path
        A safetensors file for ``build_rds_video_predictor(rds_path=...)``; the log goes to ``workdir/log.csv``.
    preference_rate : float
        Times ``lr_router``: the rate of what all frames share, the bias of the router's last layer and a learnt spread.
    router_options : mapping, optional
        ``hidden``, ``normalise``, ``logit_spread`` and ``learn_spread`` of ``PredictionAwareRouter``.
    recipe : Recipe
        How the router is taught beside the loss of tracking.
    config_file : str
        The model's config, noted in the file.
    """
    (rank, world), seed = join_processes(), schedule.seed
    backbone, device = tracker.backbone, next(tracker.backbone.blocks.parameters()).device
    backbone.blocks.requires_grad_(False)
    torch.manual_seed(seed)
    if blocks:
        add_lora(tracker, blocks, rank=lora_rank)
    router = _new_router(backbone, router_options or {}, recipe.prior, device) if budgets else None
    if recipe.alone and router is not None:
        router.logit_spread = recipe.spread(router.logit_spread, schedule.steps, schedule.steps)
        frames = replace(schedule, steps=recipe.alone, batch=schedule.batch * schedule.frames)
        teach_router(backbone, router, sequences, budgets, frames, workdir=Path(workdir) / "alone", lr=lr_router)
    groups = _groups(backbone, router, lr_lora, lr_router, preference_rate)
    optimizer, trained = torch.optim.AdamW(groups), [p for group in groups for p in group["params"]]
    parts = _parts(backbone, router, optimizer)
    run = TrainingRun(workdir, parts, total=schedule.steps, save_every=schedule.save_every, writes=rank == 0)
    todo = {"first_step": run.step, "steps": schedule.steps - run.step, "frames": schedule.frames}
    data = TrainingBatches(sequences, size=backbone.image_size, **schedule.share(rank, world), **todo)
    first_spread = router.logit_spread if router is not None else 1.0
    label = "full" if not budgets else "any" if len(budgets) > 1 else str(budgets[0])

    def step_loss(batch, step):
        images, targets = (tensor.to(device) for tensor in batch[:2])
        generators = clip_generators(seed, step, schedule.batch, batch[2], device)
        deployed, budget = recipe.is_deployed(step, schedule.steps), draw_budgets(budgets, generators)
        clip = RoutedClip(backbone, router, images, budget, generators, deployed, recipe.damage > 0)
        if router is not None:
            router.logit_spread = recipe.spread(first_spread, step, schedule.steps)
        loss, iou = tracking_loss(tracker, clip.encode, targets)
        loss = loss + recipe.damage * clip.damage()
        return loss, {"loss": round(loss.item(), 4), "iou": round(iou, 4), "budget": label, **clip.statistics()}

    what = {"label": f"RDS, budget {label}", "world": world, "schedule": schedule, "blocks": backbone.blocks}
    losses = in_micro_batches(router if schedule.accumulate > 1 else None, step_loss)
    fit(batches=loader(data, device=device), run=run, optimizer=optimizer, parameters=trained, **losses, **what)
    if router is not None:
        router.logit_spread = recipe.spread(first_spread, schedule.steps, schedule.steps)
    if rank == 0:
        lora_rank = lora_rank if blocks else 0
        save_rds(out, router, tracker, budgets=budgets, blocks=blocks, rank=lora_rank, config_file=config_file)
    return out


def _new_router(backbone, options, prior, device):
    router = PredictionAwareRouter.for_backbone(backbone, **options).to(device).train()
    if prior:
        router.mlp[-1].bias.data.copy_(torch.tensor(prior))
    return router


def _groups(backbone, router, lr_lora, lr_router, preference_rate):
    """Optimiser groups of adapters and router.

    In a short training the last bias has to learn faster: which blocks all frames want must lie there, and the features
    say how a frame differs. Otherwise a frame unlike those of the training gets another count of blocks under the same
    threshold.
    """
    groups = [{"params": adapters, "peak": lr_lora}] if (adapters := _adapters(backbone)) else []
    if router is not None and router.alpha.requires_grad:
        shared = [router.mlp[-1].bias, *([router.log_spread] if router.learn_spread else [])]
        others = [p for p in router.parameters() if all(p is not one for one in shared)]
        groups += [{"params": others, "peak": lr_router}, {"params": shared, "peak": preference_rate * lr_router}]
    return [group | {"weight_decay": 0.0} for group in groups]


def _parts(backbone, router, optimizer):
    """What a resumed run needs."""
    parts = {"adapters": torch.nn.ParameterList(_adapters(backbone)), "optimizer": optimizer}
    return parts if router is None else parts | {"router": router}


def _adapters(backbone):
    return [p for p in backbone.blocks.parameters() if p.requires_grad]
