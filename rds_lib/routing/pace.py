"""A controller that holds a frame rate: as many blocks on each routed frame as its time allows."""

import logging
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from numbers import Real
from statistics import mean, median, median_low

from rds_lib.core.errors import RDSInputError
from rds_lib.model.stopwatch import clock_of
from rds_lib.routing.allowance import allowance_of, bounds, share_of
from rds_lib.routing.costs import Costs, milliseconds_of
from rds_lib.routing.deployed import RoutingPolicy
from rds_lib.routing.route_table import FrameRoute

_logger = logging.getLogger(__name__)
CREDIT, DEBT = 1.0, 4.0  # periods: the most that a frame may use of earlier ones' slack, and that is to be paid back
RESERVE = 0.5  # periods of slack that are kept for frames that take longer
HORIZON = 4  # frames over which slack is brought back to the reserve
RATE = 0.2  # of the exponential mean of an object's part
SEEN = 3  # frames, whose median it takes: one slow frame is passed over
PATIENCE, HOPELESS = 8, 2.0  # frames in a row, and periods of debt, that show that a rate can't be held
PROMPTED = ("first_frame", "prompted")  # reasons of frames whose time says little of the others


@dataclass(frozen=True)
class PaceReport:
    """How a frame rate was held."""

    fps: float  # asked for
    frames: int
    in_time: float  # share of them; NaN without any
    rate: float  # frames a second of the time that counted
    mean_blocks: float  # over frames on which the encoder ran
    cannot: str  # why the rate can't be held, as things stood at the end; "" if it can

    def __str__(self) -> str:
        held = f"{100 * self.in_time:.1f}% of {self.frames} frames in time at {self.fps:g} a second"
        return f"{held}, {self.mean_blocks:.1f} blocks a frame" + (f"; {self.cannot}" if self.cannot else "")


class Pace:
    """Hold a frame rate, from frame to frame, by what each routed frame's blocks may cost.

    A frame is in time if it ends by its due time: one period, 1 / fps, after the due time of the frame before it, on a
    clock that runs from the start to the end of each frame. So a frame may use what earlier ones left, at most one
    period of it, and a frame that took too long is a debt, of at most four periods: what is more is forgiven. Frames
    that run all blocks, for a prompt or a lost object, are such debts, and the frames after them pay.

    What a frame takes besides its blocks is learnt: an exponential mean over frames, for each object. A routed frame
    gets one period, and a quarter of what slack there is above half a period, or below it; less what it takes besides.
    It never gets less than the lowest budget that the router serves, nor more than all blocks.

    Parameters
    ----------
    fps : float
        Frames a second.
    costs : Costs
        In ms; see `costs.milliseconds_of`. Their scale may be off: what is learnt makes up for it.
    always_on : sequence of int
    lowest : float
        The lowest budget that the router serves.
    counts_between : bool
        Whether time between two frames counts, as where one loop reads, tracks and writes a file. By default it is
        waiting, for a camera.
    clock : callable
        Returns seconds.
    """

    def __init__(
        self,
        fps: float,
        costs: Costs,
        always_on: Sequence[int],
        *,
        lowest: float = 0.0,
        counts_between: bool = False,
        clock: Callable[[], float] = time.perf_counter,
    ):
        self.fps, self.period = fps, 1e3 / check_fps(fps)  # ms
        self.costs, self.always_on, self._counts_between, self._clock = costs, always_on, counts_between, clock
        self.least, self.most = allowance_of(lowest, costs.blocks, always_on), bounds(costs.blocks, always_on)[1]
        self.slack = 0.0  # ms by which the last frame was ahead of its due time; below 0 the debt
        self.tail = 0.0  # ms that a frame takes for each object, besides the image encoder
        self.cannot = ""
        self._n_objects, self._learnt, self._seen = 0, 0, deque(maxlen=SEEN)
        self._began: float | None = None
        self._ended: float | None = None
        self._at_least = False  # whether this frame was given the least
        self._tight, self._loose = deque(maxlen=PATIENCE), 0  # (ms, blocks) of frames in a row that could take no less
        self._in_time, self._ms, self._frames, self._blocks, self._encoded = 0, 0.0, 0, 0, 0

    def frame_started(self) -> None:
        """Call where the work on a frame begins."""
        now, self._at_least = self._clock(), False
        if self._ended is None or not self._counts_between:
            self._began = now
            if self._ended is not None and self.slack < 0:  # who had to wait for the frame has caught up
                self.slack = min(0.0, self.slack + 1e3 * (now - self._ended))
        else:
            self._began = self._ended

    def allowance(self) -> float:
        """What the blocks of the next routed frame may cost, ms."""
        wanted = self.period + (self.slack - RESERVE * self.period) / HORIZON
        besides = self.costs.besides + max(self._n_objects, 1) * self.tail
        return min(max(wanted - besides, self.least), self.most)

    def policy(self, policy: RoutingPolicy) -> RoutingPolicy:
        """The policy of this frame: the given one's router, within the allowance."""
        allowance = self.allowance()
        self._at_least = allowance <= self.least
        share = share_of(allowance, self.costs.blocks, self.always_on)
        return replace(policy, mode="within", budget=share, costs=self.costs.blocks, allowance=allowance)

    def frame_ended(self, route: FrameRoute | None, n_objects: int) -> None:
        """Call where the work on a frame ends, with its route (None if no block ran) and how many objects it has."""
        if self._began is None:
            raise RDSInputError("frame_ended without frame_started; call both, in turns")
        self._ended = self._clock()
        ms, self._began = 1e3 * (self._ended - self._began), None
        slack = self.slack + self.period - ms
        self._in_time += slack >= -1e-6
        self.slack = min(max(slack, -DEBT * self.period), CREDIT * self.period)
        self._frames, self._ms = self._frames + 1, self._ms + ms
        if route is not None:
            self._encoded, self._blocks = self._encoded + 1, self._blocks + sum(route.active)
            self._learn(ms, route, n_objects)
            self._judge(ms, route)

    def report(self) -> PaceReport:
        """How the rate was held so far."""
        frames, encoded, ms = (value or math.nan for value in (self._frames, self._encoded, self._ms))
        of_time = (self._in_time / frames, 1e3 * self._frames / ms)
        return PaceReport(self.fps, self._frames, *of_time, self._blocks / encoded, self.cannot)

    def _learn(self, ms, route, n_objects):
        """Take in what a frame took besides its image encoder; one with a prompt says little, but more than nothing."""
        if n_objects != self._n_objects:
            self._n_objects, self._learnt = n_objects, 0
            self._seen.clear()
        blocks = sum(cost for cost, active in zip(self.costs.blocks, route.active, strict=True) if active)
        tail = (ms - blocks - self.costs.besides) / max(n_objects, 1)
        if route.reason in PROMPTED:
            self.tail = self.tail or tail
            return
        self._seen.append(tail)
        self._learnt += 1
        self.tail += max(RATE, 1 / self._learnt) * (median_low(self._seen) - self.tail)

    def _judge(self, ms, route):
        """Say, where it changes, whether the rate can be held; frames with prompts, which take longer, do not count."""
        if route.reason in PROMPTED:
            return
        if route.reason == "routed" and not self._at_least:
            self._tight.clear()
            self._loose += 1
            if self.cannot and self._loose >= PATIENCE:
                self.cannot = ""
                _logger.warning("%g frames a second can be held again", self.fps)
            return
        self._loose = 0
        self._tight.append((ms, sum(route.active)))
        taken = median(ms for ms, _ in self._tight)
        is_hopeless = len(self._tight) == PATIENCE and taken > self.period and self.slack <= -HOPELESS * self.period
        if is_hopeless and not self.cannot:
            blocks = mean(count for _, count in self._tight)
            self.cannot = (
                f"{self.fps:g} frames a second cannot be held: a frame takes {taken:.3g} ms with the fewest blocks "
                f"that may run, {blocks:.3g} of {len(route.active)}, and may take {self.period:.3g}; ask for "
                f"{1e3 / taken:.3g} or less, track fewer objects, or use a smaller model"
            )
            _logger.warning(self.cannot)


def check_fps(fps: float, name: str = "fps") -> float:
    """Return a frame rate, or raise if it is none."""
    if isinstance(fps, bool) or not isinstance(fps, Real) or not 0 < fps <= 1000:
        raise RDSInputError(f"{name} is {fps!r}; give frames a second, above 0 and at most 1000")
    return float(fps)


def pace_of(predictor, fps: float, *, counts_between: bool = False, clock: Callable[[], float] | None = None) -> Pace:
    """A `Pace` for a predictor's router on this machine, whose blocks are timed the first time.

    Raises
    ------
    RDSInputError
        If the predictor has no router, is no SAM2, or ``fps`` is no frame rate.
    """
    check_fps(fps)
    if (policy := predictor.policy) is None:
        raise RDSInputError(
            f"fps is {fps:g}, for which a router is needed; build the predictor with a budget, such as 1"
        )
    if not isinstance(predictor.image_size, int):
        raise RDSInputError(f"fps is {fps:g}; a rate is held for SAM2, whose frames have one size: leave fps out")
    costs = milliseconds_of(predictor.backbone, policy.router, predictor.device)
    options = {"lowest": policy.lowest, "counts_between": counts_between}
    return Pace(fps, costs, policy.router.always_on, **options, clock=clock or clock_of(predictor.device))
