"""Who takes part in the evaluation and in the benchmark, built from a profile's trained weights.

A registered baseline (`rds_lib.methods`) takes part in both at all its levels.
"""

import logging
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch

from rds_lib.core.artifacts import read_table
from rds_lib.data.hub import checkpoint_named
from rds_lib.evaluation.arm import Arm
from rds_lib.evaluation.controls import CONTROLS, OF_PLANS, published_plan
from rds_lib.evaluation.names import ADAPTED, ADAPTERS, FULL, ONE_FOR_ALL, PLANS, RDS, SAM2, STILL
from rds_lib.evaluation.random_weights import force_budget, see_something
from rds_lib.methods import METHODS
from rds_lib.methods.activity import tracker
from rds_lib.model.sam2 import MINI_WEIGHTS, build_model
from rds_lib.model.track import copy_first_mask
from rds_lib.pipeline.weights import ANY, CONTROL, level_file, predictor_for, seeded, weights_file
from rds_lib.routing.build import MINI_RDS, build_rds_video_predictor
from rds_lib.routing.weights import load_rds

_logger = logging.getLogger(__name__)


def arms(params, workdir: Path) -> list[Arm]:
    """The rows of the evaluation, in order. At each budget RDS is followed by its controls.

    Parameters
    ----------
    workdir : Path
        Holds the products of the stages ``train`` and ``baselines``.
    """
    train, placed = Path(workdir) / "train", Path(workdir) / "baselines" / "placement"
    found = [
        Arm(STILL, 0.0, track=lambda _: copy_first_mask),
        Arm(SAM2, 1.0, partial(predictor_for, params, routing="full"), keep_masks=True),
        Arm(ADAPTED, 1.0, partial(_adapted, params, weights_file(train, CONTROL))),
        *_smaller(params),
        *_methods(params, workdir),
    ]
    for budget in params.evaluation.budgets:
        build = _routed(params, weights_file(train, str(budget)), budget)
        found += [
            Arm(RDS, budget, build, kind="learned", keep_masks=True),
            Arm(ONE_FOR_ALL, budget, _routed(params, weights_file(train, ANY), budget), kind="learned"),
            *_controls(budget, build, with_plans=budget == min(params.evaluation.budgets)),
        ]
    budget = params.baselines.placement_budget
    for kind, label in ADAPTERS.items():
        build = _routed(params, weights_file(placed, kind), budget)
        found.append(Arm(label, budget, build, kind="learned", davis_only=True))
    return found


def repeated_arms(params, workdir: Path, seed: int) -> list[Arm]:
    """The rows of the evaluation that are trained once more with another seed: baselines, RDS and its main controls."""
    found = [*_methods(params, workdir, seed=seed)]
    again = params.train.again(params.train.budgets)
    for budget in (budget for budget in params.evaluation.budgets if budget in again):
        build = _routed(params, weights_file(Path(workdir) / "train", seeded(str(budget), seed)), budget)
        control = partial(Arm, level=budget, build=build, kind="forced", davis_only=True)
        found.append(Arm(RDS, budget, build, kind="learned"))
        found += [control(name, route=make) for name, make in CONTROLS.items()]
    return found


def timed_arms(params, workdir: Path | None = None, *, device: str | None = None) -> list[Arm]:
    """The rows of the benchmark: stock SAM2, the full encoder, RDS at its budgets, baselines and smaller models.

    Without trained weights the shipped ones of "mini" serve, or random ones, which are as fast. Baselines without a
    file are left out.
    """
    found = [*_timed_rds(params, workdir, device)]
    if workdir is not None and (Path(workdir) / "baselines").is_dir():
        found += [*_methods(params, workdir, only_present=True, device=device), *_smaller(params, device=device)]
    return found


def timed_checkpoint(params) -> Path | str | bool | None:
    """The checkpoint of the benchmark, as `build_model` takes it: False, for random weights, where there is none."""
    checkpoint = checkpoint_named(params.model.checkpoint)
    is_shipped = params.model.config == "mini" and MINI_WEIGHTS.is_file()
    return checkpoint if checkpoint or is_shipped else False


def trained_parameters(params, workdir: Path) -> dict[tuple[str, float], int]:
    """Parameters that each training moved, by method and level.

    From ``trained.csv`` of stage ``train``, and ``placements.csv`` and each method's ``levels.csv`` of ``baselines``.
    """
    baselines, budgets = Path(workdir) / "baselines", params.evaluation.budgets
    of_run = _column(Path(workdir) / "train" / "trained.csv", "run", "parameters").rename(str)
    found = {(RDS, budget): of_run[str(budget)] for budget in budgets}
    found |= {(ONE_FOR_ALL, budget): of_run[ANY] for budget in budgets} | {(ADAPTED, 1.0): of_run[CONTROL]}
    placed = _column(baselines / "placement" / "placements.csv", "placement", "trained_params")
    found |= {(label, params.baselines.placement_budget): placed[kind] for kind, label in ADAPTERS.items()}
    for name, method in METHODS.items():
        levels = _column(baselines / name / "levels.csv", "level", "trained_params")
        found |= {(method.label, method.table_level(level)): levels[level] for level in method.levels(params.baselines)}
    return {arm: int(count) for arm, count in found.items()}


def _column(path: Path, key: str, name: str):
    return read_table(path, columns=(key, name)).set_index(key)[name]


def _routed(params, path: Path, budget: float) -> Callable:
    return partial(predictor_for, params, path, budget=budget)


def _smaller(params, **options) -> Iterator[Arm]:
    options |= {"routing": "full", "apply_postprocessing": False}
    for config, checkpoint in params.evaluation.smaller:
        build = partial(build_rds_video_predictor, config, checkpoint_named(checkpoint), **options)
        yield Arm(config, 1.0, build, kind="smaller")


def _methods(params, workdir, *, seed: int | None = None, only_present: bool = False, **options) -> Iterator[Arm]:
    for name, method in METHODS.items():
        levels = method.levels(params.baselines)
        for level in levels if seed is None else params.train.again(levels):
            path = level_file(Path(workdir) / "baselines", name, level, seed)
            if path.is_file() or not only_present:
                build = partial(_baseline, params, method, path, **options)
                yield Arm(method.label, method.table_level(level), build, tracker, method.kind)


def _controls(budget: float, build: Callable, *, with_plans: bool) -> Iterator[Arm]:
    control = partial(Arm, level=budget, build=build, kind="forced", davis_only=True)
    yield from (control(name, route=make) for name, make in CONTROLS.items())
    if with_plans:
        yield from (control(label, route=published_plan(name)) for name, label in PLANS.items())
    yield from (control(name, combine=combine) for name, combine in OF_PLANS.items())


def _adapted(params, path):
    """Every block on, with the adapters of a weights file merged in."""
    return load_rds(path).apply_to(predictor_for(params, routing="full"))


def _baseline(params, method, path, **options):
    return method.load(predictor_for(params, routing="full", **options), path)


def _timed_rds(params, workdir, device) -> Iterator[Arm]:
    config, checkpoint = params.model.config, timed_checkpoint(params)
    is_random = checkpoint is False
    if is_random:
        _logger.info("no weights for %s: random ones serve as well for speed", config)
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")

    def stock():
        predictor = build_model(config, checkpoint, device=device)
        return see_something(predictor) if is_random else predictor

    def build(**options):
        predictor = build_rds_video_predictor(config, checkpoint, apply_postprocessing=False, device=device, **options)
        return see_something(predictor) if is_random else predictor

    yield Arm(SAM2, 1.0, stock)
    yield Arm(FULL, 1.0, partial(build, routing="full"))
    for budget in params.benchmark.budgets:
        path = None if is_random else _trained(config, workdir, budget)
        if path is None:
            yield Arm(RDS, budget, partial(_forced, build, budget), kind="forced")
        else:
            yield Arm(RDS, budget, partial(build, rds_path=path, budget=budget), kind="learned")


def _trained(config, workdir, budget) -> Path | None:
    found = [weights_file(Path(workdir) / "train", str(budget))] if workdir is not None else []
    found += [MINI_RDS] if config == "mini" else []
    return next((path for path in found if path.is_file()), None)


def _forced(build, budget):
    return force_budget(build(routing="full"), budget)
