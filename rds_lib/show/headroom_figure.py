"""Routes by videos, interaction only: where a route does better or worse than it and the video do in general."""

from os.path import commonprefix
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from rds_lib.evaluation.headroom import Measured
from rds_lib.evaluation.headroom_names import MEASURED
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
    """A panel for damage and, with a tracker, one for IoU: a row per route, the least harmful on top, a column a frame.

    Frames stand side by side within their video. Stripes that run through a whole video are what one route a video
    could use; changes inside a video are what following the frame could use; where nothing is coloured, nothing can be
    won. Purple is better than expected in both panels.
    """
    panels = [("damage: how far the features move from the whole encoder's, relative to their norm", -measured.damage)]
    panels += [("IoU of the tracked masks, in points", 100 * measured.iou)] if len(measured.iou) else []
    videos = len(measured.videos)
    figure = Figure(figsize=(9.5, 3.1 * len(panels) + 1.2), layout="constrained")
    order = np.argsort(measured.damage.mean((1, 2, 3)), kind="stable")
    for axis, (label, values) in zip(figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0], panels):
        _panel(axis, label, interaction(values.astype(float))[order])
    every = -(-videos // MOST_NAMES)
    axis.set_xticks(range(0, videos, every), _short(measured.videos)[::every], rotation=90, fontsize=7)
    axis.set_xlabel(f"video, and in it {measured.damage.shape[2]} frames in time order", fontsize=9)
    first, size = panels[0][1], "x".join(map(str, measured.damage.shape[:3]))
    over_routes = (first - first.mean(0)).mean(3).var()
    share = interaction(first).var() / over_routes if over_routes else 0.0
    return Picture(
        figure, f"{size} routes, videos and frames: {share:.0%} of damage's variance over routes is interaction"
    )


def headroom_picture(folder: Path) -> Picture:
    """The figure of a folder that stage or command `headroom` wrote."""
    return headroom_figure(Measured.read(folder / MEASURED))


def _short(names) -> list[str]:
    """Names without the part before a dash that all of them share."""
    names = [str(name) for name in names]
    shared = commonprefix(names).rpartition("-")
    return [literal(name.removeprefix(shared[0] + shared[1])) for name in names]


def _panel(axis, label, left):
    routes, videos, frames = left.shape
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
    axis.locator_params(axis="y", integer=True)
    axis.set_ylabel("route, least damage on top", fontsize=9)
    axis.set_title(label, fontsize=10, loc="left", color=INK)
    bar = axis.figure.colorbar(image, ax=axis, pad=0.01, aspect=15, extend="both")
    bar.set_label("better than route and\nframe do in general", fontsize=9)
    bar.ax.tick_params(labelsize=8)
