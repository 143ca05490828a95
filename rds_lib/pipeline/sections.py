"""The sections of a profile: their keys, the types of their values and what each may be."""

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from rds_lib.data.drawn import DIFFICULTIES


def _length(*allowed: int, words: str) -> AfterValidator:
    """Return a check that a list has one of the allowed lengths."""

    def check(value: tuple) -> tuple:
        if len(value) not in allowed:
            raise ValueError(f"{words} expected, got {len(value)} numbers")
        return value

    return AfterValidator(check)


_FromList = BeforeValidator(lambda value: tuple(value) if isinstance(value, list) else value)
_NotEmpty = Field(min_length=1)

Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]
Seeds = Annotated[tuple[Seed, ...], _FromList]
Count = Annotated[int, Field(ge=1)]
CountOrNone = Annotated[int, Field(ge=0)]
Frames = Annotated[int, Field(ge=2)]
Side = Annotated[int, Field(ge=32, le=4096)]
Budget = Annotated[float, Field(gt=0, le=1)]
Rate = Annotated[float, Field(gt=0, lt=1)]
Budgets = Annotated[tuple[Budget, ...], _FromList, _NotEmpty]
Levels = Annotated[tuple[Annotated[float, Field(ge=0.4, le=1)], ...], _FromList, _NotEmpty]  # rows of Table 9
Ninths = Annotated[tuple[Annotated[int, Field(ge=4, le=9)], ...], _FromList, _NotEmpty]
Smaller = Annotated[tuple[Annotated[tuple[str, str], _FromList], ...], _FromList]  # config; path, id or ""
Phase = Annotated[tuple[Side, Frames, Count, Count], _FromList]  # image size in px, frames, clips a step, steps
Names = Annotated[tuple[str, ...], _FromList, _NotEmpty]
Dataset = Literal["davis", "sav", "ytvos", "changing"]


class Section(BaseModel):
    """One section of a profile: frozen, strict types, no unknown key."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Model(Section):
    """The SAM2 to work on: ``mini`` or a config of the sam2 package.

    Checkpoint is a path or an id on the hub, such as ``facebook/sam2.1-hiera-large``; ``""`` means the shipped weights.
    """

    config: str
    checkpoint: str


class Clips(Section):
    """The generated video sets: clips per split, frames per clip, size of a frame in px.

    ``wide`` clips widen the DAVIS-shaped set over more pictures, ``wide_ytvos`` the YouTube-VOS-shaped one, with
    objects of unseen categories; the conditions of ``changing`` ones, 40 to 60 frames long, change. Those that
    validate draw on a folder of ``photographs`` laid out as BSDS500, or with "" on drawn scenes, as the others do.
    """

    seed: Seed
    train: Count
    calibration: Count
    val: Count
    sav: CountOrNone
    ytvos: CountOrNone
    frames: Frames
    height: Side
    width: Side
    wide: CountOrNone
    wide_ytvos: CountOrNone
    changing_train: CountOrNone
    changing_calibration: CountOrNone
    changing: CountOrNone
    photographs: str


class Data(Section):
    """Whether to use generated clips, the roots of real data sets (``""`` for none), and how many clips to show.

    Of ``davis_root`` the list ``davis_split`` validates: ``val``, or one of videos that the model has not seen.
    """

    generated: bool
    davis_root: str
    davis_split: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$")]
    sav_root: str
    ytvos_root: str
    preview_clips: Count

    def split_of(self, name: str) -> str:
        """The list of a real data set that validates."""
        return self.davis_split if name == "davis" else "val"


class Importance(Section):
    """Block importance: clips and frames to measure it on, and the number of blocks that I-LoRA adapts."""

    seed: Seed
    clips: Count
    frames: Frames
    k_sel: Annotated[int, Field(ge=5, le=48)]


class Headroom(Section):
    """What a router could win, before one is trained: ``routes`` random routes of one ``budget`` over ``clips`` clips.

    They are spread over the profile's ``split``, tracked for ``length`` frames and measured on ``frames`` of these.
    """

    split: Literal["train", "calibration"]
    clips: Frames
    routes: Frames
    frames: Frames
    length: Frames
    budget: Budget
    seed: Seed


class Training(Section):
    """Trainings of routers with their adapters, one per budget, and how a step of ``batch`` clips is computed.

    However many processes share it, each computes its clips in ``accumulate`` micro-batches. ``precision`` auto is
    bfloat16 on a GPU and float32 elsewhere. With ``recompute_blocks`` blocks are computed again in the backward pass:
    less memory, equal results.
    """

    batch: Count
    accumulate: Count
    precision: Literal["auto", "float32", "bfloat16"]
    recompute_blocks: bool
    seed: Seed
    more_seeds: Seeds
    repeated: Count
    budgets: Budgets
    steps: Count
    frames: Frames
    lr_router: Rate
    lr_lora: Rate
    lora_rank: Count
    router_hidden: Count

    def again(self, levels: Sequence[float]) -> list[float]:
        """The budgets or levels that ``more_seeds`` repeats, in their order: the ``repeated`` lowest ones."""
        lowest = sorted(levels)[: self.repeated]
        return [level for level in levels if level in lowest]


class Train(Training):
    """RDS training, one router per budget; thresholds are calibrated on the first ``calibration_frames`` of a video.

    With ``more_seeds`` RDS and the baselines are trained once more for each, at the ``repeated`` lowest budgets and
    levels, and intervals hold what that changes.
    """

    calibration_frames: Frames


class Router(Section):
    """How the router rates blocks, line 5 of Algorithm 1, and how it learns and is deployed.

    ``normalise`` its logits over the blocks, or take the paper's plain sigmoid; multiply them by ``logit_spread``,
    which may be learnt, or grows to ``final_spread`` by the last step (0: it stays). What all frames share learns
    ``preference_rate`` times as fast as the rest. The last ``deployed_share`` of the steps runs the most probable
    blocks, as tracking does, in place of drawn ones; the paper draws to the end. ``calibrate`` a threshold per budget,
    or take the paper's 0.5.
    """

    normalise: bool
    logit_spread: Annotated[float, Field(gt=0, le=10)]
    learn_spread: bool
    final_spread: Annotated[float, Field(ge=0, le=10)]
    deployed_share: Annotated[float, Field(ge=0, le=1)]
    preference_rate: Annotated[float, Field(gt=0, le=100)]
    calibrate: bool


class Baselines(Section):
    """The methods that RDS is compared with. Clips, frames, steps, rank and learning rate are those of ``train``.

    ``levels`` are the rows of PBD, DyT and AdaViT, ``ninths`` those of SlimSAM (6 keeps 6/9 of the channels).
    ``reading`` picks PBD's drop set. With ``match_macs`` DyT keeps as many tokens as match the work of RDS at the same
    level. ``lr_dispatcher`` is DyT's rate, whose gates see raw tokens; ``lr_policy`` is AdaViT's, whose gates see
    normalised ones. At ``placement_budget`` I-LoRA's choice of blocks is compared with other choices.
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
    """What is scored: RDS at ``budgets``, ``fixed_routes`` random static plans and the ``smaller`` models.

    ``bootstrap`` is the number of resamples behind each interval.
    """

    seed: Seed
    budgets: Budgets
    fixed_routes: CountOrNone
    smaller: Smaller
    bootstrap: Count
    datasets: Annotated[tuple[Dataset, ...], _FromList, _NotEmpty]


class Dinov3(Training):
    """RDS on DINOv3, at ``budgets``: ``checkpoint`` is "mini", a folder or an id on the hub.

    ``always_on`` are the blocks that are never skipped, by default the first and the last. Importance is measured on
    ``clips`` clips and chooses ``k_sel`` blocks for adapters. ``distil`` is the weight of the distance of the features
    from the full model's, beside the loss of tracking. ``more_seeds`` and ``repeated`` are as in ``train``.
    """

    checkpoint: str
    short_side: Side
    always_on: Annotated[tuple[CountOrNone, ...], _FromList]
    k_sel: Count
    clips: Count
    distil: Annotated[float, Field(ge=0)]


class Benchmark(Section):
    """The timing protocol: on a clip of each difficulty ``warmup`` untimed frames, then ``frames`` timed ones.

    All that ``repeats`` times over.
    """

    budgets: Budgets
    difficulties: Annotated[tuple[Literal[DIFFICULTIES], ...], _FromList, _NotEmpty]
    frames: Frames
    warmup: CountOrNone
    repeats: Count
    threads: Count


class Pretrain(Section):
    """Training of the mini base models; ``vit_phases`` and ``vit_lr`` are those of the mini DINOv3.

    The rate holds its peak for the share ``hold`` of the steps. Optional: a folder of weights to ``start_from``,
    BSDS500 photographs to cut objects from, DAVIS-shaped videos, then the ``real_share`` of the clips. Up to
    ``objects`` of a clip are followed in one pass, in every second step after up to ``run_in`` frames more that are
    tracked and not learnt from. Every ``check_every`` steps the average is scored on held-out
    videos, and the best is shipped; 0: the last is.
    """

    seed: Seed
    phases: Annotated[tuple[Phase, ...], _FromList, _NotEmpty]
    lr: Rate
    hold: Annotated[float, Field(ge=0, lt=1)]
    vit_phases: Annotated[tuple[Phase, ...], _FromList, _NotEmpty]
    vit_lr: Rate
    drop_path: Annotated[float, Field(ge=0, lt=1)]
    start_from: str
    bsds_root: str
    davis_root: str
    real_share: Annotated[float, Field(ge=0, le=1)]
    objects: Count
    run_in: CountOrNone
    check_every: CountOrNone
    compile_blocks: bool
    held_out: Count


class YourVideo(Section):
    """Your own video; ``""`` generates one.

    Prompt it with a mask file, a box or a click. ``rds`` is a file of router and adapters.
    """

    video: str
    prompt: str
    box: Annotated[tuple[float, ...], _FromList, _length(0, 4, words="x0, y0, x1, y1 or an empty list")]
    click: Annotated[tuple[float, ...], _FromList, _length(0, 2, words="x, y or an empty list")]
    budget: Budget
    rds: str
    out: str


class Figures(Section):
    """The paper's figures: the videos whose routes are drawn, those whose frames are compared, and the budget.

    ``story`` is the video of the picture that tells the project, of any DAVIS-shaped set; by default the first one of
    ``compared``.
    """

    videos: Names
    compared: Names
    story: str
    budget: Budget


class Inspect(Section):
    """The routing inspector: the videos on its menu, and the two runs it opens with."""

    videos: Names
    runs: Annotated[tuple[str, str], _FromList]
