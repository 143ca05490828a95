"""What the best choice among fixed routes is worth: for all videos, for each video, for each frame.

The best of many noisy numbers looks better than it is, so every choice exists twice. *Naive*: the maximum of the very
numbers that are then reported. *Honest*: chosen on other numbers than those it is scored on. The best fixed route is
chosen on the other videos; a video's route on its other half of the frames (odd or even), in the mirrored copy where
there is one; a frame's route on the same frame of the mirrored copy, beside that.

Honest choices weigh what they see: a video's own values are pulled towards the mean over the other videos, and a
frame's towards its video's, by the share of them that the scored half repeats on the other videos. Where it repeats
nothing, every choice is the best fixed route and gains nothing.
"""

from collections.abc import Mapping

import numpy as np

from rds_lib.evaluation.headroom_names import (
    BETWEEN,
    CHOICES,
    FIXED,
    FIXED_HONEST,
    FRAME,
    FRAME_HONEST,
    MEAN,
    NAIVE_BETWEEN,
    NAIVE_WITHIN,
    TOTAL,
    VIDEO,
    VIDEO_HONEST,
    WITHIN,
    WORST,
)
from rds_lib.metrics.variance import check_measures


def choices(values: np.ndarray) -> dict[str, np.ndarray]:
    """The value that every way of choosing a route reaches, mean of each video.

    Parameters
    ----------
    values : ndarray, shape (R, V, T, C), float
        As in ``variance.route_components``; larger is better.

    Returns
    -------
    dict
        Shape (V,) by the names in ``headroom_names.CHOICES``. The honest choice by frame needs two copies and is left
        out with one.
    """
    check_measures(values)
    means = values.mean((1, 2, 3))
    found = {
        MEAN: values.mean((0, 2, 3)),
        WORST: values[means.argmin()].mean((1, 2)),
        FIXED: values[means.argmax()].mean((1, 2)),
        VIDEO: values.mean(2).max(0).mean(1),
        FRAME: values.max(0).mean((1, 2)),
    }
    others = without_own(values.mean((2, 3)))[:, :, None, None]  # (R, V, 1, 1)
    found[FIXED_HONEST] = _chosen(values, others)
    own = _other_half(values)
    by_video = others + _repeated(own - others, values - others) * (own - others)
    found[VIDEO_HONEST] = _chosen(values, by_video)
    if values.shape[3] == 2:
        beyond = values[..., ::-1] - own
        by_frame = by_video + _repeated(beyond, values - by_video) * beyond
        found[FRAME_HONEST] = _chosen(values, by_frame)
    return {name: found[name] for name in CHOICES if name in found}


def gains(found: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What choosing by video wins over the best fixed route, and choosing by frame over that, of each video (V,).

    Between and within add up to the whole. The honest ones are compared with the honest best fixed route; with one
    copy, gains within videos and in all have no honest value and are left out.
    """
    won = {
        NAIVE_BETWEEN: found[VIDEO] - found[FIXED],
        NAIVE_WITHIN: found[FRAME] - found[VIDEO],
        BETWEEN: found[VIDEO_HONEST] - found[FIXED_HONEST],
    }
    if FRAME_HONEST in found:
        won[WITHIN] = found[FRAME_HONEST] - found[VIDEO_HONEST]
        won[TOTAL] = found[FRAME_HONEST] - found[FIXED_HONEST]
    return won


def without_own(means: np.ndarray) -> np.ndarray:
    """For every video the mean over all other videos: (R, V) -> (R, V)."""
    return (means.sum(1, keepdims=True) - means) / (means.shape[1] - 1)


def _other_half(values):
    """For every cell the mean of its video's frames of the other parity, in the other copy if there is one."""
    even, odd = values[:, :, 0::2].mean(2), values[:, :, 1::2].mean(2)  # (R, V, C)
    is_even = (np.arange(values.shape[2]) % 2 == 0)[:, None]
    return np.where(is_even, odd[:, :, None], even[:, :, None])[..., ::-1]


def _repeated(seen, scored) -> np.ndarray:
    """The share of what is seen that the scored cells repeat, (1, V, 1, 1): a slope over the other videos, 0 to 1."""
    seen, scored = np.broadcast_arrays(seen, scored)
    seen, scored = seen - seen.mean(0), scored - scored.mean(0)
    shared, spread = (without_own(product.sum((0, 2, 3))[None])[0] for product in (seen * scored, seen**2))
    slopes = np.divide(shared, spread, out=np.zeros_like(shared), where=spread > 0)
    return slopes.clip(0, 1)[None, :, None, None]


def _chosen(values, by):
    """Mean over each video of the values under the route that ``by`` rates best, cell by cell."""
    best = np.broadcast_to(by, values.shape).argmax(0)
    return np.take_along_axis(values, best[None], 0)[0].mean((1, 2))
