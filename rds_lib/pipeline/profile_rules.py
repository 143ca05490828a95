"""What sections of a profile ask of each other: refused when it is loaded, not by a stage after hours of training."""

from collections.abc import Iterator

from rds_lib.core.errors import RDSInputError
from rds_lib.data.drawn import DIFFICULTIES, FIRST_INDEX
from rds_lib.data.hub import with_config

SCORED_FROM = {"davis": 3, "sav": 9, "ytvos": 6, "changing": 2}  # frames that a generated clip needs to have a score


def faults(params) -> Iterator[str]:
    """Every value that another section makes impossible, as ``key = value: what is allowed``."""
    yield from _checkpoints(params)
    yield from _budgets(params)
    yield from _micro_batches(params)
    yield from _data(params)
    if params.data.generated:
        yield from _clips(params)
        yield from _names(params)


def _checkpoints(params) -> Iterator[str]:
    rows = [("model.checkpoint", params.model.config, params.model.checkpoint)]
    rows += [("evaluation.smaller", *row) for row in params.evaluation.smaller]
    for key, config, checkpoint in rows:
        try:
            with_config(config, checkpoint)
        except RDSInputError as error:
            yield f"{key} = {checkpoint!r}: must be of its config ({error})"


def _budgets(params) -> Iterator[str]:
    trained, scored = params.train.budgets, params.evaluation.budgets
    for key, values in (("train.budgets", trained), ("evaluation.budgets", scored)):
        if len(set(values)) < len(values):
            yield f"{key} = {list(values)}: must name each budget once"
    timed = params.benchmark.difficulties
    if len(set(timed)) < len(timed):
        yield f"benchmark.difficulties = {list(timed)}: must name each difficulty once"
    untrained = [budget for budget in scored if budget not in trained]
    if untrained:
        yield f"evaluation.budgets = {list(scored)}: {untrained} must be among train.budgets, {list(trained)}"
    for key, budget, known, name in (
        ("baselines.placement_budget", params.baselines.placement_budget, trained, "train.budgets"),
        ("figures.budget", params.figures.budget, scored, "evaluation.budgets"),
    ):
        if budget not in known:
            yield f"{key} = {budget:g}: must be one of {name}, {list(known)}"
    for key, section in (("train", params.train), ("dinov3", params.dinov3)):
        first, more = section.seed, list(section.more_seeds)
        if len({first, *more}) < 1 + len(more):
            yield f"{key}.more_seeds = {more}: must differ from each other and from {key}.seed, {first}"
    runs = ["SAM2", *(f"RDS {budget:g}" for budget in scored)]
    for run in params.inspect.runs:
        if run not in runs:
            yield f"inspect.runs: {run!r} must be one of the recorded runs, {', '.join(runs)}"


def _micro_batches(params) -> Iterator[str]:
    for key, section in (("train", params.train), ("dinov3", params.dinov3)):
        if section.batch % section.accumulate:
            yield f"{key}.accumulate = {section.accumulate}: must divide {key}.batch, {section.batch}"


def _data(params) -> Iterator[str]:
    data, wanted = params.data, params.evaluation.datasets
    if not data.generated and not data.davis_root:
        yield "data.davis_root = '': must name DAVIS 2017 to train on, unless data.generated is true"
    shaped = ("davis", "changing") if data.generated else ("davis",)
    if not set(shaped) & set(wanted):
        yield f"evaluation.datasets = {list(wanted)}: must have {' or '.join(shaped)}, for the figures"
    roots = [name for name in wanted if getattr(data, f"{name}_root", "")]
    absent = [name for name in wanted if name not in roots and not data.generated]
    if absent:
        yield f"evaluation.datasets = {list(wanted)}: {', '.join(absent)} must have a root in section data"


def _clips(params) -> Iterator[str]:
    clips, headroom = params.clips, params.headroom
    for key, frames in (("train.frames", params.train.frames), ("importance.frames", params.importance.frames)):
        if frames > clips.frames:
            yield f"{key} = {frames}: must be at most clips.frames, {clips.frames}"
    tracked = min(headroom.length, clips.frames)
    if headroom.frames >= tracked:
        yield f"headroom.frames = {headroom.frames}: must be less than the {tracked} frames that are tracked of a clip"
    drawn = {
        "train": clips.train + clips.changing_train,
        "calibration": clips.calibration + clips.changing_calibration,
        "davis": clips.val + clips.wide,
        "sav": clips.sav,
        "ytvos": clips.ytvos + clips.wide_ytvos,
        "changing": clips.changing,
    }
    if drawn[headroom.split] < 2:
        yield f"headroom.split = {headroom.split!r}: must have 2 clips or more; section clips draws 1"
    for name in params.evaluation.datasets:
        if not drawn[name]:
            yield f"evaluation.datasets: {name!r} must have clips; section clips draws none"
        elif clips.frames < SCORED_FROM[name]:
            yield f"clips.frames = {clips.frames}: must be {SCORED_FROM[name]} or more, to score {name!r}"


def drawn_names(clips, dataset: str) -> list[str]:
    """Names of the generated clips of a DAVIS-shaped set, davis or changing."""
    if dataset == "changing":
        return [f"val-{FIRST_INDEX['changing'] + i:04d}-changing" for i in range(clips.changing)]
    numbers = [*range(clips.val), *range(FIRST_INDEX["wide"], FIRST_INDEX["wide"] + clips.wide)]
    return [f"val-{number:04d}-{DIFFICULTIES[number % len(DIFFICULTIES)]}" for number in numbers]


def _names(params) -> Iterator[str]:
    shown = next((name for name in params.evaluation.datasets if name in ("davis", "changing")), None)
    known = drawn_names(params.clips, shown) if shown else []
    asked = {"figures.videos": params.figures.videos, "figures.compared": params.figures.compared}
    for key, videos in (asked | {"inspect.videos": params.inspect.videos}).items():
        absent = [video for video in videos if video not in known]
        if absent and known:
            yield f"{key}: {', '.join(absent)} must be among the clips that are drawn, {known[0]} to {known[-1]}"
