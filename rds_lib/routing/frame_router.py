"""Decide the route of one frame from its tokens and the masks of the frame before it."""

import logging
import math
from collections.abc import Callable, Sequence
from functools import cached_property

import torch
from torch import Tensor

from rds_lib.model.backbone import Backbone
from rds_lib.routing.deployed import RoutingPolicy
from rds_lib.routing.engine.route_copy import RouteCopy
from rds_lib.routing.route_table import FrameRoute, RouteLog

_logger = logging.getLogger(__name__)


class AskedRoute:
    """A frame's route that is on its way from the device. Flags of blocks that always run are there at once.

    Given to ``backbone.run`` in place of L flags, it lets the first blocks start before the route is waited for.
    """

    def __init__(self, frame_router: "FrameRouter", frame_idx: int, log: RouteLog):
        self._frame_router, self.frame_idx, self.log = frame_router, frame_idx, log
        self._always_on = frame_router.backbone.always_on

    def __getitem__(self, block: int) -> bool:
        return block in self._always_on or self.route.active[block]

    @cached_property
    def route(self) -> FrameRoute:
        """The route; the first to ask waits for it."""
        return self._frame_router.answer(self)


class FrameRouter:
    """Route a tracker's frames by fixed routes, by a policy, or not at all. Knows nothing of the tracker's state.

    `route` asks and waits. `ask` and `answer` are its two halves, for who has something to do in between; one frame is
    asked for at a time.
    """

    def __init__(self, backbone: Backbone):
        self.backbone, self._copy = backbone, RouteCopy()
        self.policy: RoutingPolicy | None = None  # holds the router
        self.fixed_route: Sequence[bool] | Callable | None = None  # goes before the policy

    @property
    def is_active(self) -> bool:
        """Whether any frame can be routed."""
        return self.policy is not None or self.fixed_route is not None

    def set_fixed_route(self, route: Sequence | Callable | None) -> None:
        """Route by L flags, or by a function of frame_idx that returns them; None ends it."""
        self.fixed_route = route if route is None or callable(route) else self.backbone.check_route(route)

    def route(self, tokens: Tensor, masks: Sequence[Tensor], frame_idx: int, log: RouteLog) -> FrameRoute:
        """Return the route of a frame; full where no previous mask shows anything, or NaN is met.

        Both have the reason "no_previous_mask"; NaN also counts in the features behind the previous mask. First and
        prompted frames never get here, see `predictor.RDSVideoPredictor._reason_for_full`.

        Parameters
        ----------
        tokens : Tensor, shape (1, h, w, C)
            From ``backbone.embed``.
        masks : sequence of Tensor, shape (1, 1, h, w)
            Logits of the previous masks, one per object, on any device.
        log : RouteLog
            Counts frames with NaN, and has the generator of mode "sample". Its pace, if any, sets this frame's budget.
        """
        return self.ask(tokens, masks, frame_idx, log).route

    def ask(self, tokens: Tensor, masks: Sequence[Tensor], frame_idx: int, log: RouteLog) -> AskedRoute:
        """Let the device begin with a frame's route; arguments as of `route`."""
        asked = AskedRoute(self, frame_idx, log)
        if not masks:
            asked.route = self.full("no_previous_mask")
            return asked
        union = masks[0] if len(masks) == 1 else torch.cat(list(masks)).amax(0, keepdim=True)
        union = union.to(tokens.device, non_blocking=True)
        if (flaw := log.flaws.get(frame_idx + 1 if log.reverse else frame_idx - 1)) is not None:
            union = union + flaw
        is_fixed = self.fixed_route is not None
        self._copy.start(union.amax().view(1) if is_fixed else self.policy.router(tokens, union)[0])
        return asked

    def answer(self, asked: AskedRoute) -> FrameRoute:
        """The route that was asked for last: the one wait for the device of a frame."""
        *logits, seen = self._copy.read()
        if self.fixed_route is not None:
            return self._follow_fixed_route(seen, asked.frame_idx)
        log = asked.log
        if not math.isfinite(sum(logits)):
            log.invalid_frames += 1
            _logger.warning(
                "frame %d: NaN in router, previous mask or its features: the full encoder runs (%d frames so far)",
                asked.frame_idx,
                log.invalid_frames,
            )
            return self.full("no_previous_mask")
        if seen <= 0:
            return self.full("no_previous_mask")
        policy = self.policy if log.pace is None else log.pace.policy(self.policy)
        active, keep_prob = policy.decide(policy.keep_probabilities(logits), log.generator)
        return FrameRoute(tuple(active), tuple(keep_prob), "routed")

    def full(self, reason: str) -> FrameRoute:
        """Return the route of a frame that runs every block, and why."""
        depth = self.backbone.depth
        return FrameRoute((True,) * depth, (1.0,) * depth, reason)

    def _follow_fixed_route(self, seen, frame_idx):
        if not seen > 0:
            return self.full("no_previous_mask")
        route = self.fixed_route
        active = self.backbone.check_route(route(frame_idx)) if callable(route) else route
        return FrameRoute(active, tuple(float(flag) for flag in active), "routed")


class Routed:
    """What trackers with a route per frame share; they set ``backbone`` and ``frame_router``."""

    @property
    def depth(self) -> int:
        """Number of blocks L."""
        return self.backbone.depth

    @property
    def always_on(self) -> tuple[int, ...]:
        """Blocks that are never skipped (the paper's K)."""
        return self.backbone.always_on

    @property
    def policy(self) -> RoutingPolicy | None:
        """How frames are routed; None runs all blocks. Change a copy and hand it to ``set_policy``."""
        return self.frame_router.policy

    def set_policy(self, policy: RoutingPolicy | None):
        """Route by ``policy`` from now on; None runs all blocks."""
        self.frame_router.policy = policy

    def set_fixed_route(self, route: Callable | None):
        """Force the routes of ordinary frames, for baselines: L flags, or a function of frame_idx; None ends it.

        Blocks that always run are forced on. Frames that would run all blocks still do.
        """
        self.frame_router.set_fixed_route(route)
