"""The file that holds a router, its I-LoRA adapters and its calibrated thresholds."""

import json
import logging
import warnings
from dataclasses import dataclass
from itertools import product

from safetensors.torch import save
from torch import Tensor

from rds_lib.core.artifacts import in_half, write_bytes
from rds_lib.core.errors import RDSInputError
from rds_lib.data.checkpoints import FORMAT, RouterHeader, check_tensors, read_rds
from rds_lib.data.origin import SHOWN
from rds_lib.model.adapters import PREFIX, adapters_of, add_lora, fold_lora, load_lora, lora_state_dict
from rds_lib.model.backbone import backbone_of, origin_of
from rds_lib.routing.algorithm1 import check_budget, check_tau, target_active
from rds_lib.routing.deployed import FoldedRouter, RoutingPolicy
from rds_lib.routing.router import PredictionAwareRouter

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RDSWeights:
    """Contents of an RDS file. ``router`` is None in a file that holds adapters only."""

    router: PredictionAwareRouter | None
    lora: dict[str, Tensor]
    blocks: tuple[int, ...]
    rank: int
    alpha: float
    budgets: tuple[float, ...]  # the router was trained for these
    taus: dict[float, float]  # budget -> calibrated threshold
    config_file: str
    source: str = "RDS weights"  # the file, for messages
    base_sha256: str | None = None  # of the weights it was trained on, see `data.origin`; None in older files

    @property
    def lowest_budget(self) -> float:
        """The lowest budget with a threshold; without thresholds the lowest of the training; 0 if none is named."""
        return min(self.taus or self.budgets, default=0.0)

    def rule_for(self, budget: float) -> tuple[str, float]:
        """Mode and threshold that meet a budget, as `RoutingPolicy` takes them.

        A budget with a threshold of its own is met by it, on average. Any other is met on every frame, by "top_n": a
        threshold between two calibrated ones misses the count by blocks. Budget 1 runs all.

        Raises
        ------
        RDSInputError
            If the budget is not in (0, 1], or below ``lowest_budget``.
        """
        check_budget(budget)
        if budget == 1:
            return "threshold", 0.0
        if budget in self.taus:
            return "threshold", self.taus[budget]
        if budget < self.lowest_budget:
            raise RDSInputError(
                f"budget is {budget}; this router serves {self.lowest_budget:g} to 1; give a budget in that range or a "
                "tau, or train a router for this budget"
            )
        return "top_n", 0.5

    def policy(self, budget: float, routing: str, tau: float | None = None, *, router=FoldedRouter) -> RoutingPolicy:
        """How frames are routed; arguments as of `build_rds_video_predictor`, ``router`` the form to deploy it in."""
        self.check_router()
        n_active = round(target_active(budget, self.router.depth, self.router.always_on))
        if routing == "threshold" and tau is None:
            routing, tau = self.rule_for(budget)
            if routing == "top_n":
                known = ", ".join(f"{known:g}" for known in sorted(self.taus)) or "none"
                what = "no threshold was calibrated for budget %g (calibrated: %s): "
                _logger.warning(what + "every routed frame runs exactly %d blocks", budget, known, n_active)
        tau, lowest = 0.5 if tau is None else tau, self.lowest_budget
        return RoutingPolicy(router(self.router), float(budget), routing, tau, n_active, lowest=lowest)

    def check_router(self) -> None:
        """Raise if there is no router."""
        if self.router is None:
            fault = f"{self.source} holds adapters but no router"
            raise RDSInputError(f"{fault}; train it with a budget, or use routing='full'")

    def apply_to(self, model, *, merge: bool = True):
        """Put the adapters on ``model`` and, by default, merge them; returns ``model``.

        Warns where the model has other weights than those that the adapters and the router were trained on.
        """
        router, backbone = self.router, backbone_of(model)
        sizes, fault = (backbone.depth, backbone.embed_dim, backbone.image_size), None
        if router is not None and (router.depth, router.embed_dim, router.image_size) != sizes:
            own = f"depth {router.depth}, embed_dim {router.embed_dim}, {router.image_size} px"
            fault = f"for {self.config_file!r} of {own}; this model has " + "depth {}, embed_dim {}, {} px".format(
                *sizes
            )
        elif router is not None and (lacking := sorted(set(backbone.always_on) - set(router.always_on))):
            fault = f"its always_on, {list(router.always_on)}, lacks {lacking}, which this model always runs"
        if fault:
            raise RDSInputError(f"{self.source}: {fault}; train new ones")
        self._check_base(origin_of(model))
        if merge:
            return fold_lora(model, self.lora, self.blocks, rank=self.rank, alpha=self.alpha, source=self.source)
        if self.lora:
            load_lora(add_lora(model, self.blocks, rank=self.rank, alpha=self.alpha), self.lora)
        return model

    def _check_base(self, origin) -> None:
        own, here = self.base_sha256, origin.tensors_sha256
        if own and here and own != here:
            warnings.warn(
                f"{self.source}: was trained on weights with SHA-256 {own[:SHOWN]}, and those of {origin.checkpoint} "
                f"have {here[:SHOWN]} (of their tensors); give those that it was trained on, or train it for these",
                stacklevel=3,
            )


def save_rds(path, router, model, *, budgets=(), taus=None, blocks=None, rank=None, config_file="mini"):
    """Write a router and the adapters of ``model`` as one safetensors file, whole or not at all.

    Parameters
    ----------
    router : PredictionAwareRouter or None
    model : SAM2Base or ClipTracker
        Its unmerged adapters are saved; it may have none. The SHA-256 of the weights that it was built with is noted:
        that of their tensors in float32, which is the same whichever file they came in.
    budgets : sequence of float
        What the router was trained for.
    taus : dict, optional
        Budget to calibrated threshold; see `set_taus` for adding them later.
    blocks, rank
        If given, checked against the adapters found.
    config_file : str
        The model's config, for messages.
    """
    layers = adapters_of(model)
    found = sorted({int(name.split(".")[0]) for name in layers})
    first = next(iter(layers.values()), None)
    found_rank, alpha = (first.r["default"], first.lora_alpha["default"]) if layers else (0, 0)
    if (blocks is not None and sorted(set(blocks)) != found) or (rank is not None and rank != found_rank):
        raise RDSInputError(f"the model's adapters have rank {found_rank}, blocks {found}; not rank {rank}, {blocks}")
    arguments = None if router is None else {name: getattr(router, name) for name in RouterHeader.model_fields}
    if router is not None and router.token_stride == 4:  # Hiera's is left out, as in older files
        del arguments["token_stride"]
    meta = {
        "router": arguments,
        "blocks": found,
        "rank": found_rank,
        "alpha": alpha,
        "config_file": str(config_file),
        "budgets": [float(budget) for budget in budgets],
    }
    if base := origin_of(model).tensors_sha256:
        meta["base_sha256"] = base
    tensors = {f"lora.{name}": tensor for name, tensor in lora_state_dict(model).items()} | _router_tensors(router)
    _write(path, tensors, meta, taus or {})


def set_taus(path, taus: dict[float, float]):
    """Store calibrated thresholds, budget to tau, in an existing RDS file; other thresholds in it are dropped."""
    tensors, meta = read_rds(path)
    _write(path, tensors, meta, taus)


def load_rds(path) -> RDSWeights:
    """Read an RDS file and check it.

    Raises
    ------
    RDSInputError
        If the file is missing, no RDS file, or broken; lists missing, unexpected, misshaped and NaN entries.
    """
    tensors, meta = read_rds(path)
    lora = {name.removeprefix("lora."): value for name, value in tensors.items() if name.startswith("lora.")}
    blocks, budgets, rank, alpha = tuple(meta["blocks"]), tuple(meta["budgets"]), meta["rank"], meta["alpha"]
    taus = {float(budget): tau for budget, tau in meta["taus"].items()}
    if (sizes := meta["router"]) is not None:  # before it is built: a header may ask for more than the memory holds
        width, ends = sizes["embed_dim"], (sizes["depth"], 2 * sizes["hidden"])
        known = {"router.image_proj.weight": (width, width, 1, 1), "router.mlp.2.weight": ends}
        check_tensors({name: tensors[name] for name in known.keys() & tensors.keys()}, known, str(path))
    router = PredictionAwareRouter(**sizes).eval() if sizes else None
    wanted = {name: tensor.shape for name, tensor in _router_tensors(router).items()}
    sides = {name.removeprefix(f"{PREFIX}.").partition(".")[2] for name in lora}  # such as attn.qkv.lora_A
    for i, side in product(blocks, sides):
        wanted[f"lora.{PREFIX}.{i}.{side}"] = (rank, None) if side.endswith("A") else (None, rank)
    check_tensors(tensors, wanted, str(path))
    if router is not None:
        router.load_state_dict({name: tensors[f"router.{name}"] for name in router.state_dict()})
    about = {"source": str(path), "base_sha256": meta.get("base_sha256")}
    return RDSWeights(router, lora, blocks, rank, alpha, budgets, taus, meta["config_file"], **about)


def _router_tensors(router) -> dict[str, Tensor]:
    return {} if router is None else {f"router.{name}": tensor for name, tensor in router.state_dict().items()}


def _write(path, tensors, meta, taus):
    for budget, tau in taus.items():
        check_budget(budget)
        check_tau(tau)
    tensors = {name: in_half(tensor).cpu().contiguous() for name, tensor in tensors.items()}
    broken = [name for name, tensor in tensors.items() if not tensor.isfinite().all()]
    if broken:
        raise RDSInputError(f"{path}: not written, NaN or infinite weights in {', '.join(broken[:5])} ({len(broken)})")
    meta = meta | {"format": FORMAT, "taus": {str(float(budget)): float(tau) for budget, tau in taus.items()}}
    # one entry: safetensors writes several in random order, and equal weights should give equal bytes
    write_bytes(path, save(tensors, metadata={"rds": json.dumps(meta, sort_keys=True)}))
