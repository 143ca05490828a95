"""Stage `benchmark`: time the arms of a profile on a generated clip of each difficulty, with one object."""

import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from rds_lib.core.artifacts import write_json, write_table
from rds_lib.data.clips import write_timing_clips
from rds_lib.data.origin import FILE
from rds_lib.evaluation.benchmark import benchmark_predictors
from rds_lib.evaluation.names import FULL, RDS, SAM2, run_name
from rds_lib.pipeline.arms import timed_arms, timed_checkpoint
from rds_lib.pipeline.stages import require
from rds_lib.pipeline.weights import origins

METRICS = (
    "frame_ms encoder_ms fps router_ms router_share active_blocks gmacs speedup speedup_low speedup_high speedup_ideal "
    "eta copies_per_frame".split()
)


def run(params, workdir: Path, out: Path) -> None:
    """Time the arms with the weights of the stages ``train`` and ``baselines``; writes what `time_profile` writes."""
    for stage in ("train", "baselines"):
        require(stage, params, workdir)
    time_profile(params, out, workdir=workdir)


def time_profile(params, out: Path, *, workdir: Path | None = None, device: str | None = None) -> pd.DataFrame:
    """Time what there is of a profile, and return the table; see `arms.timed_arms` for what takes part.

    Writes ``table.csv``, ``blocks.csv`` and ``frames.csv`` (see `benchmark_predictors`), ``model.json`` (which
    weights), and ``metrics.json``, one flat mapping of ``<arm>_<quantity>``.

    Parameters
    ----------
    workdir : Path, optional
        Folder of the profile's products; without it no baseline takes part.
    device : str, optional
        CUDA if there is one, else the CPU. Runs in bfloat16 on CUDA, as SAM2 does, and in float32 on the CPU.
    """
    section, out, threads = params.benchmark, Path(out), torch.get_num_threads()
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    torch.set_num_threads(section.threads)
    try:
        arms = timed_arms(params, workdir, device=device)
        with tempfile.TemporaryDirectory() as folder:
            look = {"difficulties": section.difficulties, "frames": section.warmup + section.frames + 2}
            clips = write_timing_clips(Path(folder), params.clips, **look)
            protocol = {"warmup": section.warmup, "frames": section.frames, "repeats": section.repeats}
            dtype = "bfloat16" if device.startswith("cuda") else "float32"
            table, blocks, frames = benchmark_predictors(arms, clips, dtype=dtype, **protocol)
    finally:
        torch.set_num_threads(threads)
    write_table(out / "table.csv", table.round(4))
    write_table(out / "blocks.csv", blocks.round(4))
    write_table(out / "frames.csv", frames.round(4))
    write_json(out / FILE, origins(params, checkpoint=timed_checkpoint(params)))
    write_json(out / "metrics.json", _metrics(table), schema=None)
    return table


def _metrics(table):
    numbers = table.round(4).to_dict("records")
    return {
        f"{run_name(row['method'], row['level'], '_')}_{name}": float(row[name])
        for row in numbers
        for name in METRICS
        if np.isfinite(row[name]) and (name in ("fps", "gmacs") or row["method"] in (SAM2, FULL, RDS))
    }
