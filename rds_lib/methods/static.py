"""Static plans: one set of blocks for every frame of every video."""

import zlib
from collections.abc import Callable

import numpy as np
import pandas as pd
import torch

from rds_lib.core.errors import RDSInputError
from rds_lib.routing.algorithm1 import top_n_route

PUBLISHED_DEPTH = 48
PLANS = {  # supplement, "Static plans": 24 of Hiera-L's 48 blocks
    "A": (0, 1, 2, 3, 4, 6, 7, 8, 12, 13, 15, 18, 21, 25, 28, 32, 34, 35, 38, 39, 42, 43, 44, 47),
    "B": (0, 1, 2, 3, 4, 5, 7, 8, 13, 14, 16, 19, 20, 26, 27, 28, 33, 34, 36, 37, 42, 43, 44, 47),
}


def published_plan(name: str, depth: int) -> list[bool]:
    """Flags of the supplement's static plan ``"A"`` or ``"B"``; only for an encoder of 48 blocks, as Hiera-L's."""
    if name not in PLANS:
        raise RDSInputError(f"static plan {name!r} is unknown; choose one of {sorted(PLANS)}")
    if depth != PUBLISHED_DEPTH:
        raise RDSInputError(
            f"published plans are for {PUBLISHED_DEPTH} blocks; this encoder has {depth}: use random_plan"
        )
    return [i in PLANS[name] for i in range(depth)]


def random_plan(n_active: int, depth: int, always_on, rng: np.random.Generator) -> list[bool]:
    """Flags of a random plan of ``n_active`` blocks: ``always_on``, and others that are equally likely."""
    fixed = set(always_on)
    if not len(fixed) <= n_active <= depth:
        raise RDSInputError(f"n_active is {n_active}; allowed: {len(fixed)} (always-on blocks) to {depth} (all)")
    free = [i for i in range(depth) if i not in fixed]
    chosen = fixed | {free[n] for n in rng.permutation(len(free))[: n_active - len(fixed)]}
    return [i in chosen for i in range(depth)]


def random_routes(sequence_name: str, *, depth: int, always_on, n_active: int, seed: int) -> Callable:
    """``frame_idx -> route``: a fresh one of ``n_active`` blocks per frame, given by seed, sequence and frame."""

    def route(frame_idx: int) -> list[bool]:
        rng = np.random.default_rng([seed, zlib.crc32(sequence_name.encode()), frame_idx])
        return fixed_route(rng.random(depth), always_on, n_active)

    return route


def fixed_route(scores, always_on, n_active: int) -> list[bool]:
    """The route of ``n_active`` blocks: the always-on ones, then those with the highest scores."""
    ranks = pd.Series(scores).rank(pct=True)
    return top_n_route(torch.from_numpy(ranks.to_numpy(copy=True)), always_on, n_active).bool().tolist()
