"""The model that a command line names: its options checked, in their own words, before anything is loaded."""

from pathlib import Path

from rds_lib.core.errors import RDSInputError
from rds_lib.core.paths import shipped
from rds_lib.model.sam2 import SHIPPED, check_device, load_config
from rds_lib.routing.predictor import MINI_RDS, RDSVideoPredictor, build_rds_video_predictor
from rds_lib.routing.weights import load_rds


def check_model(config: str, checkpoint: Path | None, device: str | None) -> None:
    """Raise unless the config is known, has weights, and the device is there.

    Random weights track without a complaint, so a command refuses them; `model.sam2.build_model` makes them for tests.
    """
    load_config(config)
    if checkpoint is None and config not in SHIPPED:
        known = ", ".join(SHIPPED)
        raise RDSInputError(f"--config {config}: its weights are missing; give --checkpoint (only {known} ship theirs)")
    if device is not None:
        check_device(device, "--device")


def predictor_of(
    config: str,
    checkpoint: Path | None,
    rds: Path | None,
    *,
    budget: float | None,
    tau: float | None,
    routing: str,
    device: str | None,
    **sam2_options,
) -> RDSVideoPredictor:
    """Build the predictor of ``track`` and ``evaluate``.

    Raises
    ------
    RDSInputError
        For options that do not go together or cannot be met, named as on the command line.
    """
    check_model(config, checkpoint, device)
    routed = routing != "full"
    if budget is None and routed and (rds or tau is not None):
        name = "--rds" if rds else "--tau"
        raise RDSInputError(f"{name} does nothing without --budget; give a budget in (0, 1], or leave {name} out")
    if budget is not None and routed:
        if rds is None and config != "mini":
            raise RDSInputError(
                f"--budget {budget:g}: no router ships with {config}; give --rds, or leave --budget out"
            )
        weights = load_rds(rds or shipped(MINI_RDS))
        if routing == "threshold" and tau is None and budget < weights.lowest_budget:
            raise RDSInputError(
                f"--budget {budget:g}: this router serves {weights.lowest_budget:g} to 1; give a budget in that range, "
                "or your own --tau"
            )
    return build_rds_video_predictor(
        config, checkpoint, rds, budget=budget, tau=tau, routing=routing, device=device, **sam2_options
    )
