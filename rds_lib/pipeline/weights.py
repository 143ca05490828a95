"""Where a profile's weights of RDS lie, and the predictors made of them; baselines save and load in `Method`."""

from pathlib import Path
from typing import NamedTuple

from rds_lib.data.hub import checkpoint_named
from rds_lib.model.sam2 import weights_of
from rds_lib.routing.build import build_rds_video_predictor
from rds_lib.routing.weights import load_rds

ANY, CONTROL = "any", "full"  # one router for all budgets; the full encoder with adapters and no router


class Run(NamedTuple):
    """A training of RDS."""

    budgets: tuple[float, ...]
    seed: int


def training_runs(section, *, one_for_all: bool = True) -> dict[str, Run]:
    """The trainings of section ``train`` or ``dinov3`` by name: one per budget, one for all, the full-depth control.

    With other seeds the lowest budgets are repeated, under names of `seeded`.
    """
    budgets = {str(budget): (budget,) for budget in section.budgets}
    once = ({ANY: section.budgets} if one_for_all else {}) | {CONTROL: ()}
    runs = {name: Run(own, section.seed) for name, own in (budgets | once).items()}
    again = [str(budget) for budget in section.again(section.budgets)]
    return runs | {seeded(name, seed): Run(budgets[name], seed) for seed in section.more_seeds for name in again}


def seeded(name: str, seed: int | None) -> str:
    """The name of a training's repetition with another seed; its own where ``seed`` is None."""
    return name if seed is None else f"{name}-seed{seed}"


def weights_file(folder: Path, name: str) -> Path:
    """Where the weights of one training lie in the folder of stage ``train``, or of a placement in its own."""
    return folder / f"rds_{name}.safetensors"


def level_file(folder: Path, method: str, level: float, seed: int | None = None) -> Path:
    """Where a baseline's weights lie in the folder of stage ``baselines``; ``seed`` is a repetition's."""
    return folder / method / f"{seeded(f'{level:g}', seed)}.safetensors"


def moved_parameters(path: Path) -> int:
    """How many numbers a training moved: those of the adapters, and of the router if the file has one."""
    weights = load_rds(path)
    router = weights.router.parameters() if weights.router is not None else ()
    return sum(tensor.numel() for tensor in (*router, *weights.lora.values()))


def origins(params, *, checkpoint=None) -> dict:
    """Which weights a profile's results rest on: ``model``, and those of ``evaluation.smaller``; as ``model.json``.

    ``checkpoint`` takes the place of the profile's own; False for random weights.
    """
    own = checkpoint_named(params.model.checkpoint) if checkpoint is None else checkpoint
    smaller = [(config, checkpoint_named(text)) for config, text in params.evaluation.smaller]
    found = [weights_of(*row).as_dict() for row in ((params.model.config, own), *smaller)]
    return {"model": found[0], "smaller": found[1:]}


def predictor_for(params, rds_path=None, **options):
    """The profile's predictor; options go to `build_rds_video_predictor`. No post-processing, as VOS numbers need."""
    return build_rds_video_predictor(
        params.model.config, checkpoint_named(params.model.checkpoint), rds_path, apply_postprocessing=False, **options
    )
