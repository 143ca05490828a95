"""Budgets that mean something: a share of the blocks, a number of them, GMACs or milliseconds of a frame."""

import logging
import math
import re
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

from rds_lib.core.errors import RDSInputError
from rds_lib.routing.algorithm1 import check_budget
from rds_lib.routing.allowance import bounds, share_of
from rds_lib.routing.costs import Costs, gmacs_of, milliseconds_of
from rds_lib.routing.deployed import FoldedRouter, RoutingPolicy
from rds_lib.routing.weights import RDSWeights

_logger = logging.getLogger(__name__)
UNITS = {"block": "blocks", "blocks": "blocks", "gmacs": "GMACs", "ms": "ms"}
FORMS = 'a share in (0, 1] such as 0.6, or a text: "30 blocks", "0.25 GMACs" or "40 ms"'
MEANING = {
    "blocks": "a frame of this model runs {} blocks (always on) to {} (all)",
    "GMACs": "the blocks of this image encoder take {} GMACs (always on alone) to {} GMACs (all) a frame",
    "ms": "on this machine a frame's patch embedding, router, blocks and neck take {} ms (with the blocks that are "
    "always on alone) to {} ms (with all)",
}


@dataclass(frozen=True)
class Budget:
    """What a frame may cost; make it with `parse_budget`."""

    value: float
    unit: str  # "share", "blocks", "GMACs" or "ms"

    @property
    def is_share(self) -> bool:
        """Whether it is the paper's: a target share of active blocks, met on average."""
        return self.unit == "share"

    def __str__(self) -> str:
        return f"{self.value:g}" + ("" if self.is_share else f" {self.unit}")


def parse_budget(budget: float | str) -> Budget:
    """Read a budget.

    Parameters
    ----------
    budget : float or str
        A number or its text: the target share of active blocks, in (0, 1]. "30 blocks": as many on every routed frame,
        the ones that are always on among them. "0.25 GMACs": at most, of the image encoder's blocks, a frame.
        "40 ms": about, of a frame's image encoder on this machine, from patch embedding through router and blocks to
        neck; not the tracking of objects after it.

    Raises
    ------
    RDSInputError
        If it is neither. Whether a model can meet it is for `counted_policy` to say.
    """
    if not isinstance(budget, str):
        check_budget(budget)
        return Budget(budget, "share")
    found = re.fullmatch(r"\s*([0-9.]+(?:e[+-]?[0-9]+)?)\s*([a-z]*)\s*", budget, re.IGNORECASE)
    try:
        value, unit = float(found[1]), UNITS[found[2].lower()] if found[2] else "share"
    except (TypeError, ValueError, KeyError):
        raise RDSInputError(f"budget is {budget[:40]!r}; give {FORMS}") from None
    if unit == "share":
        check_budget(value)
    elif not 0 < value < math.inf or (unit == "blocks" and value != int(value)):
        number = "a whole number" if unit == "blocks" else "a number"
        raise RDSInputError(f"budget is {budget[:40]!r}; give {number} of {unit} above 0, or a share in (0, 1]")
    return Budget(value, unit)


def check_counted(budget: Budget, routing: str, tau: float | None) -> None:
    """Raise if a budget that counts blocks, or what they cost, comes with another rule that decides how many run."""
    if routing not in ("threshold", "full") and not (routing == "top_n" and budget.unit == "blocks"):
        raise RDSInputError(f"budget is '{budget}' with routing {routing!r}; give a share in (0, 1], or no routing")
    if tau is not None and routing != "full":
        raise RDSInputError(f"budget is '{budget}', which needs no tau, {tau}; give a share in (0, 1], or no tau")


def counted_policy(budget: Budget, weights: RDSWeights, predictor) -> RoutingPolicy:
    """The policy that meets a budget of blocks, GMACs or ms on every routed frame; ``predictor`` is ready to run.

    Raises
    ------
    RDSInputError
        If the file has no router, or the budget is below what the blocks that are always on cost, or above all blocks.
    """
    weights.check_router()
    router, backbone = FoldedRouter(weights.router).to(predictor.device), predictor.backbone
    if budget.unit == "blocks":
        costs = Costs((1,) * backbone.depth, 0, 0, "blocks")
    else:
        costs = gmacs_of(backbone) if budget.unit == "GMACs" else milliseconds_of(backbone, router, predictor.device)
    least, most = (
        _digits(costs.besides + bound, up) for bound, up in zip(bounds(costs.blocks, router.always_on), (1, 0))
    )
    if not least <= budget.value <= most:
        what = MEANING[budget.unit].format(f"{least:g}", f"{most:g}")
        raise RDSInputError(f"budget is '{budget}'; {what}; give a number of {budget.unit} in that range")
    allowance = budget.value - costs.besides
    share = share_of(allowance, costs.blocks, router.always_on)
    if share < weights.lowest_budget:
        trained = f"this router was trained for {weights.lowest_budget:g} to 1"
        _logger.warning("budget '%s' comes to a share of %.2f of the blocks; %s", budget, share, trained)
    mode, n_active = ("top_n", int(budget.value)) if budget.unit == "blocks" else ("within", backbone.depth)
    return RoutingPolicy(
        router, share, mode, 0.5, n_active, costs.blocks, allowance, weights.lowest_budget, str(budget)
    )


def _digits(value: float, up: bool) -> float:
    """A number to three digits, rounded into the range that it bounds."""
    exact = Decimal(f"{value:.9g}")
    return float(exact.quantize(Decimal(1).scaleb(exact.adjusted() - 2), ROUND_CEILING if up else ROUND_FLOOR))
