"""Can what a router sees before the blocks run tell which route will do well? A ridge regression, on held-out videos.

The plainest router there is: from pooled tokens of a frame and the last mask, predict every route's measure and take
the best one. It is compared with the route that is best on its own training videos.
"""

from collections.abc import Iterator

import numpy as np

from rds_lib.evaluation.headroom_names import BY_FRAME, BY_VIDEO
from rds_lib.metrics.variance import check_measures

FOLDS, INNER_FOLDS = 8, 4
PENALTIES = (0.01, 0.1, 1.0, 10.0, 100.0, 1e8)  # a row of training data; the last one predicts nothing but means


def ridge_gains(values: np.ndarray, features: np.ndarray, *, seed: int) -> dict[str, np.ndarray]:
    """What routes that a ridge regression picks win over the best fixed route, on videos it was not fitted to.

    Videos are dealt into at most eight folds; both copies of a video lie in one. The penalty is chosen on the training
    videos alone, by the error of predictions for a part of them that was held out.

    Parameters
    ----------
    values : ndarray, shape (R, V, T, C), float
        As in ``variance.route_components``; larger is better.
    features : ndarray, shape (V, T, C, F), float
        What there is to see.
    seed : int
        Deals the videos.

    Returns
    -------
    dict
        Mean gain of each video, (V,): `BY_VIDEO` from features and measures averaged over the video, `BY_FRAME` from
        those of single frames.
    """
    check_measures(values)
    by_video = values.mean((2, 3)).T[:, None], features.mean((1, 2))[:, None]  # (V, 1, R), (V, 1, F)
    cells = values.shape[2] * values.shape[3]
    by_frame = (
        values.transpose(1, 2, 3, 0).reshape(values.shape[1], cells, -1),
        features.reshape(len(features), cells, -1),
    )
    return {BY_VIDEO: _gains(*by_video, seed), BY_FRAME: _gains(*by_frame, seed)}


def _gains(values, features, seed):
    """Gain of each video; ``values`` (V, n, R), ``features`` (V, n, F)."""
    gains = np.zeros(len(values))
    for train, test in _folds(len(values), FOLDS, seed):
        penalty = _best_penalty(values[train], features[train], seed)
        fixed, (predicted,) = _fit(values[train], features[train], features[test], [penalty])
        picked = np.take_along_axis(values[test], predicted.argmax(-1)[..., None], -1)[..., 0]
        gains[test] = (picked - values[test][..., fixed.argmax()]).mean(1)
    return gains


def _best_penalty(values, features, seed):
    if len(values) < 2:
        return PENALTIES[-1]
    errors = np.zeros(len(PENALTIES))
    for train, test in _folds(len(values), INNER_FOLDS, seed):
        _, predictions = _fit(values[train], features[train], features[test], PENALTIES)
        truth = values[test] - values[test].mean(-1, keepdims=True)
        errors += [((predicted - truth) ** 2).sum() for predicted in predictions]
    return PENALTIES[int(errors.argmin())]


def _fit(values, features, asked, penalties):
    """Routes' means over the training rows (R,), and for every penalty the predictions for ``asked`` (..., R)."""
    y = values.reshape(-1, values.shape[-1])
    y = y - y.mean(1, keepdims=True)  # how hard a frame is, is no route's merit
    x = features.reshape(-1, features.shape[-1])
    centre, spread = x.mean(0), x.std(0)
    scale = np.divide(1, spread, out=np.zeros_like(spread), where=spread > 1e-9)
    x, fixed = (x - centre) * scale, y.mean(0)
    vectors, sizes, rotated = np.linalg.svd(x, full_matrices=False)
    weights = vectors.T @ (y - fixed)
    seen = ((asked - centre) * scale) @ rotated.T
    return fixed, [fixed + seen @ (weights * (sizes / (sizes**2 + p * len(x)))[:, None]) for p in penalties]


def _folds(n, most, seed) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Indices of training and of held-out videos, fold by fold."""
    order = np.random.default_rng(seed).permutation(n)
    for test in np.array_split(order, min(most, n)):
        yield np.setdiff1d(order, test), np.sort(test)
