"""Track a DAVIS-layout folder with the mini SAM2: copying, the full encoder and RDS at every budget, in one run.

    python benchmarks/real_video.py DAVIS_ROOT --split val

Prints J&F in points, active blocks on routed frames and frames a second, one line per method, and J&F per sequence.
"""

import argparse
from functools import partial
from pathlib import Path

import pandas as pd

from rds_lib.datasets import read_dataset
from rds_lib.evaluate import copy_first_mask, score_tracker, track_sequence
from rds_lib.predictor import build_rds_video_predictor

BUDGETS = (0.8, 0.6, 0.4)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path)
    parser.add_argument("--split", default="val")
    parser.add_argument("--rds", type=Path, help="router and I-LoRA; by default the shipped ones")
    options = parser.parse_args()
    sequences = read_dataset(options.root, layout="davis2017", split=options.split)
    arms = {"copy first mask": None, "SAM2 (mini)": build_rds_video_predictor("mini", routing="full", apply_postprocessing=False)}
    for budget in BUDGETS:
        arms[f"RDS {budget}"] = build_rds_video_predictor("mini", rds_path=options.rds, budget=budget, apply_postprocessing=False)
    rows = []
    for name, predictor in arms.items():
        track = copy_first_mask if predictor is None else partial(track_sequence, predictor)
        scores = score_tracker(track, sequences, options.root, layout="davis2017", split=options.split, label=name)
        by_sequence = 100 * scores.objects.groupby("sequence")["JF"].mean()
        rows.append({"method": name, "J&F": 100 * scores.objects.attrs["summary"]["JF"],
                     "active": scores.active,
                     "fps": scores.frames / scores.seconds if scores.seconds else float("nan"), **by_sequence})
    print(pd.DataFrame(rows).round(1).to_string(index=False))


if __name__ == "__main__":
    main()
