"""Time routing on the paper's own encoder: Hiera-L with random weights and forced routes, which is enough for speed.

    python benchmarks/hiera_l.py [--frames 3] [--warmup 1] [--repeats 1] [--threads 2] [--budget 0.4 ...] [--compiled]

On two CPU cores a frame of 1024 px takes seconds; nothing else should run meanwhile. On a GPU, where it runs in
bfloat16, take 50 frames after 20; `--compiled` compares with SAM2's `vos_optimized` and first compiles for minutes.
"""

import argparse
import tempfile
from pathlib import Path

import torch

from rds_lib import load_params
from rds_lib.core.artifacts import write_table
from rds_lib.pipeline.benchmark import time_profile

COLUMNS = [
    "method",
    "level",
    "frame_ms",
    "encoder_ms",
    "router_ms",
    "router_share",
    "active_blocks",
    "speedup",
    "speedup_low",
    "speedup_high",
    "speedup_ideal",
    "eta",
    "copies_per_frame",
    "image_size",
    "device",
    "dtype",
    "threads",
]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=3)
    parser.add_argument("--warmup", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--budget", type=float, nargs="+", default=[0.8, 0.6, 0.4])
    parser.add_argument("--compiled", action="store_true")
    parser.add_argument("--csv", type=Path, help="also write the whole table here")
    options = parser.parse_args()
    params = (
        load_params("paper")
        .with_section("model", checkpoint="")
        .with_section(
            "benchmark",
            budgets=options.budget,
            warmup=options.warmup,
            frames=options.frames,
            repeats=options.repeats,
            threads=options.threads,
        )
    )
    with tempfile.TemporaryDirectory() as folder:
        table = time_profile(params, Path(folder), compiled=options.compiled)
    if options.csv:
        write_table(options.csv, table.round(4))
    print(table[COLUMNS].round(3).to_string(index=False))


if __name__ == "__main__":
    main()
