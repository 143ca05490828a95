"""Random and fixed routes: reproducible, of the asked size, and favouring no block."""

import numpy as np
import pytest

from rds_lib.methods.static import fixed_route, random_routes

K = (0, 2, 8, 44, 47)


def test_random_routes_are_reproducible_fresh_and_of_the_right_size():
    options = {"depth": 48, "always_on": K, "n_active": 20, "seed": 3}
    route, again = random_routes("dog", **options), random_routes("dog", **options)
    drawn = [route(t) for t in range(6)]
    assert [again(t) for t in reversed(range(6))] == drawn[::-1]
    assert all(sum(flags) == 20 and all(flags[i] for i in K) and len(flags) == 48 for flags in drawn)
    assert len({tuple(flags) for flags in drawn}) == 6
    assert random_routes("cat", **options)(0) != drawn[0] != random_routes("dog", **options | {"seed": 4})(0)


def test_random_routes_use_every_block_alike():
    route = random_routes("dog", depth=48, always_on=K, n_active=20, seed=0)
    share = np.mean([route(t) for t in range(400)], axis=0)
    free = np.delete(share, K)
    assert free.mean() == pytest.approx(15 / 43) and free.min() > 0.24 and free.max() < 0.46


def test_fixed_routes_keep_the_best_blocks():
    route = fixed_route([-5.0, -40.0, 3.0, 1000.0, -1.0], [1], 3)
    assert route == [False, True, True, True, False]
