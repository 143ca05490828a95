"""Draw the pictures of the mini SAM2's model card: the curve of its training and the clips that it fails on.

    python benchmarks/model_card.py [--log FIRST/log.csv NEXT/log.csv ...] [--half FOLDER/log.csv] [--failures 4]

Failures are the worst validation clips, one per kind of difficulty, from a first-frame mask and with all blocks on.
"""

import argparse
import tempfile
from functools import partial
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from rds_lib.core import paths
from rds_lib.core.artifacts import atomic_write, read_table
from rds_lib.data.datasets import read_dataset
from rds_lib.data.images import read_labels
from rds_lib.evaluation.scores import score_tracker
from rds_lib.model.track import track_sequence
from rds_lib.routing.build import build_rds_video_predictor
from rds_lib.show.notebook_figures import contact_sheet
from rds_lib.show.paint import overlay
from rds_lib.show.picture import Picture
from rds_lib.work.parallel import cpu_workers

WINDOW = 100  # steps over which the curve is averaged


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--log",
        type=Path,
        nargs="+",
        help="logs of trainings that went on from each other; without it the curve stays as it is",
    )
    parser.add_argument("--half", type=Path, help="log of the model of half the depth, trained beside the last of them")
    parser.add_argument("--failures", type=int, default=4)
    options = parser.parse_args()
    if options.log:
        half = read_table(options.half) if options.half else None
        save(curve([read_table(path) for path in options.log], half), "curve.png", dpi=90)
    save(failures(options.failures), "failures.jpg", dpi=80)


def save(picture, name, dpi):
    with atomic_write(paths.MINI_SAM2 / name) as temporary:
        temporary.write_bytes(picture.image(dpi=dpi, kind="jpeg" if name.endswith("jpg") else "png"))


def curve(logs, half) -> Picture:
    """Mean IoU of the training clips over the steps of all trainings, with the phases of the curriculum marked."""
    figure = Figure(figsize=(8, 3), layout="constrained")
    axis = figure.subplots()
    log = pd.concat([each.assign(training=n) for n, each in enumerate(logs)], ignore_index=True)
    axis.plot(log["iou"].rolling(10, min_periods=1).mean(), color="#56B4E9", lw=0.5, label="10 steps")
    axis.plot(log["iou"].rolling(WINDOW, min_periods=1).mean(), color="#0072B2", lw=1.8, label=f"{WINDOW} steps")
    if half is not None:
        last = len(log) - len(half)
        axis.plot(
            last + half["step"],
            half["iou"].rolling(WINDOW, min_periods=1).mean(),
            color="#D55E00",
            lw=1.4,
            label="24 blocks",
        )
    kinds = log[["training", "image_size", "frames"]]
    for step, row in kinds[(kinds != kinds.shift()).any(axis=1)].iterrows():
        axis.axvline(step, color="#666666", ls=":", lw=0.8)
        axis.text(
            step + len(log) * 0.006, 0.93, f"{row['frames']} x {row['image_size']} px", fontsize=8, color="#444444"
        )
    axis.set(xlabel="step", ylabel="IoU of training clips", ylim=(0, 1), xlim=(0, len(log)))
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False, loc="lower right", ncols=3)
    return Picture(figure, "training curve")


def failures(count) -> Picture:
    """Frames of the clips with the lowest J&F, the truth above what was tracked."""
    root = paths.DATA / "val" / "davis2017"
    sequences = {s.name: s for s in read_dataset(root, layout="davis2017", split="val")}
    predictor = build_rds_video_predictor("mini", routing="full", apply_postprocessing=False)
    with tempfile.TemporaryDirectory() as folder:
        scores = score_tracker(
            partial(track_sequence, predictor),
            sequences.values(),
            root,
            layout="davis2017",
            keep=Path(folder),
            label="SAM2 (mini)",
            workers=cpu_workers(),
        )
        return worst(scores, sequences, Path(folder), count)


def worst(scores, sequences, folder, count) -> Picture:
    """The clips with the lowest J&F, one per difficulty, beside the masks that ``folder`` holds."""
    ranked = scores.objects.groupby("sequence")["JF"].mean().sort_values()
    kinds, rows, columns = set(), {}, []
    for name, value in ranked.items():
        kind = name.split("-", 2)[2]
        if kind in kinds or len(kinds) == count:
            continue
        kinds.add(kind)
        sequence, times = sequences[name], range(0, len(sequences[name]), 4)
        labels = [read_labels(folder / name / f"{sequence.frame_names[t]}.png") for t in times]
        columns = [f"frame {t}" for t in times]
        rows[f"{kind}_truth"] = [overlay(sequence.frame(t), sequence.masks(t)) for t in times]
        rows[f"J&F {100 * value:.0f}_tracked"] = [overlay(sequence.frame(t), map_) for t, map_ in zip(times, labels)]
    return contact_sheet(rows, columns=columns)


if __name__ == "__main__":
    main()
