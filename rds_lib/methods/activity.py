"""What a baseline does while it tracks: which blocks run, and on which share of the tokens."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pandas as pd

from rds_lib.methods.gates import GatedModule, gated
from rds_lib.model.track import Tracked, track_sequence


@contextmanager
def watch_gates(model) -> Iterator[list]:
    """Collect what the gates of a SAM2 model decide, one entry per call of its image encoder, for `activity`."""
    encoder, seen = getattr(model, "image_encoder", None), []
    if encoder is None:  # another backbone, whose gates are its routes
        yield seen
        return
    modules = gated(model)
    hook = encoder.register_forward_hook(lambda *_: seen.append([module.gate for module in modules]))
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
        tables = [
            pd.DataFrame({"frame_idx": t, "block": range(len(ran)), "active": ran > 0, "keep_prob": kept})
            for t, (ran, kept) in enumerate(frames)
        ]
        return replace(tracked, routes=pd.concat(tables, ignore_index=True).assign(reason="routed"))

    return track
