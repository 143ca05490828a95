"""What sharing a step changes, and what recomputed blocks save: the numbers of docs/training.md.

    python benchmarks/training.py differences [--steps 5]   # minutes on two cores
    python benchmarks/training.py memory

`differences` trains every method at 64 px from random weights, on 4 clips a step: in one process, in two, and in one
with two micro-batches; a row a method has the largest absolute difference of a trained parameter from the first.
`memory` has the peak that one step of RDS on the mini model adds to a process, and its seconds of CPU time.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path

import torch

from rds_lib.core.artifacts import write_tensors
from rds_lib.core.paths import ROOT
from rds_lib.data.clips import generate_clip
from rds_lib.data.datasets import write_dataset
from rds_lib.model.adapters import add_lora
from rds_lib.model.backbone import backbone_of
from rds_lib.model.clip_tracking import SAM2Clips
from rds_lib.model.sam2 import build_model
from rds_lib.routing.router import PredictionAwareRouter
from rds_lib.training.rds import RoutedClip
from rds_lib.training.tasks import clip_generators, tracking_loss
from rds_lib.work.recompute import recomputed

WORKER = ROOT / "tests" / "training" / "worker.py"
NAMES = ("rds", "dyt", "adavit", "pbd", "slimsam")
ALONE = [sys.executable]
TWO = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
RUNS = {"one": (ALONE, []), "two processes": (TWO, []), "two micro-batches": (ALONE, ["--accumulate", "2"])}
BATCH, FRAMES = 2, 8


def differences(steps: int) -> None:
    """Print a row a method."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        kinds = [("plain", 1), ("fast_motion", 1), ("deformation", 2)]
        size = {"frames": 5, "height": 96, "width": 128, "split": "val"}
        clips = [generate_clip(3, i, difficulty=kind, n_objects=n, **size) for i, (kind, n) in enumerate(kinds)]
        write_dataset(folder / "set", clips, layout="davis2017", split="val")
        torch.manual_seed(0)
        model = build_model("mini", ckpt_path=False)
        torch.nn.init.constant_(model.sam_mask_decoder.pred_obj_score_head.layers[-1].bias, 10.0)
        write_tensors(folder / "weights.safetensors", model.state_dict())
        data = ["--root", folder / "set", "--checkpoint", folder / "weights.safetensors", "--steps", steps]
        for run, (start, options) in RUNS.items():
            command = [*start, WORKER, "small", folder / run, *NAMES, *data, *options]
            subprocess.run(list(map(str, command)), check=True, capture_output=True)
        print(f"| method, {steps} steps | " + " | ".join(list(RUNS)[1:]) + " |\n|---|---|---|")
        for method in NAMES:
            first, *others = (torch.load(folder / run / method / "0.pt", weights_only=True) for run in RUNS)
            worst = [max((first[key] - other[key]).abs().max().item() for key in first) for other in others]
            print(f"| {method} | " + " | ".join(f"{value:.1e}" for value in worst) + " |")


def step(again: bool) -> None:
    """Print what one step needs."""
    torch.manual_seed(0)
    model = build_model("mini").requires_grad_(False)
    tracker, backbone = SAM2Clips(model), backbone_of(model)
    add_lora(tracker, range(24, 48), rank=8)
    router, side = PredictionAwareRouter.for_backbone(backbone, hidden=64).train(), backbone.image_size
    images, targets = torch.randn(BATCH, FRAMES, 3, side, side), torch.zeros(BATCH, FRAMES, side, side)
    targets[..., side // 4 : side // 2, side // 4 : side // 2] = 1
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    with recomputed(backbone.blocks) if again else nullcontext():
        generators = clip_generators(0, 0, BATCH, range(BATCH), "cpu")
        clip = RoutedClip(backbone, router, images, torch.full((BATCH,), 0.6), generators)
        tracking_loss(tracker, clip.encode, targets)[0].backward()
    peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    kind = "recomputed" if again else "kept"
    print(f"| {kind} | {peak:.0f} MiB | {time.process_time() - began:.1f} s |", flush=True)


def main():
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("what", choices=["differences", "memory", "kept", "recomputed"])
    parser.add_argument("--steps", type=int, default=1)
    given = parser.parse_args()
    if given.what == "differences":
        differences(given.steps)
    elif given.what == "memory":
        print(f"| activations of blocks, {BATCH} clips of {FRAMES} frames | peak | CPU |\n|---|---|---|", flush=True)
        for kind in ("kept", "recomputed"):  # a process each: the peak of a process never falls
            subprocess.run([sys.executable, __file__, kind], check=True)
    else:
        step(given.what == "recomputed")


if __name__ == "__main__":
    main()
