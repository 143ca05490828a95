"""What each block of an image encoder costs: multiply-accumulates by its shape, or milliseconds on this machine.

Milliseconds are measured once and kept in ``$XDG_CACHE_HOME/rds_lib`` (``~/.cache/rds_lib``), one file for each model,
device, version of torch, number of threads and type of numbers. Delete the folder to have them measured again.
"""

import hashlib
import json
import logging
import os
import platform
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from rds_lib.core.artifacts import read_json, write_json
from rds_lib.core.errors import RDSInputError
from rds_lib.model.backbone import Backbone
from rds_lib.model.stopwatch import Stopwatch, typical
from rds_lib.routing.allowance import check_costs

_logger = logging.getLogger(__name__)
WARM_UP, REPEATS, FEWEST = 3, 25, 5  # frames
SECONDS = 5.0  # after which no more than the fewest frames are measured


@dataclass(frozen=True)
class Costs:
    """Of one frame, in ``unit``: "GMACs", which have blocks alone, or "ms"."""

    blocks: tuple[float, ...]  # L
    fixed: float  # patch embedding and neck, which every frame pays
    router: float  # with its one copy to the host
    unit: str

    @property
    def besides(self) -> float:
        """What a routed frame's image encoder costs besides its blocks."""
        return self.fixed + self.router


def gmacs_of(backbone: Backbone) -> Costs:
    """GMACs of each block for one frame, see `Backbone.block_macs`; nothing else is counted."""
    return Costs(check_costs([macs / 1e9 for macs in backbone.block_macs()], backbone.depth), 0.0, 0.0, "GMACs")


def milliseconds_of(backbone: Backbone, router, device: torch.device) -> Costs:
    """Milliseconds of each block for one frame on this machine: from the cache, or measured and put there.

    Parameters
    ----------
    backbone : Backbone
        On ``device``; compiled, if it is to be.
    router : FoldedRouter
        On ``device``.
    device : torch.device

    Measured under ``torch.autocast`` if this is called under it.
    """
    key = _key(backbone, router, device)
    path = cache_folder() / f"costs-{hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]}.json"
    try:
        return _read(path, key)
    except RDSInputError as why:
        if path.exists():
            _logger.warning("%s; the blocks are timed again", why)
    costs = measure(backbone, router, device)
    try:
        write_json(path, {"key": key, "blocks": costs.blocks, "fixed": costs.fixed, "router": costs.router})
    except OSError as error:
        _logger.warning("%s: cannot be written (%s), so blocks are timed at every start", path, error.strerror)
    return costs


@torch.inference_mode()
def measure(backbone: Backbone, router, device: torch.device) -> Costs:
    """Time embedding, router, every block and the neck on one frame of noise: medians over frames, after a warm-up."""
    watch, found = Stopwatch(device), []
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(1, 3, backbone.image_size, backbone.image_size, generator=generator).to(device)
    mask = image[:, :1, :: backbone.token_stride, :: backbone.token_stride].contiguous()
    began = time.perf_counter()
    with watch.watching_blocks(backbone.blocks):
        while len(found) < WARM_UP + FEWEST or (
            len(found) < WARM_UP + REPEATS and time.perf_counter() - began < SECONDS
        ):
            watch.enabled = True
            with watch.span("embed"):
                tokens = backbone.embed(image)
            with watch.span("router"):
                router(tokens, mask)[0].tolist()
            with watch.span("run"):
                backbone.run(tokens)
            found.append(watch.read())
    found = found[WARM_UP:]
    blocks = typical(np.array([[times[f"block {i}"] for i in range(backbone.depth)] for times in found]))
    embed, rates, run = (float(np.median([times[name] for times in found])) for name in ("embed", "router", "run"))
    return Costs(check_costs(blocks, backbone.depth), max(embed + run - float(blocks.sum()), 0.0), rates, "ms")


def cache_folder() -> Path:
    """This user's folder for what can be measured again."""
    named = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(named) if os.path.isabs(named) else Path.home() / ".cache") / "rds_lib"


def _read(path, key) -> Costs:
    entry = read_json(path)
    try:
        blocks = check_costs(entry["blocks"], len(key["macs"]))
        rest = [float(entry[name]) for name in ("fixed", "router")]
    except (TypeError, ValueError) as error:
        raise RDSInputError(f"{path}: holds no costs of blocks ({error})") from error
    if entry["key"] != key or not all(0 <= value < float("inf") for value in rest):
        raise RDSInputError(f"{path}: holds no costs of these blocks")
    return Costs(blocks, *rest, "ms")


def _key(backbone, router, device) -> dict:
    """What the times depend on, as JSON gives it back."""
    weight = next(backbone.blocks.parameters())
    is_auto = torch.is_autocast_enabled(device.type)
    return {
        "encoder": type(backbone).__name__,
        "macs": [int(macs) for macs in backbone.block_macs()],
        "image_size": int(backbone.image_size),
        "router": [type(router).__name__, sum(tensor.numel() for tensor in router.state_dict().values())],
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else f"{device.type} {_processor()}",
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "dtype": str(torch.get_autocast_dtype(device.type) if is_auto else weight.dtype) + " autocast" * is_auto,
        "weights": sorted({str(parameter.dtype) for parameter in backbone.blocks.parameters()}),
        "called": type(getattr(backbone.blocks[0], "_compiled_call_impl", None)).__name__,  # compiled, or as a graph
    }


def _processor(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
