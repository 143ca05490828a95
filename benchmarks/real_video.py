"""All arms of the evaluation on a DAVIS-layout folder, with the routers and thresholds that `dvc repro` made.

    python benchmarks/real_video.py DAVIS_ROOT [--split val] [--profile mini]

Prints J&F in points with active blocks, RDS minus each rival with a 95 % interval over videos, and J&F per sequence.
"""

import argparse
import tempfile
from pathlib import Path

import pandas as pd

from rds_lib import load_params
from rds_lib.core import paths
from rds_lib.core.artifacts import read_table
from rds_lib.data.sources import Source
from rds_lib.evaluation.controls import box_scores, compare_arms, evaluate_sources, objects_table, score_table


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path)
    parser.add_argument("--split", default="val")
    parser.add_argument("--profile", default="mini")
    options = parser.parse_args()
    params, folder = load_params(options.profile), paths.workdir(options.profile)
    ranking = read_table(folder / "importance" / "importance.csv")
    with tempfile.TemporaryDirectory() as keep:
        source = Source("real", options.root, "davis2017", options.split)
        arms = evaluate_sources(params, [source], folder, ranking=ranking, keep=Path(keep))["real"]
    resampling = {"seed": params.evaluation.seed, "n": params.evaluation.bootstrap}
    by_sequence = pd.DataFrame({f"{method} {level}": 100 * scores.objects.groupby("sequence")["JF"].mean()
                                for (method, level), scores in arms.items()}).T
    for table in (score_table({"real": arms}, **resampling), compare_arms(objects_table({"real": arms}), **resampling),
                  box_scores({"real": arms})):
        print(table.drop(columns="dataset").round(1).to_string(index=False), end="\n\n")
    print(by_sequence.round(1).to_string())


if __name__ == "__main__":
    main()
