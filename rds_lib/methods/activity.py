"""What a baseline does while it tracks: which blocks run, on which share of the tokens, and what that costs."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pandas as pd
import torch

from rds_lib.methods.gates import GatedModule, gated, multiplied_gates
from rds_lib.model.macs import block_macs
from rds_lib.model.track import Tracked, track_sequence


@contextmanager
def watch_gates(model) -> Iterator[list]:
    """Collect what a model's gates decide, one entry per call of its image encoder; `activity` reads an entry."""
    modules, seen = gated(model), []
    hook = model.image_encoder.register_forward_hook(lambda *_: seen.append([module.gate for module in modules]))
    try:
        yield seen
    finally:
        hook.remove()


def activity(model, gates) -> tuple[np.ndarray, np.ndarray]:
    """Which blocks ran on one image, and which share of the tokens went through each block's MLP, both (L,) float.

    Both are 0 for a block that was left out, and 1 for all blocks without gates.
    """
    blocks, left = model.image_encoder.trunk.blocks, list(gates)
    ran, kept = np.ones((2, len(blocks)))
    for i, block in enumerate(blocks):
        if isinstance(block, GatedModule):
            ran[i] = kept[i] = float(left.pop(0).float().mean())
        elif isinstance(block.mlp, GatedModule):
            kept[i] = float(left.pop(0).float().mean())
    return ran, kept


def tracker(predictor) -> Callable:
    """``Sequence -> Tracked``; its route table holds every encoded frame, the first included.

    ``keep_prob`` is the share of the tokens that went through the block's MLP.
    """
    def track(sequence) -> Tracked:
        with watch_gates(predictor) as seen:
            tracked = track_sequence(predictor, sequence)
        frames = [activity(predictor, gates) for gates in seen]
        tables = [pd.DataFrame({"frame_idx": t, "block": range(len(ran)), "active": ran > 0, "keep_prob": kept,
                                "reason": "routed"}) for t, (ran, kept) in enumerate(frames)]
        return replace(tracked, routes=pd.concat(tables, ignore_index=True))

    return track


@torch.inference_mode()
def describe(model, images) -> tuple[dict, np.ndarray, np.ndarray]:
    """What is left of a baseline's encoder, a mean over images (1, 3, S, S).

    Returns
    -------
    facts : dict
        ``active_blocks``; ``kept_tokens``, the share that goes through the MLPs; ``gmacs`` of the blocks;
        ``encoder_params``; ``disagreement``, the largest absolute difference of the features between gates that
        multiply, as in training, and gates that skip (0 without gates).
    ran, kept : ndarray, shape (blocks left,)
        Share of the images on which each block ran, and of the tokens that went through its MLP.
    """
    encoder, ran, kept, macs, apart = model.image_encoder, [], [], [], 0.0
    for image in images:
        with watch_gates(model) as seen:
            skipped = model.forward_image(image)["backbone_fpn"]
        ran_now, kept_now = activity(model, seen[0])
        with multiplied_gates(model, seen[0]):
            masked = model.forward_image(image)["backbone_fpn"]
        apart = max([apart, *((a - b).abs().max().item() for a, b in zip(skipped, masked, strict=True))])
        ran.append(ran_now)
        kept.append(kept_now)
        macs.append(float(ran_now @ np.array(block_macs(encoder.trunk, model.image_size, kept=kept_now))))
    facts = {"active_blocks": round(float(np.sum(ran) / len(ran)), 2), "kept_tokens": round(float(np.mean(kept)), 4),
             "gmacs": round(float(np.mean(macs)) / 1e9, 4),
             "encoder_params": sum(p.numel() for p in encoder.parameters()), "disagreement": apart}
    return facts, np.mean(ran, axis=0), np.mean(kept, axis=0)
