"""Models of random weights under forced routes: as fast as trained ones, and of no use but for timing."""

import torch
from torch import nn

from rds_lib.routing.algorithm1 import target_active
from rds_lib.routing.deployed import FoldedRouter, RoutingPolicy
from rds_lib.routing.router import PredictionAwareRouter


def see_something(predictor: nn.Module) -> nn.Module:
    """Let an untrained model report an object everywhere: one that is lost would be searched with every block on."""
    nn.init.constant_(predictor.sam_mask_decoder.pred_obj_score_head.layers[-1].bias, 10.0)
    return predictor


def force_budget(predictor, budget: float):
    """Give a predictor a random router that keeps as many blocks as the budget asks for, and return it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        router = PredictionAwareRouter.for_backbone(predictor.backbone)
    n_active = round(target_active(budget, predictor.depth, predictor.always_on))
    predictor.set_policy(RoutingPolicy(FoldedRouter(router).to(predictor.device), budget, "top_n", 0.5, n_active))
    return predictor
