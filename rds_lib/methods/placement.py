"""Other choices of blocks to adapt than I-LoRA's, with as many parameters."""

import numpy as np

from rds_lib.core.errors import RDSInputError

PLACEMENTS = ("all", "random", "active", "none")


def place_adapters(kind: str, *, selected, always_on, stages, activity, rng: np.random.Generator) -> list[int]:
    """Blocks that receive adapters under another rule than I-LoRA's, sorted.

    K is always adapted, and each stage keeps I-LoRA's number of blocks. Blocks of one stage have one shape, so
    ``random`` and ``active`` have exactly I-LoRA's parameters at its rank.

    Parameters
    ----------
    kind : {"all", "random", "active", "none"}
        Every block, blocks drawn at random, those that run most often, or no block.
    selected, always_on : sequence of int
        I-LoRA's blocks, and K.
    stages, activity : sequence of L ints, of L floats
        The stage that each block belongs to, and the share of frames on which it ran.
    """
    if kind not in PLACEMENTS:
        raise RDSInputError(f"placement {kind!r} is unknown; choose one of {', '.join(PLACEMENTS)}")
    depth = len(stages)
    if kind in ("all", "none"):
        return list(range(depth)) if kind == "all" else []
    scores = rng.random(depth) if kind == "random" else np.asarray(activity, float)
    chosen = set(always_on)
    for stage in sorted(set(stages)):
        free = [i for i in range(depth) if stages[i] == stage and i not in always_on]
        n = sum(i in selected for i in free)
        chosen |= set(sorted(free, key=lambda i: (-scores[i], i))[:n])
    return sorted(chosen)


def equal_rank(rank: int, selected_size: int, size: int) -> int:
    """The rank that gives layers of ``size`` parameters a rank what ``rank`` gives layers of ``selected_size``."""
    return max(1, round(rank * selected_size / size))
