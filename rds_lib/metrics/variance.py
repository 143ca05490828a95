"""How much of what routes do depends on the route alone, on the video, on the frame, and on chance.

Every component is a difference of two mean covariances over routes, so nothing is assumed to be normal, and noise adds
no bias: it is in the variance of a cell with itself, never in the covariance of two cells that share none of it.
"""

import numpy as np

from rds_lib.core.errors import RDSInputError
from rds_lib.metrics.statistics import LEVEL, RESAMPLES, Interval, draws

ROUTE = "route"  # for all videos alike: what a static plan can use
ROUTE_VIDEO = "route x video"  # for all frames of a video alike: what one route a video can use
ROUTE_FRAME = "route x frame"  # for single frames within a video
LASTING_NOISE = "noise of a video"  # what a mirrored copy of a video does not share, alike in all its frames
FRAME_NOISE = "noise of a frame"  # the rest
COMPONENTS = (ROUTE, ROUTE_VIDEO, ROUTE_FRAME, LASTING_NOISE, FRAME_NOISE)


def route_components(values: np.ndarray, *, seed: int, n: int = RESAMPLES) -> dict[str, Interval]:
    """Split the variance over routes into `COMPONENTS`, each with a bootstrap interval over videos.

    Parameters
    ----------
    values : ndarray, shape (R, V, T, C), float
        Some measure under R routes on T frames of V videos, in C copies: 1, or 2 of which the second is mirrored.
        A copy is a second measurement: what the two do not share is noise.
    seed, n : int
        Of the bootstrap, and its number of resamples.

    Returns
    -------
    dict
        Variances in squared units of ``values``; they may be below 0, as unbiased estimates of 0 are. With one copy
        `ROUTE_VIDEO` and `ROUTE_FRAME` hold the noise too, and the noise itself is left out.

    Raises
    ------
    RDSInputError
        With fewer than two routes, videos or frames.
    """
    check_measures(values)
    between, within = _covariances(values)
    point = _components(np.ones((1, values.shape[1])), between, within)
    drawn = draws(values.shape[1], seed=seed, n=n)
    counts = np.stack([np.bincount(videos, minlength=values.shape[1]) for videos in drawn]).astype(float)
    resampled = _components(counts, between, within)
    edges = [(1 - LEVEL) / 2, (1 + LEVEL) / 2]
    return {name: Interval(float(point[name][0]), *_quantiles(resampled[name], edges)) for name in point}


def check_measures(values: np.ndarray) -> None:
    """Raise unless ``values`` is (R, V, T, C), at least two of the first three each, one or two copies, all finite."""
    if values.ndim != 4 or min(values.shape[:3]) < 2 or values.shape[3] not in (1, 2):
        raise RDSInputError(
            f"measures of shape {values.shape}; give (routes, videos, frames, copies): at least 2 routes, 2 videos and "
            "2 frames a video, and 1 or 2 copies"
        )
    if not np.isfinite(values).all():
        raise RDSInputError("measures hold NaN or infinity; measure them again")


def _covariances(values):
    """Covariances over routes: between videos (V, V), and for every video the means of four kinds of pairs (V,)."""
    routes, _, frames, copies = values.shape
    z = values - values.mean(0)
    alone = (z**2).sum(0) / (routes - 1)  # (V, T, C)
    total = z.sum(2)  # (R, V, C)
    pairs = frames * (frames - 1)
    within = {
        "same cell": alone.mean((1, 2)),
        "other frame": (((total**2).sum(0) / (routes - 1) - alone.sum(1)) / pairs).mean(1),
    }
    if copies == 2:
        twin = (z[..., 0] * z[..., 1]).sum(0) / (routes - 1)  # (V, T)
        crossed = (total[..., 0] * total[..., 1]).sum(0) / (routes - 1) - twin.sum(1)
        within |= {"other copy": twin.mean(1), "other frame, other copy": crossed / pairs}
    mean = z.mean((2, 3))  # (R, V)
    return mean.T @ mean / (routes - 1), within


def _components(counts, between, within) -> dict[str, np.ndarray]:
    """The components of every resample; ``counts`` (n, V) says how often each video was drawn."""
    squares = counts**2
    weights = counts.sum(1) ** 2 - squares.sum(1)  # pairs of two different videos
    off = ((counts @ between) * counts).sum(1) - squares @ np.diag(between)
    route = np.divide(off, weights, out=np.full(len(counts), np.nan), where=weights > 0)
    kinds = {kind: counts @ values / counts.sum(1) for kind, values in within.items()}
    if "other copy" not in kinds:
        lasting = kinds["other frame"]
        return {ROUTE: route, ROUTE_VIDEO: lasting - route, ROUTE_FRAME: kinds["same cell"] - lasting}
    shared = kinds["other frame, other copy"]
    lasting_noise = kinds["other frame"] - shared
    return {
        ROUTE: route,
        ROUTE_VIDEO: shared - route,
        ROUTE_FRAME: kinds["other copy"] - shared,
        LASTING_NOISE: lasting_noise,
        FRAME_NOISE: kinds["same cell"] - kinds["other copy"] - lasting_noise,
    }


def _quantiles(values, edges):
    return map(float, np.nanquantile(values, edges)) if np.isfinite(values).any() else (float("nan"),) * 2
