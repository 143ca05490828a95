"""PBD, DyT and AdaViT put on a model, and the files that hold what was trained."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch

from rds_lib.core.artifacts import read_tensors, write_tensors
from rds_lib.core.errors import RDSInputError
from rds_lib.methods import adavit, dyt
from rds_lib.methods.pbd import drop_blocks, dropped_blocks
from rds_lib.model.adapters import add_lora, merge_lora
from rds_lib.model.encoder import always_on_blocks

METHODS = ("pbd", "dyt", "adavit")
FORMAT = "baseline/1"


def prepare(model, method: str, level: float, *, blocks, rank: int, reading: str = "A", width: int = 64):
    """Put a baseline's own parts and low-rank adapters on a model, in place, ready to be trained.

    Parameters
    ----------
    model : SAM2Base
        Its own weights are frozen. PBD's blocks are gone afterwards.
    level : float
        The row of Table 9: PBD's and AdaViT's share of blocks, DyT's share of tokens; see the methods' modules.
    blocks, rank : sequence of int, int
        Blocks that receive adapters. PBD adapts all that it keeps ("the remaining blocks", supplement).
    reading, width : str, int
        Of PBD's drop set, and of DyT's adapters.

    Returns
    -------
    SAM2Base
        ``model``; what asks for a gradient is what the method trains.
    """
    check_method(method, level)
    model.requires_grad_(False)
    trunk = model.image_encoder.trunk
    depth, always_on = len(trunk.blocks), always_on_blocks(trunk)
    if method == "pbd":
        dropped = dropped_blocks(level, depth=depth, always_on=always_on, reading=reading)
        add_lora(model, [i for i in range(depth) if i not in dropped], rank=rank)
        drop_blocks(model, dropped)
        return model
    add_lora(model, blocks, rank=rank)
    own = dyt.add_dispatchers(model, width=width) if method == "dyt" else adavit.add_policies(model, always_on)
    for module in own:
        for part in (module.dispatcher, module.adapter) if method == "dyt" else (module.policy,):
            part.requires_grad_(True)
    return model


def check_method(method: str, level: float) -> None:
    """Raise unless the method is one of ``METHODS`` and the level a row of Table 9."""
    if method not in METHODS:
        raise RDSInputError(f"method {method!r} is unknown; choose one of {', '.join(METHODS)}")
    if not 0.4 <= level <= 1:
        raise RDSInputError(f"level is {level}; give 0.4 to 1, as in the paper's Table 9")


def gated(model) -> list:
    """The modules with a gate, DyT's MLPs or AdaViT's blocks, in order; PBD and SlimSAM have none."""
    return [*dyt.dispatchers(model), *adavit.policies(model)]


def set_threshold(model, threshold: float) -> None:
    """Keep what has a logit above ``threshold`` when tracking; see ``gates.rate_threshold``."""
    for module in gated(model):
        module.threshold = float(threshold)


@contextmanager
def multiplied_gates(model, gates) -> Iterator[None]:
    """Run everything and multiply by given gates, one tensor for each module of :func:`gated`: the forward of the training."""
    modules = gated(model)
    for module, gate in zip(modules, gates, strict=True):
        module.forced = gate.to(next(module.parameters()))
    try:
        yield
    finally:
        for module in modules:
            module.forced = None


def save_baseline(path, model, header: Mapping) -> None:
    """Write what was trained as one safetensors file, whole or not at all.

    Parameters
    ----------
    header : mapping
        Arguments of :func:`prepare`, and ``threshold`` and ``config_file``.
    """
    tensors = {name: p.detach().float() for name, p in model.named_parameters() if p.requires_grad}
    broken = [name for name, tensor in tensors.items() if not tensor.isfinite().all()]
    if broken:
        raise RDSInputError(f"{path}: not written, NaN or infinite weights in {', '.join(broken[:5])} ({len(broken)})")
    write_tensors(path, tensors, format=FORMAT, **header)


def load_baseline(path, model, *, merge: bool = True) -> dict:
    """Turn a model into the baseline of a file, in place, adapters merged by default, and return the file's header.

    Raises
    ------
    RDSInputError
        If the file is missing, no such file, or made for another model.
    """
    tensors, header = read_tensors(path)
    if header.get("format") != FORMAT:
        raise RDSInputError(f"{path}: format is {header.get('format')!r}, expected {FORMAT!r}; train a baseline, or write it with save_baseline")
    arguments = {name: header[name] for name in ("method", "level", "blocks", "rank", "reading", "width")}
    prepare(model, **arguments)
    own = {name: p for name, p in model.named_parameters() if p.requires_grad}
    wrong = sorted(own.keys() ^ tensors.keys()) + [n for n in own.keys() & tensors.keys() if own[n].shape != tensors[n].shape]
    if wrong:
        raise RDSInputError(f"{path} does not fit: {', '.join(wrong[:4])} ({len(wrong)}); use weights saved for the same model")
    with torch.no_grad():
        for name, parameter in own.items():
            parameter.copy_(tensors[name])
    model.requires_grad_(False)
    set_threshold(model, header["threshold"])
    if merge:
        merge_lora(model)
    return header
