"""DINOv3 frame by frame: the bits of propagate_in_video, corrections on the last frame, objects that come and go."""

import numpy as np
import pytest
import torch

from rds_lib import build_rds_dino_tracker
from rds_lib.core.errors import RDSInputError
from rds_lib.data.clips import generate_clip

LENGTH = 18
CLIP = generate_clip(3, 1, split="val", frames=LENGTH, height=96, width=160, difficulty="plain", n_objects=3)


@pytest.fixture(scope="module")
def tracker():
    return build_rds_dino_tracker("mini", device="cpu")


@pytest.fixture
def routed(tracker):
    routes = np.random.default_rng(0).random((LENGTH, tracker.depth)) < 0.6
    tracker.set_fixed_route(lambda t: routes[t])
    yield tracker
    tracker.set_fixed_route(None)


def mask(t, obj_id):
    return CLIP.masks[t] == obj_id


def test_steps_are_those_of_propagate_in_video(routed):
    plan, expected, state = (
        {0: {1: mask(0, 1)}, 5: {2: mask(5, 2)}, 9: {1: mask(9, 1)}},
        {},
        routed.init_state(CLIP.frames),
    )
    for start, stop in ((0, 5), (5, 9), (9, 12), (12, LENGTH)):
        if start == 12:
            routed.remove_object(state, 2)
        for obj_id, one in plan.get(start, {}).items():
            routed.add_new_mask(state, start, obj_id, one)
        for t, obj_ids, logits in routed.propagate_in_video(state, start, stop - start - 1):
            expected[t] = obj_ids, logits
    with routed.start() as session:
        for t, frame in enumerate(CLIP.frames):
            if t == 12:
                session.remove_object(2)
            result = session.step(frame, plan.get(t))
            assert result.obj_ids == expected[t][0] and torch.equal(result.mask_logits, expected[t][1]), t
        routes = session.route_table()
        assert routes.equals(routed.route_table(state)) and len(session.inference_state["images"]) == 1
    by_frame = routes.groupby("frame_idx")
    reasons = by_frame["reason"].first()
    assert [t for t in range(LENGTH) if reasons[t] != "routed"] == [0, 5, 9]
    assert (by_frame["active"].sum()[reasons == "routed"] < routed.depth).all()


def test_a_correction_stands_and_is_followed(tracker):
    with tracker.start() as session, tracker.start() as undisturbed:
        for one in (session, undisturbed):
            one.step(CLIP.frames[0], {1: mask(0, 1)})
            one.step(CLIP.frames[1])
        corrected = session.correct({1: mask(1, 2)})
        assert np.array_equal((corrected.mask_logits[0, 0] > 0).numpy(), mask(1, 2))
        assert corrected.route.reason == "prompted" and all(corrected.route.active)
        assert list(session.inference_state["prompted"]) == [0, 1] and not session.inference_state["recent"]
        session.step(CLIP.frames[2])
        with pytest.raises(RDSInputError, match="not kept"):
            session.correct({1: mask(1, 1)}, frame_idx=1)
    with tracker.start(history=3) as session:
        session.step(CLIP.frames[0], {1: mask(0, 1)})
        session.step(CLIP.frames[1])
        with pytest.raises(RDSInputError, match="corrected on the last frame, 1"):
            session.correct({1: mask(0, 1)}, frame_idx=0)


def test_objects_come_and_go(tracker):
    with tracker.start() as session:
        assert session.step(CLIP.frames[0]).route is None
        session.step(CLIP.frames[1], {1: mask(1, 1), "b": mask(1, 2)})
        session.step(CLIP.frames[2], {3: mask(2, 3)})
        session.remove_object(1)
        result = session.step(CLIP.frames[3])
        assert result.obj_ids == ["b", 3] and (result.mask_logits > 0).flatten(1).any(1).all()
        seen = result.mask_logits[0, 0].numpy() > 0
        assert (seen & mask(3, 2)).sum() / (seen | mask(3, 2)).sum() > 0.3
        session.remove_object("b")
        session.remove_object(3)
        assert session.step(CLIP.frames[4]).obj_ids == []
        assert session.step(CLIP.frames[5], {1: mask(5, 1)}).route.reason == "first_frame"


def test_what_is_no_mask_is_refused_and_changes_nothing(tracker):
    with tracker.start() as session:
        with pytest.raises(RDSInputError, match="from masks alone"):
            session.step(CLIP.frames[0], {1: {"box": [0, 0, 9, 9]}})
        with pytest.raises(RDSInputError, match="more than 254 objects"):
            session.step(CLIP.frames[0], {k: mask(0, 1) for k in range(255)})
        assert session.obj_ids == [] and session.step(CLIP.frames[0], {1: mask(0, 1)}).frame_idx == 0


def test_an_object_that_is_not_there_is_not_removed(tracker):
    state = tracker.init_state(CLIP.frames[:3])
    tracker.add_new_mask(state, 0, 1, mask(0, 1))
    assert tracker.remove_object(state, 2) == ([1], [])
    with pytest.raises(RDSInputError, match=r"no object 2; the tracker has \[1\]"):
        tracker.remove_object(state, 2, strict=True)
    assert tracker.remove_object(state, 1) == ([], []) and state["masks"] == {}
