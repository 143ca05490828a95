"""Take a few steps of a method on Hiera-L with random weights and generated clips, and note time, memory and loss.

    python benchmarks/method_steps.py importance|slimsam|adavit|... --out FOLDER [--steps 2] [--device cpu --size 256]

Shows that a method's code runs on a device and what it needs; two steps teach nothing. Adds a row to steps.csv.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from rds_lib import load_params
from rds_lib.core.artifacts import read_table
from rds_lib.data.batches import SequenceBatches
from rds_lib.data.clips import generate_clip
from rds_lib.data.datasets import read_dataset
from rds_lib.data.writers import write_dataset
from rds_lib.evaluation import full_size
from rds_lib.methods import METHODS
from rds_lib.methods.base import Setup
from rds_lib.model.clip_tracking import SAM2Clips
from rds_lib.model.sam2 import build_model
from rds_lib.routing.importance import measure_importance
from rds_lib.training.loop import Schedule

FRAMES = 2  # of a clip
BLOCKS = 24  # with adapters
LEVELS = {"slimsam": 6}  # ninths; the others' level is 0.6


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("method", choices=["importance", *METHODS])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--config", default=full_size.LARGE)
    parser.add_argument("--steps", type=int, default=2)
    options = parser.parse_args()
    overrides = [f"++model.image_size={options.size}"]
    with tempfile.TemporaryDirectory() as folder:
        clips = make_clips(Path(folder) / "clips")
        began = time.perf_counter()
        work = importance if options.method == "importance" else train
        found = work(options, overrides, clips, Path(folder))
        seconds = time.perf_counter() - began
    peak = torch.cuda.max_memory_allocated() / 2**20 if options.device.startswith("cuda") else np.nan
    row = {"steps": options.steps, "seconds": seconds, "peak_mib": peak, **found}
    keys = {"method": options.method, "device": options.device, "size": options.size}
    full_size.keep_rows(options.out / "steps.csv", pd.DataFrame([row]), **keys)
    print(keys | row)


def make_clips(root):
    section = load_params("paper").clips
    look = {"frames": FRAMES, "height": section.height, "width": section.width, "difficulty": "plain", "n_objects": 1}
    clips = [generate_clip(section.seed, number, split="train", **look) for number in range(2)]
    write_dataset(root, clips, layout="davis2017", split="train")
    return read_dataset(root, layout="davis2017", split="train")


def importance(options, overrides, clips, folder):
    model = build_model(options.config, False, device=options.device, overrides=overrides)
    look = {"batch": 1, "frames": FRAMES, "size": options.size, "first_step": 0, "steps": options.steps}
    batches = SequenceBatches(clips, seed=0, **look)
    table = measure_importance(SAM2Clips(model), [batches[step] for step in range(options.steps)])
    return {"result": table["local_score"].mean(), "unit": "mean local score"}


def train(options, overrides, clips, folder):
    params = load_params("paper")
    method, section = METHODS[options.method], params.baselines
    setup = Setup(
        Schedule(options.steps, batch=1, frames=FRAMES, seed=0),
        clips,
        clips,
        list(range(BLOCKS)),
        params.train.lora_rank,
        params.train.lr_lora,
        config_file=options.config,
        checkpoint=False,
        device=options.device,
        overrides=overrides,
    )
    recipe = method.recipe(section)
    if "importance_steps" in recipe:
        recipe["importance_steps"] = options.steps
    method.train(
        LEVELS.get(options.method, 0.6),
        setup,
        out=folder / "weights.safetensors",
        workdir=folder / "work",
        **method.options(section),
        **recipe,
    )
    last = sorted((folder / "work").rglob("log.csv"))[-1]
    return {"result": read_table(last)["loss"].iloc[-1], "unit": "loss of the last step"}


if __name__ == "__main__":
    main()
