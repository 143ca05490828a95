"""Weights cast to bfloat16 once, in place of autocast, which casts them anew on every frame in inference mode.

Autocast keeps its casts of weights only where a gradient could be asked for. SAM2 tracks in inference mode, so Hiera-L
casts 392 weights and biases a frame. What autocast would cast is what is cast here, so the results are its own bits.
"""

import torch
from torch import nn

from rds_lib.core.errors import RDSInputError

DTYPE = torch.bfloat16
LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d)  # autocast takes weight and bias of these
ROUTER_WEIGHTS = (  # of `deployed.FoldedRouter`, all that goes into a matrix product
    "frame_weight mask_weight bias second_weight second_bias linear_weight linear_bias last_weight last_bias average"
).split()


def cast_weights(model: nn.Module) -> nn.Module:
    """Cast the weights and biases of linear and convolutional layers to bfloat16, in place; returns ``model``.

    All else stays as it is, norms and embeddings for instance. Under ``torch.autocast(device, torch.bfloat16)`` the
    results are equal, bit for bit; without it the model no longer runs. Merge adapters before, and don't save a state
    dict after: it has lost digits.
    """
    for module in model.modules():
        if isinstance(module, LAYERS):
            for parameter in module.parameters(recurse=False):
                parameter.data = parameter.data.to(DTYPE)
    return model


def cast_router(router: nn.Module) -> nn.Module:
    """Cast the weights of a folded router likewise, in place; returns ``router``."""
    for name in ROUTER_WEIGHTS:
        setattr(router, name, getattr(router, name).to(DTYPE))
    return router


def check_autocast(device: torch.device) -> None:
    """Raise unless autocast is on, in the type that the weights have.

    Raises
    ------
    RDSInputError
    """
    is_on = torch.is_autocast_enabled(device.type)
    if not is_on or torch.get_autocast_dtype(device.type) != DTYPE:
        found = f"runs in {torch.get_autocast_dtype(device.type)}" if is_on else "is off"
        raise RDSInputError(
            f"this predictor's weights were cast to bfloat16, but autocast {found}; track inside "
            f"`with torch.autocast({device.type!r}, dtype=torch.bfloat16)`, or build it with engine='eager'"
        )
