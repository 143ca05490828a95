"""Static plans: the published ones, and random ones of a given size."""

import numpy as np
import pytest

from rds_lib.core.errors import RDSInputError
from rds_lib.methods.static import PLANS, published_plan, random_plan

K = (0, 2, 8, 44, 47)


def test_the_published_plans_hold_24_blocks_and_all_that_must_run():
    for name in PLANS:
        flags = published_plan(name, 48)
        assert sum(flags) == 24 and all(flags[i] for i in K)
    assert [i for i, flag in enumerate(published_plan("A", 48)) if flag][9:12] == [13, 15, 18]
    assert [i for i, flag in enumerate(published_plan("B", 48)) if flag][9:12] == [14, 16, 19]
    with pytest.raises(RDSInputError, match="'C' is unknown"):
        published_plan("C", 48)
    with pytest.raises(RDSInputError, match="has 24"):
        published_plan("A", 24)


def test_random_plans_have_their_size_and_favour_no_block():
    rng = np.random.default_rng(0)
    plans = np.array([random_plan(24, 48, K, rng) for _ in range(600)])
    assert (plans.sum(1) == 24).all() and plans[:, list(K)].all()
    shares = np.delete(plans.mean(0), K)
    assert shares == pytest.approx(np.full(43, 19 / 43), abs=0.09)
    with pytest.raises(RDSInputError, match="5 .*to 48"):
        random_plan(4, 48, K, rng)
