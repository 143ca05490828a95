"""Build the DINOv3 tracker: from a checkpoint, and a file with a router and adapters."""

import math

import torch

from rds_lib.core.errors import RDSInputError
from rds_lib.dinov3.backbone import load_dinov3
from rds_lib.dinov3.tracker import DinoTracker
from rds_lib.routing.deployed import PlainRouter
from rds_lib.routing.weights import load_rds

OFFICIAL_SIDE = 960  # px, the short side of the official notebook


def build_rds_dino_tracker(
    checkpoint="mini",
    rds_path=None,
    budget=None,
    routing="threshold",
    tau=None,
    short_side=None,
    device=None,
    *,
    always_on=None,
) -> DinoTracker:
    """Build a DINOv3 tracker with routing.

    Parameters
    ----------
    checkpoint : str or path
        "mini", a folder, or an id on the hub; see `backbone.load_dinov3`.
    rds_path : path, optional
        Router and I-LoRA; by default the shipped ones of "mini".
    budget, routing, tau, device
        As for `build_rds_video_predictor`, but a budget is a share.
    short_side : int, optional
        px; by default the official 960, and for "mini" what it was trained at.
    always_on : sequence of int, optional
        Blocks that are never skipped; the first and the last by default. A router file has its own.
    """
    if isinstance(budget, str):
        raise RDSInputError(f"budget is {budget!r}; DINOv3 takes a number in (0, 1], the target share of active blocks")
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    vit = load_dinov3(checkpoint, device=device)
    if short_side is None:
        short_side = vit.config.image_size if str(checkpoint) == "mini" else OFFICIAL_SIDE
    if not math.isfinite(short_side) or short_side < vit.config.patch_size:
        raise RDSInputError(f"short_side is {short_side} px; give at least one patch, {vit.config.patch_size} px")
    weights = None
    if routing != "full" and budget is not None:
        if rds_path is None:
            raise RDSInputError("a budget needs rds_path, a router trained for this checkpoint; or use routing='full'")
        weights = load_rds(rds_path)
        always_on = weights.router.always_on if weights.router is not None else always_on
    tracker = DinoTracker(vit, short_side=short_side, always_on=always_on)
    if weights is not None:
        tracker.set_policy(weights.policy(budget, routing, tau, router=PlainRouter))
        weights.apply_to(tracker)
        tracker.policy.router.to(device)
    return tracker
