"""The trainings of stage `dinov3`: RDS on DINOv3, and what each of them follows from."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from rds_lib.dinov3.backbone import MINI_DINOV3, DinoBackbone, load_dinov3
from rds_lib.dinov3.propagation import DinoClips
from rds_lib.evaluation.names import DINO
from rds_lib.pipeline.fingerprint import file_digest, training_key
from rds_lib.pipeline.training_runs import HOW, ROOMS as SHARED, recipe_of, train_as
from rds_lib.pipeline.weights import Run, training_runs
from rds_lib.training.run import local_device

ROOMS = (*SHARED, "dinov3", "pipeline/training_runs.py", "pipeline/dinov3_runs.py")  # code that shapes a training


def dino_runs(params) -> dict[str, Run]:
    """The trainings of the profile by name; there is no router for all budgets."""
    return training_runs(params.dinov3, one_for_all=False)


def trainings(params, sequences: Sequence, blocks: Sequence[int]) -> dict[str, Callable[[], Path]]:
    """A call by name for each training, which does it or finds it done, and returns its weights.

    ``blocks`` get the adapters; ``sequences`` are the training videos.
    """
    return {name: partial(_train, params, sequences, name, run, blocks) for name, run in dino_runs(params).items()}


def dino_clips(params) -> DinoClips:
    """The profile's DINOv3, as a training takes it."""
    vit = load_dinov3(params.dinov3.checkpoint, device=local_device())
    return DinoClips(DinoBackbone(vit, always_on=params.dinov3.always_on or None))


def _train(params, sequences, name, run, blocks) -> Path:
    params = params.with_section("dinov3", seed=run.seed)
    section, mark = params.dinov3, _key(params, run.budgets, blocks)
    what = {"blocks": blocks, "budgets": run.budgets, "lora_rank": section.lora_rank, "config_file": DINO}
    what |= {"recipe": recipe_of(params.router, damage=section.distil)}
    return train_as(f"dinov3-{name}-{mark}", lambda: (dino_clips(params), sequences), section, params.router, **what)


def _key(params, budgets, blocks) -> str:
    """Short hash of all that a training depends on, the ViT's weights too where they are a file here."""
    own = params.dinov3.model_dump(exclude={"budgets", "more_seeds", "repeated", "short_side", "clips", "k_sel"} | HOW)
    router, name = params.router.model_dump(exclude={"calibrate"}), params.dinov3.checkpoint
    weights = (MINI_DINOV3 if name == "mini" else Path(name)) / "model.safetensors"
    return training_key(
        params, ROOMS, own, router, file_digest(weights) if weights.is_file() else name, budgets, blocks
    )
