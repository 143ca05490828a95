"""Texts beside points, placed where they cover no line, bar, marker or other text."""

from collections.abc import Iterator, Sequence

import numpy as np
from matplotlib.transforms import Bbox

GAPS, DIRECTIONS = (5, 8, 12, 17, 23, 30), 16  # points from a text's edge to its point, nearest first
CLEARANCE, STEP = 3, 2  # px around a text that stay free, and between the samples of a line


def label_points(axis, points: Sequence[tuple[float, float]], texts: Sequence[str], **style) -> None:
    """Write a text beside each point of a drawn axis, with as little as can be below it and no other point closer.

    Parameters
    ----------
    axis : matplotlib Axes
        With all its lines, bars and limits; what is drawn later is not avoided.
    points : sequence of (x, y)
        In data units.
    texts : sequence of str
        One per point.
    **style
        Of the texts, as ``Axes.annotate`` takes it.
    """
    figure = axis.figure
    figure.draw_without_rendering()  # the layout decides where things are
    px = figure.dpi / 72  # of a point
    taken, anchors = np.concatenate([np.empty((0, 2)), *_pixels(axis)]), axis.transData.transform(points)
    for n, (point, text) in enumerate(zip(points, texts, strict=True)):
        note = axis.annotate(text, point, xytext=(0, 0), textcoords="offset points", ha="center", va="center", **style)
        box = note.get_window_extent()

        def cost(offset, box=box, taken=taken, n=n):
            nearest = np.hypot(*(anchors - anchors[n] - offset).T).argmin()
            return _covered(box.translated(*offset), taken, axis.bbox), nearest != n

        offset = min(_offsets(box, px), key=cost)  # of equals the first one, which is the closest
        note.xyann = offset / px
        taken = np.concatenate([taken, _filled(box.translated(*offset))])


def _offsets(box, px) -> Iterator[np.ndarray]:
    """From a point to the middle of its text, in px: all around it, straight below first, and ever farther away."""
    angles = np.arange(DIRECTIONS) * 2 * np.pi / DIRECTIONS - np.pi / 2
    for gap in GAPS:
        reach = np.array([box.width, box.height]) / 2 + gap * px
        yield from reach * np.stack([np.cos(angles), np.sin(angles)], 1)


def _covered(box, taken, axis) -> int:
    """Samples below a box with some room around it; a box that leaves the axis comes last."""
    box = box.padded(CLEARANCE)
    is_inside = (box.min >= axis.min).all() and (box.max <= axis.max).all()
    return int(((taken >= box.min) & (taken <= box.max)).all(1).sum()) if is_inside else len(taken) + 1


def _pixels(axis) -> Iterator[np.ndarray]:
    """Samples (N, 2) of every line, error bar and marker of an axis, in px."""
    scale = axis.figure.dpi / 72
    for line in axis.get_lines():
        path = line.get_transform().transform_path(line.get_path()).vertices
        if line.get_linestyle() != "None":
            yield _sampled(path)
        if line.get_marker() != "None":
            reach = np.full(2, line.get_markersize() * scale / 2)
            yield from (_filled(Bbox([point - reach, point + reach])) for point in path if np.isfinite(point).all())
    for collection in axis.collections:
        for path in collection.get_paths():
            yield _sampled(collection.get_transform().transform_path(path).vertices)


def _sampled(path):
    pieces = [path]
    for start, end in zip(path[:-1], path[1:]):
        length = np.hypot(*(end - start))
        if np.isfinite(length):
            pieces.append(start + np.linspace(0, 1, int(length / STEP) + 2)[:, None] * (end - start))
    return np.concatenate(pieces)


def _filled(box):
    x, y = (np.append(np.arange(low, high, STEP), high) for low, high in (box.intervalx, box.intervaly))
    return np.stack(np.meshgrid(x, y), -1).reshape(-1, 2)
