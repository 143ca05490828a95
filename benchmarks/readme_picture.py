"""Draw the README's picture from the products of `dvc repro`: a strip of frames and the blocks that ran.

    python benchmarks/readme_picture.py [--profile mini] [--sequence val-0013-scale_change] [--budget 0.6]
"""

import argparse

from rds_lib import load_params, paths
from rds_lib.artifacts import atomic_write, read_table
from rds_lib.images import read_labels
from rds_lib.sources import validation_sources
from rds_lib.viz import overlay, story_figure


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", default="mini")
    parser.add_argument("--sequence", default="val-0013-scale_change")
    parser.add_argument("--budget", type=float, default=0.6)
    options = parser.parse_args()
    params = load_params(options.profile)
    workdir = paths.workdir(params.profile)
    source = validation_sources(params, workdir)[0]
    sequence = next(s for s in source.sequences() if s.name == options.sequence)
    routes = read_table(workdir / "evaluation" / "routes.csv")
    chosen = (routes["dataset"] == source.name) & (routes["sequence"] == sequence.name) & (routes["level"] == options.budget)
    masks = workdir / "evaluation" / "predictions" / source.name / f"RDS_{options.budget}" / sequence.name
    frames = {}
    for t in (0, len(sequence) // 3, 2 * len(sequence) // 3, len(sequence) - 1):
        labels = read_labels(masks / f"{sequence.frame_names[t]}.png")
        frames[t] = overlay(sequence.frame(t), {i: labels == i for i in sequence.obj_ids})
    picture = story_figure(frames, routes[chosen], title=f"blocks run at budget {options.budget}")
    with atomic_write(paths.REPORTS / "figures" / "readme.png") as temporary:
        temporary.write_bytes(picture.image(dpi=90))


if __name__ == "__main__":
    main()
