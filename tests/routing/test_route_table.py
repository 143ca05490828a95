"""Summaries of route tables: active blocks, keep probabilities and their spread."""

import numpy as np
import pandas as pd
import pytest

from rds_lib.routing.route_table import keep_prob_matrix, mean_active, route_spread, routed_frames


@pytest.fixture
def routes():
    """Two frames of two sequences and three blocks; one of them ran full."""
    rows = [("a", 0, i, True, 1.0, "first_frame") for i in range(3)]
    rows += [("a", 1, i, on, w, "routed") for i, (on, w) in enumerate([(True, 1.0), (False, 0.2), (True, 0.7)])]
    rows += [("b", 1, i, on, w, "routed") for i, (on, w) in enumerate([(True, 1.0), (False, 0.4), (False, 0.3)])]
    return pd.DataFrame(rows, columns=["sequence", "frame_idx", "block", "active", "keep_prob", "reason"])


def test_active_blocks_are_counted_on_every_frame_or_on_the_routed_ones(routes):
    assert mean_active(routes) == 2 and mean_active(routed_frames(routes)) == 1.5
    unrouted = routes[routes["reason"] != "routed"]
    assert mean_active(unrouted) == 3 and np.isnan(mean_active(routed_frames(unrouted)))
    assert np.isnan(mean_active(routed_frames(pd.DataFrame())))


def test_keep_probabilities_become_a_matrix_in_block_order(routes):
    assert keep_prob_matrix(routes.sample(frac=1, random_state=0)).tolist() == [[1.0, 0.2, 0.7], [1.0, 0.4, 0.3]]


def test_spread_tells_how_much_each_block_varies(routes):
    table = route_spread(routes).set_index("block")
    assert table["mean_keep_prob"].tolist() == pytest.approx([1.0, 0.3, 0.5])
    assert table["std_keep_prob"].tolist() == pytest.approx([0.0, 0.02**0.5, 0.08**0.5])
    assert table["active_share"].tolist() == [1.0, 0.0, 0.5]
