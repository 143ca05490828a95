"""J&F of SAM2 with all blocks from a first-frame mask, box and click, on a DAVIS-layout folder.

    python benchmarks/prompts.py [DAVIS_ROOT] [--split val] [--weights FILE] [--config mini]

By default on the generated validation clips. The box is the mask's, the click its innermost pixel.
"""

import argparse
from functools import partial
from pathlib import Path

import pandas as pd

from rds_lib.core import paths
from rds_lib.data.datasets import read_dataset
from rds_lib.evaluation.scores import score_tracker
from rds_lib.model.track import copy_first_mask, track_sequence
from rds_lib.routing.build import build_rds_video_predictor
from rds_lib.work.parallel import cpu_workers


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path, nargs="?", default=paths.DATA / "val" / "davis2017")
    parser.add_argument("--split", default="val")
    parser.add_argument("--weights", type=Path, help="by default the shipped ones")
    parser.add_argument("--config", default="mini")
    options = parser.parse_args()
    sequences = read_dataset(options.root, layout="davis2017", split=options.split)
    predictor = build_rds_video_predictor(options.config, options.weights, routing="full", apply_postprocessing=False)
    ways = {"copy first mask": copy_first_mask}
    ways |= {kind: partial(track_sequence, predictor, prompt=kind) for kind in ("mask", "box", "point")}
    rows = []
    for name, track in ways.items():
        scores = score_tracker(
            track, sequences, options.root, layout="davis2017", split=options.split, label=name, workers=cpu_workers()
        )
        objects = scores.objects
        by_sequence = 100 * objects.groupby("sequence")["JF"].mean()
        rows.append(
            {
                "prompt": name,
                **{key: 100 * objects[key].mean() for key in ("JF", "J", "F")},
                **(by_sequence if len(by_sequence) < 5 else {}),
            }
        )
    print(pd.DataFrame(rows).round(1).to_string(index=False))


if __name__ == "__main__":
    main()
