"""How much each stage does, in frames to track and steps to train, counted as the stages themselves do it."""

from collections.abc import Mapping
from dataclasses import dataclass

from rds_lib.evaluation.controls import CONTROLS, OF_PLANS
from rds_lib.evaluation.names import ADAPTERS, PLANS
from rds_lib.methods import METHODS
from rds_lib.methods.placement import PLACEMENTS

PASSES = {"dyt": 2.0, "slimsam": 2.0}  # of the model in a step, or trainings one after the other, where not 1
ROUTED = 0.85  # time of a frame of a method over SAM2's, mean over methods and levels
OBJECTS = 1.2  # time of a frame of a set over that of a frame with one object
EMBEDDED = 0.6  # time of a frame whose tokens are there, under a route of 40 %, over that of a whole one
DINO_FRAME, DINO_STEP = 4.5, 0.5  # of the mini DINOv3, over SAM2's; its masks are propagated label by label
DINO_BLOCKS = 12


@dataclass(frozen=True)
class Work:
    """What a stage does; ``seconds`` are those of everything but the model, on a CPU core with 20 frames a second."""

    frames: float = 0
    steps: float = 0
    seconds: float = 5
    shared: bool = True  # among processes, where there are several


def work_of(params, sets: Mapping[str, tuple[int, int]]) -> dict[str, Work]:
    """The work of every stage of a profile; ``sets`` has sequences and frames by name, from `checks_data.frames_of`."""
    timing = params.benchmark
    passes = len(timing.difficulties) * timing.repeats * (timing.warmup + timing.frames + 2)
    budgets = len(timing.budgets)
    return {
        "clips": Work(seconds=sum(frames for _, frames in sets.values()) * 0.02, shared=False),
        "source": Work(seconds=3),
        "data": Work(seconds=20),
        "importance": Work(frames=params.importance.clips * params.importance.frames * 44, seconds=15),
        "headroom": _headroom(params, sets),
        "train": _train(params, sets),
        "baselines": _baselines(params),
        "evaluation": _evaluation(params, sets),
        "dinov3": _dinov3(params, sets, passes),
        "benchmark": Work(
            frames=passes * (2 + budgets + _levels(params) + len(params.evaluation.smaller)), shared=False
        ),
        "report": Work(seconds=15),
        "figures": Work(seconds=60),
        "check": Work(),
    }


def _headroom(params, sets) -> Work:
    section = params.headroom
    clips = min(section.clips, sets.get(section.split, (section.clips, 0))[0])
    return Work(frames=2 * clips * section.length * (section.routes + 1) * EMBEDDED, seconds=20)


def _train(params, sets) -> Work:
    section = params.train
    budgets, more = len(section.budgets), _more(section.budgets, section)
    trainings, calibrated = budgets + more + 2, 2 * budgets + more
    frames = calibrated * sets.get("calibration", (0, 0))[0] * section.calibration_frames
    frames *= ROUTED * OBJECTS if params.router.calibrate else 0
    return Work(frames, trainings * section.steps, seconds=15)


def _levels(params) -> int:
    return sum(len(method.levels(params.baselines)) for method in METHODS.values())


def _more(levels, section) -> int:
    """How many trainings with other seeds these levels have."""
    return len(section.more_seeds) * len(section.again(levels))


def _repeated_levels(params) -> int:
    return sum(_more(method.levels(params.baselines), params.train) for method in METHODS.values())


def _baselines(params) -> Work:
    own, section = params.baselines, params.train
    steps = sum(
        (len(method.levels(own)) + _more(method.levels(own), section))
        * (PASSES.get(name, 1.0) * section.steps + own.importance_steps * (name == "slimsam"))
        for name, method in METHODS.items()
    )
    described = 20 * _levels(params)  # frames
    return Work(described, steps + len(PLACEMENTS) * section.steps, seconds=20)


def _evaluation(params, sets) -> Work:
    """Frames of all arms, those of controls and placements on DAVIS-shaped sets alone."""
    section = params.evaluation
    budgets, methods = len(section.budgets), _levels(params)
    more = len(params.train.more_seeds) * len({*section.budgets} & {*params.train.again(params.train.budgets)})
    scored = {name: frames for name, (_, frames) in sets.items() if name not in ("train", "calibration")}
    shaped = sum(frames for name, frames in scored.items() if name.endswith(("davis", "changing")))
    everywhere = 2 + len(section.smaller) + methods + _repeated_levels(params) + 2 * budgets + more
    plans = len(PLANS) + section.fixed_routes * budgets * bool(OF_PLANS)
    controls = len(CONTROLS) * (budgets + more) + plans + len(ADAPTERS)
    frames = (everywhere * sum(scored.values()) + controls * shaped) * ROUTED * OBJECTS
    return Work(frames, seconds=60)


def _dinov3(params, sets, passes: int) -> Work:
    section = params.dinov3
    budgets, runs = len(section.budgets), len(section.budgets) + _more(section.budgets, section)
    shaped = sum(frames for name, (_, frames) in sets.items() if name.endswith(("davis", "changing")))
    frames = section.clips * 2 * section.frames * (DINO_BLOCKS + 1) + passes * (2 + budgets)
    frames += runs * sets.get("calibration", (0, 0))[0] * params.train.calibration_frames
    frames += (2 + runs * (1 + len(CONTROLS))) * shaped
    return Work(frames * DINO_FRAME * ROUTED, (runs + 1) * section.steps * DINO_STEP, seconds=30)
