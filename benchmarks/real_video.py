"""All arms of the evaluation on a DAVIS-layout folder, with the routers and thresholds that `dvc repro` made.

    python benchmarks/real_video.py DAVIS_ROOT [--split val] [--profile mini]

Prints J&F in points with active blocks, RDS minus each rival, and J&F per sequence; from six videos on, with 95 %
intervals over videos. For DINOv3 see `table8.py`.
"""

import argparse
import tempfile
from pathlib import Path

from rds_lib import load_params
from rds_lib.core import paths
from rds_lib.core.artifacts import read_table
from rds_lib.data.sources import Source
from rds_lib.evaluation.evaluate import evaluate_arms
from rds_lib.evaluation.tables import box_scores, compare_arms, objects_table, score_table
from rds_lib.pipeline.arms import arms


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path)
    parser.add_argument("--split", default="val")
    parser.add_argument("--profile", default="mini")
    options = parser.parse_args()
    params, folder = load_params(options.profile), paths.workdir(options.profile)
    ranking, section = read_table(folder / "importance" / "importance.csv"), params.evaluation
    source = Source("real", options.root, "davis2017", options.split)
    resampling = {"seed": section.seed, "n": section.bootstrap}
    with tempfile.TemporaryDirectory() as keep:
        results = evaluate_arms(
            arms(params, folder),
            [source],
            keep=Path(keep),
            ranking=ranking,
            seed=section.seed,
            plans=section.fixed_routes,
        )
    objects = objects_table(results)
    for table in (score_table(results, **resampling), compare_arms(objects, **resampling), box_scores(results)):
        print(table.drop(columns="dataset").round(1).to_string(index=False), end="\n\n")
    by_sequence = objects.pivot_table(index=["method", "level"], columns="sequence", values="JF", sort=False)
    print((100 * by_sequence).round(1).to_string())


if __name__ == "__main__":
    main()
