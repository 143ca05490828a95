"""Low-rank adapters on selected blocks of an image encoder; I-LoRA is these on the blocks that importance chose."""

import torch
from torch import Tensor, nn

from rds_lib.core.errors import RDSInputError

TARGETS = ("attn.qkv", "attn.proj", "mlp.layers.0", "mlp.layers.1")


def add_lora(model, blocks, *, rank: int, alpha: float | None = None, dropout: float = 0.0):
    """Put low-rank adapters on the linear layers of selected blocks of the image encoder, in place.

    The adapters start as the identity (``B = 0``). The encoder's own weights are frozen; only adapters ask for a
    gradient there. ``A`` is drawn from torch's global generator.

    Parameters
    ----------
    model : SAM2Base
    blocks : sequence of int
        The paper adapts 24 of 48 (supplement B.2); see ``importance.rank_blocks``.
    rank : int
    alpha : float, optional
        The update is scaled by ``alpha / rank``; ``rank`` by default.
    dropout : float
        On the adapter's input, in training.

    Returns
    -------
    SAM2Base
        ``model``.
    """
    from peft import LoraConfig, inject_adapter_in_model  # seconds to import, and only training needs it

    trunk = model.image_encoder.trunk
    blocks = sorted({int(i) for i in blocks})
    if not blocks or blocks[0] < 0 or blocks[-1] >= len(trunk.blocks):
        raise RDSInputError(f"blocks to adapt are {blocks}; give block numbers from 0 to {len(trunk.blocks) - 1}")
    if rank != int(rank) or rank < 1:
        raise RDSInputError(f"rank is {rank!r}; give a whole number of at least 1")
    if _adapters(model):
        raise RDSInputError("the model already carries adapters; merge them first")
    names = [f"blocks.{i}.{target}" for i in blocks for target in TARGETS]
    config = LoraConfig(r=int(rank), lora_alpha=alpha or rank, lora_dropout=dropout, target_modules=names, bias="none")
    trunk.requires_grad_(False)
    inject_adapter_in_model(config, trunk)
    return model


def merge_lora(model):
    """Fold the adapters into the weights and restore plain layers: the state dict has SAM2's keys again."""
    for name, layer in _adapters(model).items():
        layer.merge()
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, layer.get_base_layer())
    trunk = model.image_encoder.trunk
    if hasattr(trunk, "peft_config"):
        del trunk.peft_config
    return model


def lora_state_dict(model) -> dict[str, Tensor]:
    """Weights of the adapters, named ``<layer in the model>.lora_A`` and ``.lora_B``."""
    state = {}
    for name, layer in _adapters(model).items():
        state[f"{name}.lora_A"] = layer.lora_A["default"].weight
        state[f"{name}.lora_B"] = layer.lora_B["default"].weight
    return state


def load_lora(model, state: dict[str, Tensor]):
    """Copy weights from :func:`lora_state_dict` into the adapters of ``model``."""
    own = lora_state_dict(model)
    _check_state(state, {name: tensor.shape for name, tensor in own.items()}, "adapter weights")
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(state[name])
    return model


def _adapters(model) -> dict[str, nn.Module]:
    return {name: layer for name, layer in model.named_modules() if hasattr(layer, "lora_A")}


def _check_state(state, shapes, source):
    """Raise if ``state`` has other names or shapes (None: any size) than ``shapes``, or a value that is not finite."""
    missing, extra = sorted(shapes.keys() - state.keys()), sorted(state.keys() - shapes.keys())
    both = sorted(shapes.keys() & state.keys())
    wrong = [n for n in both if len(shapes[n]) != state[n].ndim or any(
        want not in (None, have) for want, have in zip(shapes[n], state[n].shape))]
    broken = [n for n in both if not state[n].isfinite().all()]
    faults = {"missing": missing, "unexpected": extra, "other shape": wrong, "NaN or infinite": broken}
    listed = "; ".join(f"{what}: {', '.join(names[:5])} ({len(names)})" for what, names in faults.items() if names)
    if listed:
        raise RDSInputError(f"{source} does not fit: {listed}; use weights saved for the same model")
