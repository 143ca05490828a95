"""Run SAM2's Hiera under a route: masked for training, really skipped for inference.

The functions call SAM2's own modules and wrap none of them, so a model keeps its state-dict keys.
"""

import torch
from torch import Tensor

from rds_lib.core.errors import RDSInputError


def embed_patches(trunk, image: Tensor) -> Tensor:
    """Turn images (B, 3, H, W) into the tokens that enter block 0: patch and position embedding, shape (B, h, w, C)."""
    tokens = trunk.patch_embed(image)
    return tokens + trunk._get_pos_embed(tokens.shape[1:3])


def run_blocks(trunk, tokens: Tensor, route=None) -> list[Tensor]:
    """Run the blocks that a route keeps and return the output of every stage.

    A skipped block is the identity. Stage outputs are taken *after* the skip, so skipping the last block of a stage
    keeps its level (methods: the tap lies outside the skip).

    Parameters
    ----------
    trunk : sam2 Hiera
    tokens : Tensor, shape (B, h, w, C)
        Output of :func:`embed_patches`.
    route : None, sequence or 1-D tensor of L flags, or tensor of shape (B, L)
        None runs everything. Flags (inference): a block with flag 0 is not called. A (B, L) tensor (training): every
        block runs and ``r`` blends ``x + r * (block(x) - x)``, exact at 0 and 1, with a gradient to ``r``.

    Returns
    -------
    list of Tensor, each of shape (B, C_s, h_s, w_s)

    Raises
    ------
    RDSInputError
        If the route has another length, holds something else than 0 and 1 (flags), or skips a block that changes shapes.
    """
    is_masked = isinstance(route, Tensor) and route.ndim == 2
    gates = _check_masks(trunk, tokens, route) if is_masked else as_flags(trunk, route)
    taps = trunk.stage_ends if trunk.return_interm_layers else trunk.stage_ends[-1:]
    outputs, x = [], tokens
    for i, block in enumerate(trunk.blocks):
        if is_masked and not changes_shape(block):
            x = torch.lerp(x, block(x), gates[:, i, None, None, None].to(x.dtype))
        elif is_masked or gates[i]:
            x = block(x)
        if i in taps:
            outputs.append(x.permute(0, 3, 1, 2))  # (B, C_s, h_s, w_s)
    return outputs


def encode_image(model, image: Tensor | None, route=None, tokens: Tensor | None = None) -> dict:
    """Encode images under a route; with ``route=None`` equal to ``SAM2Base.forward_image``.

    Parameters
    ----------
    model : SAM2Base
    image : Tensor, shape (B, 3, S, S)
        Normalised as SAM2 does. May be None when ``tokens`` are given.
    route
        See :func:`run_blocks`.
    tokens : Tensor, shape (B, h, w, C), optional
        Output of :func:`embed_patches`, when the router has already needed it.

    Returns
    -------
    dict
        SAM2's ``backbone_out``: ``vision_features``, ``vision_pos_enc`` and ``backbone_fpn``.
    """
    encoder = model.image_encoder
    if tokens is None:
        tokens = embed_patches(encoder.trunk, image)
    features, positions = encoder.neck(run_blocks(encoder.trunk, tokens, route))
    if encoder.scalp > 0:
        features, positions = features[: -encoder.scalp], positions[: -encoder.scalp]
    out = {"vision_features": features[-1], "vision_pos_enc": positions, "backbone_fpn": features}
    if model.use_high_res_features_in_sam:
        features[0] = model.sam_mask_decoder.conv_s0(features[0])
        features[1] = model.sam_mask_decoder.conv_s1(features[1])
    return out


def as_flags(trunk, route) -> tuple[bool, ...]:
    """Return a route as one bool per block of ``trunk``, or raise if it cannot be run."""
    depth = len(trunk.blocks)
    if route is None:
        return (True,) * depth
    values = route.tolist() if hasattr(route, "tolist") else list(route)
    if len(values) != depth or any(value not in (0, 1) for value in values):
        raise RDSInputError(f"route has {len(values)} entries {values[:4]}...; give {depth} flags, each 0 or 1")
    broken = [i for i, block in enumerate(trunk.blocks) if changes_shape(block) and not values[i]]
    if broken:
        raise RDSInputError(f"route skips {broken}, which change the shape of the tokens; keep these blocks on")
    return tuple(bool(value) for value in values)


def _check_masks(trunk, tokens, route):
    if route.shape != (len(tokens), len(trunk.blocks)):
        raise RDSInputError(f"route has shape {tuple(route.shape)}; expected (B, L) = {len(tokens), len(trunk.blocks)}")
    entries = [i for i, block in enumerate(trunk.blocks) if changes_shape(block)]
    if not (route.detach()[:, entries] == 1).all():
        raise RDSInputError(f"route is not 1 on {entries}, which change the shape of the tokens; keep these blocks on")
    return route


def changes_shape(block) -> bool:
    """Whether a block changes the size or the channels of its tokens, as the first of a stage does: it cannot be skipped."""
    return block.dim != block.dim_out or bool(block.q_stride)


def always_on_blocks(trunk) -> tuple[int, ...]:
    """First, stage-entry and last block of a Hiera trunk: {0, 2, 8, 44, 47} for Hiera-L (supplement B.2).

    Only the stage entries are forced by the shapes; the first and the last block are the paper's choice.
    """
    entries = (end + 1 for end in trunk.stage_ends[:-1])
    return tuple(sorted({0, *entries, len(trunk.blocks) - 1}))
