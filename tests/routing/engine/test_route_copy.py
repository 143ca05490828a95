"""The copy of a route to the host: begun early, waited for late, one a frame."""

import pytest
import torch

from rds_lib.evaluation.probes import HostReads
from rds_lib.model.backbone import HieraBackbone
from rds_lib.routing.build import build_rds_video_predictor
from rds_lib.routing.engine import route_copy
from rds_lib.routing.engine.route_copy import RouteCopy
from rds_lib.routing.frame_router import AskedRoute


@pytest.fixture
def events(monkeypatch):
    """Let tensors of the host pass for tensors of a GPU; what happens to buffer and event, in order."""
    seen = []

    class Event:
        def record(self, stream):
            seen.append(f"record on {stream}")

        def synchronize(self):
            seen.append("wait")

    def pinned_like(values):
        seen.append("allocate")
        return torch.empty_like(values)

    monkeypatch.setattr(route_copy, "_is_far", lambda values: True)
    monkeypatch.setattr(route_copy, "_pinned_like", pinned_like)
    monkeypatch.setattr(route_copy, "_new_event", Event)
    monkeypatch.setattr(route_copy, "_stream_of", lambda values: "the stream")
    return seen


def test_one_buffer_serves_all_frames_and_is_read_after_its_event(events):
    copy = RouteCopy()
    for frame in range(3):
        copy.start(torch.tensor([frame, 0.5]))
        assert events[-1] == "record on the stream"
        assert copy.read() == [frame, 0.5]
    assert events == ["allocate", *["record on the stream", "wait"] * 3]
    copy.start(torch.ones(2, dtype=torch.bfloat16))
    assert copy.read() == [1, 1] and events.count("allocate") == 2, "a buffer of one type: nothing is converted"


def test_the_buffer_serves_inside_and_outside_of_inference_mode(events):
    copy = RouteCopy()
    with torch.inference_mode():
        copy.start(torch.zeros(2))
    copy.start(torch.ones(2, requires_grad=True))
    assert copy.read() == [1, 1]


def test_on_the_host_values_are_read_as_they_are():
    copy, values = RouteCopy(), torch.tensor([0.1, float("nan")])
    copy.start(values)
    assert str(copy.read()) == str(values.tolist())


@pytest.fixture
def predictor(mini_weights, rds_file):
    return build_rds_video_predictor("mini", mini_weights, rds_file, budget=0.5, device="cpu")


@pytest.fixture
def frames(predictor):
    """The generator of a propagation whose first, prompted frame is done."""
    video = torch.randint(255, (5, 96, 128, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8).numpy()
    state = predictor.init_state(video)
    predictor.add_new_mask(state, 0, 1, torch.arange(96)[:, None].expand(96, 128) < 40)
    found = predictor.propagate_in_video(state)
    next(found)
    return found


@pytest.mark.parametrize("fixed", [None, [True] * 48])
def test_the_first_block_starts_before_the_route_is_waited_for(predictor, frames, monkeypatch, fixed):
    happened = []
    predictor.set_fixed_route(fixed)
    start, read = RouteCopy.start, RouteCopy.read
    monkeypatch.setattr(RouteCopy, "start", lambda self, values: happened.append("copy") or start(self, values))
    monkeypatch.setattr(RouteCopy, "read", lambda self: happened.append("read") or read(self))
    for i, block in enumerate(predictor.backbone.blocks):
        block.register_forward_pre_hook(lambda *_, i=i: happened.append(i))
    next(frames)
    assert happened[:3] == ["copy", 0, "read"] and happened.count("read") == 1
    assert happened[3:] == sorted(happened[3:]) and {2, 8, 44, 47} <= set(happened[3:])


def test_routing_reads_from_the_device_once_a_frame(predictor, frames):
    counts = []
    for policy in (predictor.policy, None):
        predictor.set_policy(policy)
        with HostReads() as reads:
            next(frames)
        counts.append(reads.count)
    assert counts[0] - counts[1] == 1


def test_what_runs_is_what_is_logged(predictor, frames, monkeypatch):
    given, run = [], HieraBackbone.run
    monkeypatch.setattr(HieraBackbone, "run", lambda *args: given.append(args[-1]) or run(*args))
    next(frames), next(frames)
    assert len(given) == 2 and all(isinstance(asked, AskedRoute) for asked in given)
    for asked in given:
        assert tuple(asked[i] for i in range(48)) == asked.route.active == asked.log.frames[asked.frame_idx].active
        assert asked.route.reason == "routed" and not all(asked.route.active)
