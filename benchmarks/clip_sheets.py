"""Look at generated clips: one changing clip per condition, and clips that the mini SAM2 is trained on.

python benchmarks/clip_sheets.py [--photographs BSDS500] [--davis FOLDER] [--out build/clip_sheets] [--seed 7]

Writes changing.png, a row per condition with frames before, in and after it, and training.png, a row per training clip
as the device makes it. Objects to track are outlined.
"""

import argparse
from pathlib import Path

import numpy as np
import torch

from rds_lib.core.paths import BUILD, CACHE
from rds_lib.data import textures
from rds_lib.data.batches import from_model_input
from rds_lib.data.changing import CONDITIONS, generate_changing_clip
from rds_lib.data.datasets import read_dataset
from rds_lib.data.sources import split_held_out
from rds_lib.pretraining.batches import RecipeBatches
from rds_lib.pretraining.footage import open_footage
from rds_lib.pretraining.maker import ClipMaker
from rds_lib.pretraining.stock import open_stock
from rds_lib.show.notebook_figures import contact_sheet
from rds_lib.show.paint import overlay

ROWS, COLUMNS = 10, 8  # of the sheet of training clips


def changing(seed: int, root: str):
    """A row per condition: the frame before it, four of its frames, the first one after it."""
    rows = {}
    for number, condition in enumerate(CONDITIONS):
        clip = generate_changing_clip(
            seed,
            number,
            split="val",
            height=256,
            width=384,
            frames=24,
            conditions=[condition],
            pool=textures.more_pictures("val", root),
            bsds_root=root,
        )
        held = [t for t, (name, _) in enumerate(clip.conditions) if name == condition]
        inside = [held[int(share * (len(held) - 1))] for share in (0.1, 0.35, 0.65, 0.9)]
        times = [held[0] - 1, *inside, held[-1] + 1]
        rows[condition] = [overlay(clip.frames[t], clip.masks[t], alpha=0.15) for t in times]
        print(condition, [f"{t}: {clip.conditions[t][0]} {clip.conditions[t][1]}" for t in times], clip.pictures)
    return contact_sheet(rows, columns=("before", *4 * ("in it",), "after"), width=14)


def training(seed: int, bsds_root: str, davis_root: str):
    """A row per clip, the first half made and the second half real where a folder of real videos is given."""
    stock, footage = open_stock(CACHE, bsds_root), None
    if davis_root:
        footage = open_footage(CACHE, split_held_out(read_dataset(davis_root, layout="davis2017", split="train"))[0])
    maker, rows = ClipMaker(stock, footage, objects=3), {}
    for kind, share in (("made", 0.0), ("real", 1.0)) if davis_root else (("made", 0.0),):
        batch = ROWS // 2 if davis_root else ROWS
        data = RecipeBatches(stock, footage, real_share=share, seed=seed, batch=batch, frames=24, first_step=0, steps=1)
        images, targets, owner = maker(*data[0], 192)
        for clip, frames in enumerate(from_model_input(images)):
            own = targets[owner == clip] > 0.5
            times = np.linspace(0, 23, COLUMNS).astype(int)
            masks = [{n + 1: mask.numpy() for n, mask in enumerate(own[:, t])} for t in times]
            rows[f"{kind} {clip}"] = [
                overlay(frames[t], found, alpha=0.15) for t, found in zip(times, masks, strict=True)
            ]
    return contact_sheet(rows, columns=[f"frame {t}" for t in times], width=14)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photographs", default="", help="a folder of BSDS500")
    parser.add_argument("--davis", default="", help="a data set in DAVIS's layout")
    parser.add_argument("--out", type=Path, default=BUILD / "clip_sheets")
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    changing(options.seed, options.photographs).figure.savefig(options.out / "changing.png", dpi=70)
    sheet = training(options.seed, options.photographs, options.davis)
    sheet.figure.savefig(options.out / "training.png", dpi=70)
    print("wrote", options.out)


if __name__ == "__main__":
    main()
