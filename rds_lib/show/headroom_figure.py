"""Routes by videos, interaction only: where a route does better or worse than it and the video do in general."""

import numpy as np
from matplotlib.figure import Figure

from rds_lib.evaluation.headroom import Measured
from rds_lib.show.picture import Picture, literal
from rds_lib.show.style import INK, QUIET, plain

MOST_NAMES = 48  # on the axis over videos
COLOURS = "PuOr"  # diverging, told apart with any colour vision: orange below, purple above


def interaction(values: np.ndarray) -> np.ndarray:
    """What is left of measures (R, V, T, C) without the route's mean and the frame's: (R, V, T), copies averaged."""
    cells = values.mean(3)
    cells = cells - cells.mean(0)
    return cells - cells.mean((1, 2), keepdims=True)


def headroom_figure(measured: Measured) -> Picture:
    """A panel for damage and, with a tracker, one for IoU: a row per route, the best on top, a column per frame.

    Frames stand side by side within their video. Stripes that run through a whole video are what one route a video
    could use; changes inside a video are what following the frame could use; where nothing is coloured, nothing can be
    won. Purple is better than expected in both panels.
    """
    panels = [("damage, of the features' norm", -measured.damage)]
    panels += [("IoU, points", 100 * measured.iou)] if len(measured.iou) else []
    videos = len(measured.videos)
    figure = Figure(figsize=(9.5, 3.1 * len(panels) + 1.2), layout="constrained")
    for axis, (label, values) in zip(figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0], panels):
        _panel(axis, label, values.astype(float))
    every = -(-videos // MOST_NAMES)
    axis.set_xticks(
        range(0, videos, every), [literal(str(name)) for name in measured.videos[::every]], rotation=90, fontsize=7
    )
    axis.set_xlabel(f"video, and in it {measured.damage.shape[2]} frames in time order", fontsize=9)
    first, size = panels[0][1], "x".join(map(str, measured.damage.shape[:3]))
    share = interaction(first).var() / first.mean(3).var() if first.mean(3).var() else 0.0
    return Picture(figure, f"interaction of routes, videos and frames ({size}): {share:.0%} of the variance of damage")


def _panel(axis, label, values):
    order = np.argsort(-values.mean((1, 2, 3)), kind="stable")
    left, (routes, videos, frames) = interaction(values)[order], values.shape[:3]
    limit = float(np.quantile(np.abs(left), 0.99)) or 1.0
    image = axis.imshow(
        left.reshape(routes, videos * frames),
        aspect="auto",
        cmap=COLOURS,
        vmin=-limit,
        vmax=limit,
        interpolation="nearest",
        extent=(-0.5, videos - 0.5, routes - 0.5, -0.5),
    )
    for edge in np.arange(1, videos) - 0.5:
        axis.axvline(edge, color=QUIET, lw=0.4)
    plain(axis)
    axis.set_ylabel("route, best on top", fontsize=9)
    axis.set_title(label, fontsize=10, loc="left", color=INK)
    bar = axis.figure.colorbar(image, ax=axis, pad=0.01, aspect=15, extend="both")
    bar.set_label("better than route and\nframe do in general", fontsize=9)
    bar.ax.tick_params(labelsize=8)
