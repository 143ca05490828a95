"""Compare routing="full" with the stock SAM2 predictor, mask logits bit for bit, on real sequences.

    python benchmarks/parity.py DAVIS_ROOT --split val --frames 10

Runs the mini SAM2 with its shipped weights, and an official Hiera-T with random weights that are first saved in the
official checkpoint format and then loaded from it. Prints one line per model and sequence; exits with 1 on a
difference.
"""

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

import torch
from sam2.build_sam import build_sam2_video_predictor

from rds_lib.data.datasets import read_dataset
from rds_lib.model.sam2 import build_model
from rds_lib.routing.build import POSTPROCESSING, build_rds_video_predictor

TINY = "configs/sam2.1/sam2.1_hiera_t.yaml"


def predictor_pairs(folder: Path):
    """(name, stock, routed) for both models, with the builders' default post-processing."""
    yield (
        "mini",
        build_model("mini", overrides=POSTPROCESSING),
        build_rds_video_predictor("mini", routing="full", device="cpu"),
    )
    torch.manual_seed(0)
    checkpoint = folder / "hiera_t.pt"
    torch.save({"model": build_model(TINY, False).state_dict()}, checkpoint)
    stock = build_sam2_video_predictor(TINY, str(checkpoint), device="cpu")
    yield "Hiera-T, random weights", stock, build_rds_video_predictor(TINY, checkpoint, routing="full", device="cpu")


def logits_of(predictor, folder, sequence):
    state = predictor.init_state(str(folder))
    for obj_id, start in sequence.prompt_frame.items():
        predictor.add_new_mask(state, start, obj_id, sequence.prompt(obj_id))
    return {t: logits.clone() for t, _, logits in predictor.propagate_in_video(state)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path)
    parser.add_argument("--split", default="val")
    parser.add_argument("--frames", type=int, default=10, help="frames of each sequence; 0 takes all")
    options = parser.parse_args()
    same = True
    with tempfile.TemporaryDirectory() as temporary:
        clips = []
        for sequence in read_dataset(options.root, layout="davis2017", split=options.split):
            folder = Path(temporary) / sequence.name
            folder.mkdir()
            for path in sequence.frame_paths[: options.frames or None]:
                shutil.copy(path, folder)
            clips.append((sequence, folder))
        for name, stock, routed in predictor_pairs(Path(temporary)):
            for sequence, folder in clips:
                a, b = logits_of(stock, folder, sequence), logits_of(routed, folder, sequence)
                equal = a.keys() == b.keys() and all(torch.equal(a[t], b[t]) for t in a)
                print(f"{name}, {sequence.name}: {len(a)} frames, {'identical' if equal else 'DIFFERENT'}")
                same &= equal
    sys.exit(0 if same else 1)


if __name__ == "__main__":
    main()
