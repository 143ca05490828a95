"""Command `ship`: a profile's trainings into ``assets/trainings``, with a card, so that nobody else need do them."""

import shutil
from pathlib import Path
from typing import NamedTuple

from rds_lib.core.artifacts import copy_file, read_json, read_table, write_text
from rds_lib.core.errors import RDSInputError
from rds_lib.data.sources import training_sequences
from rds_lib.evaluation.names import ADAPTED, ADAPTERS, DINO_ADAPTED, ONE_FOR_ALL, RDS
from rds_lib.methods import method_of
from rds_lib.pipeline import baselines, dinov3_runs, train
from rds_lib.pipeline.kept_trainings import ABOUT, SHIPPED, about
from rds_lib.pipeline.stages import require
from rds_lib.pipeline.weights import ANY, CONTROL
from rds_lib.report.markdown import table
from rds_lib.work.finished import LIST

CARD = SHIPPED / "MODEL_CARD.md"
MOST = 40  # MiB of all of them together
GENERATED = "generated-davis"
FOLDERS = {"train": "evaluation", "baselines": "evaluation", "dinov3": "dinov3"}  # where a stage's methods are scored
TEXT = """# Shipped trainings

The trainings of profile `{profile}`. A stage takes one from here where all that it follows from is the same: code,
data, parameters and base weights, whose hash ends the folder's name. Where anything differs, it trains. Weights are in
half precision; `log.csv` has every step. Minutes are those of one CPU thread beside other work. J&F is that of the
generated validation clips: of a method with several seeds the mean; the tables of results have the router of all
budgets.

The weights are for research: the model below them was trained on DAVIS 2017 (CC BY-NC 4.0) and BSDS500 too.

{table}
"""


class Training(NamedTuple):
    """A training of a profile, done."""

    stage: str
    method: str  # as in the tables of scores
    level: float | None  # None for a router of all budgets
    seed: int
    weights: Path  # in ``.cache/train``


def ship(params, workdir: Path) -> Path:
    """Copy the weights and logs of a profile's trainings, and remove shipped ones that are none of them.

    A training that is not done yet is done first.

    Raises
    ------
    RDSInputError
        If they take more than `MOST` MiB; what was shipped before stays.
    """
    done = trainings(params, workdir)
    size, names = sum(map(_mib, done)), {one.weights.parent.name for one in done}
    if size > MOST:
        raise RDSInputError(f"the trainings take {size:.0f} MiB, and {MOST} may be shipped: fewer levels or seeds")
    for one in done:
        for file in _files(one.weights.parent):
            copy_file(file, SHIPPED / file.relative_to(one.weights.parent.parent))
    for folder in SHIPPED.iterdir():
        if folder.is_dir() and folder.name not in names:
            shutil.rmtree(folder)
    write_text(CARD, card(params, workdir, done))
    return SHIPPED


def trainings(params, workdir: Path) -> list[Training]:
    """All trainings of a profile, in the order of the stages."""
    section, other = params.train, params.dinov3
    found = []
    for name, job in train.trainings(params, workdir).items():
        found.append(_of_run("train", name, section.seed, job(), RDS, ADAPTED))
    for row, job in baselines.trainings(params, workdir).items():
        if isinstance(row, str):
            found.append(Training("baselines", ADAPTERS[row], params.baselines.placement_budget, section.seed, job()))
        else:
            method, seed = method_of(row[0]), row[2] if len(row) > 2 else section.seed
            found.append(Training("baselines", method.label, method.table_level(row[1]), seed, job()))
    sequences, blocks = training_sequences(params, workdir)[0], require("dinov3/blocks.json", params, workdir)
    for name, job in dinov3_runs.trainings(params, sequences, read_json(blocks)["blocks"]).items():
        found.append(_of_run("dinov3", name, other.seed, job(), RDS, DINO_ADAPTED))
    return found


def card(params, workdir: Path, done: list[Training]) -> str:
    """What is shipped: a row for each training, with its score where the profile's evaluation is there."""
    scores, rows = {stage: _scores(Path(workdir) / folder) for stage, folder in FOLDERS.items()}, []
    for one in done:
        section = params.dinov3 if one.stage == "dinov3" else params.train
        score = scores[one.stage].get((one.method, one.level), "")
        length = f"{section.steps} x {section.batch}"
        minutes = f"{about(one.weights)['seconds'] / 60:.1f}"
        level = "all" if one.level is None else f"{one.level:g}"
        folder = one.weights.parent.name
        rows.append([one.stage, one.method, level, one.seed, length, minutes, f"{_mib(one):.2f}", score, f"`{folder}`"])
    heads = ["stage", "method", "level", "seed", "steps x clips", "minutes", "MiB", "J&F", "folder"]
    return TEXT.format(profile=params.profile, table=table(heads, rows))


def _of_run(stage, name, seed, weights, routed, adapted) -> Training:
    name, _, own = name.partition("-seed")
    seed = int(own) if own else seed
    if name == CONTROL:
        return Training(stage, adapted, 1.0, seed, weights)
    if name == ANY:
        return Training(stage, ONE_FOR_ALL, None, seed, weights)
    return Training(stage, routed, float(name), seed, weights)


def _mib(one: Training) -> float:
    return sum(file.stat().st_size for file in _files(one.weights.parent)) / 2**20


def _files(folder: Path) -> list[Path]:
    """What a training's list names, what it took, and the list, whose copy says that the others are there."""
    return [folder / name for name in (*read_json(folder / LIST)["files"], ABOUT, LIST)]


def _scores(folder: Path) -> dict[tuple, str]:
    """J&F of the generated validation clips, by method and level."""
    if not (file := folder / "table.csv").is_file():
        return {}
    rows = read_table(file, columns=("dataset", "method", "level", "metric", "value"))
    rows = rows[(rows["dataset"] == GENERATED) & (rows["metric"] == "JF")]
    return {(row.method, row.level): f"{row.value:.1f}" for row in rows.itertuples()}
