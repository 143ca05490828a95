"""The page of a measurement at full size, from the tables that `benchmarks/hiera_l.py` leaves in a folder.

What a folder has no rows of is "not measured", with the command that measures it.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from rds_lib.core.artifacts import read_json, read_table
from rds_lib.evaluation.names import EAGER, ENGINES, FULL, RDS, SAM2, VOS, run_name
from rds_lib.metrics.line import fit_line
from rds_lib.metrics.speed import Draws, speedup
from rds_lib.metrics.statistics import Interval
from rds_lib.report.markdown import table
from rds_lib.report.published import PUBLISHED

COMMANDS = {"cuda": "bash benchmarks/gpu.sh reports/gpu", "cpu": "python benchmarks/hiera_l.py --out reports/cpu"}
TITLES = {"cuda": "a GPU", "cpu": "a CPU"}
RUNS = {"cpu": (EAGER,), "cuda": (*ENGINES, f"{[*ENGINES][-1]} beside {VOS}")}  # that a page waits for, by device
OBJECTS = (1, 2, 5)
COUNTS = {1: "One object", 2: "Two objects", 5: "Five objects"}
PARTS = ("encoder", "router", "memory_attention", "decoder", "memory_encoder")
ARM = ["method", "level"]


def page(folder: Path, device: str) -> str:
    """Return the page of a folder, as Markdown; ``device`` is "cpu" or "cuda"."""
    found = {path.stem: read_table(path) for path in sorted(folder.glob("*.csv"))}
    parts = [
        f"# SAM2.1 Hiera-L on {TITLES[device]}, frame by frame",
        "Random weights, and routes that a random router forces: weights do not change speed, and nothing here tells "
        "of quality. All arms of a run take every frame in turn, so that ratios hold where the machine is busy.",
        *_machine(folder),
        *_speeds(found, device),
        *_work(found, device),
        *_routes(found, device),
        *_videos(found, device),
        *_published(),
        *_before(found),
        *([notes.read_text(encoding="utf-8").strip()] if (notes := folder / "notes.md").is_file() else []),
    ]
    return "\n\n".join(parts) + "\n"


def not_measured(device: str) -> str:
    """What stands where there is no number."""
    return f"Not measured. `{COMMANDS[device]}` fills it in."


def _machine(folder):
    if (folder / "machine.json").is_file():
        facts = read_json(folder / "machine.json")
        yield "; ".join(f"{name} {value}" for name, value in facts.items()) + "."


def _speeds(found, device):
    speed, frames = found.get("speed"), found.get("frames")
    known = list(dict.fromkeys(speed["run"])) if speed is not None else []
    for objects in OBJECTS:
        yield f"## {COUNTS[objects]}"
        for run in dict.fromkeys([*RUNS[device], *known]):
            rows = _of(speed, run=run, objects=objects)
            if rows.empty:
                yield f"**{run}**: {not_measured(device)}"
            else:
                yield f"**{run}**"
                yield _speed_table(rows, _of(frames, run=run, objects=objects))
    yield (
        "`full` is our predictor with all blocks, the same work as SAM2's own: how far their ratio lies from 1 is the "
        "noise of the run, and within it a ratio may lie above its ideal.\n\n"
        "`ideal` is Amdahl's limit: a frame without the time of the blocks that were left out, as the full encoder's "
        "blocks were timed; `limit` is that with every block left out that may be. eta is the share of that time by "
        "which a frame is shorter than the whole model's. Brackets: 95 % intervals over frames; another run of "
        "the same code moves ratios too."
    )


def _speed_table(rows, frames):
    rest = [f"{part}_ms" for part in PARTS if f"{part}_ms" in rows]
    over = [name for name in (SAM2, VOS) if (rows["method"] == name).any()]
    heads = ["arm", "active blocks", "frame, ms", "p99", "model only, frames/s", *(f"times {name}" for name in over)]
    heads += ["ideal", "limit", "eta", *(f"{name[:-3].replace('_', ' ')}, ms" for name in rest)]
    draws = Draws(frames.assign(**{"pass": 0}), seed=0)  # a pass may be one frame
    lines = []
    for row in rows.to_dict("records"):
        arm = row["method"], row["level"]
        ratios = [speedup(draws, arm, over=(name, 1.0)) if arm[0] != name else Interval(1.0) for name in over]
        lines.append(
            [
                run_name(*arm),
                f"{row['active_blocks']:.0f}",
                f"{row['frame_ms']:.1f}",
                f"{row['frame_p99_ms']:.1f}",
                f"{row['fps']:.2f}",
                *map(_interval, ratios),
                _number(row["speedup_ideal"]) if arm[0] == RDS else "",
                _number(row["speedup_limit"]) if arm[0] == RDS else "",
                _interval(Interval(row["eta"], row["eta_low"], row["eta_high"])),
                *(f"{row[name]:.2f}" if row[name] > 0 else "" for name in rest),
            ]
        )
    return table(heads, lines)


def _work(found, device):
    yield "## Work of a frame, and the least time for it"
    work, speed = found.get("work"), found.get("speed")
    if work is None:
        yield not_measured(device)
        return
    first = work.iloc[0]
    peaks = f"{first['peak_tflops']:.2f} TFLOP/s and {first['peak_gbytes']:.0f} GB/s"
    yield (
        f"Products and convolutions of one frame (2 FLOPs a multiply-accumulate), at {peaks}: {first['peak_source']}. "
        "The floor adds, for each product, the longer of its operations and its bytes; elementwise work is free in it."
    )
    for objects, rows in work.groupby("objects"):
        sums = rows.pivot_table(index=ARM, columns="part", values="gflops", aggfunc="sum", sort=False).fillna(0)
        floors = rows.groupby(ARM, sort=False)["floor_ms"].sum()
        timed = _of(speed, run=EAGER, objects=objects).to_dict("records")
        times = {(row["method"], row["level"]): row["frame_ms"] for row in timed}
        parts = [part for part in PARTS if part in sums]
        lines = [
            [
                run_name(*arm),
                *(f"{sums.at[arm, part]:.1f}" for part in parts),
                f"{sums.loc[arm].sum():.1f}",
                f"{floors[arm]:.2f}",
                f"{times[arm] / floors[arm]:.1f}" if arm in times else "",
            ]
            for arm in floors.index
        ]
        heads = [f"{part.replace('_', ' ')}, GFLOPs" for part in parts]
        yield f"**{COUNTS.get(objects, f'{objects} objects')}**"
        yield table(["arm", *heads, "frame, GFLOPs", "floor, ms", "frame over floor"], lines)


def _routes(found, device):
    yield "## Encoder time against active blocks"
    if (routes := found.get("routes")) is None:
        yield not_measured(device)
        return
    lines = []
    for run, rows in routes.groupby("run", sort=False):
        for name, column in (("active blocks", "active_blocks"), ("GMACs of these blocks", "gmacs")):
            line = fit_line(rows[column], rows["encoder_ms"])
            lines.append(
                [
                    run,
                    name,
                    len(rows),
                    f"{line.slope:.3f} ± {line.reach:.3f}",
                    f"{line.intercept:.2f}",
                    f"{line.r2:.4f}",
                ]
            )
    yield table(["run", "against", "frames", "slope, ms", "intercept, ms", "R2"], lines)
    yield "Random routes of all sizes, one a frame, in the same run; from `routes.csv`. ± is a 95 % interval."


def _videos(found, device):
    yield "## From JPEG frames to PNG masks, and memory"
    if (videos := found.get("end_to_end")) is None:
        yield not_measured(device)
        return
    lines = []
    for (run, *arm), rows in videos.groupby(["run", *ARM], sort=False):
        peak = rows["peak_mib"].median()
        shown = "not measured" if np.isnan(peak) else f"{peak:.0f}"
        lines.append([run, run_name(*arm), f"{rows['fps'].median():.2f}", len(rows), rows["frames"].iloc[0], shown])
    yield table(["run", "arm", "frames/s", "repeats", "frames", "peak memory, MiB"], lines)
    yield (
        "One object; every frame is read first, as SAM2 does, and the first frame and its prompt count. Memory is the "
        "model's weights and what was allocated on the device beside them at most."
    )


def _published():
    yield "## What others published"
    yield table(
        ["model", "mode", "machine", "frames/s", "times SAM2.1-L", "J&F", "source"],
        [
            [cell or "not said" if name != "over_large" else cell for name, cell in row._asdict().items()]
            for row in PUBLISHED
        ],
    )
    yield "None of it was run here, and machines, versions and clips differ: compare only rows of one source."


def _before(found):
    for name, rows in found.items():
        if not name.startswith("hiera_l"):
            continue
        first = rows.iloc[0]
        over = "speedup_vs_stock" if "speedup_vs_stock" in rows else "speedup"
        yield f"## Measured before: {first['device']}, {first['dtype']}, {first['engine']}"
        facts = f"{first['image_size']} px, one object, torch {first['torch']}, {first['date']}"
        yield f"{facts}; all columns: `{name}.csv`."
        lines = [
            [
                run_name(row["method"], row["level"]),
                f"{row['active_blocks']:.0f}",
                f"{row['frame_ms']:.1f}",
                f"{1e3 / row['frame_ms']:.1f}",
                _number(row[over]),
                _number(row["speedup_ideal"]),
                _number(row["eta"]),
                _number(row["router_ms"]) if row["router_ms"] else "",
            ]
            for row in rows.to_dict("records")
            if row["method"] != FULL
        ]
        heads = ["arm", "active blocks", "frame, ms", "frames/s", "times SAM2", "ideal", "eta", "router and copy, ms"]
        yield table(heads, lines)


def _of(rows, **keys):
    if rows is None:
        return pd.DataFrame()
    return rows[np.logical_and.reduce([rows[name] == value for name, value in keys.items()])]


def _number(value) -> str:
    return "" if np.isnan(value) else f"{value:.2f}"


def _interval(found: Interval) -> str:
    low, high = found[1:]
    return _number(found.effect) + ("" if np.isnan(low) else f" ({low:.2f} to {high:.2f})")
