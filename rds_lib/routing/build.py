"""Build the video predictor: from SAM2's configs and checkpoints, and a file with a router and adapters."""

import importlib.util
import logging

import torch

from rds_lib.core.errors import RDSInputError
from rds_lib.core.paths import MINI_SAM2, shipped
from rds_lib.data.hub import with_config
from rds_lib.model.sam2 import build_model
from rds_lib.routing.algorithm1 import check_tau
from rds_lib.routing.budgets import check_counted, counted_policy, parse_budget
from rds_lib.routing.engine.steps import Engine
from rds_lib.routing.predictor import RDSVideoPredictor
from rds_lib.routing.weights import load_rds

_logger = logging.getLogger(__name__)
ROUTINGS = ("threshold", "sample", "top_n", "full")
MINI_RDS = MINI_SAM2 / "rds.safetensors"
POSTPROCESSING = (  # as sam2.build_sam.build_sam2_video_predictor
    "++model.sam_mask_decoder_extra_args.dynamic_multimask_via_stability=true",
    "++model.sam_mask_decoder_extra_args.dynamic_multimask_stability_delta=0.05",
    "++model.sam_mask_decoder_extra_args.dynamic_multimask_stability_thresh=0.98",
    "++model.binarize_mask_from_pts_for_mem_enc=true",
    "++model.fill_hole_area=8",
)


def build_rds_video_predictor(
    config_file,
    ckpt_path=None,
    rds_path=None,
    budget=None,
    routing="threshold",
    tau=None,
    device=None,
    engine="eager",
    **sam2_options,
) -> RDSVideoPredictor:
    """Build a video predictor with routing, in place of ``sam2.build_sam.build_sam2_video_predictor``.

    Parameters
    ----------
    config_file : str
        SAM2 config name, "mini" for the shipped mini SAM2, or an id on the hub, as "facebook/sam2.1-hiera-large".
    ckpt_path : path or str, optional
        Official ``.pt`` or ``.safetensors``, or an id on the hub; see ``model.sam2.build_model``.
    rds_path : path, optional
        Router and I-LoRA; by default the shipped ones of "mini".
    budget : float or str, optional
        Target share of active blocks, from the lowest that the router serves (0.4 for that of "mini") to 1; or "30
        blocks", "0.25 GMACs" or "40 ms" a frame, see `budgets.parse_budget`. Without a budget and an ``rds_path``
        nothing is routed.
    routing : "threshold", "sample", "top_n" or "full"
        "full" is stock SAM2, bit for bit; it uses neither router nor I-LoRA.
    tau : float, optional
        Threshold; by default the budget's calibrated one, from the file. A budget without one runs the blocks that it
        asks for, exactly, as with "top_n".
    device : str, optional
        CUDA if there is one, else the CPU.
    engine : "eager", "cast", "compiled" or "graphs", or steps
        How the model is executed: SAM2's own operations, or faster ones; see `engine.steps` and docs/speed.md.
    **sam2_options
        ``mode``, ``hydra_overrides_extra``, ``apply_postprocessing`` and ``vos_optimized`` of SAM2's builder.
    """
    options = {"mode": "eval", "hydra_overrides_extra": (), "apply_postprocessing": True, "vos_optimized": False}
    budget = None if budget is None else parse_budget(budget)
    _check_options(budget, routing, tau, rds_path, sam2_options.keys() - options.keys())
    config_file, ckpt_path = with_config(config_file, ckpt_path)
    options |= sam2_options
    engine, device = Engine.of(engine), device or ("cuda" if torch.cuda.is_available() else "cpu")
    engine.check_fits(device, options["mode"], options["vos_optimized"])
    weights = None
    if routing != "full" and budget is not None:
        if rds_path is None and config_file != "mini":
            raise RDSInputError(f"no router is shipped for {config_file!r}; give its rds_path, or use routing='full'")
        weights = load_rds(rds_path or shipped(MINI_RDS))
    cls = "compiled.RDSVideoPredictorVOS" if options["vos_optimized"] else "predictor.RDSVideoPredictor"
    overrides = [*options["hydra_overrides_extra"], *(_postprocessing() if options["apply_postprocessing"] else ())]
    predictor = build_model(config_file, ckpt_path, device=device, cls=f"rds_lib.routing.{cls}", overrides=overrides)
    if weights is not None:
        if budget.is_share:
            predictor.set_policy(weights.policy(budget.value, routing, tau))
        weights.apply_to(predictor)
        predictor.to(predictor.device)
    if options["vos_optimized"]:
        predictor.backbone.compile()
    engine.apply_to(predictor)
    if weights is not None and not budget.is_share:  # last, for ms are timed on what will run
        with engine.autocast(predictor.device):
            predictor.set_policy(counted_policy(budget, weights, predictor))
    return predictor if options["mode"] == "eval" else predictor.train()


def _postprocessing():
    """SAM2's post-processing, without the hole filling that warns on every frame where SAM2's extension is missing."""
    if importlib.util.find_spec("sam2._C") is not None:
        return POSTPROCESSING
    _logger.info("sam2 was built without its extension: small holes in masks are not filled")
    return [item for item in POSTPROCESSING if "fill_hole_area" not in item]


def _check_options(budget, routing, tau, rds_path, unknown):
    if routing not in ROUTINGS:
        raise RDSInputError(f"routing is {routing!r}; choose one of {', '.join(ROUTINGS)}")
    if budget is not None and not budget.is_share:
        check_counted(budget, routing, tau)
    if tau is not None:
        check_tau(tau)
        if routing != "threshold":
            raise RDSInputError(f"tau is {tau:g}, of no use with routing={routing!r}; leave it out")
    if unknown:
        known = "mode, hydra_overrides_extra, apply_postprocessing and vos_optimized"
        raise RDSInputError(f"unknown argument {', '.join(sorted(unknown))}; SAM2's builder takes {known}")
    if budget is None and rds_path is not None and routing != "full":
        raise RDSInputError(f"rds_path={str(rds_path)!r} needs a budget in (0, 1]; for stock SAM2 use routing='full'")
