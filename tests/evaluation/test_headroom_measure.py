"""Measuring routes: damage and IoU are those of running each frame by itself, whatever is shared between routes."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from rds_lib.core.errors import RDSInputError
from rds_lib.evaluation.headroom import Measured, measure, pooled_tokens, random_plans
from rds_lib.evaluation.headroom_clips import frames_of, load_clip
from rds_lib.model.clip_tracking import SAM2Clips
from rds_lib.model.losses import mask_iou


@pytest.fixture
def tracker(mini_model):
    return SAM2Clips(mini_model)


@pytest.fixture
def plans(tracker):
    """Two random routes, and the one with all blocks."""
    return np.vstack([random_plans(2, 22, tracker.backbone, seed=0), np.ones(48, bool)])


@pytest.fixture
def clips(sequences):
    """Loaders of a clip with one object and of one with two, of which two frames are measured."""
    return [partial(load_clip, sequence, 192, 2) for sequence in sequences[1:]]


def by_itself(tracker, clip, row, route, t):
    """Damage and IoU of one object on frame t, with every frame encoded when its turn comes."""
    backbone, features = tracker.backbone, {}

    def encode(now, previous):
        tokens = backbone.embed(clip.images[now : now + 1])
        features[now] = backbone.run(tokens, route if now else None)
        return features[now]

    with torch.inference_mode():
        outputs = tracker.track(clip.targets[row : row + 1], encode)
        whole = backbone.run(backbone.embed(clip.images[t : t + 1]))["backbone_fpn"]
        pairs = zip(features[t]["backbone_fpn"], whole)
        damage = sum(((x - y).norm() / y.norm()) ** 2 for x, y in pairs) ** 0.5
        return damage.item(), mask_iou(outputs[t].mask_logits[:, 0], clip.targets[row : row + 1, t]).item()


def test_damage_and_iou_are_those_of_every_frame_by_itself(tracker, plans, clips):
    found = measure(tracker, clips, plans)
    assert found.damage.shape == found.iou.shape == (3, 2, 2, 2) and found.full_iou.shape == (2, 2, 2)
    assert found.frames.tolist() == [[1, 4], [1, 4]]
    for video, clip in enumerate(load() for load in clips):
        for copy, each in enumerate((clip, clip.mirrored())):
            own = [by_itself(tracker, each, row, plans[0].tolist(), 4) for row in range(len(each.targets))]
            assert found.damage[0, video, 1, copy] == pytest.approx(own[0][0], abs=1e-4)
            assert found.iou[0, video, 1, copy] == pytest.approx(np.mean([iou for _, iou in own]), abs=0.01)
    assert len(clip.targets) == 2, "the last clip has two objects"


def test_the_full_route_does_no_damage_and_tracks_as_the_full_encoder(tracker, plans, clips):
    found = measure(tracker, clips[:1], plans, mirror=False)
    assert found.damage[2] == pytest.approx(0, abs=1e-6) and (found.damage[:2] > 0.01).all()
    assert (found.iou[2] == found.full_iou).all() and found.damage.shape[3] == 1


def test_a_backbone_alone_gives_damage(tracker, plans, clips):
    whole, alone = (measure(model, clips[:1], plans, mirror=False) for model in (tracker, tracker.backbone))
    assert alone.iou.shape == (0, 1, 2, 1) and np.isnan(alone.full_iou).all()
    assert alone.damage == pytest.approx(whole.damage, abs=1e-4)
    assert alone.seen == pytest.approx(whole.seen, abs=1e-4)


def test_chunks_of_frames_change_nothing(tracker, plans, clips, monkeypatch):
    whole = measure(tracker, clips[1:], plans, mirror=False)
    monkeypatch.setattr("rds_lib.evaluation.headroom.CHUNK", 3)
    assert measure(tracker, clips[1:], plans, mirror=False).damage == pytest.approx(whole.damage, abs=1e-4)


def test_what_was_measured_is_read_back(tmp_path, tracker, plans, clips):
    found = measure(tracker.backbone, clips, plans, mirror=False)
    found.write(tmp_path / "measured.npz")
    for name, array in vars(Measured.read(tmp_path / "measured.npz")).items():
        np.testing.assert_array_equal(array, getattr(found, name))


def test_pooled_tokens_by_hand():
    tokens = torch.arange(8.0).reshape(2, 2, 2)  # rows, columns, channels
    mask = torch.zeros(4, 4)
    mask[2:, 2:] = 1  # the last token
    seen = pooled_tokens(tokens, mask)
    assert seen == pytest.approx([3, 4, (20 / 3) ** 0.5, (20 / 3) ** 0.5, 6, 7, 0.25, 0.5, 1, 1])
    assert pooled_tokens(tokens, torch.zeros(4, 4))[4:] == pytest.approx([0] * 6)


def test_plans_differ_and_hold_k(tracker):
    found = random_plans(30, 22, tracker.backbone, seed=3)
    assert found.shape == (30, 48) and (found.sum(1) == 22).all() and found[:, tracker.backbone.always_on].all()
    assert len(np.unique(found, axis=0)) == 30
    assert (random_plans(5, 22, tracker.backbone, seed=3) == found[:5]).all()
    assert len(np.unique(random_plans(43, 6, tracker.backbone, seed=0), axis=0)) == 43, "all that there are"


@pytest.mark.parametrize(
    "number, n_active, words",
    [(1, 22, "at least 2"), (24, 4, "n_active is 4; allowed: 5"), (24, 49, "to 48"), (2, 5, "only 1 routes of 5")],
)
def test_impossible_plans_are_refused(tracker, number, n_active, words):
    with pytest.raises(RDSInputError, match=words):
        random_plans(number, n_active, tracker.backbone, seed=0)


def test_frames_are_spread_from_the_first_mask_to_the_end(sequences):
    assert frames_of(sequences[0], 2) == (range(5), [0, 1, 2, 3, 4], [1, 4])
    assert frames_of(sequences[0], 3, length=4) == (range(4), [0, 1, 2, 3], [1, 2, 3])
    late = replace(sequences[0], prompt_frame={1: 2}, annotated=(2, 4))
    with pytest.raises(RDSInputError, match=f"{late.name}: 1 annotated frames after the first mask, 2 are to be"):
        frames_of(late, 2)
    with pytest.raises(RDSInputError, match="at least 2"):
        frames_of(sequences[0], 1)


def test_a_clip_starts_at_its_first_mask(sequences):
    whole, late = load_clip(sequences[2], 64, 2), load_clip(replace(sequences[2], prompt_frame={1: 1, 2: 3}), 64, 2)
    assert whole.targets.shape == (2, 5, 64, 64) and late.targets.shape == (1, 4, 64, 64)
    assert torch.equal(late.images, whole.images[1:]) and torch.equal(late.targets[0], whole.targets[0, 1:])
    assert late.annotated == (0, 1, 2, 3) and late.measured == (1, 3)
    assert whole.targets.unique().tolist() == [0, 1]


def test_objects_that_vanish_at_the_models_size_are_refused(sequences, monkeypatch):
    speck = np.zeros(sequences[0].size, bool)
    speck[0, 0] = True
    monkeypatch.setattr(type(sequences[0]), "masks", lambda sequence, t: {1: speck})
    with pytest.raises(RDSInputError, match="vanish at the model's 32 px"):
        load_clip(sequences[0], 32, 2)
