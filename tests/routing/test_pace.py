"""A frame rate is held on made-up machines, whose clock only their own work moves."""

import math
import random
from types import SimpleNamespace

import pytest
import torch

from rds_lib.core.errors import RDSInputError
from rds_lib.data.images import ShortSide
from rds_lib.routing import pace as paces
from rds_lib.routing.build import build_rds_video_predictor
from rds_lib.routing.costs import Costs
from rds_lib.routing.deployed import FoldedRouter, RoutingPolicy
from rds_lib.routing.frame_router import FrameRouter
from rds_lib.routing.pace import Pace, pace_of
from rds_lib.routing.route_table import FrameRoute, RouteLog
from rds_lib.routing.router import PredictionAwareRouter

ALWAYS_ON = (0, 2, 8, 44, 47)
COSTS = Costs(tuple(1.0 + (i in (23, 33, 43)) for i in range(48)), 3.0, 1.0, "ms")  # 51 ms of blocks, K's 5
ROUTER = FoldedRouter(PredictionAwareRouter(16, 48, ALWAYS_ON, image_size=128))
POLICY = RoutingPolicy(ROUTER, 0.6, "threshold", 0.5, 31)


class Machine:
    """Runs frames under a pace. A frame takes ``load`` times what its parts say: 4 ms, its blocks, 20 ms an object."""

    def __init__(self, fps, *, tail=20.0, noise=0.0, between=0.0, lowest=0.4, **options):
        self.now, self.load, self.tail, self.noise, self.between = 100.0, 1.0, tail, noise, between
        self.pace = Pace(fps, COSTS, ALWAYS_ON, lowest=lowest, clock=lambda: self.now, **options)
        self.random, self.frames = random.Random(0), []  # (ms, blocks, whether it is in time)

    def run(self, count, *, full="", n_objects=1, extra=0.0):
        """Track frames: of the first one ``full`` is the reason why all blocks run, and ``extra`` ms are lost on it."""
        for k in range(count):
            self.now += self.between / 1e3
            in_time, start = self.pace._in_time, self.now
            self.pace.frame_started()
            if full and k == 0:
                active, reason = (True,) * 48, full
            else:
                w = [self.random.random() for _ in range(48)]
                active, reason = tuple(self.pace.policy(POLICY).decide(w, torch.Generator())[0]), "routed"
            blocks = sum(cost for cost, flag in zip(COSTS.blocks, active) if flag)
            ms = self.load * (4.0 + blocks + self.tail * n_objects) * math.exp(self.noise * self.random.gauss(0, 1))
            self.now += (ms + extra * (k == 0)) / 1e3
            self.pace.frame_ended(FrameRoute(active, active, reason), n_objects)
            self.frames.append((1e3 * (self.now - start), sum(active), self.pace._in_time > in_time))
        return self

    def of(self, column, last):
        values = [frame[column] for frame in self.frames[-last:]]
        return sum(values) / len(values)


FULL = 4.0 + 51.0 + 20.0  # ms of a frame with all blocks


@pytest.mark.parametrize("fps, blocks", [(1e3 / 80, 48), (1e3 / 65, 40), (1e3 / 60, 36), (1e3 / 50, 26)])
def test_the_rate_is_held_with_the_blocks_that_there_is_time_for(fps, blocks):
    machine = Machine(fps).run(200, full="first_frame")
    assert machine.of(0, 100) <= 1e3 / fps + 0.1 and machine.of(2, 100) == 1.0
    assert machine.of(1, 100) == pytest.approx(blocks, abs=1.6), "none of the time is left unused"


def test_it_holds_with_noise():
    machine = Machine(1e3 / 60, noise=0.1).run(600, full="first_frame")
    assert machine.of(2, 500) > 0.98 and machine.of(0, 500) == pytest.approx(60, rel=0.01)


@pytest.mark.parametrize("load", [1.3, 2.0])
def test_it_holds_through_a_load_that_comes_and_goes(load):
    machine = Machine(1e3 / (60 * load), lowest=0.1).run(60, full="first_frame")
    before = machine.of(1, 20)
    machine.load = 1.3 * load
    machine.run(60)
    assert machine.of(2, 40) == 1.0 and machine.of(1, 40) < before - 5
    assert sum(not late for *_, late in machine.frames[60:80]) <= 8, "frames late until it is learnt"
    machine.load = 1.0
    machine.run(60)
    assert machine.of(2, 60) == 1.0 and machine.of(1, 20) >= before - 1.5 and not machine.pace.cannot


def test_costs_that_are_wrong_by_a_factor_do_no_harm():
    for load in (0.3, 3.0):
        machine = Machine(1e3 / (60 * load), lowest=0.1)
        machine.load = load
        machine.run(150, full="first_frame")
        assert machine.of(2, 100) == 1.0 and machine.of(1, 100) == pytest.approx(36, abs=2)


def test_one_slow_frame_is_paid_for_and_changes_nothing_else():
    machine = Machine(1e3 / 60).run(100, full="first_frame")
    tail = machine.pace.tail
    machine.run(1, extra=100.0)
    assert not machine.frames[-1][2] and machine.pace.tail == pytest.approx(tail, abs=0.6)
    machine.run(40)
    assert machine.of(2, 20) == 1.0 and machine.pace.tail == pytest.approx(tail, abs=0.6)
    assert sum(1 for *_, in_time in machine.frames[100:] if not in_time) <= 8


def test_a_full_frame_is_a_debt_that_the_next_frames_pay():
    machine = Machine(1e3 / 60).run(100, full="first_frame")
    before = machine.of(1, 50)
    machine.run(31, full="no_previous_mask")
    blocks = [count for _, count, _ in machine.frames[-31:]]
    assert blocks[0] == 48 and sum(blocks[1:4]) / 3 < before - 2 and machine.of(1, 10) == pytest.approx(before, abs=1.6)
    assert machine.of(0, 31) <= 60.5, "the whole is on time again"


def test_debts_and_credit_are_bounded():
    machine = Machine(1e3 / 60).run(5, extra=1e5)
    assert machine.pace.slack >= -4 * 60
    fast = Machine(1.0).run(50)
    assert fast.pace.slack == fast.pace.period == 1000.0 and fast.of(1, 50) == 48
    fast.run(1, extra=2500.0)
    assert not fast.frames[-1][2], "what fifty frames left is one period"


def test_a_frame_may_use_one_period_of_slack_and_no_more():
    for extra, in_time in ((1000.0 + 1000.0 - FULL - 1, True), (1000.0 + 1000.0 - FULL + 1, False)):
        assert Machine(1.0).run(5).run(1, extra=extra).frames[-1][2] is in_time


def test_no_frame_gets_less_than_the_router_serves_nor_less_than_the_blocks_always_on(caplog):
    for lowest, least in ((0.4, 5 + 0.4 * 46), (0.0, 5.0)):
        machine = Machine(1e3 / 10, lowest=lowest).run(50)
        policy = machine.pace.policy(POLICY)
        assert policy.allowance == machine.pace.least == pytest.approx(least)
        assert machine.of(1, 20) == pytest.approx(least, abs=1.5)
        assert "frames a second cannot be held" in caplog.text


def test_the_first_frame_says_what_the_next_has_time_for():
    machine = Machine(1e3 / 60).run(1, full="first_frame")
    assert machine.pace.tail == pytest.approx(20.0) and machine.run(1).frames[1][0] < 60


def test_frames_with_prompts_say_nothing_of_the_others():
    machine = Machine(1e3 / 60).run(20, full="first_frame")
    for _ in range(4):
        machine.run(1, full="prompted", extra=30.0)
    assert machine.pace.tail == pytest.approx(20.0)


def test_more_objects_get_fewer_blocks_at_once():
    machine = Machine(1e3 / 90, lowest=0.1).run(30, full="first_frame")
    assert machine.of(1, 10) == 48
    machine.run(30, full="prompted", n_objects=3)
    assert machine.of(1, 10) == pytest.approx(26, abs=1.6) and machine.pace.tail == pytest.approx(20, abs=1)
    assert sum(1 for *_, in_time in machine.frames[30:] if not in_time) <= 3


def test_what_cannot_be_held_is_said_once_and_again_when_it_changes(caplog):
    machine = Machine(1e3 / 30).run(100, full="first_frame")
    assert len(caplog.messages) == 1 and machine.of(2, 50) == 0
    found = caplog.messages[0]
    assert found.startswith("33.3333 frames a second cannot be held: a frame takes ") and "of 48" in found
    assert "may take 30;" in found and machine.pace.report().cannot == found
    machine.load = 0.2
    machine.run(60)
    assert len(caplog.messages) == 2 and "can be held again" in caplog.messages[1] and not machine.pace.report().cannot
    machine.load = 1.0
    machine.run(60)
    assert len(caplog.messages) == 3 and caplog.messages[2].startswith("33.3333 frames a second cannot")


def test_a_debt_that_will_be_paid_is_not_said(caplog):
    machine = Machine(1e3 / 60).run(20, full="first_frame").run(9, extra=1e4)
    assert machine.pace.slack < -2 * 60 and not caplog.messages


def test_frames_with_prompts_do_not_show_that_a_rate_cannot_be_held(caplog):
    machine = Machine(1e3 / 60)
    for _ in range(30):
        machine.run(1, full="prompted", extra=200.0)
    assert machine.pace.slack < -2 * 60 and not caplog.messages


def test_a_rate_at_the_edge_says_little(caplog):
    machine = Machine(1e3 / 47.4, noise=0.05).run(2000, full="first_frame")  # what the least takes
    assert len(caplog.messages) <= 6 and machine.of(0, 1000) == pytest.approx(47.4, rel=0.03)


def test_lost_objects_that_cost_too_much_are_said_too(caplog):
    machine = Machine(1e3 / 60).run(1, full="first_frame")
    for _ in range(20):
        machine.run(1, full="no_previous_mask")
    assert len(caplog.messages) == 1 and "takes 75 ms with the fewest blocks that may run, 48 of 48" in caplog.text


def test_time_between_frames_is_waiting_or_counts():
    waiting = Machine(1e3 / 80, between=30.0).run(50)
    assert waiting.of(1, 20) == 48 and waiting.of(2, 50) == 1.0
    counted = Machine(1e3 / 80, between=30.0, counts_between=True).run(100)
    assert counted.of(1, 20) == pytest.approx(26, abs=1.6) and counted.of(2, 50) == 1.0
    assert counted.pace.report().rate == pytest.approx(1e3 / 80, rel=0.03)


def test_who_waits_for_a_frame_has_no_debt():
    machine = Machine(1e3 / 60).run(3, extra=500.0)
    assert machine.pace.slack < -60
    machine.between = 1000.0
    machine.run(1)
    assert machine.pace.slack >= 0 and machine.frames[-1][2]


def test_a_frame_without_an_object_counts_as_a_frame_alone():
    machine = Machine(1e3 / 60)
    machine.pace.frame_started()
    machine.now += 0.005
    machine.pace.frame_ended(None, 0)
    report = machine.pace.report()
    assert (report.frames, report.in_time) == (1, 1.0) and math.isnan(report.mean_blocks) and machine.pace.tail == 0


def test_the_report_adds_up():
    machine = Machine(1e3 / 60, noise=0.2).run(100, full="first_frame")
    report = machine.pace.report()
    assert report.frames == 100 and report.in_time == machine.of(2, 100) and report.fps == 1e3 / 60
    assert report.mean_blocks == pytest.approx(machine.of(1, 100)) and report.rate == pytest.approx(
        1e3 / machine.of(0, 100)
    )
    assert str(report).startswith(f"{100 * report.in_time:.1f}% of 100 frames in time at 16.6667 a second, ")
    assert math.isnan(Machine(30).pace.report().in_time)


def test_the_end_of_a_frame_that_never_began_is_an_error():
    with pytest.raises(RDSInputError, match="frame_ended without frame_started"):
        Machine(30).pace.frame_ended(None, 0)


@pytest.mark.parametrize("fps", [0, -1, math.nan, math.inf, "30", True, None, 1001])
def test_what_is_no_frame_rate(fps):
    with pytest.raises(RDSInputError, match="give frames a second, above 0 and at most 1000"):
        Pace(fps, COSTS, ALWAYS_ON)


def test_a_predictor_without_a_router_cannot_hold_a_rate():
    with pytest.raises(
        RDSInputError, match="fps is 30, for which a router is needed; build the predictor with a budget"
    ):
        pace_of(SimpleNamespace(policy=None), 30)


def test_a_tracker_of_frames_of_any_shape_cannot_hold_a_rate():
    with pytest.raises(RDSInputError, match="fps is 30; a rate is held for SAM2, whose"):
        pace_of(SimpleNamespace(policy=POLICY, image_size=ShortSide(960, 16)), 30)


def test_the_pace_of_a_predictor_has_its_routers_bounds(monkeypatch):
    monkeypatch.setattr(paces, "milliseconds_of", lambda *given: COSTS)
    pace = pace_of(build_rds_video_predictor("mini", budget=0.6, device="cpu"), 30)
    assert (pace.least, pace.most) == (pytest.approx(5 + 0.4 * 46), 51.0)


def test_a_log_with_a_pace_routes_by_it_and_one_without_by_the_policy():
    backbone = SimpleNamespace(depth=48, always_on=ALWAYS_ON)
    router = FrameRouter(backbone)
    router.policy = RoutingPolicy(ROUTER, 0.6, "top_n", 0.5, 31)
    generator = torch.Generator().manual_seed(0)
    tokens, mask = torch.randn(1, 32, 32, 16, generator=generator), torch.ones(1, 1, 32, 32)
    assert sum(router.route(tokens, [mask], 1, RouteLog()).active) == 31
    pace = Pace(1e3 / 34, COSTS, ALWAYS_ON, clock=lambda: 0.0)  # 30 ms for blocks, less a reserve to be laid by
    route = router.route(tokens, [mask], 1, RouteLog(pace=pace))
    spent = sum(cost for cost, flag in zip(COSTS.blocks, route.active) if flag)
    assert route.reason == "routed" and pace.allowance() - 2 < spent <= pace.allowance() < 30
