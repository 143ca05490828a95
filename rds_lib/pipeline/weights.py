"""Where a profile's weights of RDS lie, and the predictors made of them; baselines save and load in `Method`."""

from pathlib import Path

from rds_lib.core.paths import resolve_or_none
from rds_lib.routing.predictor import build_rds_video_predictor
from rds_lib.routing.weights import load_rds

ANY, CONTROL = "any", "full"  # one router for all budgets; the full encoder with adapters and no router


def training_runs(params) -> dict[str, tuple[float, ...]]:
    """The trainings of a profile by name: one per budget, one for all budgets, and the full-depth control."""
    budgets = params.train.budgets
    return {str(budget): (budget,) for budget in budgets} | {ANY: budgets, CONTROL: ()}


def weights_file(folder: Path, name: str) -> Path:
    """Where the weights of one training lie in the folder of stage ``train``, or of a placement in its own."""
    return folder / f"rds_{name}.safetensors"


def moved_parameters(path: Path) -> int:
    """How many numbers a training moved: those of the adapters, and of the router if the file has one."""
    weights = load_rds(path)
    router = weights.router.parameters() if weights.router is not None else ()
    return sum(tensor.numel() for tensor in (*router, *weights.lora.values()))


def predictor_for(params, rds_path=None, **options):
    """The profile's predictor; options go to `build_rds_video_predictor`. No post-processing, as VOS numbers need."""
    return build_rds_video_predictor(
        params.model.config, resolve_or_none(params.model.checkpoint), rds_path, apply_postprocessing=False, **options
    )
