"""Does a router look? What it does with another clip's frame or mask, its spread, and whether conditions move it.

    python benchmarks/dynamics.py CLIPS_ROOT RDS_FILE [--split calibration] [--budget 0.6] [--checkpoint F]

CLIPS_ROOT is a set laid out as DAVIS. J&F with the router's own input, with the frames and with the masks of the next
clip in its place (all else stays), and under one plan, the router's mean keep probabilities: if all are alike, the
router is a static plan. The deviation of keep probabilities within and between clips stands beside an untrained
router's. On clips whose conditions are known, the bits that a block's state tells of the condition, mean over the
blocks that may be skipped, stand beside those under conditions moved along in time, which is chance.
"""

import argparse
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F

from rds_lib.data.batches import to_model_input
from rds_lib.data.datasets import read_dataset
from rds_lib.data.images import squeeze
from rds_lib.evaluation.scores import score_tracker
from rds_lib.methods.static import fixed_route
from rds_lib.metrics.statistics import mean_interval
from rds_lib.model.track import track_sequence
from rds_lib.routing.build import build_rds_video_predictor
from rds_lib.routing.deployed import FoldedRouter
from rds_lib.routing.route_table import clip_deviations, keep_prob_matrix, routed_frames
from rds_lib.routing.router import PredictionAwareRouter
from rds_lib.work.parallel import cpu_workers

SHIFTS = 20  # by which conditions are moved along in time


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path)
    parser.add_argument("rds", type=Path)
    parser.add_argument("--split", default="val")
    parser.add_argument("--budget", type=float, default=0.6)
    parser.add_argument("--checkpoint", type=Path)
    given = parser.parse_args()
    predictor = build_rds_video_predictor(
        "mini", given.checkpoint, given.rds, budget=given.budget, apply_postprocessing=False
    )
    sequences = read_dataset(given.root, layout="davis2017", split=given.split)
    policy, donors = predictor.policy, dict(zip((s.name for s in sequences), [*sequences[1:], sequences[0]]))

    def scores(label, prepare):
        def track(sequence):
            prepare(sequence)
            return track_sequence(predictor, sequence)

        options = {"layout": "davis2017", "split": given.split, "workers": cpu_workers(), "label": label}
        return score_tracker(track, sequences, given.root, **options)

    def borrow(**what):
        return lambda sequence: predictor.set_policy(
            replace(policy, router=borrowing(policy.router, predictor, donors[sequence.name], **what))
        )

    own = scores("own input", lambda _: predictor.set_policy(policy))
    plan = fixed_route(keep_prob_matrix(own.routes).mean(0), predictor.always_on, round(own.active_routed))
    others = {
        "frames of another clip": scores("frames of another clip", borrow(frames=True)),
        "masks of another clip": scores("masks of another clip", borrow(masks=True)),
    }
    predictor.set_policy(policy)
    others["its mean route, fixed"] = scores("mean route", lambda _: predictor.set_fixed_route(plan))
    predictor.set_fixed_route(None)
    print(f"own input: J&F {100 * own.objects['JF'].mean():.2f}, {own.active_routed:.1f} blocks on routed frames")
    for name, other in others.items():
        gap = mean_interval(
            100 * (own.objects["JF"] - other.objects["JF"]).to_numpy(), seed=0, groups=own.objects["sequence"]
        )
        print(f"own input minus {name}: {gap.effect:+.2f} ({gap.low:+.2f} to {gap.high:+.2f})")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        options = {"normalise": policy.router.normalise, "logit_spread": policy.router.spread}
        fresh = PredictionAwareRouter.for_backbone(predictor.backbone, **options)
    predictor.set_policy(replace(policy, router=FoldedRouter(fresh), mode="top_n"))
    untrained = scores("untrained", lambda _: None)
    for name, each in {"trained": own, "untrained": untrained}.items():
        print(
            "{}: deviation of w within clips {:.4f}, between clips {:.4f}".format(name, *clip_deviations(each.routes))
        )
    rows = [information(s, own.routes, predictor.always_on) for s in sequences if s.conditions() is not None]
    if rows:
        bits = pd.DataFrame(rows, columns=["bits", "chance"])
        gap = mean_interval((bits["bits"] - bits["chance"]).to_numpy(), seed=0)
        print(
            "bits of the condition in a block's state: {:.4f}, by chance {:.4f}, ".format(*bits.mean())
            + f"difference {gap.effect:+.4f} ({gap.low:+.4f} to {gap.high:+.4f}) over {len(bits)} clips"
        )


def borrowing(router, predictor, donor, *, frames: bool = False, masks: bool = False):
    """A router that is shown a donor's frames, or its masks, one after another, in place of the clip's own."""
    images = np.stack([squeeze(donor.frame(t), predictor.image_size) for t in range(len(donor))])
    with torch.inference_mode():
        tokens = predictor.backbone.embed(to_model_input(images)) if frames else None
    union = [np.logical_or.reduce([*donor.masks(t).values()]) for t in range(len(donor))] if masks else None
    count = iter(range(1, 10**9))

    def logits(own_tokens, own_mask):
        t = next(count) % len(donor)
        if frames:
            return router.logits(tokens[t : t + 1], own_mask)
        there = torch.from_numpy(union[t])[None, None].float()
        lent = F.interpolate(there, size=own_mask.shape[-2:], mode="area") - 0.5
        return router.logits(own_tokens, lent if (lent > 0).any() else own_mask)

    return SimpleNamespace(
        logits=logits,
        spread=router.spread,
        normalise=router.normalise,
        always_on=router.always_on,
        _apply=lambda _: None,
    )


def information(sequence, routes, always_on) -> tuple[float, float]:
    """Bits that a block's state tells of a clip's condition, mean over free blocks, and the same by chance."""
    own = routed_frames(routes[routes["sequence"] == sequence.name])
    states = own.pivot(index="frame_idx", columns="block", values="active").drop(columns=list(always_on))
    named = sequence.conditions().set_index("frame_idx")["condition"].loc[states.index].to_numpy()
    steps = np.linspace(1, len(named) - 1, SHIFTS).astype(int)
    chance = np.mean([mutual_information(states.to_numpy(), np.roll(named, step)) for step in steps])
    return mutual_information(states.to_numpy(), named), float(chance)


def mutual_information(states: np.ndarray, named: np.ndarray) -> float:
    """Mean over blocks of I(state; condition) in bits, from counts over frames; states (T, L) bool, names (T,)."""
    kinds = np.unique(named)
    joint = np.stack([[(named == kind).astype(float) @ (states == flag) for flag in (False, True)] for kind in kinds])
    joint /= len(named)
    expected = joint.sum(0, keepdims=True) * joint.sum(1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        bits = np.where(joint > 0, joint * np.log2(joint / expected), 0)
    return float(bits.sum((0, 1)).mean())


if __name__ == "__main__":
    main()
