"""What the gates of a baseline decide while it tracks: which blocks ran, and on which share of the tokens."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pandas as pd

from rds_lib.methods.adavit import DecidedBlock
from rds_lib.methods.dyt import DispatchedMLP
from rds_lib.methods.files import gated
from rds_lib.model.track import Tracked, track_sequence


@contextmanager
def watch_gates(model) -> Iterator[list]:
    """Collect what the gates of a model decided, one entry for every call of its image encoder; read it with :func:`activity`."""
    modules, seen = gated(model), []
    hook = model.image_encoder.register_forward_hook(lambda *_: seen.append([module.gate for module in modules]))
    try:
        yield seen
    finally:
        hook.remove()


def activity(model, gates) -> tuple[np.ndarray, np.ndarray]:
    """Which blocks ran on one image, and which share of the tokens went through each block's MLP, both (L,) float.

    A block that AdaViT left out has a share of 0. Methods without gates run all that they have.
    """
    blocks, left = model.image_encoder.trunk.blocks, list(gates)
    ran, kept = np.ones((2, len(blocks)))
    for i, block in enumerate(blocks):
        if isinstance(block, DecidedBlock):
            ran[i] = kept[i] = float(left.pop(0).float().mean())
        elif isinstance(block.mlp, DispatchedMLP):
            kept[i] = float(left.pop(0).float().mean())
    return ran, kept


def tracker(predictor) -> Callable:
    """``Sequence -> Tracked`` for ``evaluate.score_tracker``; the route table holds every encoded frame, the first included.

    ``keep_prob`` is the share of the tokens that went through the block's MLP.
    """
    def track(sequence) -> Tracked:
        with watch_gates(predictor) as seen:
            tracked = track_sequence(predictor, sequence)
        frames = [activity(predictor, gates) for gates in seen]
        tables = [pd.DataFrame({"frame_idx": t, "block": range(len(ran)), "active": ran > 0, "keep_prob": kept, "reason": "routed"})
                  for t, (ran, kept) in enumerate(frames)]
        return replace(tracked, routes=pd.concat(tables, ignore_index=True))

    return track
