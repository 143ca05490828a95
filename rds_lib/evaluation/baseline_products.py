"""The trained baselines of a profile: their rows in Table 9, their files, and each in the place of SAM2's video predictor."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from rds_lib.evaluation.products import predictor_for
from rds_lib.methods.adavit import DecidedBlock
from rds_lib.methods.dyt import DispatchedMLP
from rds_lib.methods.files import METHODS, gated, load_baseline
from rds_lib.methods.slimsam import load_slim
from rds_lib.model.track import Tracked, track_sequence

LABELS = {"slimsam": "SlimSAM", "pbd": "PBD", "dyt": "DyT", "adavit": "AdaViT"}


def levels_of(params, method: str) -> tuple[float, ...]:
    """A method's rows in the profile; SlimSAM's as ninths, so 6 is the row 6/9."""
    return params.baselines.levels if method in METHODS else params.baselines.ninths


def rows(params) -> Iterator[tuple[str, str, float, str]]:
    """All rows of the profile: method, its label and level in tables, and the name of its file in the method's folder."""
    for method, label in LABELS.items():
        for level in levels_of(params, method):
            yield method, label, level if method in METHODS else round(level / 9, 3), f"{level:g}.safetensors"


def load_into(predictor, method: str, path: Path):
    """Turn a predictor of the base model into a trained baseline, in place, and return it."""
    load_baseline(path, predictor) if method in METHODS else load_slim(predictor, path)
    return predictor.eval()


def baseline_predictor(params, method: str, path: Path, **options):
    """The video predictor of one row, with every public method of SAM2's; see ``products.predictor_for`` for the options."""
    return load_into(predictor_for(params, routing="full", **options), method, path)


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
