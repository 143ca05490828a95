"""Block importance: the paper's selection from ranks, and what removing a block that does nothing costs."""

import numpy as np
import pytest
import torch

from rds_lib.core.errors import RDSInputError
from rds_lib.model.clip_tracking import SAM2Clips
from rds_lib.model.sam2 import set_image_size
from rds_lib.routing.importance import measure_importance, rank_blocks

K = [0, 2, 8, 44, 47]
PAPER = sorted({0, 2, 4, 5, 8, 10, *range(12, 18), 20, 21, *range(23, 28), *range(43, 48)})  # supplement B.2


def scores_of(order):
    """Scores that put the blocks outside K in this order, best first; K gets NaN, which must not matter."""
    scores = np.full(48, np.nan)
    scores[list(order)] = np.linspace(9, 1, len(order)) ** 3
    return scores


def test_the_papers_blocks_follow_from_their_ranks():
    """Each view alone prefers ten other blocks; only the sum of both ranks picks the paper's 24."""
    rng = np.random.default_rng(0)
    chosen = rng.permutation([i for i in PAPER if i not in K]).tolist()
    others = rng.permutation([i for i in range(48) if i not in PAPER]).tolist()
    a, b, last = others[:10], others[10:20], others[20:]
    global_score = scores_of([*a, *chosen, *last, *b[::-1]])
    local_score = scores_of([*b, *chosen[::-1], *last, *a[::-1]])
    assert len(PAPER) == 24 and len(last) == 4
    assert rank_blocks(global_score, local_score, K, 24) == PAPER
    assert rank_blocks(global_score, global_score, K, 24) != PAPER
    assert rank_blocks(local_score, local_score, K, 24) != PAPER


def test_scores_on_the_always_on_blocks_do_not_matter():
    rng = np.random.default_rng(1)
    first, second = rng.random(48), rng.random(48)
    expected = rank_blocks(first, second, K, 20)
    first[K], second[K] = 1e9, np.nan
    assert rank_blocks(first, second, K, 20) == expected
    assert set(K) < set(expected) and len(expected) == 20 and expected == sorted(expected)


def test_only_the_order_of_the_scores_matters():
    rng = np.random.default_rng(2)
    first, second = rng.random(48), rng.random(48)
    assert rank_blocks(first, second, K, 30) == rank_blocks(np.exp(9 * first), 5 * second - 40, K, 30)


def test_ties_go_to_the_better_global_rank_then_to_the_lower_block():
    assert rank_blocks(np.ones(6), np.ones(6), [5], 3) == [0, 1, 5]
    # ranks of blocks 0..3: global 4 3 2 1, local 1 2 3 4; every sum is 5
    assert rank_blocks([1, 2, 3, 4], [4, 3, 2, 1], [], 2) == [2, 3]


def test_equal_scores_share_their_mean_rank():
    # global ranks 1, 2.5, 2.5, 4 and local ranks 4, 2.5, 1, 2.5: sums 5, 5, 3.5, 6.5
    assert rank_blocks([9, 5, 5, 1], [1, 5, 9, 5], [], 1) == [2]
    assert rank_blocks([9, 5, 5, 1], [1, 5, 9, 5], [], 2) == [0, 2]


def test_the_smallest_and_the_largest_selection():
    scores = np.random.default_rng(3).random(48)
    assert rank_blocks(scores, scores, K, 5) == K
    assert rank_blocks(scores, scores, K, 48) == list(range(48))


@pytest.mark.parametrize(
    "first, second, k_sel, message",
    [
        (np.ones(48), np.ones(48), 4, "k_sel = 4; allowed: 5"),
        (np.ones(48), np.ones(48), 49, "k_sel = 49.*to 48"),
        (np.ones(48), np.ones(47), 24, "one number per block"),
        (np.ones((2, 48)), np.ones((2, 48)), 24, "one number per block"),
        (np.r_[1, np.nan, np.ones(46)], np.ones(48), 24, "NaN or infinity"),
        (np.ones(48), np.r_[1, np.inf, np.ones(46)], 24, "NaN or infinity"),
    ],
)
def test_rejects_scores_that_cannot_be_ranked(first, second, k_sel, message):
    with pytest.raises(RDSInputError, match=message):
        rank_blocks(first, second, K, k_sel)


def test_a_block_that_does_nothing_has_no_importance(mini_model):
    """Block 12's last layers are zeroed, so its output is its input; block 20's are not."""
    set_image_size(mini_model, 64)
    block = mini_model.image_encoder.trunk.blocks[12]
    for layer in (block.attn.proj, block.mlp.layers[1]):
        torch.nn.init.zeros_(layer.weight)
        torch.nn.init.zeros_(layer.bias)
    targets = torch.zeros(1, 2, 64, 64)
    targets[:, :, 16:40, 16:40] = 1
    images = torch.randn(1, 2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    table = measure_importance(SAM2Clips(mini_model), [(images, targets)])
    assert list(table.columns) == ["block", "global_score", "local_score", "always_on"]
    assert table["block"].tolist() == list(range(48)) and table["block"][table["always_on"]].tolist() == K
    assert table["global_score"].isna().equals(table["always_on"])
    assert table["block"][table["local_score"].isna()].tolist() == [2, 8, 44], "these change the shape of their input"
    assert table["global_score"][12] == 0 and table["local_score"][12] == 0
    others = table.drop(index=[*K, 12])
    assert (others["local_score"] > 0).all() and (others["global_score"] != 0).any()
    assert 0 <= table.attrs["jf_full"] <= 100
