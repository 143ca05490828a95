"""What the stages that train share: the adapted blocks, the cache of trainings, and a trained router's calibration."""

from collections.abc import Callable
from pathlib import Path

from rds_lib.core.artifacts import read_json
from rds_lib.core.errors import RDSInputError
from rds_lib.core.paths import shown
from rds_lib.data.hub import checkpoint_named
from rds_lib.data.sources import training_sequences
from rds_lib.model.clip_tracking import SAM2Clips
from rds_lib.model.sam2 import build_model
from rds_lib.pipeline.fingerprint import training_key
from rds_lib.pipeline.kept_trainings import trained
from rds_lib.pipeline.stages import require
from rds_lib.pipeline.weights import predictor_for
from rds_lib.routing.algorithm1 import target_active
from rds_lib.routing.calibration import calibrate, threshold_curve
from rds_lib.routing.weights import set_taus
from rds_lib.training.loop import Schedule
from rds_lib.training.rds import Recipe, train_rds
from rds_lib.training.run import local_device
from rds_lib.work.parallel import cpu_workers

ROOMS = ("data", "model", "routing", "training")  # code that shapes a training, as dvc.yaml lists it
HOW = {"accumulate", "recompute_blocks"}  # of a training's settings, that leave its results as they are
WEIGHTS = "rds.safetensors"  # of a training in its own folder


def train_blocks(params, workdir: Path, name: str, budgets, blocks, rank: int) -> Path:
    """Train a router for ``budgets`` with adapters of ``rank`` on ``blocks``, or find it in ``.cache/train``."""
    section, router = params.train, params.router
    mark = fingerprint(params, budgets, blocks, rank, router.model_dump(exclude={"calibrate"}))

    def prepare():
        model = build_model(params.model.config, checkpoint_named(params.model.checkpoint), device=local_device())
        return SAM2Clips(model.requires_grad_(False)), training_sequences(params, workdir)[0]

    what = {"blocks": blocks, "budgets": budgets, "lora_rank": rank, "config_file": params.model.config}
    what |= {"recipe": recipe_of(router)}
    return train_as(f"{name}-{mark}", prepare, section, router, **what)


def train_as(name: str, prepare: Callable, section, router, **options) -> Path:
    """Call `train_rds` with a profile's section of a training and its ``router``, or find it trained under ``name``.

    ``prepare`` returns the clips and the sequences, and is called for a training that is to be done. ``options`` are
    all else that `train_rds` takes.
    """

    def train(folder):
        clips, sequences = prepare()
        train_rds(
            clips,
            sequences=sequences,
            schedule=schedule_of(section),
            out=folder / WEIGHTS,
            workdir=folder,
            lr_router=section.lr_router,
            lr_lora=section.lr_lora,
            preference_rate=router.preference_rate,
            router_options=router.model_dump(include={"normalise", "logit_spread", "learn_spread"})
            | {"hidden": section.router_hidden},
            **options,
        )

    return trained(name, WEIGHTS, train)


def recipe_of(router, **more) -> Recipe:
    """What a profile's section ``router`` says of how routers are taught; ``more`` are other settings of `Recipe`."""
    return Recipe(final_spread=router.final_spread or None, deployed_share=router.deployed_share, **more)


def schedule_of(section) -> Schedule:
    """What a profile's section of a training, ``train`` or ``dinov3``, says of its steps."""
    what = {"steps": section.steps, "batch": section.batch, "frames": section.frames, "seed": section.seed}
    how = {"accumulate": section.accumulate, "precision": section.precision}
    return Schedule(**what, **how, recompute_blocks=section.recompute_blocks)


def adapted_blocks(params, workdir: Path) -> list[int]:
    """The blocks that importance chose for the adapters; measured first in a smoke run."""
    path = require("importance", params, workdir) / "blocks.json"
    blocks = read_json(path)["blocks"]
    if not isinstance(blocks, list) or not all(type(i) is int and 0 <= i < 1024 for i in blocks):
        raise RDSInputError(f"{shown(path)}: blocks = {str(blocks)[:80]}; block numbers expected: dvc repro importance")
    return blocks


def calibrate_run(params, path: Path, budgets, sequences, build=predictor_for) -> tuple[list[dict], dict]:
    """Find and store the threshold of every budget that a weights file serves; also returns w (N, L) per budget.

    ``build`` makes the profile's predictor of the file. A profile that does not calibrate gives every budget the
    paper's 0.5.
    """
    rows, seen_w = [], {}
    for budget in budgets:
        predictor = build(params, path, budget=budget, tau=0.5)
        goal = target_active(budget, predictor.depth, predictor.always_on)
        frames = params.train.calibration_frames
        fixed = None if params.router.calibrate else 0.5
        options = {"frames": frames, "fixed": fixed, "workers": cpu_workers()}
        tau, w = calibrate(predictor, sequences, target_active=goal, **options)
        active, half = threshold_curve(w, predictor.always_on, [tau, 0.5])[1]
        rows.append(
            {"budget": budget, "target_active": goal, "tau": tau, "calibration_active": active, "active_at_half": half}
        )
        seen_w[budget] = w
    if rows:
        set_taus(path, {row["budget"]: row["tau"] for row in rows})
    return rows, seen_w


def fingerprint(params, *parts, rooms=ROOMS) -> str:
    """Short hash of all that a training depends on; see ``training_key``."""
    own_of_a_run = {"budgets", "more_seeds", "repeated", "lora_rank", "calibration_frames"}
    own = params.train.model_dump(exclude=own_of_a_run | HOW)
    return training_key(params, (*rooms, "pipeline/training_runs.py"), own, *parts)
