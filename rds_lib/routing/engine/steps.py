"""The steps that an engine is made of, the engines that have names, and how one is put on a predictor.

| step     | what it does                                              | masks against "eager"            |
|----------|-----------------------------------------------------------|----------------------------------|
| "cast"   | weights in bfloat16, once; needs autocast while tracking  | equal, bit for bit               |
| "blocks" | ``torch.compile`` on each block of the encoder            | equal but for rounding           |
| "router" | the router as one graph                                   | a route on the edge may turn     |
| "tail"   | memory attention, mask decoder, memory encoder compiled   | equal but for rounding           |
| "graphs" | each block a CUDA graph in place; needs "cast" and a GPU  | those of the blocks it records   |
"""

import copy
import logging
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace

import torch

from rds_lib.core.errors import RDSInputError
from rds_lib.routing.deployed import FoldedRouter, RoutingPolicy
from rds_lib.routing.engine.cast import DTYPE, cast_router, cast_weights, check_autocast
from rds_lib.routing.engine.compiled import compile_blocks, compile_router, compile_tail
from rds_lib.routing.engine.graphs import Record, graph_blocks, ungraph_blocks

_logger = logging.getLogger(__name__)
STEPS = ("cast", "blocks", "router", "tail", "graphs")
ENGINES = {"eager": (), "cast": ("cast",), "compiled": ("cast", "blocks", "router", "tail"), "graphs": STEPS}
TOLERANCE = 0.02  # of the features' spread, 5 roundings to bfloat16 (2 ** -8): what recorded blocks may be off by


@dataclass(frozen=True)
class Engine:
    """How a predictor is executed. Without any step it runs SAM2's own operations."""

    steps: frozenset[str] = frozenset()

    @classmethod
    def of(cls, engine: "str | Iterable[str]") -> "Engine":
        """From a name in `ENGINES`, or from steps.

        Raises
        ------
        RDSInputError
            If there is no such engine or step, or "graphs" comes without "cast".
        """
        steps = ENGINES.get(engine) if isinstance(engine, str) else tuple(engine)
        if steps is None or not set(steps) <= set(STEPS):
            raise RDSInputError(
                f"engine is {engine!r}; choose one of {', '.join(ENGINES)}, or a list of steps: {', '.join(STEPS)}"
            )
        if "graphs" in steps and "cast" not in steps:
            raise RDSInputError(f"engine is {engine!r}; graphs are recorded in bfloat16: add the step 'cast'")
        return cls(frozenset(steps))

    def check_fits(self, device: str | torch.device, mode: str, vos_optimized: bool) -> None:
        """Raise unless the engine goes with a device, a mode and SAM2's own ``vos_optimized``."""
        named = f"engine is {sorted(self.steps)}"
        if self.steps and mode != "eval":
            raise RDSInputError(f"{named} and mode {mode!r}; engines are for tracking: use mode='eval', or 'eager'")
        if vos_optimized and self.steps - {"cast"}:
            raise RDSInputError(f"{named} and vos_optimized=True, which compiles by itself; give one of them")
        if "graphs" in self.steps and torch.device(device).type != "cuda":
            raise RDSInputError(f"{named} on {device}; CUDA graphs need a CUDA device: use 'compiled' here")

    def apply_to(self, predictor, record: Record | None = None) -> None:
        """Put the engine on a predictor whose weights are final and on their device, in place.

        ``record`` is that of `graphs.graph_blocks`.
        """
        predictor.engine = self
        if "cast" in self.steps:
            cast_weights(predictor)
        if "blocks" in self.steps:
            compile_blocks(predictor.backbone.blocks)
        if "tail" in self.steps:
            compile_tail(predictor)
        if "graphs" in self.steps:
            self._graph(predictor, record)
        predictor.set_policy(predictor.policy)

    def policy(self, policy: RoutingPolicy | None) -> RoutingPolicy | None:
        """A policy with its router in the form that this engine runs; the one given stays as it is."""
        if policy is None or not isinstance(policy.router, FoldedRouter) or not self.steps & {"cast", "router"}:
            return policy
        if getattr(policy.router, "engine", None) == self:
            return policy
        router = copy.deepcopy(policy.router)
        if "cast" in self.steps:
            cast_router(router)
        if "router" in self.steps:
            compile_router(router)
        router.engine = self
        return replace(policy, router=router)

    def check_autocast(self, device: torch.device) -> None:
        """Raise where weights were cast and autocast is not on; called on every frame."""
        if "cast" in self.steps:
            check_autocast(device)

    def autocast(self, device: torch.device) -> AbstractContextManager:
        """The context that this engine's weights need; without "cast" it leaves everything as it is."""
        return torch.autocast(device.type, DTYPE) if "cast" in self.steps else nullcontext()

    @torch.inference_mode()
    def _graph(self, predictor, record):
        """Record the blocks; take that back where the features under one of three routes are not the blocks'."""
        backbone, size = predictor.backbone, predictor.image_size
        noise = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0)).to(predictor.device)
        always_on = backbone.always_on
        routes = [[i in always_on or i % k == 0 for i in range(backbone.depth)] for k in (1, 2, backbone.depth)]
        with self.autocast(predictor.device):
            tokens = backbone.embed(noise)
            wanted = [backbone.run(tokens, route)["backbone_fpn"] for route in routes]
            graph_blocks(backbone.blocks, tokens, record)
            found = [backbone.run(tokens, route)["backbone_fpn"] for route in routes]
        off = max(_distance(a, b) for one, other in zip(found, wanted) for a, b in zip(one, other))
        if not off <= TOLERANCE:
            ungraph_blocks(backbone.blocks)
            _logger.warning(
                "CUDA graphs of the blocks give features that are off by %.3g of their spread, more than %g: they are "
                "not used; please report this with your version of torch (%s)",
                off,
                TOLERANCE,
                torch.__version__,
            )


def _distance(found, wanted) -> float:
    """The largest difference between two maps, as a share of the spread of the second."""
    found, wanted = found.float(), wanted.float()
    return float((found - wanted).abs().max() / wanted.std())
