"""Time a frame of the mini model under different threads, alone and beside busy processes.

    python benchmarks/busy.py [--budget 0.6] [--frames 60] [--csv FILE]

Each cell is a process of its own that tracks one object, with so many others beside it that keep a core busy each
("spin": plain arithmetic; "torch": matrix products of two threads). Nothing else should run meanwhile.
"""

import argparse
import os
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pandas as pd

from rds_lib.core.artifacts import write_table
from rds_lib.core.threads import THREADS, thread_variables

SETTINGS = {
    "our defaults": thread_variables("mini", {}),
    "two threads": {THREADS: "2"},
    "two threads, passive": {THREADS: "2", "OMP_WAIT_POLICY": "PASSIVE"},
}
NEIGHBOURS = {"alone": (0, ""), "beside 2": (2, "spin"), "beside 4": (4, "spin"), "beside 2 of torch": (2, "torch")}
SPIN = {"spin": "while True: sum(range(10**6))", "torch": "import torch\nx = torch.randn(300, 300)\nwhile True: x @ x"}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--budget", type=float, default=0.6)
    parser.add_argument("--frames", type=int, default=60)
    parser.add_argument("--csv", type=Path, help="also write the table here")
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(frame_ms(options.budget, options.frames))
        return
    rows = [
        {"threads": name, **{beside: _cell(variables, *load, options) for beside, load in NEIGHBOURS.items()}}
        for name, variables in SETTINGS.items()
    ]
    table = pd.DataFrame(rows)
    print(table.round(1).to_string(index=False))
    if options.csv:
        write_table(options.csv, table.round(2))


def frame_ms(budget: float, frames: int) -> float:
    """Median time of a tracked frame in ms, in this process; the first ten frames do not count."""
    import numpy as np

    from rds_lib import build_rds_video_predictor
    from rds_lib.data.clips import generate_clip

    look = {"split": "val", "difficulty": "plain", "n_objects": 1}
    clip = generate_clip(0, 0, frames=frames + 10, height=256, width=384, **look)
    predictor = build_rds_video_predictor("mini", budget=budget, device="cpu")
    state = predictor.init_state(np.stack(list(clip.frames)))
    predictor.add_new_mask(state, frame_idx=0, obj_id=1, mask=clip.masks[0] == 1)
    times, last = [], time.perf_counter()
    for _ in predictor.propagate_in_video(state):
        now = time.perf_counter()
        times.append(1e3 * (now - last))
        last = now
    return float(np.median(times[10:]))


def _cell(variables, count, kind, options) -> float:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "RDS_CPU"))}
    with ExitStack() as stack:
        for _ in range(count):
            other = subprocess.Popen([sys.executable, "-c", SPIN[kind]], env=clean | {THREADS: "2"})
            stack.callback(other.wait)
            stack.callback(other.kill)
        command = [sys.executable, __file__, "--measure", "--budget", str(options.budget)]
        command += ["--frames", str(options.frames)]
        done = subprocess.run(command, env=clean | variables, capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


if __name__ == "__main__":
    main()
