"""How much the router's pooled features, and its probabilities, differ within a clip and between clips.

    python benchmarks/router_features.py [--profile mini] [--run 0.6]

Feeds the router of a training run the true masks of the generated DAVIS-shaped validation clips, every second frame.
"""

import argparse

import numpy as np
import torch

from rds_lib import load_params
from rds_lib.core import paths
from rds_lib.data.batches import fit_clip, to_model_input
from rds_lib.data.sources import validation_sources
from rds_lib.model.backbone import backbone_of
from rds_lib.model.sam2 import build_model
from rds_lib.pipeline.weights import weights_file
from rds_lib.routing.weights import load_rds


@torch.inference_mode()
def features_of(sequence, model, router):
    """Pooled features and probabilities, each (frames, n)."""
    pooled, rated = [], []
    hook = router.norm.register_forward_pre_hook(lambda _, inputs: pooled.append(inputs[0][0]))
    for t in range(0, len(sequence), 2):
        union = np.zeros(sequence.size, bool)
        for mask in sequence.masks(t).values():
            union |= mask
        frame, mask = fit_clip([sequence.frame(t)], union[None], model.image_size)
        tokens = backbone_of(model).embed(to_model_input(frame))
        rated.append(router.probabilities(tokens, torch.from_numpy(mask[:, None].astype("float32")) - 0.5)[0])
    hook.remove()
    return torch.stack(pooled), torch.stack(rated)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", default="mini")
    parser.add_argument("--run", default="0.6", help="a budget, or any")
    options = parser.parse_args()
    params, workdir = load_params(options.profile), paths.workdir(options.profile)
    model, router = build_model("mini"), load_rds(weights_file(workdir / "train", options.run)).router.eval()
    sequences = validation_sources(params, workdir)[0].sequences()
    for name, clips in zip(
        ("pooled features", "probabilities"), zip(*(features_of(s, model, router) for s in sequences))
    ):
        within = torch.stack([clip.std(0) for clip in clips]).mean().item()
        between = torch.stack([clip.mean(0) for clip in clips]).std(0).mean().item()
        print(
            f"{name}: standard deviation {within:.4f} within a clip, {between:.4f} between clips, "
            f"{between / within:.1f} times as much"
        )


if __name__ == "__main__":
    main()
