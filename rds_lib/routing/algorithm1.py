"""Algorithm 1 as pure functions: from block probabilities to a 0/1 route.

Several of its lines exist twice, because training needs batches and gradients, and tracking needs speed: on one frame
each operation costs more than its arithmetic. Tests hold the two columns equal.

| line  | what           | training                    | inference                                 | why they differ   |
|-------|----------------|-----------------------------|-------------------------------------------|-------------------|
| 1-2   | no mask: all   | training.rds.RoutedClip     | frame_router.FrameRouter                  | a batch, clip by  |
|       | blocks         |                             |                                           | clip              |
| 3-4   | logits         | router.probabilities        | deployed.FoldedRouter.logits              | fixed weights fold|
|       |                |                             |                                           | into one product  |
| 5     | p, a sigmoid   | router.probabilities_of     | router.probabilities_on_host              | L numbers, after  |
|       |                |                             |                                           | the one copy      |
| 6     | w, from budget | normalize_to_budget         | deployed.RoutingPolicy.keep_probabilities | as line 5         |
| 7-9   | K on           | `_force_on`, in each route  | deployed.RoutingPolicy.decide             | as line 5         |
| 10-12 | draw from w    | sample_route                | the same, in mode "sample"                |                   |
| 13-16 | w >= tau       | threshold_route             | deployed.RoutingPolicy.decide             | as line 5         |

Line 5 is the paper's plain sigmoid, or ours, on logits normalised over the blocks: ``PredictionAwareRouter`` has the
setting, and ``FoldedRouter`` takes it over.

A frame whose previous masks show nothing has no mask either and runs in full. `top_n_route`, exactly n blocks, is ours
and serves both.
"""

import math
from collections.abc import Sequence
from numbers import Integral, Real

import torch
from torch import Tensor

from rds_lib.core.errors import RDSInputError


def target_active(budget: float, depth: int, always_on) -> float:
    """Expected active blocks of Algorithm 1 under uniform probabilities: |K| + (L - |K|) * budget.

    Paper does not say which count a budget stands for; we take the one that its own rule gives.
    """
    check_budget(budget)
    n_fixed = len(set(check_always_on(always_on, depth)))
    return n_fixed + (depth - n_fixed) * budget


def normalize_to_budget(p: Tensor, budget: float | Tensor, *, check: bool = True) -> Tensor:
    """Scale block probabilities so that their sum meets the budget.

    Line 6 of Algorithm 1: ``w = min(budget * L * p / sum(p), 1)``. What the clip cuts off does not go to other blocks.

    Parameters
    ----------
    p : Tensor, shape (..., L), float
        Activation probabilities in [0, 1], not all zero.
    budget : float or Tensor of shape (...)
        Target share of active blocks, in (0, 1]; a tensor has one value per row of ``p``.
    check : bool
        False trusts the values of tensors; to look at them, a host waits for its GPU.

    Returns
    -------
    Tensor, shape (..., L)
        Keep probabilities in [0, 1]; they sum to *at most* ``budget * L``.

    Raises
    ------
    RDSInputError
        If ``budget`` is outside (0, 1], or ``p`` is not made of probabilities.
    """
    p = _as_probabilities(p, "p", check)
    if not isinstance(budget, Tensor):
        check_budget(budget)
    else:
        if check and not ((budget > 0) & (budget <= 1)).all():
            raise RDSInputError(f"budget is {budget.tolist()}; give numbers in (0, 1], the share of active blocks")
        budget = budget[..., None].to(p.dtype)
    total = p.sum(-1, keepdim=True)
    if check and not (total > 0).all():
        raise RDSInputError("p has a row of zeros; at least one block needs a probability above 0")
    return (budget * p.shape[-1] * p / total).clamp(max=1)


def threshold_route(w: Tensor, always_on, tau: float = 0.5) -> Tensor:
    """Deterministic route, lines 7-16 of Algorithm 1 at inference: ``w >= tau``, and 1 on ``always_on``.

    Parameters
    ----------
    w : Tensor, shape (..., L)
        Keep probabilities in [0, 1]. The route has their shape and dtype.
    always_on : sequence of int
        Blocks that always run (the paper's K).
    tau : float
        Threshold, at least 0. The paper's 0.5 turns nearly uniform ``w`` all on or all off: calibrate it.
    """
    w = _as_probabilities(w, "w")
    check_tau(tau)
    return _force_on((w >= tau).to(w.dtype), always_on)


def sample_route(w: Tensor, always_on, generator: torch.Generator | Sequence | None = None) -> Tensor:
    """Bernoulli route with a straight-through gradient, lines 10-12 of Algorithm 1.

    Forward: ``r ~ Bernoulli(w)``, exactly 0 or 1, and 1 on ``always_on``. Backward: ``d r / d w`` is 1 off
    ``always_on`` and 0 on it. A ``generator`` has to be on the device of ``w``; a list of them has one for each row.
    """
    w = _as_probabilities(w, "w")
    if isinstance(generator, Sequence):
        drawn = torch.stack([torch.bernoulli(row, generator=g) for row, g in zip(w.detach(), generator, strict=True)])
    else:
        drawn = torch.bernoulli(w.detach(), generator=generator)
    return _force_on(drawn + (w - w.detach()), always_on)


def top_n_route(w: Tensor, always_on, n_active: int) -> Tensor:
    """Route with exactly ``n_active`` blocks: ``always_on`` and the largest others; of equals the shallower wins."""
    w = _as_probabilities(w, "w")
    depth = w.shape[-1]
    fixed = len(set(check_always_on(always_on, depth)))
    if not isinstance(n_active, Integral) or not fixed <= n_active <= depth:
        raise RDSInputError(
            f"n_active is {n_active!r}; give a whole number from {fixed} (always on) to {depth} (depth)"
        )
    score = _force_on(w.detach(), always_on, value=2.0)
    best = score.argsort(dim=-1, descending=True, stable=True)[..., :n_active]
    return torch.zeros_like(score).scatter_(-1, best, 1.0)


def calibrate_threshold(w_val: Tensor, always_on, target_active: float) -> float:
    """Threshold whose mean number of active blocks over the validation frames is closest to the target.

    Exact: tries every count that a threshold can give. Of two equally close thresholds the one with fewer blocks wins.

    Parameters
    ----------
    w_val : Tensor, shape (N, L)
        Keep probabilities of N validation frames.
    always_on : sequence of int
    target_active : float
        Wanted mean number of active blocks, ``always_on`` included.

    Returns
    -------
    float
        ``tau`` for `threshold_route`; midway between two neighbouring values of ``w_val``.
    """
    w_val = _as_probabilities(w_val, "w_val")
    depth = w_val.shape[-1]
    if w_val.ndim != 2 or len(w_val) == 0:
        raise RDSInputError(f"w_val has shape {tuple(w_val.shape)}; expected (frames, blocks) with at least one frame")
    fixed = sorted(set(check_always_on(always_on, depth)))
    if not isinstance(target_active, Real) or not len(fixed) <= target_active <= depth:
        raise RDSInputError(f"target_active is {target_active!r}; give a number from {len(fixed)} to {depth} (depth)")
    free = w_val.new_ones(depth, dtype=torch.bool)
    free[fixed] = False
    values, counts = w_val[:, free].flatten().unique(return_counts=True)  # ascending
    if len(values) == 0:
        return 0.5
    wanted = (target_active - len(fixed)) * len(w_val)
    # active[k]: how many blocks of all frames run when the k largest distinct values are kept
    active = torch.cat([counts.new_zeros(1), counts.flip(0).cumsum(0)])
    kept = int((active - wanted).abs().argmin())
    return _separate(values, kept)


def _separate(values, kept):
    """A number at most the ``kept`` largest of the ascending ``values`` and above all others, exact in their dtype."""
    if kept == len(values):
        return 0.0
    below = values[-1 - kept]
    above = values[len(values) - kept] if kept else torch.nextafter(below, below.new_tensor(math.inf))
    middle = below + (above - below) / 2
    return float(middle if middle > below else above)


def check_budget(budget):
    """Raise unless ``budget`` is a number in (0, 1]."""
    if isinstance(budget, bool) or not isinstance(budget, Real) or not 0 < budget <= 1:
        raise RDSInputError(f"budget is {budget!r}; give a number in (0, 1], the target share of active blocks")


def check_tau(tau):
    """Raise unless ``tau`` is a finite number of at least 0 (just above 1 keeps only the blocks that are always on)."""
    if isinstance(tau, bool) or not isinstance(tau, Real) or not 0 <= tau <= 2:
        raise RDSInputError(f"tau is {tau!r}; give a number from 0 (all blocks) to 1, see calibrate_threshold")


def check_always_on(always_on, depth):
    """Return ``always_on`` as a tuple of ints, or raise if one is no block of a trunk with ``depth`` blocks."""
    blocks = tuple(always_on)
    if not all(i == int(i) and 0 <= i < depth for i in blocks):
        raise RDSInputError(f"always_on is {blocks}; block numbers run from 0 to {depth - 1}")
    return tuple(int(i) for i in blocks)


def _as_probabilities(values, name, check=True):
    values = torch.as_tensor(values)
    if not values.is_floating_point():
        values = values.float()
    if values.ndim == 0 or values.shape[-1] == 0:
        raise RDSInputError(f"{name} has shape {tuple(values.shape)}; its last axis must run over the blocks")
    if check and not ((values >= 0) & (values <= 1)).all():
        raise RDSInputError(f"{name} holds NaN or a value outside [0, 1]; give one probability per block")
    return values


def _force_on(route, always_on, value=1.0):
    """Set ``always_on`` to ``value``, block by block: an index tensor would cost a copy to the device."""
    route = route.clone()
    for i in check_always_on(always_on, route.shape[-1]):
        route[..., i] = value
    return route
