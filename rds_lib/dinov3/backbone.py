"""A plain ViT in DINOv3's architecture as a backbone, through transformers: any ``dinov3-vit*`` checkpoint, or ours.

A block takes and gives all tokens, prefix and patches, so any of them can be skipped. The features are those of the
official segmentation tracking: the last block's, after the final norm, without the prefix, of length 1.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rds_lib.core.errors import RDSInputError
from rds_lib.core.paths import ASSETS
from rds_lib.data.origin import Origin, file_sha256, tensors_sha256
from rds_lib.model.backbone import Backbone

MINI_DINOV3 = ASSETS / "mini_dinov3"  # config.json and model.safetensors, as the hub has them
MODEL_TYPE = "dinov3_vit"
WEIGHTS = "model.safetensors"


class DinoBackbone(Backbone):
    """A ``DINOv3ViTModel`` run block by block; at full route its ``forward``, bit for bit.

    Parameters
    ----------
    vit : DINOv3ViTModel
        Stays in evaluation mode, also while adapters are trained: in training mode it rescales its position encoding at
        random.
    always_on : sequence of int, optional
        Blocks that are never skipped (K); the first and the last by default. No shape forces any.
    """

    stage_starts = (0,)
    lora_targets = (*(f"attention.{name}_proj" for name in "qkvo"), *("mlp.up_proj", "mlp.down_proj"))

    def __init__(self, vit: nn.Module, *, always_on: Sequence[int] | None = None):
        self.vit, self.blocks = vit.eval(), layers_of(vit)
        self.depth, self.embed_dim = len(self.blocks), vit.config.hidden_size
        self.token_stride, self.image_size = int(vit.config.patch_size), int(vit.config.image_size)
        self.always_on = tuple(sorted({0, self.depth - 1} if always_on is None else set(always_on)))
        self.grid = (self.image_size // self.token_stride,) * 2  # (h, w) of the images last seen, for `block_macs`

    def embed(self, images: Tensor) -> Tensor:
        """Turn images (B, 3, H, W), whole patches high and wide, into patch tokens (B, h, w, D)."""
        patches = self.vit.embeddings.patch_embeddings(images)
        self.grid = tuple(patches.shape[2:])
        return patches.permute(0, 2, 3, 1)

    def run(self, tokens: Tensor, route=None) -> Tensor:
        """Return features (B, h, w, D) of length 1; ``route`` as in `Backbone.run`."""
        x = self.run_blocks(tokens, route)[:, -tokens.shape[1] * tokens.shape[2] :]
        return F.normalize(x, dim=-1).view(tokens.shape)

    def run_blocks(self, tokens: Tensor, route=None) -> Tensor:
        """Return the model's ``last_hidden_state`` (B, 1 + registers + h w, D)."""
        batch, h, w, _ = tokens.shape
        embeddings, stride = self.vit.embeddings, self.token_stride
        prefix = [token.expand(batch, -1, -1) for token in (embeddings.cls_token, embeddings.register_tokens)]
        x = torch.cat([*prefix, tokens.flatten(1, 2)], dim=1)
        position = self.vit.rope_embeddings(tokens.new_empty(1).expand(1, 3, h * stride, w * stride))
        is_masked = isinstance(route, Tensor) and route.ndim == 2
        for i, block in enumerate(self.blocks):
            if is_masked:
                x = torch.lerp(x, block(x, position_embeddings=position), route[:, i, None, None].to(x.dtype))
            elif route is None or route[i]:
                x = block(x, position_embeddings=position)
        return self.vit.norm(x)

    def block_macs(self, kept: Sequence[float] | None = None) -> list[float]:
        """Linear layers and both products of the attention, for the grid of the images last seen."""
        config, width = self.vit.config, self.embed_dim
        tokens = self.grid[0] * self.grid[1] + 1 + config.num_register_tokens
        attention = tokens * 4 * width**2 + 2 * tokens**2 * width
        layers = 3 if config.use_gated_mlp else 2
        mlp = tokens * layers * width * config.intermediate_size
        return [float(attention + mlp * share) for share in (kept or [1.0] * self.depth)]


def layers_of(vit: nn.Module) -> nn.ModuleList:
    """The blocks: transformers 4 has them at the top, 5 in an encoder."""
    for module in vit.modules():
        if isinstance(module, nn.ModuleList) and type(module[0]).__name__ == "DINOv3ViTLayer":
            return module
    raise RDSInputError(f"{type(vit).__name__} has no DINOv3 blocks; give a DINOv3ViTModel")


@contextmanager
def without_bars() -> Iterator[None]:
    """Keep transformers from drawing bars for files that are read or written in a moment."""
    from transformers.utils import logging

    was_on = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if was_on:
            logging.enable_progress_bar()


def load_dinov3(checkpoint: str | Path = "mini", *, device="cpu") -> nn.Module:
    """Load a ``DINOv3ViTModel`` in float32, frozen.

    Parameters
    ----------
    checkpoint : str or path
        "mini" (ours), a folder with ``config.json`` and ``model.safetensors``, or an id on the Hugging Face hub, such
        as ``facebook/dinov3-vitl16-pretrain-lvd1689m``, whose weights ask for an account.

    Raises
    ------
    RDSInputError
        If there is no such checkpoint, it is of another architecture, or weights are missing.
    """
    from transformers import AutoConfig, DINOv3ViTModel

    name = MINI_DINOV3 if str(checkpoint) == "mini" else checkpoint
    local = {"local_files_only": True} if Path(name).exists() else {}
    try:
        config = AutoConfig.from_pretrained(str(name), **local)
        if config.model_type != MODEL_TYPE:
            raise RDSInputError(f"{name}: a model of type {config.model_type!r}; give a {MODEL_TYPE!r} checkpoint")
        options = {"config": config, "use_safetensors": True, "output_loading_info": True, **local}
        with without_bars() if local else nullcontext():
            model, found = DINOv3ViTModel.from_pretrained(str(name), **options)
    except (OSError, ValueError, RuntimeError) as cause:
        if isinstance(cause, RDSInputError):
            raise
        line = str(cause).strip().splitlines()[0]
        hint = 'give "mini", a folder with config.json and model.safetensors, or an id on the hub'
        raise RDSInputError(f"DINOv3 checkpoint {str(name)!r} could not be loaded ({line}); {hint}") from cause
    if missing := sorted(found["missing_keys"]):
        raise RDSInputError(f"{name}: weights are missing, {', '.join(missing[:3])} ({len(missing)}); fetch it again")
    model = model.float()
    layers_of(model).origin = _origin(model, str(checkpoint), str(name))
    return model.to(device).eval().requires_grad_(False)


def _origin(model, checkpoint: str, name: str) -> Origin:
    """Which weights were loaded; their file has a hash where it is one."""
    from huggingface_hub import try_to_load_from_cache

    is_folder = Path(name).is_dir()
    found = Path(name) / WEIGHTS if is_folder else try_to_load_from_cache(name, WEIGHTS)
    sha256 = file_sha256(Path(found)) if isinstance(found, str | Path) and Path(found).is_file() else None
    label = Path(checkpoint).name if is_folder else checkpoint
    return Origin(model.config.model_type, label, sha256, tensors_sha256(model.state_dict()))
