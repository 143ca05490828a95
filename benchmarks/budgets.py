"""Blocks that a budget asks for, and blocks that ran, with a router over the generated clips.

    python benchmarks/budgets.py [--rds FILE] [--budget 0.95 0.9 ...] [--frames 20]

By default the shipped router. Means are over routed frames; frames that have no mask before them run all blocks.
"""

import argparse
from pathlib import Path

import pandas as pd

from rds_lib.core import paths
from rds_lib.core.errors import RDSInputError
from rds_lib.data.datasets import read_dataset
from rds_lib.model.track import track_sequence
from rds_lib.routing.algorithm1 import target_active
from rds_lib.routing.build import build_rds_video_predictor
from rds_lib.routing.route_table import mean_active, routed_frames
from rds_lib.work.parallel import cpu_workers, map_items

SETS = {"calibration": paths.DATA / "calibration", "val": paths.DATA / "val" / "davis2017"}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rds", type=Path, help="by default the shipped router")
    parser.add_argument("--budget", type=float, nargs="+", default=[1, 0.95, 0.9, 0.85, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3])
    parser.add_argument("--frames", type=int, help="of every clip; all by default")
    options = parser.parse_args()
    sets = {split: read_dataset(root, layout="davis2017", split=split) for split, root in SETS.items()}
    rows = []
    for budget in options.budget:
        try:
            predictor = build_rds_video_predictor("mini", None, options.rds, budget=budget, apply_postprocessing=False)
        except RDSInputError as refusal:
            print(refusal)
            continue
        rows.append(measure(predictor, sets, options.frames))
    print(pd.DataFrame(rows).round(2).to_string(index=False))


def measure(predictor, sets, frames):
    """A row of the table: the rule, the blocks asked for, and for each set those that ran."""
    policy, asked = predictor.policy, target_active(predictor.policy.budget, predictor.depth, predictor.always_on)
    rule = f"tau {policy.tau:.3f}" if policy.mode == "threshold" else f"{policy.n_active} blocks"
    row = {"budget": policy.budget, "rule": rule, "asked": asked}
    for split, sequences in sets.items():

        def routes_of(sequence):
            return track_sequence(predictor, sequence, frames=frames).routes.assign(sequence=sequence.name)

        routes = pd.concat(map_items(routes_of, sequences, workers=cpu_workers()), ignore_index=True)
        counts = routes[routes["reason"] == "routed"].groupby(["sequence", "frame_idx"])["active"].sum()
        row |= {split: mean_active(routed_frames(routes)), f"{split}, a frame": f"{counts.min()} to {counts.max()}"}
    return row


if __name__ == "__main__":
    main()
