"""SAM2.1 at its own size: who is timed, and each part of the measurement. Random weights and forced routes throughout.

A run has one engine for our predictor, and SAM2's own beside it frame by frame; see `benchmark`.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache, partial
from pathlib import Path

import numpy as np
import pandas as pd

from rds_lib.core.artifacts import read_table, write_table
from rds_lib.core.errors import RDSInputError
from rds_lib.evaluation.arm import Arm
from rds_lib.evaluation.benchmark import benchmark_predictors
from rds_lib.evaluation.names import EAGER, ENGINES, FULL, OF_GPUS, RDS, SAM2, VOS
from rds_lib.evaluation.peaks import Peaks
from rds_lib.evaluation.random_weights import force_budget, see_something
from rds_lib.evaluation.workload import frame_work
from rds_lib.model.backbone import backbone_of
from rds_lib.model.sam2 import build_model
from rds_lib.routing.build import build_rds_video_predictor
from rds_lib.routing.compiled import COMPILED

LARGE = "configs/sam2.1/sam2.1_hiera_l.yaml"
SMALLER = {"SAM2.1-B+": "configs/sam2.1/sam2.1_hiera_b+.yaml", "SAM2.1-S": "configs/sam2.1/sam2.1_hiera_s.yaml"}
STOCK = {SAM2: {}, VOS: COMPILED}  # of SAM2's own predictor: arguments of build_model


def full_size_arms(
    size: int,
    *,
    device: str,
    budgets: Iterable[float],
    engine: str = EAGER,
    stock: Sequence[str] = (SAM2,),
    smaller: Mapping[str, str] = SMALLER,
    config: str = LARGE,
) -> list[Arm]:
    """Stock SAM2, ours in full and at each budget, and the ``smaller`` models, at an image size of ``size`` px.

    ``stock`` names entries of ``STOCK``, ``engine`` one of ``ENGINES``. Each predictor is built once, when first asked
    for.
    """
    overrides = [f"++model.image_size={size}"]

    def stock_model(name, options):
        more = {**options, "overrides": [*overrides, *options.get("overrides", ())]}
        return see_something(build_model(name, False, device=device, **more))

    def ours(budget=None):
        options = {"hydra_overrides_extra": overrides, "apply_postprocessing": False, "engine": engine}
        predictor = see_something(build_rds_video_predictor(config, False, routing="full", device=device, **options))
        return predictor if budget is None else force_budget(predictor, budget)

    found = [Arm(name, 1.0, cache(partial(stock_model, config, STOCK[name]))) for name in stock]
    found.append(Arm(FULL, 1.0, cache(ours)))
    found += [Arm(RDS, budget, cache(partial(ours, budget)), kind="forced") for budget in budgets]
    for name, own in smaller.items():
        found.append(Arm(name, 1.0, cache(partial(stock_model, own, {})), kind="smaller"))
    return found


def engines_of(words: Iterable[str], device: str) -> list[str]:
    """Engines by name; "all" are those but eager that a device has, and "last" is the last of them.

    Raises
    ------
    RDSInputError
        If there is no such engine.
    """
    known = [name for name in ENGINES if device.startswith("cuda") or name not in OF_GPUS]
    found = []
    for word in words:
        if word not in (*known, "all", "last"):
            raise RDSInputError(
                f"engine {word!r} on {device}; choose from {', '.join(known)}, all (but eager) and last"
            )
        found += {"all": [name for name in known if name != EAGER], "last": known[-1:]}.get(word, [word])
    return found


def time_frames(
    arms: Sequence[Arm],
    clip,
    *,
    warmup: int,
    frames: int,
    repeats: int,
    dtype: str,
    reference: str = SAM2,
    copies: bool = True,
    after: Callable | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """`benchmark_predictors` on one clip, where each of ``repeats`` passes is the clip's next ``frames`` frames.

    So memory is as full in all passes as in a long video, and nothing is encoded twice. Of RDS the table has also
    ``speedup_limit``, how fast it would be without all blocks that may be left out.
    """
    protocol = {"warmup": warmup, "frames": frames * repeats, "repeats": 1, "dtype": dtype}
    protocol |= {"reference": reference, "copies": copies, "after": after}
    table, blocks, timed = benchmark_predictors(arms, {"clip": clip}, **protocol)
    whole = table.loc[table["method"] == reference, "frame_ms"].item()
    always_on = backbone_of(next(arm for arm in arms if arm.method == FULL).build()).always_on
    free = blocks[(blocks["method"] == FULL) & ~blocks["block"].isin(always_on)]
    table["speedup_limit"] = np.where(table["method"] == RDS, whole / (whole - free["block_ms"].sum()), np.nan)
    timed["pass"] = (timed["frame"] - warmup - 2) // frames
    return table, blocks, timed


def count_work(runners, peaks: Peaks) -> pd.DataFrame:
    """Operations, bytes and least time of each arm's next frame, by part; see `workload`. A hook for `time_frames`."""
    rows = []
    for runner in runners:
        table = frame_work(runner.predictor, runner.steps, peaks)
        table.insert(0, "method", runner.arm.method)
        table.insert(1, "level", runner.arm.level)
        rows.append(table)
    return pd.concat(rows, ignore_index=True)


def sweep_routes(runners, count: int, *, seed: int = 0) -> pd.DataFrame:
    """Force random routes of all sizes on ``count`` frames of the first routed arm. A hook for `time_frames`.

    A frame before them warms up what the frame times left cold, and is dropped.

    Returns
    -------
    DataFrame, one row per frame
        ``frame``, ``active_blocks`` of the route table, ``gmacs`` of these blocks, ``encoder_ms``.
    """
    runner = next(one for one in runners if one.arm.kind == "forced")
    predictor, backbone, rng = runner.predictor, backbone_of(runner.predictor), np.random.default_rng(seed)
    always_on, depth, rows = list(backbone.always_on), backbone.depth, {}
    free = np.setdiff1d(np.arange(depth), always_on)
    runner.step(probe=True)
    runner.watch.read()
    for number in rng.permutation(np.linspace(0, len(free), count).round().astype(int)):
        route = np.isin(np.arange(depth), [*always_on, *rng.permutation(free)[:number]])
        predictor.set_fixed_route(route.tolist())
        runner.step(probe=True)
        rows[int(predictor.route_table(runner.state)["frame_idx"].max())] = runner.watch.read()["encoder"]
    predictor.set_fixed_route(None)
    table = predictor.route_table(runner.state).pivot(index="frame_idx", columns="block", values="active")
    active = table.loc[list(rows)].to_numpy(float)  # (frames, L)
    found = pd.DataFrame({"frame": list(rows), "active_blocks": active.sum(1), "encoder_ms": list(rows.values())})
    return found.assign(gmacs=[backbone.gmacs(own) for own in active])


def keep_rows(path: Path, table: pd.DataFrame, **keys) -> None:
    """Put the rows of one part of a measurement into a file, in the place of those that have the same ``keys``."""
    table = table.assign(**keys)[[*keys, *table.columns.difference(list(keys), sort=False)]].round(5)
    if path.is_file():
        old = read_table(path, columns=list(keys))
        others = ~np.logical_and.reduce([old[name] == value for name, value in keys.items()])
        table = pd.concat([old[others], table], ignore_index=True)
    write_table(path, table)
