"""CPU seconds and peak memory of `score_masks` on a generated set of DAVIS17-val's size.

    python benchmarks/metrics.py [--scale 0.1]

30 sequences, 1999 frames of 480 x 854, 61 objects. Objects are wobbling discs of about DAVIS's mean object size;
predictions are the same masks, moved a few pixels and roughened. The official tool needs 72 CPU-seconds for such a set.
"""

import argparse
import resource
import tempfile
import time
from pathlib import Path

import numpy as np

from rds_lib.data.images import write_palette_png
from rds_lib.metrics.masks import score_masks

HEIGHT, WIDTH, SEQUENCES, FRAMES, OBJECTS = 480, 854, 30, 1999, 61


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=float, default=1.0, help="share of each sequence's frames to make, (0, 1]")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        gt_root, pred_root = Path(root, "gt"), Path(root, "pred")
        write_set(gt_root, pred_root, scale=args.scale, generator=np.random.default_rng(0))
        wall, cpu = time.perf_counter(), time.process_time()
        table = score_masks(gt_root, pred_root)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    summary = table.attrs["summary"]
    print(f"{summary['sequences']} sequences, {len(table)} objects, {table['frames'].sum()} scored object-frames")
    print(f"J {summary['J']:.4f}  F {summary['F']:.4f}  CPU {cpu:.2f} s  wall {wall:.2f} s  peak {peak_mib:.0f} MiB")


def write_set(gt_root, pred_root, *, scale, generator):
    """Write ground truth and predictions as folders of palette PNGs, one per sequence."""
    frames = [len(part) for part in np.array_split(range(FRAMES), SEQUENCES)]
    objects = [len(part) for part in np.array_split(range(OBJECTS), SEQUENCES)]
    for i, (n_frames, n_objects) in enumerate(zip(frames, objects)):
        gt, pred = gt_root / f"sequence-{i:02d}", pred_root / f"sequence-{i:02d}"
        gt.mkdir(parents=True)
        pred.mkdir(parents=True)
        shapes = [make_object(generator) for _ in range(n_objects)]
        for t in range(max(4, round(n_frames * scale))):
            shift, roughness = generator.uniform(-6, 6, 2), generator.normal(0, 0.04, 8)
            write_palette_png(gt / f"{t:05d}.png", draw(shapes, t))
            write_palette_png(pred / f"{t:05d}.png", draw(shapes, t, shift=shift, roughness=roughness))


def make_object(generator):
    """Centre, velocity (px and px per frame), radius and the amplitudes of the outline's waves."""
    centre = generator.uniform((80, 150), (HEIGHT - 80, WIDTH - 150))
    return centre, generator.normal(0, 1.5, 2), generator.uniform(60, 160), generator.normal(0, 0.12, 8)


def draw(shapes, t, *, shift=(0, 0), roughness=0):
    """Label map (480, 854) uint8 with every object at time ``t``."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    labels = np.zeros((HEIGHT, WIDTH), np.uint8)
    for obj_id, (centre, velocity, radius, waves) in enumerate(shapes, start=1):
        dy, dx = y - (centre + velocity * t + shift)[0], x - (centre + velocity * t + shift)[1]
        angles = np.linspace(-np.pi, np.pi, 361)
        outline = radius * (1 + sum(a * np.cos(k * angles + 0.1 * t) for k, a in enumerate(waves + roughness, start=2)))
        labels[dy**2 + dx**2 < np.interp(np.arctan2(dy, dx), angles, outline) ** 2] = obj_id
    return labels


if __name__ == "__main__":
    main()
