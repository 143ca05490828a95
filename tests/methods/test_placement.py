"""Other placements of the adapters: as many parameters as I-LoRA's, and the blocks that each rule names."""

import copy
from collections import Counter

import numpy as np
import pytest

from rds_lib.core.errors import RDSInputError
from rds_lib.methods.placement import PLACEMENTS, equal_rank, place_adapters
from rds_lib.model.adapters import add_lora, lora_state_dict

K = [0, 2, 8, 44, 47]
STAGES = [1] * 2 + [2] * 6 + [3] * 36 + [4] * 4
SELECTED = sorted([*K, 1, 5, 6, *range(10, 24), 45, 46])


def place(kind, activity=None, seed=0):
    activity = np.arange(48) / 48 if activity is None else activity
    rng = np.random.default_rng(seed)
    return place_adapters(kind, selected=SELECTED, always_on=K, stages=STAGES, activity=activity, rng=rng)


def test_each_rule_takes_its_blocks_and_keeps_the_counts_of_the_stages():
    assert place("all") == list(range(48)) and place("none") == []
    active = place("active")
    assert active == sorted([*K, 1, 6, 7, *range(30, 44), 45, 46])
    for blocks in (active, place("random"), place("random", seed=1)):
        assert set(K) <= set(blocks)
        counts, wanted = (Counter(STAGES[i] for i in chosen) for chosen in (blocks, SELECTED))
        assert counts == wanted
    assert place("random") != place("random", seed=1) and place("random") == place("random")
    with pytest.raises(RDSInputError, match="'best' is unknown"):
        place("best")


@pytest.mark.parametrize("kind", [kind for kind in PLACEMENTS if kind not in ("all", "none")])
def test_adapters_elsewhere_have_exactly_as_many_parameters(mini_model, kind):
    def size(blocks):
        model = copy.deepcopy(mini_model)
        return sum(t.numel() for t in lora_state_dict(add_lora(model, blocks, rank=2)).values())

    assert size(place(kind)) == size(SELECTED)


def test_the_rank_of_all_blocks_is_the_nearest():
    assert equal_rank(8, 24, 48) == 4 and equal_rank(8, 30, 48) == 5 and equal_rank(1, 10, 48) == 1
