"""Sessions: the bits of propagate_in_video from a state that does not grow, objects that come and go, bad input."""

import os
import threading
import weakref
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

from rds_lib.core.errors import RDSInputError
from rds_lib.data.clips import generate_clip
from rds_lib.data.images import list_frames, read_frame
from rds_lib.routing import memory
from rds_lib.routing.build import build_rds_video_predictor
from rds_lib.routing.memory import Reach

LENGTH = 36
CLIP = generate_clip(3, 1, split="val", frames=LENGTH, height=96, width=160, difficulty="plain", n_objects=3)


@pytest.fixture(scope="module")
def full():
    return build_rds_video_predictor("mini", device="cpu")


@pytest.fixture(scope="module")
def routed():
    return build_rds_video_predictor("mini", budget=0.6, device="cpu")


@pytest.fixture(params=["full", "routed"])
def predictor(request):
    return request.getfixturevalue(request.param)


def videos():
    """A generated clip, and the folders of frames that RDS_VIDEO names, separated as in PATH."""
    return ["generated", *filter(None, os.environ.get("RDS_VIDEO", "").split(os.pathsep))]


def frames_and_plan(video):
    """36 frames, and two objects prompted on frames 0, 5 and 20."""
    if video == "generated":
        frames, masks = CLIP.frames, CLIP.masks
        return frames, {0: {1: masks[0] == 1}, 5: {2: masks[5] == 2}, 20: {1: masks[20] == 1}}
    frames = np.stack([read_frame(path) for path in list_frames(video)[:LENGTH]])
    height, width = frames.shape[1:3]
    left, right = ((slice(height // 4, height // 2), slice(width * k // 8, width * (k + 3) // 8)) for k in (1, 4))
    masks = np.zeros((2, height, width), bool)
    masks[0][left] = masks[1][right] = True
    return frames, {0: {1: masks[0]}, 5: {2: masks[1]}, 20: {1: masks[0]}}


def propagated(predictor, frames, plan, removed=()):
    """Logits by frame, and the route table, of the flow with the whole video: prompts when their frame is reached."""
    state, found = predictor.init_state(frames), {}
    cuts = sorted({*plan, *dict(removed), len(frames)})
    for start, stop in zip(cuts, cuts[1:]):
        for obj_id in [obj_id for t, obj_id in removed if t == start]:
            predictor.remove_object(state, obj_id)
        for obj_id, mask in plan.get(start, {}).items():
            predictor.add_new_mask(state, start, obj_id, mask)
        for t, obj_ids, logits in predictor.propagate_in_video(state, start, stop - start - 1):
            found[t] = list(obj_ids), logits
    return found, predictor.route_table(state)


def stepped(session, frames, plan, removed=()):
    """The same through a session."""
    found = {}
    for t, frame in enumerate(frames):
        for obj_id in [obj_id for at, obj_id in removed if at == t]:
            session.remove_object(obj_id)
        result = session.step(frame, plan.get(t))
        found[result.frame_idx] = result.obj_ids, result.mask_logits
    return found


def assert_same(one, other):
    assert one.keys() == other.keys()
    for t in one:
        assert one[t][0] == other[t][0] and torch.equal(one[t][1], other[t][1]), t


@pytest.mark.parametrize("video", videos(), ids=lambda video: Path(video).name)
def test_steps_are_those_of_propagate_in_video(predictor, video):
    frames, plan = frames_and_plan(video)
    expected, routes = propagated(predictor, frames, plan, removed=[(30, 2)])
    with predictor.start() as session:
        assert_same(stepped(session, frames, plan, removed=[(30, 2)]), expected)
        assert session.route_table().equals(routes)
    assert expected[4][0] == [1] and expected[5][0] == [1, 2] and expected[30][0] == [1]


def test_routed_frames_skip_blocks_and_the_totals_say_so(routed):
    with routed.start() as session:
        stepped(session, CLIP.frames[:9], {0: {1: CLIP.masks[0] == 1}, 4: {1: CLIP.masks[4] == 1}})
        routes, totals = session.route_table(), session.route_totals()
    by_frame = routes.groupby("frame_idx")["active"].sum()
    assert routes.groupby("frame_idx")["reason"].first().tolist() == [
        *("first_frame", "routed", "routed", "routed", "prompted", "routed", "routed", "routed", "routed")
    ]
    assert by_frame[0] == by_frame[4] == 48 and by_frame[1] < 48
    assert totals.attrs["frames"] == 9 and totals.attrs["routed"] == 7
    assert totals.attrs["mean_active"] == pytest.approx(by_frame.mean())
    assert totals.attrs["mean_active_routed"] == pytest.approx(by_frame.drop([0, 4]).mean())
    assert totals["active_share"].sum() == pytest.approx(by_frame.mean())
    keep_prob = routes[routes["reason"] == "routed"].groupby("block")["keep_prob"].mean()
    assert np.allclose(totals["mean_keep_prob"], keep_prob)


@pytest.mark.parametrize("stride, most", [(1, -1), (2, -1), (1, 2)])
def test_what_is_dropped_is_never_read(full, monkeypatch, stride, most):
    """Also where memories lie apart, and where only the closest frames with prompts are read."""
    monkeypatch.setattr(full, "memory_temporal_stride_for_eval", stride)
    monkeypatch.setattr(full, "max_cond_frames_in_attn", most)
    plan = {t: {1: CLIP.masks[t] == 1} for t in (0, 3, 5, 9)}
    with full.start() as bounded, full.start(history=None) as whole:
        assert_same(stepped(bounded, CLIP.frames, plan), stepped(whole, CLIP.frames, plan))
        kept = bounded.inference_state["output_dict_per_obj"][0]
        assert len(whole.inference_state["images"]) == LENGTH and list(bounded.inference_state["images"]) == [
            LENGTH - 1
        ]
        assert len(kept["cond_frame_outputs"]) == (4 if most == -1 else 3)
        with_memory = [t for t, out in kept["non_cond_frame_outputs"].items() if out["maskmem_features"] is not None]
        assert len(kept["non_cond_frame_outputs"]) == 16 and len(with_memory) == (7 if stride == 1 else 12)


@pytest.mark.parametrize("less", [Reach(4, 15, None), Reach(6, 13, None)])
def test_everything_that_is_kept_is_read(full, monkeypatch, less):
    """One frame less would do for the next frame; it is there for a correction of the last one."""
    plan = {0: {1: CLIP.masks[0] == 1}}
    with full.start() as session:
        expected = stepped(session, CLIP.frames[:20], plan)
    monkeypatch.setattr(memory.Reach, "of", classmethod(lambda cls, model: less))
    with full.start() as session:
        try:
            found = stepped(session, CLIP.frames[:20], plan)
        except (AttributeError, TypeError):  # SAM2 reads a memory that was dropped
            return
    assert any(not torch.equal(found[t][1], expected[t][1]) for t in found)


def size_of(state):
    """Entries and numbers in the tensors of a session's state."""
    entries = numbers = 0
    waiting = [{name: value for name, value in state.items() if name not in ("constants", "cached_features")}]
    while waiting:
        one = waiting.pop()
        if isinstance(one, torch.Tensor):
            numbers += one.numel()
        elif isinstance(one, dict | list):
            entries += len(one)
            waiting += one.values() if isinstance(one, dict) else one
    return entries, numbers


def test_the_state_does_not_grow(routed, monkeypatch):
    monkeypatch.setattr("rds_lib.routing.session.ROUTES_KEPT", 8)
    with routed.start() as session:
        for t in range(2 * LENGTH):
            session.step(CLIP.frames[t % LENGTH], {1: CLIP.masks[0] == 1} if t == 0 else None)
            if t == LENGTH:
                early = size_of(session.inference_state)
        assert size_of(session.inference_state) == early
        log = session.inference_state["rds"]
        assert session.route_table()["frame_idx"].nunique() == len(log.frames) == 8
        assert len(log.flaws) <= 2 and session.route_totals().attrs["frames"] == 2 * LENGTH


def test_a_short_video_is_tracked_alike_where_its_length_is_known(full):
    frames, plan = CLIP.frames[:6], {0: {1: CLIP.masks[0] == 1}}
    expected, _ = propagated(full, frames, plan)
    with full.start(num_frames=6) as known, full.start() as unknown:
        assert_same(stepped(known, frames, plan), expected)
        found = stepped(unknown, frames, plan)
    assert not torch.equal(found[5][1], expected[5][1])  # SAM2 places its pointers by the length


def test_frames_before_the_first_prompt_run_nothing(routed):
    plan = {3: {"dog": CLIP.masks[3] == 1}}
    with routed.start() as session:
        found = stepped(session, CLIP.frames[:6], plan)
        routes = session.route_table()
    assert [found[t][0] for t in range(6)] == [[], [], [], ["dog"], ["dog"], ["dog"]]
    assert found[0][1].shape == (0, 1, 96, 160)
    assert routes.groupby("frame_idx")["reason"].first().to_dict() == {3: "first_frame", 4: "routed", 5: "routed"}


def test_a_correction_is_what_sam2_makes_of_it(predictor):
    frames, plan, click = CLIP.frames[:12], {0: {1: CLIP.masks[0] == 1}}, {"points": [[80, 40]], "labels": [0]}
    state, expected = predictor.init_state(frames), {}
    predictor.add_new_mask(state, 0, 1, CLIP.masks[0] == 1)
    for t, obj_ids, logits in predictor.propagate_in_video(state, 0, 5):
        expected[t] = list(obj_ids), logits
    expected["corrected"] = predictor.add_new_points_or_box(state, 5, 1, **click)[2]
    for t, obj_ids, logits in predictor.propagate_in_video(state, 6):
        expected[t] = list(obj_ids), logits
    with predictor.start(num_frames=12) as session:
        found = stepped(session, frames[:6], plan)
        corrected = session.correct({1: click})
        assert corrected.frame_idx == 5 and all(corrected.route.active) and corrected.route.reason == "prompted"
        found["corrected"] = corrected.mask_logits
        for frame in frames[6:]:
            result = session.step(frame)
            found[result.frame_idx] = result.obj_ids, result.mask_logits
    assert torch.equal(found.pop("corrected"), expected.pop("corrected"))
    assert not torch.equal(expected[6][1], propagated(predictor, frames, plan)[0][6][1])
    assert_same(found, expected)


def test_a_correction_may_lie_as_far_back_as_the_history(full):
    plan = {0: {1: CLIP.masks[0] == 1}}
    with full.start(history=4) as session:
        stepped(session, CLIP.frames[:24], plan)
        assert session.correct({1: CLIP.masks[19] == 1}, frame_idx=19).frame_idx == 19
        with pytest.raises(RDSInputError, match=r"frame 18 is not kept \(frames 19 to 23\).*history"):
            session.correct({1: CLIP.masks[18] == 1}, frame_idx=18)
        with pytest.raises(RDSInputError, match="frame_idx is 24"):
            session.correct({1: CLIP.masks[18] == 1}, frame_idx=24)
        session.step(CLIP.frames[24])
    with full.start(history=None) as session:
        stepped(session, CLIP.frames[:24], plan)
        session.correct({1: CLIP.masks[19] == 1}, frame_idx=19)
        session.step(CLIP.frames[24])


def test_with_the_whole_history_sam2_goes_backwards_too(full):
    plan = {0: {1: CLIP.masks[0] == 1}}
    state = full.init_state(CLIP.frames[:18])
    full.add_new_mask(state, 0, 1, CLIP.masks[0] == 1)
    list(full.propagate_in_video(state, 0))
    full.add_new_mask(state, 17, 1, CLIP.masks[17] == 1)
    expected = {t: logits for t, _, logits in full.propagate_in_video(state, 17, reverse=True)}
    with full.start(history=None) as session, full.start() as bounded:
        for one in (session, bounded):
            stepped(one, CLIP.frames[:18], plan)
            one.correct({1: CLIP.masks[17] == 1})
        found = {t: logits for t, _, logits in full.propagate_in_video(session.inference_state, 17, reverse=True)}
        assert found.keys() == expected.keys() == set(range(18))
        assert all(torch.equal(found[t], expected[t]) for t in found)
        with pytest.raises(RDSInputError, match="frame 16 is not kept"):
            list(full.propagate_in_video(bounded.inference_state, 17, reverse=True))


def test_a_correction_can_clear_the_memory_around_it():
    options = ["++model.clear_non_cond_mem_around_input=true", "++model.add_all_frames_to_correct_as_cond=true"]
    predictor = build_rds_video_predictor("mini", device="cpu", hydra_overrides_extra=options)
    with predictor.start() as session:
        stepped(session, CLIP.frames[:8], {0: {1: CLIP.masks[0] == 1}})
        session.correct({1: CLIP.masks[7] == 1})
        outputs = session.inference_state["output_dict_per_obj"][0]
        assert list(outputs["cond_frame_outputs"]) == [0, 7] and outputs["non_cond_frame_outputs"] == {}
        session.step(CLIP.frames[8])


def test_an_object_that_left_stays_an_object_and_the_whole_encoder_looks_for_it(routed, monkeypatch):
    """It is away while the decoder finds it on no frame; here from the fourth frame to the sixth."""
    away, infer = {3, 4, 5}, routed._run_single_frame_inference

    def inference(*args, **kwargs):
        out, masks = infer(*args, **kwargs)
        if kwargs["frame_idx"] in away:
            masks = torch.full_like(masks, -1024.0)
            out |= {"pred_masks": masks}
        return out, masks

    monkeypatch.setattr(routed, "_run_single_frame_inference", inference)
    with routed.start() as session:
        found = stepped(session, CLIP.frames[:9], {0: {1: CLIP.masks[0] == 1}})
        reasons = session.route_table().groupby("frame_idx")["reason"].first().tolist()
    assert all(found[t][0] == [1] for t in found)
    assert [bool((found[t][1] > 0).any()) for t in range(9)] == [t not in away for t in range(9)]
    assert reasons == ["first_frame", *3 * ["routed"], *3 * ["no_previous_mask"], *2 * ["routed"]]


def test_objects_come_and_go(routed):
    masks = CLIP.masks
    with routed.start() as session:
        session.step(CLIP.frames[0], {"cat": masks[0] == 1, 7: {"box": [20, 20, 90, 70]}})
        with pytest.raises(RDSInputError, match=r"no object 'dog'; the session tracks \['cat', 7\]"):
            session.remove_object("dog")
        session.remove_object("cat")
        assert session.step(CLIP.frames[1]).obj_ids == [7]
        session.remove_object(7)
        assert session.step(CLIP.frames[2]).route is None and session.obj_ids == []
        again = session.step(CLIP.frames[3], {7: masks[3] == 2})
        assert again.obj_ids == [7] and again.route.reason == "first_frame"
        assert session.route_table()["frame_idx"].unique().tolist() == [0, 1, 3]
        assert session.route_totals().attrs["frames"] == 3


@pytest.mark.parametrize(
    "frame, prompts, words",
    [
        (CLIP.frames[1][:50], None, "frame 1: 160x50 px, but the first frame has 160x96"),
        (CLIP.frames[1].astype(float), None, "frame 1: .*float64; expected"),
        (None, None, "frame 1"),
        (CLIP.frames[1], {1: CLIP.masks[1] == 1, 2: np.zeros((3, 3))}, "mask has shape"),
        (CLIP.frames[1], {1: {"points": [[9, 9]]}}, "points without labels"),
        (CLIP.frames[1], {2: {"box": [0, 0, 5, 5], "labels": [1]}}, "labels without points"),
        (CLIP.frames[1], {2: {"boxes": [0, 0, 5, 5]}}, "prompt of object 2 has boxes"),
        (CLIP.frames[1], [CLIP.masks[1]], "prompts are a list"),
    ],
)
def test_bad_input_leaves_the_session_as_it_was(routed, frame, prompts, words):
    first = {1: CLIP.masks[0] == 1}
    with routed.start() as session, routed.start() as undisturbed:
        session.step(CLIP.frames[0], first)
        with pytest.raises(RDSInputError, match=words):
            session.step(frame, prompts)
        undisturbed.step(CLIP.frames[0], first)
        for t in (1, 2):
            one, other = session.step(CLIP.frames[t]), undisturbed.step(CLIP.frames[t])
            assert one.frame_idx == other.frame_idx == t and torch.equal(one.mask_logits, other.mask_logits)


def test_a_bad_first_frame_or_prompt_leaves_it_open(routed):
    with routed.start() as session:
        for frame, prompts in ((CLIP.frames[0][..., :2], None), (CLIP.frames[0], {1: np.zeros((3, 3))})):
            with pytest.raises(RDSInputError):
                session.step(frame, prompts)
        with pytest.raises(RDSInputError, match="no frame yet"):
            session.correct({1: CLIP.masks[0] == 1})
        assert session.step(CLIP.frames[1], {1: CLIP.masks[1] == 1}).frame_idx == 0
        with pytest.raises(RDSInputError, match="no prompt"):
            session.correct({})


def test_a_session_that_was_stopped_inside_a_frame_or_closed_says_so(routed, monkeypatch):
    session, other = routed.start(), routed.start()
    for one in (session, other):
        one.step(CLIP.frames[0], {1: CLIP.masks[0] == 1})
    with monkeypatch.context() as patch:
        patch.setattr(routed, "track_frame", lambda *args, **options: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            session.step(CLIP.frames[1])
    with pytest.raises(RDSInputError, match=r"stopped in the middle of frame 1 \(KeyboardInterrupt\); start a new one"):
        session.step(CLIP.frames[1])
    assert other.step(CLIP.frames[1]).frame_idx == 1
    other.close()
    for call in (lambda: other.step(CLIP.frames[2]), other.route_table, lambda: other.correct({1: None})):
        with pytest.raises(RDSInputError, match="is closed; start a new one"):
            call()
    assert other.route_totals().attrs["frames"] == 2


@pytest.mark.parametrize("options", [{"history": -1}, {"history": 1.5}, {"history": True}, {"num_frames": 0}])
def test_bad_options_are_refused(full, options):
    with pytest.raises(RDSInputError, match=f"{next(iter(options))} is .*; give a whole number"):
        full.start(**options)


def test_sessions_on_one_model_do_not_meet(routed):
    plans = [{0: {1: CLIP.masks[0] == 1}}, {0: {9: CLIP.masks[0] == 2}}]
    expected = []
    for plan in plans:
        with routed.start() as session:
            expected.append(stepped(session, CLIP.frames[:8], plan))
    found, sessions = [{}, {}], [routed.start(), routed.start()]
    for t in range(8):  # in turns
        for session, plan, one in zip(sessions, plans, found, strict=True):
            result = session.step(CLIP.frames[t], plan.get(t))
            one[t] = result.obj_ids, result.mask_logits
    for one, other in zip(found, expected, strict=True):
        assert_same(one, other)
    found, sessions = {}, [routed.start(), routed.start()]

    def run(k):
        found[k] = stepped(sessions[k], CLIP.frames[:8], plans[k])

    threads = [threading.Thread(target=run, args=(k,)) for k in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for k in range(2):
        assert_same(found[k], expected[k])


def test_two_threads_on_one_session_take_turns(routed, monkeypatch):
    running, most, track = [], [], routed.track_frame

    def watched(*args, **options):
        running.append(1)
        most.append(len(running))
        result = track(*args, **options)
        running.pop()
        return result

    monkeypatch.setattr(routed, "track_frame", watched)
    with routed.start() as session:
        session.step(CLIP.frames[0], {1: CLIP.masks[0] == 1})
        threads = [threading.Thread(target=lambda t=t: session.step(CLIP.frames[t])) for t in range(1, 7)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert session.frame_idx == 6 and set(most) == {1} and len(most) == 7


def test_memory_is_free_after_each_of_fifty_videos(routed):
    process, resident = psutil.Process(), []
    for k in range(50):
        with routed.start() as session:
            session.step(CLIP.frames[k % LENGTH], {1: CLIP.masks[k % LENGTH] == 1})
            session.step(CLIP.frames[(k + 1) % LENGTH])
            images = weakref.ref(session.inference_state["images"])
        assert images() is None  # at once, without the garbage collector
        resident.append(process.memory_info().rss / 2**20)
    assert resident[-1] - resident[9] < 20  # MiB


@pytest.mark.parametrize("count", [2, 5])
def test_objects_in_one_batch_are_as_exact_as_floats(full, monkeypatch, count):
    boxes = {k: {"box": [10 + 25 * k, 20, 34 + 25 * k, 70]} for k in range(count)}
    sizes, infer = [], full._run_single_frame_inference
    monkeypatch.setattr(
        full, "_run_single_frame_inference", lambda *a, **k: sizes.append(k["batch_size"]) or infer(*a, **k)
    )
    with full.start() as alone, full.start() as batched:
        for t in range(10):
            full.objects_at_once = 1
            one = alone.step(CLIP.frames[t], boxes if t == 0 else None).mask_logits
            full.objects_at_once, start = 3, len(sizes)
            other = batched.step(CLIP.frames[t], boxes if t == 0 else None).mask_logits
            if t:
                assert sizes[start:] == ([2] if count == 2 else [3, 2])
            assert (one - other).abs().max() < (1e-5 if t < 2 else 5e-3)
    full.objects_at_once = 1


def test_only_objects_with_memories_of_the_same_frames_share_a_batch(full, monkeypatch):
    sizes, infer = [], full._run_single_frame_inference
    monkeypatch.setattr(
        full, "_run_single_frame_inference", lambda *a, **k: sizes.append(k["batch_size"]) or infer(*a, **k)
    )
    monkeypatch.setattr(full, "objects_at_once", 8)
    with full.start() as session:
        session.step(CLIP.frames[0], {1: CLIP.masks[0] == 1, 2: CLIP.masks[0] == 2})
        session.step(CLIP.frames[1], {3: CLIP.masks[1] == 3})
        start = len(sizes)
        logits = session.step(CLIP.frames[2]).mask_logits
        assert sizes[start:] == [2, 1] and session.obj_ids == [1, 2, 3] and logits.shape[0] == 3
        session.remove_object(2)
        start = len(sizes)
        session.step(CLIP.frames[3])
        assert sizes[start:] == [1, 1]
