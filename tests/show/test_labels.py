"""Labels beside points: what they may not cover is found by drawing the figure without them."""

import numpy as np
import pytest
from drawn import covered
from matplotlib.figure import Figure

from rds_lib.show.labels import label_points

POINTS, TEXTS = [(1.0, 1.0), (2.0, 1.5), (3.0, 1.2)], ["0.8", "0.6", "0.4"]


def crowded():
    """An axis with lines through all its points, bars, and limits."""
    figure = Figure(figsize=(5, 3), layout="constrained")
    axis = figure.subplots()
    x, y = zip(*POINTS)
    axis.plot(x, y, marker="o", ms=8)
    axis.errorbar(x, y, yerr=0.3, ls="", capsize=3)
    axis.axhline(0.8), axis.axvline(2.2)
    axis.set(xlim=(0.8, 3.2), ylim=(0, 2))
    return figure, axis


def test_labels_lie_on_no_line_bar_marker_or_other_label():
    figure, axis = crowded()
    label_points(axis, POINTS, TEXTS, fontsize=9)
    assert [text.get_text() for text in axis.texts] == TEXTS
    boxes = [text.get_window_extent() for text in axis.texts]
    assert not any(a.overlaps(b) for n, a in enumerate(boxes) for b in boxes[:n])
    assert covered(figure, axis.texts) == []


def test_labels_straight_below_their_points_would_have_covered_something():
    figure, axis = crowded()
    for point, text in zip(POINTS, TEXTS):
        axis.annotate(text, point, xytext=(0, -10), textcoords="offset points", ha="center", va="center", fontsize=9)
    assert covered(figure, axis.texts) == TEXTS


def test_a_label_is_closest_to_its_own_point_and_inside_the_axis():
    figure = Figure(figsize=(5, 3), layout="constrained")
    axis = figure.subplots()
    points = [(0.0, 0.0), (0.06, 0.0), (0.12, 0.0), (1.0, 1.0)]
    axis.plot(*zip(*points), "o")
    axis.set(xlim=(0, 1), ylim=(0, 1))  # three points on the lower edge, one in the upper corner
    label_points(axis, points, list("abcd"), fontsize=9)
    for n, text in enumerate(axis.texts):
        box = text.get_window_extent()
        middle = np.array([(box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2])
        assert np.hypot(*(axis.transData.transform(points) - middle).T).argmin() == n, text.get_text()
        assert axis.bbox.x0 <= box.x0 and box.x1 <= axis.bbox.x1, text.get_text()
        assert axis.bbox.y0 <= box.y0 and box.y1 <= axis.bbox.y1, text.get_text()


def test_one_label_per_point():
    with pytest.raises(ValueError):
        label_points(crowded()[1], POINTS, TEXTS[:2])
