"""The picture of a headroom measurement shows interaction alone, a row per route and a column per frame."""

import numpy as np
import pytest

from rds_lib.evaluation.headroom import Measured
from rds_lib.show.headroom_figure import MOST_NAMES, headroom_figure, interaction


def made_up(videos=3, *, tracker=True):
    rng = np.random.default_rng(0)
    damage = rng.random((4, videos, 2, 2))
    damage[2] += 3  # the worst route by far
    return Measured(
        videos=np.array([f"val-a${n}$" for n in range(videos)]),
        frames=np.tile([1, 2], (videos, 1)),
        routes=np.ones((4, 6), bool),
        damage=damage,
        iou=1 - damage / 4 if tracker else damage[:0],
        full_iou=damage[0],
        seen=damage[0][..., None],
    )


def test_what_routes_and_frames_do_in_general_is_taken_away():
    rng = np.random.default_rng(1)
    general = rng.random((5, 1, 1, 2)) + rng.random((1, 4, 3, 2))
    assert interaction(general) == pytest.approx(0)
    general[0, 1] += 1
    left = interaction(general)
    assert left.shape == (5, 4, 3) and left.mean(0) == pytest.approx(0) and left.mean((1, 2)) == pytest.approx(0)
    assert left[0, 1] == pytest.approx(0.75 * 0.8)


def test_rows_are_routes_from_the_least_harmful_and_columns_frames_within_videos():
    found = made_up()
    panels = headroom_figure(found).figure.axes[:2]
    order = np.argsort(found.damage.mean((1, 2, 3)))
    for axis, values in zip(panels, (-found.damage, 100 * found.iou)):
        drawn = axis.images[0].get_array()
        assert order[-1] == 2 and np.allclose(drawn, interaction(values)[order].reshape(4, 6))
        low, high = axis.images[0].get_clim()
        assert low == -high < 0 and axis.get_title(loc="left")
    assert [label.get_text() for label in panels[1].get_xticklabels()] == [r"a\$0\$", r"a\$1\$", r"a\$2\$"]
    assert headroom_figure(found).image()[:4] == b"\x89PNG"


def test_many_videos_and_no_tracker_fit():
    found = made_up(2 * MOST_NAMES + 1, tracker=False)
    picture = headroom_figure(found)
    axis, bar = picture.figure.axes
    assert len(axis.get_xticks()) <= MOST_NAMES and "97x2 routes, videos and frames" in picture.text
    assert bar.get_ylabel()
