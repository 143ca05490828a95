"""The model that a command line names: its options checked, in their own words, before anything is loaded."""

from pathlib import Path

from rds_lib.core.errors import RDSInputError
from rds_lib.core.paths import shipped
from rds_lib.data.hub import with_config
from rds_lib.dinov3.build import build_rds_dino_tracker
from rds_lib.dinov3.tracker import DinoTracker
from rds_lib.model.sam2 import SHIPPED, check_device, load_config
from rds_lib.routing.budgets import parse_budget
from rds_lib.routing.build import MINI_RDS, build_rds_video_predictor
from rds_lib.routing.predictor import RDSVideoPredictor
from rds_lib.routing.weights import load_rds

DINO_MINI = "dinov3-mini"


def is_dino(config: str) -> bool:
    """Whether a config names a DINOv3: ``dinov3-mini``, or a model's name on the hub, such as ``dinov3-vits16-...``."""
    return config.startswith("dinov3-")


def dino_checkpoint(config: str, checkpoint: Path | None) -> str | Path:
    """What to load for a config that names a DINOv3: the checkpoint that is given, ours, or the hub's."""
    return checkpoint or ("mini" if config == DINO_MINI else f"facebook/{config}")


def check_model(config: str, checkpoint: Path | str | None, device: str | None) -> tuple[str, Path | str | None]:
    """Return config and checkpoint, with the config that an id on the hub implies; nothing is fetched yet.

    Raises unless the config is known, has weights, and the device is there.

    Random weights track without a complaint, so a command refuses them; `model.sam2.build_model` makes them for tests.
    """
    if not is_dino(config):
        config, checkpoint = with_config(config, checkpoint)
        load_config(config)
    if checkpoint is None and not is_dino(config) and config not in SHIPPED:
        known = ", ".join(SHIPPED)
        raise RDSInputError(f"--config {config}: its weights are missing; give --checkpoint (only {known} ship theirs)")
    if device is not None:
        check_device(device, "--device")
    return config, checkpoint


def predictor_of(
    config: str,
    checkpoint: Path | str | None,
    rds: Path | None,
    *,
    budget: float | str | None,
    tau: float | None,
    routing: str,
    device: str | None,
    short_side: int | None = None,
    **sam2_options,
) -> RDSVideoPredictor | DinoTracker:
    """Build the predictor of ``track`` and ``evaluate``.

    Raises
    ------
    RDSInputError
        For options that do not go together or cannot be met, named as on the command line.
    """
    config, checkpoint = check_model(config, checkpoint, device)
    asked = None if budget is None else parse_budget(budget)
    budget = asked.value if asked is not None and asked.is_share else budget
    routed = routing != "full"
    if budget is None and routed and (rds or tau is not None):
        name = "--rds" if rds else "--tau"
        raise RDSInputError(f"{name} does nothing without --budget; give a budget in (0, 1], or leave {name} out")
    if budget is not None and routed:
        if rds is None and config != "mini":
            raise RDSInputError(f"--budget {asked}: no router ships with {config}; give --rds, or leave --budget out")
        weights = load_rds(rds or shipped(MINI_RDS))
        if asked.is_share and routing == "threshold" and tau is None and budget < weights.lowest_budget:
            raise RDSInputError(
                f"--budget {asked}: this router serves {weights.lowest_budget:g} to 1; give a budget in that range, "
                "or your own --tau"
            )
    if is_dino(config):
        return build_rds_dino_tracker(
            dino_checkpoint(config, checkpoint), rds, budget, routing, tau, short_side, device
        )
    if short_side is not None:
        raise RDSInputError(f"--short-side {short_side}: frames of {config} are squeezed to a square; leave it out")
    return build_rds_video_predictor(
        config, checkpoint, rds, budget=budget, tau=tau, routing=routing, device=device, **sam2_options
    )
