"""Who takes part in the benchmark: predictors of RDS, of the baselines and of plain SAM2, built from a profile's weights."""

import logging
from dataclasses import dataclass
from pathlib import Path

import torch

from rds_lib.core.paths import resolve_or_none
from rds_lib.evaluation.baseline_products import baseline_predictor, rows
from rds_lib.evaluation.products import smaller_predictors, weights_file
from rds_lib.model.sam2 import MINI_WEIGHTS, build_model
from rds_lib.routing.algorithm1 import target_active
from rds_lib.routing.deployed import FoldedRouter, RoutingPolicy
from rds_lib.routing.engine import COMPILED
from rds_lib.routing.predictor import MINI_RDS, build_rds_video_predictor
from rds_lib.routing.router import PredictionAwareRouter

STOCK, FULL = "SAM2", "full"
_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Arm:
    """A predictor that takes part.

    ``routes``: ``none`` (all blocks run), ``learned``, or ``forced`` by a random router; ``blocks`` or ``tokens`` where the
    encoder itself decides over them; ``smaller`` where it is another, smaller encoder.
    """

    name: str
    predictor: torch.nn.Module
    budget: float = 1.0
    routes: str = "none"


def rds_arms(params, weights: Path | None, device: str, *, compiled: bool = False) -> list[Arm]:
    """Stock SAM2, the full encoder and RDS at every budget, with the trained routers of a folder, shipped ones, or random ones.

    ``compiled`` builds all of them as ``vos_optimized``, which takes minutes on its first frames.
    """
    config, checkpoint = params.model.config, resolve_or_none(params.model.checkpoint)
    is_random = checkpoint is None and not (config == "mini" and MINI_WEIGHTS.is_file())
    if is_random:
        checkpoint = False
        _logger.info("no weights for %s: random ones serve as well for speed", config)
    build = {"ckpt_path": checkpoint, "apply_postprocessing": False, "device": device, "vos_optimized": compiled}
    arms = [
        Arm(STOCK, build_model(config, checkpoint, device=device, **(COMPILED if compiled else {}))),
        Arm(FULL, build_rds_video_predictor(config, routing="full", **build))]
    for budget in params.benchmark.budgets:
        rds_path = None if is_random else _trained(config, weights, budget)
        if rds_path is not None:
            arms.append(Arm(f"RDS_{budget}", build_rds_video_predictor(config, rds_path=rds_path, budget=budget, **build),
                            budget, "learned"))
            continue
        predictor = build_rds_video_predictor(config, routing="full", **build)
        predictor.set_policy(_random_policy(predictor, budget))
        arms.append(Arm(f"RDS_{budget}", predictor, budget, "forced"))
    if is_random:
        for arm in arms:
            _see_something(arm.predictor)
    return arms


def rival_arms(params, folder: str | Path | None, device: str) -> list[Arm]:
    """The baselines that were trained, and models that are smaller from the start."""
    if folder is None or not Path(folder).is_dir():
        return []
    arms = []
    for method, label, level, file in rows(params):
        path = Path(folder) / method / file
        if path.is_file():
            routes = {"adavit": "blocks", "dyt": "tokens"}.get(method, "smaller")
            arms.append(Arm(f"{label}_{level}", baseline_predictor(params, method, path, device=device), level, routes))
    for config, predictor in smaller_predictors(params, device=device).items():
        arms.append(Arm(config, predictor, 1.0, "smaller"))
    return arms


def _trained(config, weights, budget) -> Path | None:
    candidates = [weights_file(weights, str(budget))] if weights else []
    candidates += [MINI_RDS] if config == "mini" else []
    return next((path for path in candidates if path.is_file()), None)


def _random_policy(predictor, budget) -> RoutingPolicy:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        router = PredictionAwareRouter.for_backbone(predictor.backbone)
    n_active = round(target_active(budget, predictor.depth, predictor.always_on))
    return RoutingPolicy(FoldedRouter(router).to(predictor.device), budget, "top_n", 0.5, n_active)


def _see_something(predictor):
    """Let an untrained model report an object everywhere: one that is lost would be searched with every block on."""
    torch.nn.init.constant_(predictor.sam_mask_decoder.pred_obj_score_head.layers[-1].bias, 10.0)
