"""Low-rank adapters on selected blocks of a backbone; I-LoRA is these on the blocks that importance chose.

`routing.importance.rank_blocks` chooses, stage `importance` writes its choice to ``blocks.json``, and
`pipeline.training_runs.adapted_blocks` reads it. PBD and `methods.placement` choose others.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from rds_lib.core.errors import RDSInputError
from rds_lib.data.checkpoints import check_tensors
from rds_lib.model.backbone import backbone_of

PREFIX = "image_encoder.trunk.blocks"  # of layer names in files, as SAM2 has it; the same for every backbone


def add_lora(model, blocks: Sequence[int], *, rank: int, alpha: float | None = None, dropout: float = 0.0):
    """Put low-rank adapters on the linear layers of selected blocks, in place.

    The adapters start as the identity (``B = 0``); ``A`` is drawn from torch's global generator. All blocks are frozen:
    only adapters ask for a gradient there.

    Parameters
    ----------
    model : SAM2Base or ClipTracker
        Also returned.
    blocks : sequence of int
        The paper adapts 24 of 48 (supplement B.2); see `routing.importance.rank_blocks`.
    alpha : float, optional
        The update is scaled by ``alpha / rank``; ``rank`` by default.
    dropout : float
        On the adapter's input, in training.
    """
    from peft import LoraConfig, inject_adapter_in_model  # seconds to import, and only training needs it

    backbone = backbone_of(model)
    blocks = sorted({int(i) for i in blocks})
    if not blocks or blocks[0] < 0 or blocks[-1] >= backbone.depth:
        raise RDSInputError(f"blocks to adapt are {blocks}; give block numbers from 0 to {backbone.depth - 1}")
    if rank != int(rank) or rank < 1:
        raise RDSInputError(f"rank is {rank!r}; give a whole number of at least 1")
    if adapters_of(model):
        raise RDSInputError("the model already carries adapters; merge them first")
    names = [f"{i}.{target}" for i in blocks for target in backbone.lora_targets]
    config = LoraConfig(r=int(rank), lora_alpha=alpha or rank, lora_dropout=dropout, target_modules=names, bias="none")
    backbone.blocks.requires_grad_(False)
    inject_adapter_in_model(config, backbone.blocks)
    return model


def merge_lora(model):
    """Fold the adapters into the weights and restore plain layers: the state dict has the model's own keys again."""
    blocks = backbone_of(model).blocks
    for name, layer in adapters_of(model).items():
        layer.merge()
        parent, _, child = name.rpartition(".")
        setattr(blocks.get_submodule(parent), child, layer.get_base_layer())
    if hasattr(blocks, "peft_config"):
        del blocks.peft_config
    return model


def adapters_of(model) -> dict[str, nn.Module]:
    """Return the adapted layers by their name inside ``backbone.blocks``, such as "3.attn.qkv"."""
    return {name: layer for name, layer in backbone_of(model).blocks.named_modules() if hasattr(layer, "lora_A")}


def lora_state_dict(model) -> dict[str, Tensor]:
    """Return the adapters' weights, named ``image_encoder.trunk.blocks.<layer>.lora_A`` and ``.lora_B``."""
    state = {}
    for name, layer in adapters_of(model).items():
        state[f"{PREFIX}.{name}.lora_A"] = layer.lora_A["default"].weight
        state[f"{PREFIX}.{name}.lora_B"] = layer.lora_B["default"].weight
    return state


@torch.no_grad()
def load_lora(model, state: dict[str, Tensor]):
    """Copy weights from `lora_state_dict` into the adapters of ``model``."""
    own = lora_state_dict(model)
    check_tensors(state, {name: tensor.shape for name, tensor in own.items()}, "adapter weights")
    for name, tensor in own.items():
        tensor.copy_(state[name])
    return model


@torch.no_grad()
def fold_lora(model, state: dict[str, Tensor], blocks: Sequence[int], *, rank: int, alpha: float, source: str = ""):
    """Add adapters that were saved from ``blocks`` to the weights of a model that carries none, in place.

    Errors name ``source``, the file they are from.
    """
    source = f"{source}: adapter weights" if source else "adapter weights"
    backbone, shapes = backbone_of(model), {}
    if blocks and max(blocks) >= backbone.depth:
        raise RDSInputError(f"{source} are for block {max(blocks)}; the model has blocks 0 to {backbone.depth - 1}")
    layers = {
        f"{i}.{target}": backbone.blocks[i].get_submodule(target) for i in blocks for target in backbone.lora_targets
    }
    for name, layer in layers.items():
        shapes[f"{PREFIX}.{name}.lora_A"] = (rank, layer.in_features)
        shapes[f"{PREFIX}.{name}.lora_B"] = (layer.out_features, rank)
    check_tensors(state, shapes, source)
    for name, layer in layers.items():
        update = state[f"{PREFIX}.{name}.lora_B"] @ state[f"{PREFIX}.{name}.lora_A"]
        update = (update * (alpha / rank)).to(layer.weight)
        if not update.isfinite().all():
            raise RDSInputError(f"{source} of layer {name} are too large to be added up; train them anew")
        layer.weight.add_(update)
    return model
