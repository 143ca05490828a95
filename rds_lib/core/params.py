"""Typed, frozen parameters of a profile: the only module that reads a parameter file.

``params.yaml`` names the default profile, ``params/<profile>.yaml`` holds one section per stage.
The files are read with the parser DVC uses, so that both see the same numbers.
"""

import difflib
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from rds_lib.core import paths
from rds_lib.core.errors import RDSInputError


def _in(interval: str) -> AfterValidator:
    """Return a check that a number lies in an interval written as ``(0, 1]``."""
    low, high = (float(end) for end in interval[1:-1].split(","))

    def check(value: float) -> float:
        above = value > low if interval[0] == "(" else value >= low
        below = value < high if interval[-1] == ")" else value <= high
        if not (above and below):
            raise ValueError(f"allowed range {interval}")
        return value

    return AfterValidator(check)


def _length(allowed: Callable[[int], bool], words: str) -> AfterValidator:
    """Return a check on the number of items in a list."""

    def check(value: tuple) -> tuple:
        if not allowed(len(value)):
            raise ValueError(f"{words} expected, got {len(value)}")
        return value

    return AfterValidator(check)


_FromList = BeforeValidator(lambda value: tuple(value) if isinstance(value, list) else value)
_NotEmpty = _length(lambda n: n >= 1, "at least one item")

Seed = Annotated[int, _in("[0, 4294967295]")]
Count = Annotated[int, _in("[1, inf)")]
CountOrNone = Annotated[int, _in("[0, inf)")]
Frames = Annotated[int, _in("[2, inf)")]
Side = Annotated[int, _in("[32, 4096]")]
Budget = Annotated[float, _in("(0, 1]")]
Rate = Annotated[float, _in("(0, 1)")]
Budgets = Annotated[tuple[Budget, ...], _FromList, _NotEmpty]
Levels = Annotated[tuple[Annotated[float, _in("[0.4, 1]")], ...], _FromList, _NotEmpty]  # rows of Table 9
Ninths = Annotated[tuple[Annotated[int, _in("[4, 9]")], ...], _FromList, _NotEmpty]
Smaller = Annotated[tuple[Annotated[tuple[str, str], _FromList], ...], _FromList]  # config, checkpoint or ""
Phase = Annotated[tuple[Side, Frames, Count, Count], _FromList]  # image size in px, frames, clips a step, steps
Names = Annotated[tuple[str, ...], _FromList, _NotEmpty]
Dataset = Literal["davis", "sav", "ytvos"]


class Section(BaseModel):
    """One section of a profile: frozen, strict types, no unknown key."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Model(Section):
    """Which SAM2: ``mini`` or a config name of the sam2 package; ``""`` takes the shipped weights."""

    config: str
    checkpoint: str


class Clips(Section):
    """The generated video sets: numbers of clips, frames per clip, pixels."""

    seed: Seed
    train: Count
    calibration: Count
    val: Count
    sav: CountOrNone
    ytvos: CountOrNone
    frames: Frames
    height: Side
    width: Side


class Data(Section):
    """Whether to draw clips, the roots of real sets (``""``: none), and how many clips to show."""

    generated: bool
    davis_root: str
    sav_root: str
    ytvos_root: str
    preview_clips: Count


class Importance(Section):
    """Block importance: clips and frames it is measured on, blocks that I-LoRA adapts."""

    seed: Seed
    clips: Count
    frames: Frames
    k_sel: Annotated[int, _in("[5, 48]")]


class Train(Section):
    """The RDS loop: one router per budget. Thresholds are calibrated on the first ``calibration_frames`` of each video."""

    seed: Seed
    budgets: Budgets
    steps: Count
    batch: Count
    frames: Frames
    lr_router: Rate
    lr_lora: Rate
    lora_rank: Count
    router_hidden: Count
    calibration_frames: Frames


class Baselines(Section):
    """The methods that RDS is compared with. Clips, frames, steps, adapters' rank and rate are those of ``train``.

    ``levels``: rows of PBD, DyT and AdaViT; ``ninths``: of SlimSAM. ``reading``: of PBD's drop set. ``match_macs``: DyT keeps
    as many tokens as give it the work of RDS at its level, not the level's share. ``lr_dispatcher``: DyT's, which look at raw
    tokens, ``lr_policy``: AdaViT's, which look at normalised ones. ``placement_budget``: where I-LoRA's blocks are compared
    with other choices of blocks.
    """

    levels: Levels
    ninths: Ninths
    reading: Literal["A", "B", "C"]
    adapter_width: Count
    match_macs: bool
    lr_dispatcher: Rate
    lr_policy: Rate
    lr_align: Rate
    lr_encoder: Rate
    lr_head: Rate
    importance_steps: Count
    placement_budget: Budget


class Evaluation(Section):
    """What is scored; ``bootstrap`` counts resamples, ``fixed_routes`` random static plans, ``smaller`` other models to compare with."""

    seed: Seed
    budgets: Budgets
    fixed_routes: CountOrNone
    smaller: Smaller
    bootstrap: Count
    datasets: Annotated[tuple[Dataset, ...], _FromList, _NotEmpty]


class Benchmark(Section):
    """The timing protocol: frames timed after ``warmup`` frames, ``repeats`` times."""

    budgets: Budgets
    frames: Frames
    warmup: CountOrNone
    repeats: Count
    threads: Count


class Pretrain(Section):
    """The mini base model; optional are objects cut from the photographs of ``bsds_root``, videos of ``davis_root``, and a folder of weights to ``start_from``."""

    seed: Seed
    phases: Annotated[tuple[Phase, ...], _FromList, _NotEmpty]
    lr: Rate
    drop_path: Annotated[float, _in("[0, 1)")]
    start_from: str
    bsds_root: str
    davis_root: str
    compile_blocks: bool
    held_out: Count


class YourVideo(Section):
    """A video of the reader's own; ``""`` generates one. The prompt is a mask file, a box or a click; ``rds`` a file of router and adapters."""

    video: str
    prompt: str
    box: Annotated[tuple[float, ...], _FromList, _length((0, 4).__contains__, "x0, y0, x1, y1 or an empty list")]
    click: Annotated[tuple[float, ...], _FromList, _length((0, 2).__contains__, "x, y or an empty list")]
    budget: Budget
    rds: str
    out: str


class Figures(Section):
    """The paper's figures: videos whose routes are drawn and videos whose frames are compared, by name, and at which budget."""

    videos: Names
    compared: Names
    budget: Budget


class Inspect(Section):
    """The routing inspector: the videos to choose from, by name, and the two runs it opens with."""

    videos: Names
    runs: Annotated[tuple[str, ...], _FromList, _length((2).__eq__, "two runs")]


class Params(BaseModel):
    """All sections of one profile, and its name."""

    model_config = Section.model_config

    profile: str
    model: Model
    clips: Clips
    data: Data
    importance: Importance
    train: Train
    baselines: Baselines
    evaluation: Evaluation
    benchmark: Benchmark
    pretrain: Pretrain
    your_video: YourVideo
    figures: Figures
    inspect: Inspect

    @property
    def is_smoke(self) -> bool:
        """Whether this is the profile of stored outputs and tests, in which a stage builds the products that it lacks."""
        return self.profile == "smoke"

    def with_section(self, name: str, **values) -> "Params":
        """Return a copy in which one section has other values, checked like a file; for a notebook's parameters cell."""
        try:
            section = type(getattr(self, name)).model_validate({**getattr(self, name).model_dump(), **values})
        except ValidationError as error:
            lines = [_explain(item, (name,)) for item in error.errors()]
            raise RDSInputError("\n".join(lines)) from None
        return self.model_copy(update={name: section})


def load_params(profile: str | None = None, path: str | Path | None = None) -> Params:
    """Load and check the parameters of one profile.

    Parameters
    ----------
    profile : str, optional
        ``smoke``, ``mini``, ``paper`` or any other file in ``params/``; by default the one that
        ``params.yaml`` names.
    path : str or Path, optional
        A parameter file elsewhere. The profile's name is then the file's stem, unless given.

    Returns
    -------
    Params
        Frozen; lists become tuples.

    Raises
    ------
    RDSInputError
        If the file is missing or unreadable, or a key is unknown, missing or out of range; the
        message names file, key, value and what is allowed.
    """
    if path is None:
        profile = profile or _default_profile()
        path = paths.PARAMS / f"{profile}.yaml"
        if not path.is_file():
            known = ", ".join(sorted(file.stem for file in paths.PARAMS.glob("*.yaml")))
            raise RDSInputError(f"unknown profile {profile!r}; {paths.shown(paths.PARAMS)} has: {known}")
    path = Path(path)
    sections = {"profile": profile or path.stem, **_read(path)}
    try:
        return Params.model_validate(sections)
    except ValidationError as error:
        lines = [f"{paths.shown(path)}: {_explain(item)}" for item in error.errors()]
        raise RDSInputError("\n".join(lines)) from None


def _default_profile() -> str:
    path = paths.ROOT / "params.yaml"
    content = _read(path)
    if list(content) != ["profile"] or not isinstance(content["profile"], str):
        raise RDSInputError(f"{path.name}: one line is allowed, `profile: <name>`; got the keys {list(content)}")
    return content["profile"]


def _read(path: Path) -> dict:
    try:
        content = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, YAMLError) as error:
        raise RDSInputError(f"{paths.shown(path)}: cannot be read as YAML: {error}") from error
    if not isinstance(content, dict):
        raise RDSInputError(f"{paths.shown(path)}: a mapping of keys to values is expected")
    return content


def _explain(item: dict, inside: tuple = ()) -> str:
    """Turn one pydantic error into: key = value: what is wrong and what is allowed; ``inside`` names the section."""
    item = {**item, "loc": (*inside, *item["loc"])}
    key = ".".join(str(part) for part in item["loc"])
    if item["type"] == "missing":
        return f"{key} is missing"
    if item["type"] == "extra_forbidden":
        known = list(_fields(item["loc"][:-1]))
        close = difflib.get_close_matches(str(item["loc"][-1]), known, n=1)
        hint = f"did you mean {close[0]}?" if close else f"known keys: {', '.join(known)}"
        return f"{key} is unknown; {hint}"
    return f"{key} = {item['input']!r}: {item['msg'].removeprefix('Value error, ')}"


def _fields(loc: tuple) -> dict:
    model = Params
    for part in loc:
        model = model.model_fields[part].annotation
    return model.model_fields
