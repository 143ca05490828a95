"""Decide the route of one frame from its tokens and the masks of the frame before it."""

import logging
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from rds_lib.model.backbone import Backbone
from rds_lib.routing.deployed import RoutingPolicy
from rds_lib.routing.route_table import FrameRoute, RouteLog

_logger = logging.getLogger(__name__)


class FrameRouter:
    """Route a tracker's frames by fixed routes, by a policy, or not at all. Knows nothing of the tracker's state."""

    def __init__(self, backbone: Backbone):
        self.backbone = backbone
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
        if not masks:
            return self.full("no_previous_mask")
        union = masks[0] if len(masks) == 1 else torch.cat(list(masks)).amax(0, keepdim=True)
        union = union.to(tokens.device, non_blocking=True)
        if (flaw := log.flaws.get(frame_idx + 1 if log.reverse else frame_idx - 1)) is not None:
            union = union + flaw
        if self.fixed_route is not None:
            return self._follow_fixed_route(union, frame_idx)
        *logits, seen = self.policy.router.logits(tokens, union)[0].tolist()  # the one device-to-host copy of a frame
        if not math.isfinite(sum(logits)):
            log.invalid_frames += 1
            _logger.warning(
                "frame %d: NaN in router, previous mask or its features: the full encoder runs (%d frames so far)",
                frame_idx,
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

    def _follow_fixed_route(self, union, frame_idx):
        if not union.amax() > 0:
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
