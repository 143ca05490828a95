"""PBD: which blocks each reading drops, and that a model without them does what skipping them does."""

import pytest
import torch

from rds_lib.core.errors import RDSInputError
from rds_lib.methods.pbd import drop_blocks, dropped_blocks
from rds_lib.model.backbone import backbone_of

K = (0, 2, 8, 44, 47)


@pytest.mark.parametrize(
    "level, dropped",
    [
        (0.9, {42, 43, 45, 46}),
        (0.8, {*range(38, 44), 45, 46}),
        (0.6, {*range(30, 44), 45, 46}),
        (0.4, {*range(22, 44), 45, 46}),
    ],
)
def test_reading_a_drops_the_last_blocks_that_may_go(level, dropped):
    assert set(dropped_blocks(level, depth=48, always_on=K)) == dropped


def test_readings_b_and_c_take_the_last_24_blocks_at_their_word():
    assert dropped_blocks(0.4, depth=48, always_on=K, reading="B") == [*range(24, 44), 45, 46]
    assert dropped_blocks(0.4, depth=48, always_on=K, reading="C") == list(range(24, 48))
    assert dropped_blocks(1, depth=48, always_on=K) == []
    with pytest.raises(RDSInputError, match="'D' is unknown"):
        dropped_blocks(0.4, depth=48, always_on=K, reading="D")
    with pytest.raises(RDSInputError, match="0.3"):
        dropped_blocks(0.3, depth=48, always_on=K)


@pytest.mark.parametrize("reading", ["A", "B"])
def test_a_model_without_the_blocks_does_what_skipping_them_does(mini_model, image, features, apart, reading):
    dropped = dropped_blocks(0.4, depth=48, always_on=K, reading=reading)
    backbone = backbone_of(mini_model)
    with torch.inference_mode():
        skipped = backbone.run(backbone.embed(image), [i not in dropped for i in range(48)])["backbone_fpn"]
    assert apart(skipped, features(mini_model, image)) > 1e-3
    weights = sum(p.numel() for p in mini_model.parameters())
    kept = drop_blocks(mini_model, dropped)
    assert kept == [i for i in range(48) if i not in dropped]
    assert len(mini_model.image_encoder.trunk.blocks) == len(kept)
    assert sum(p.numel() for p in mini_model.parameters()) < weights
    assert apart(skipped, features(mini_model, image)) == 0


def test_reading_c_cuts_the_last_stage_off_the_neck(mini_model, image, features):
    whole = features(mini_model, image)
    drop_blocks(mini_model, dropped_blocks(0.4, depth=48, always_on=K, reading="C"))
    assert mini_model.image_encoder.trunk.stage_ends == [1, 7, 23]
    cut = features(mini_model, image)
    assert [x.shape for x in cut] == [x.shape for x in whole]
    assert cut[0].equal(whole[0]) and cut[1].equal(whole[1]) and not cut[2].equal(whole[2])


@pytest.mark.parametrize("dropped", [[2], [8, 9], range(2, 8), range(48)])
def test_a_stage_that_goes_on_keeps_its_first_block(mini_model, image, features, apart, dropped):
    before = features(mini_model, image)
    with pytest.raises(RDSInputError, match="cannot be dropped"):
        drop_blocks(mini_model, dropped)
    assert apart(before, features(mini_model, image)) == 0
