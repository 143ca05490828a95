"""Time and memory of one step of DINOv3's label propagation at the official size, and its distance from all pairs.

    python benchmarks/propagation.py [--width 384] [--objects 3]

A frame of 60 x 107 patches and eight context frames, random features; `--width` is the model's, 384 of ViT-S to 1024 of
ViT-L. Memory is the growth of the process's peak.
"""

import argparse
import resource
import time

import torch
import torch.nn.functional as F

from rds_lib.dinov3.propagation import propagate, propagate_dense

GRID, CONTEXT = (60, 107), 8


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=int, default=384)
    parser.add_argument("--objects", type=int, default=3)
    options = parser.parse_args()
    torch.manual_seed(0)
    features = F.normalize(torch.randn(1 + CONTEXT, *GRID, options.width), dim=-1)
    labels = torch.rand(CONTEXT, *GRID, 1 + options.objects).softmax(-1)
    propagate(features[0, :8, :8], features[1:, :8, :8], labels[:, :8, :8])  # loads what torch loads late
    results = []
    for name, step in (("tile by tile", propagate), ("all pairs", _dense)):
        before, began = _peak(), time.perf_counter()
        results.append(step(features[0], features[1:], labels))
        seconds, grown = time.perf_counter() - began, _peak() - before
        print(f"{name}: {seconds:.2f} s, {grown:.2f} GB more, {torch.get_num_threads()} threads")
    print(f"largest difference: {(results[0] - results[1]).abs().max():.1e}")


def _dense(features, context, labels):
    return propagate_dense(features[None], context[None], labels[None])[0]


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6  # GB


if __name__ == "__main__":
    main()
