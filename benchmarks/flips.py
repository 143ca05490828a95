"""Is an object kept or lost by chance? J of a tracker on videos as they are, and with changes that nobody sees.

    python benchmarks/flips.py DAVIS_ROOT [--split val] [--checkpoint F] [--rds F --budget 0.6] [--csv F]

The variations: one grey level brighter or darker, one pixel to the right or down, nine tenths of the size. J is the
mean over objects and frames, without the first and the last, as DAVIS counts. The last column is the range of the six.
"""

import argparse
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from rds_lib.core.artifacts import write_table
from rds_lib.data.batches import label_map
from rds_lib.data.datasets import read_dataset
from rds_lib.metrics.masks import region_similarity
from rds_lib.model.track import separate
from rds_lib.routing.build import build_rds_video_predictor
from rds_lib.work.parallel import cpu_workers, map_items


def shifted(axis):
    """Everything one pixel on; the border is repeated."""
    return lambda x: np.concatenate([x.take([0], axis), x.take(range(x.shape[axis] - 1), axis)], axis)


def shrunk(x):
    """Nine tenths of the size; frames by area, labels by the nearest pixel."""
    size = (round(0.9 * x.shape[1]), round(0.9 * x.shape[0]))
    return cv2.resize(x, size, interpolation=cv2.INTER_AREA if x.ndim == 3 else cv2.INTER_NEAREST)


def brighter(by):
    """Grey levels up or down, frames alone."""
    return lambda x: np.clip(x.astype(int) + by, 0, 255).astype(np.uint8) if x.ndim == 3 else x


VARIATIONS = {
    "as it is": lambda x: x,
    "+1 grey level": brighter(1),
    "-1 grey level": brighter(-1),
    "1 px right": shifted(1),
    "1 px down": shifted(0),
    "9/10 of the size": shrunk,
}


def score(predictor, sequence, change) -> float:
    """Mean J over objects and frames of a changed video, in points."""
    frames = np.stack([change(sequence.frame(t)) for t in range(len(sequence))])
    truth = {t: change(label_map(sequence, t)) for t in sequence.annotated}
    state = predictor.init_state(frames)
    ids = [i for i in sequence.obj_ids if sequence.prompt_frame[i] == 0 and (truth[0] == i).any()]
    for obj_id in ids:
        predictor.add_new_mask(state, 0, obj_id, truth[0] == obj_id)
    found = {t: separate(obj_ids, logits) for t, obj_ids, logits in predictor.propagate_in_video(state)}
    scored = [t for t in sequence.annotated if 0 < t < len(sequence) - 1]
    return 100 * float(np.mean([region_similarity(found[t][i], truth[t] == i) for t in scored for i in ids]))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path)
    parser.add_argument("--split", default="val")
    parser.add_argument("--config", default="mini")
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--rds", type=Path)
    parser.add_argument("--budget", type=float)
    parser.add_argument("--csv", type=Path)
    given = parser.parse_args()
    predictor = build_rds_video_predictor(
        given.config, given.checkpoint, given.rds, budget=given.budget, apply_postprocessing=False
    )
    sequences = read_dataset(given.root, layout="davis2017", split=given.split)
    jobs = [(sequence, change) for sequence in sequences for change in VARIATIONS.values()]
    scores = map_items(lambda job: score(predictor, *job), jobs, workers=cpu_workers())
    names = [sequence.name for sequence in sequences]
    table = pd.DataFrame(np.reshape(scores, (len(names), -1)), names, list(VARIATIONS)).rename_axis("sequence")
    table.loc["mean"] = table.mean()
    table["range"] = table.max(axis=1) - table.min(axis=1)
    table.loc["mean", "range"] = table["range"].iloc[:-1].mean()
    print(table.round(1).to_string())
    if given.csv:
        write_table(given.csv, table.round(2).reset_index())


if __name__ == "__main__":
    main()
