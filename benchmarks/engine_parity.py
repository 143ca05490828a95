"""Compare mask logits of an engine with those of the model run eagerly: Hiera-L, random weights, a generated clip.

    python benchmarks/engine_parity.py --out FOLDER [--engine all] [--frames 20] [--device cpu --size 256]

Under a fixed route, and in full. Eager against SAM2's own predictor must be 0; eager in bfloat16 against float32 shows
what rounding alone does. Writes parity.csv, saved after each comparison.
"""

import argparse
import tempfile
from pathlib import Path

import torch

from rds_lib import load_params
from rds_lib.data.clips import write_timing_clip
from rds_lib.evaluation import full_size
from rds_lib.evaluation.agreement import agreement, logits_of
from rds_lib.evaluation.benchmark import DTYPES
from rds_lib.evaluation.names import EAGER, FULL, SAM2


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--config", default=full_size.LARGE)
    parser.add_argument("--engine", nargs="+", default=["all"])
    parser.add_argument("--frames", type=int, default=20)
    parser.add_argument("--dtype", choices=DTYPES, default="bfloat16")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        clips = load_params("paper").clips
        clip = folder, write_timing_clip(Path(folder), clips, frames=options.frames)
        eager = logits_by_arm(options, clip, EAGER, options.dtype)
        report(options, "ours against SAM2, eager", eager[FULL], eager[SAM2])
        for engine in full_size.engines_of(options.engine, options.device):
            found = logits_by_arm(options, clip, engine, options.dtype)
            for name in ("half", FULL):
                report(options, f"{engine} against eager, {name}", found[name], eager[name])
        if options.dtype != "float32":
            exact = logits_by_arm(options, clip, EAGER, "float32")
            report(options, f"eager, {options.dtype} against float32", eager[FULL], exact[FULL])


def logits_by_arm(options, clip, engine, dtype):
    """Logits by arm: SAM2's own predictor, ours in full, and ours with every second block that may be left out."""
    arms = full_size.full_size_arms(
        options.size, device=options.device, budgets=(), engine=engine, smaller={}, config=options.config
    )
    found = {}
    with torch.autocast(torch.device(options.device).type, DTYPES[dtype], enabled=dtype != "float32"):
        for arm in arms if engine == EAGER else arms[1:]:
            torch.manual_seed(0)  # the same weights for all
            predictor = arm.build()
            found[arm.method] = logits_of(predictor, *clip)
        predictor.set_fixed_route([i % 2 for i in range(predictor.depth)])
        return found | {"half": logits_of(predictor, *clip)}


def report(options, name, found, wanted):
    table = agreement(found, wanted)
    full_size.keep_rows(options.out / "parity.csv", table, comparison=name, dtype=options.dtype)
    worst = table["largest"].max()
    print(f"{name}: largest difference {worst:.3g} of a spread of {table['spread'].mean():.3g}", end=", ")
    print(f"masks' IoU at least {table['mask_iou'].min():.4f}, {len(table)} frames")


if __name__ == "__main__":
    main()
