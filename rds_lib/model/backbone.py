"""What router, adapters, importance and methods need of an image encoder, and SAM2's Hiera as such a backbone."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from rds_lib.core.errors import RDSInputError
from rds_lib.data.origin import UNKNOWN, Origin
from rds_lib.model.hiera_macs import block_macs
from rds_lib.model.shape import EncoderShape


class Backbone(Protocol):
    """An image encoder whose blocks can be skipped one by one; a skipped block is the identity.

    Subclass it for another encoder: what follows from the attributes and from ``block_macs`` is written here. Router,
    importance, adapters, training and `FrameRouter` take any; `RDSVideoPredictor` and the baselines are SAM2's.
    """

    depth: int  # L
    always_on: tuple[int, ...]  # K, never skipped
    stage_starts: tuple[int, ...]  # first block of each stage; (0,) for a plain ViT
    embed_dim: int  # channels of the tokens that enter block 0
    image_size: int  # px, side of the square input
    token_stride: int  # px a token
    blocks: nn.ModuleList
    lora_targets: tuple[str, ...]  # linear layers of a block that adapters go on

    def embed(self, images: Tensor) -> Tensor:
        """Turn images (B, 3, S, S) into the tokens (B, h, w, C) that enter block 0."""

    def run(self, tokens: Tensor, route=None) -> Any:
        """Run blocks on tokens from `embed` and return the features that the tracker takes.

        ``route`` is None (all blocks), L flags (inference: a block with flag 0 is not called) or a tensor (B, L)
        (training: every block runs, and r blends ``x + r (block(x) - x)``, exact at 0 and 1, with a gradient to r).
        Flags are not checked here; see `check_route`.
        """

    def block_macs(self, kept: Sequence[float] | None = None) -> list[float]:
        """Multiply-accumulates of each block for one image, if a share ``kept`` of its tokens goes through its MLP."""

    def gmacs(self, ran: Sequence[float] | None = None, kept: Sequence[float] | None = None) -> float:
        """GMACs of the blocks, mean over frames.

        ``ran`` is the share of frames on which each block ran, all by default; ``kept`` the share of all tokens that
        went through its MLP, by default those of the frames on which it ran.
        """
        without, whole = (np.array(self.block_macs([share] * self.depth)) for share in (0.0, 1.0))
        ran = np.ones(self.depth) if ran is None else np.asarray(ran, float)
        kept = ran if kept is None else np.asarray(kept, float)
        return float(ran @ without + kept @ (whole - without)) / 1e9

    def check_route(self, route) -> tuple[bool, ...]:
        """Return a route as L flags with K forced on. Called where a route enters, not on every frame.

        Raises
        ------
        RDSInputError
            If the route has another length, or holds anything but 0 and 1.
        """
        values, always_on = route.tolist() if isinstance(route, Tensor) else list(route), self.always_on
        if len(values) != self.depth or any(value not in (0, 1) for value in values):
            raise RDSInputError(
                f"route has {len(values)} entries {values[:4]}...; give {self.depth} flags, each 0 or 1"
            )
        return tuple(bool(value) or i in always_on for i, value in enumerate(values))

    @property
    def shape(self) -> EncoderShape:
        """The layout of the blocks, for figures and tables."""
        return EncoderShape(self.depth, self.stage_starts, self.always_on)


class HieraBackbone(Backbone):
    """The image encoder of a SAM2 model: Hiera and its neck.

    Calls SAM2's own modules and wraps none, so the model keeps its state-dict keys. Holds the modules, not the model:
    a predictor that holds its backbone is freed without the garbage collector.
    """

    lora_targets = ("attn.qkv", "attn.proj", "mlp.layers.0", "mlp.layers.1")

    def __init__(self, model):
        self._encoder, self._prompt_encoder = model.image_encoder, model.sam_prompt_encoder
        self._decoder = model.sam_mask_decoder if model.use_high_res_features_in_sam else None

    @property
    def trunk(self) -> nn.Module:
        """SAM2's ``Hiera``."""
        return self._encoder.trunk

    @property
    def blocks(self) -> nn.ModuleList:
        return self._encoder.trunk.blocks

    @property
    def depth(self) -> int:
        return len(self.blocks)

    @property
    def stage_starts(self) -> tuple[int, ...]:
        """(0, 2, 8, 44) for Hiera-L."""
        return (0, *(end + 1 for end in self.trunk.stage_ends[:-1]))

    @property
    def always_on(self) -> tuple[int, ...]:
        """First block of each stage and the last block: {0, 2, 8, 44, 47} for Hiera-L (supplement B.2).

        Shapes force only the stage entries; the first and the last block are the paper's choice.
        """
        return tuple(sorted({*self.stage_starts, self.depth - 1}))

    @property
    def embed_dim(self) -> int:
        return self.trunk.patch_embed.proj.out_channels

    @property
    def token_stride(self) -> int:
        return self.trunk.patch_embed.proj.stride[0]

    @property
    def image_size(self) -> int:
        return self._prompt_encoder.input_image_size[0]

    def embed(self, images: Tensor) -> Tensor:
        tokens = self.trunk.patch_embed(images)
        return tokens + self.trunk._get_pos_embed(tokens.shape[1:3])

    def run(self, tokens: Tensor, route=None) -> dict:
        """Return SAM2's ``backbone_out``: ``vision_features``, ``vision_pos_enc`` and ``backbone_fpn``.

        With ``route=None`` equal to ``SAM2Base.forward_image``.
        """
        features, positions = self._encoder.neck(self.run_blocks(tokens, route))
        if self._encoder.scalp > 0:
            features, positions = features[: -self._encoder.scalp], positions[: -self._encoder.scalp]
        out = {"vision_features": features[-1], "vision_pos_enc": positions, "backbone_fpn": features}
        if self._decoder is not None:
            features[0] = self._decoder.conv_s0(features[0])
            features[1] = self._decoder.conv_s1(features[1])
        return out

    def run_blocks(self, tokens: Tensor, route=None) -> list[Tensor]:
        """Return the output (B, C_s, h_s, w_s) of every stage; ``route`` as in `run`.

        Outputs are taken *after* the skip, so skipping the last block of a stage keeps its level.
        """
        is_masked = isinstance(route, Tensor) and route.ndim == 2
        if is_masked:
            self._check_masks(tokens, route)
        taps = self.trunk.stage_ends if self.trunk.return_interm_layers else self.trunk.stage_ends[-1:]
        outputs, x = [], tokens
        for i, block in enumerate(self.blocks):
            if is_masked and not changes_shape(block):
                x = torch.lerp(x, block(x), route[:, i, None, None, None].to(x.dtype))
            elif is_masked or route is None or route[i]:
                x = block(x)
            if i in taps:
                outputs.append(x.permute(0, 3, 1, 2))  # (B, C_s, h_s, w_s)
        return outputs

    def _check_masks(self, tokens, route):
        if route.shape != (len(tokens), self.depth):
            raise RDSInputError(f"route has shape {tuple(route.shape)}; expected (B, L) = {len(tokens), self.depth}")
        entries = [i for i, block in enumerate(self.blocks) if changes_shape(block)]
        if not (route.detach()[:, entries] == 1).all():
            raise RDSInputError(f"route is not 1 on {entries}, which change the tokens' shape; keep these blocks on")

    def block_macs(self, kept: Sequence[float] | None = None) -> list[float]:
        return block_macs(self.trunk, self.image_size, kept)


def backbone_of(model) -> Backbone:
    """Return the backbone of a predictor or clip tracker that has one, or that of a plain SAM2 model."""
    found = getattr(model, "backbone", None)
    return HieraBackbone(model) if found is None else found


def note_origin(model, origin: Origin) -> None:
    """Note which weights a model was built with: on its blocks, which every backbone has and adapters leave there."""
    backbone_of(model).blocks.origin = origin


def origin_of(model) -> Origin:
    """The weights that a backbone, a model or a clip tracker was built with; without hashes where they are random."""
    return getattr((model if hasattr(model, "blocks") else backbone_of(model)).blocks, "origin", UNKNOWN)


def changes_shape(block) -> bool:
    """Whether a Hiera block changes the size or the channels of its tokens, and so cannot be skipped."""
    return block.dim != block.dim_out or bool(block.q_stride)
