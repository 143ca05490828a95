"""The route that an allowance pays for: a sum of costs, of blocks that differ in what they cost."""

from collections.abc import Sequence

from rds_lib.core.errors import RDSInputError

POWER = 0.5  # of a cost that a keep probability is divided by: at 1, what blocks cost outweighs what the router says
ROUNDING = 1e-9  # share of an allowance that a sum of costs may be above it


def route_within(w: Sequence[float], always_on: Sequence[int], costs: Sequence[float], allowance: float) -> list[bool]:
    """Choose blocks whose costs add up to at most an allowance: most keep probability for its cost first.

    Blocks that are always on come first and run whatever they cost. Of the others each is taken that still fits, in
    the order of ``w / sqrt(cost)``; of equals the shallower wins. Paper does not weigh blocks by cost; this is ours.
    With ``w / cost`` masks of the mini model lie farther from those of all its blocks, at the same cost.

    Parameters
    ----------
    w : sequence of float, length L
        Keep probabilities in [0, 1].
    always_on : sequence of int
    costs : sequence of float, length L
        Of each block, above 0, in the unit of ``allowance``.
    allowance : float
    """
    active, left = [False] * len(w), allowance * (1 + ROUNDING)
    for i in set(always_on):
        active[i] = True
        left -= costs[i]
    for i in sorted(range(len(w)), key=lambda i: -w[i] / costs[i] ** POWER):  # stable
        if not active[i] and costs[i] <= left:
            active[i] = True
            left -= costs[i]
    return active


def bounds(costs: Sequence[float], always_on: Sequence[int]) -> tuple[float, float]:
    """The least and the most that blocks can cost: those that are always on alone, and all."""
    return sum(costs[i] for i in set(always_on)), sum(costs)


def share_of(allowance: float, costs: Sequence[float], always_on: Sequence[int]) -> float:
    """The budget that an allowance comes to: its share of what the blocks cost that are not always on.

    From 0.001, which leaves the order of keep probabilities, to 1; inverse of `allowance_of`.
    """
    least, most = bounds(costs, always_on)
    return min(max((allowance - least) / (most - least), 0.001), 1.0) if most > least else 1.0


def allowance_of(share: float, costs: Sequence[float], always_on: Sequence[int]) -> float:
    """What blocks cost at a budget, as Algorithm 1 counts them: K, and a share of the others."""
    least, most = bounds(costs, always_on)
    return least + share * (most - least)


def check_costs(costs: Sequence[float], depth: int) -> tuple[float, ...]:
    """Return the costs of all blocks as a tuple, or raise if they are not L numbers above 0."""
    costs = tuple(float(cost) for cost in costs)
    if len(costs) != depth or not all(0 < cost < float("inf") for cost in costs):
        raise RDSInputError(f"costs are {len(costs)} numbers {costs[:4]}...; give {depth}, one a block, each above 0")
    return costs
