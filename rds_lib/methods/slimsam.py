"""SlimSAM: SAM2's image encoder made narrower, in two phases, by a disturbed Taylor importance.

Source: czg1225/SlimSAM (NeurIPS 2024) with torch-pruning, carried over from ViT to Hiera. Phase 1 prunes the width of
the residual stream, phase 2 the bottlenecks: the channels of every head and the MLPs' hidden units.
"""

from collections.abc import Callable, Iterable

import torch
from sam2.modeling.backbones.hieradet import MultiScaleAttention, do_pool
from torch import Tensor, nn
from torch.nn import functional as F

from rds_lib.core.artifacts import read_tensors, write_tensors
from rds_lib.core.errors import RDSInputError
from rds_lib.data.checkpoints import check_tensors

NOISE = 0.01  # standard deviation of the disturbance of the teacher's features
MAX_PRUNED = 0.8  # of the channels of one group, where groups are ranked against each other
PHASES = ("width", "bottleneck")


class SplitAttention(nn.Module):
    """SAM2's attention with q, k and v in separate layers: pruning has to see that they are three."""

    def __init__(self, attention: MultiScaleAttention):
        super().__init__()
        self.num_heads, self.q_pool = attention.num_heads, attention.q_pool
        self.dim, self.dim_out = attention.dim, attention.dim_out
        weights, biases = attention.qkv.weight.chunk(3), attention.qkv.bias.chunk(3)
        self.q, self.k, self.v = (_linear(weight, bias) for weight, bias in zip(weights, biases))
        self.proj = attention.proj

    def forward(self, x: Tensor) -> Tensor:
        b, h, w, _ = x.shape
        q, k, v = self.q(x), self.k(x), self.v(x)
        if self.q_pool:
            q = do_pool(q, self.q_pool)
        h, w = q.shape[1:3]
        heads = [y.reshape(b, -1, self.num_heads, y.shape[-1] // self.num_heads).transpose(1, 2) for y in (q, k, v)]
        x = F.scaled_dot_product_attention(*heads)
        return self.proj(x.transpose(1, 2).reshape(b, h, w, -1))


def split_attention(model) -> None:
    """Split q, k and v in every block of a model's image encoder, in place; its output stays the same."""
    for block in model.image_encoder.trunk.blocks:
        block.attn = SplitAttention(block.attn)


def fuse_attention(model) -> None:
    """Undo `split_attention`, also after pruning: one product is faster than three."""
    for block in model.image_encoder.trunk.blocks:
        split = block.attn
        fused = MultiScaleAttention(split.dim, split.dim_out, split.num_heads, split.q_pool)
        layers = (split.q, split.k, split.v)
        fused.qkv = _linear(torch.cat([layer.weight for layer in layers]), torch.cat([layer.bias for layer in layers]))
        fused.proj = split.proj
        block.attn = fused.train(split.training)


def disturbed_taylor(model, reference: Callable, batches: Iterable[Tensor], *, generator: torch.Generator) -> None:
    """Sum up the gradients for the importance in ``model``'s parameters, over all batches.

    Loss: MSE between the model's features on images (B, 3, S, S) and those of ``reference``, the original encoder in
    phase 1, the pruned and aligned one in phase 2; with noise N(0, 0.01^2) on the reference's map at stride 16. Without
    noise there is no gradient where the model still equals its reference.
    """
    encoder = model.image_encoder.requires_grad_(True)
    encoder.zero_grad(set_to_none=False)
    for images in batches:
        with torch.no_grad():
            targets = reference(images)
        noise = torch.randn(targets[-1].shape, generator=generator, device=generator.device).to(targets[-1])
        targets = [*targets[:-1], targets[-1] + NOISE * noise]
        loss = sum(F.mse_loss(ours, target) for ours, target in zip(feature_maps(model, images), targets))
        (loss / NOISE**2).backward()  # the scale changes no rank, but torch-pruning adds 1e-8 to its divisors


def feature_maps(model, images: Tensor) -> list[Tensor]:
    """The encoder's feature maps, finest first, before the decoder's own convolutions."""
    return model.image_encoder(images)["backbone_fpn"]


def prune(model, phase: str, keep: float) -> dict[str, list[int]]:
    """Remove the least important channels of a model with split attention, by the gradients of `disturbed_taylor`.

    A channel's importance in one layer is the sum of |weight x gradient| over its slice; that of a group of tied
    channels is the mean over its layers. Width is ranked within each of the four groups, one per stage. In phase 2,
    heads and hidden units are each ranked over all blocks at once, by standard scores.

    ``phase`` is "width" or "bottleneck", ``keep`` the share of the channels that stay, such as 8/9. Returns the former
    numbers of the channels left, by ``<layer>.in`` or ``<layer>.out``, for layers that lost some.
    """
    if phase not in PHASES:
        raise RDSInputError(f"phase {phase!r} is unknown; choose one of {PHASES}")
    if not 0 < keep <= 1:
        raise RDSInputError(f"keep is {keep}; give a share above 0, at most 1, such as 8/9")
    encoder = model.image_encoder
    blocks = encoder.trunk.blocks
    if any(p.grad is None for p in blocks.parameters()):
        raise RDSInputError("the model has no gradients to prune by; call disturbed_taylor on it first")
    qkv = [layer for block in blocks for layer in (block.attn.q, block.attn.k, block.attn.v)]
    hidden, neck = [block.mlp.layers[0] for block in blocks], [conv.conv for conv in encoder.neck.convs]
    if phase == "width":
        return _prune(encoder, keep, ignored=[*qkv, *hidden, *neck], everywhere=False, heads={})
    heads = {layer: block.attn.num_heads for block in blocks for layer in (block.attn.q, block.attn.k, block.attn.v)}
    stream = [layer for block in blocks for layer in (block.attn.proj, block.mlp.layers[1])]
    stream += [block.proj for block in blocks if hasattr(block, "proj")] + [encoder.trunk.patch_embed.proj, *neck]
    kept = _prune(encoder, keep, ignored=[*stream, *hidden], everywhere=True, heads=heads)
    return kept | _prune(encoder, keep, ignored=[*stream, *qkv], everywhere=True, heads=heads)


def _prune(encoder, keep, *, ignored, everywhere, heads):
    import torch_pruning as tp  # only pruning needs it

    trunk = encoder.trunk
    size = trunk.patch_embed.proj.stride[0] * 8 * 2 ** (len(trunk.stage_ends) - 1)
    kinds, normalizer = [nn.modules.conv._ConvNd, nn.Linear], "gaussian" if everywhere else "mean"
    taylor = tp.importance.GroupTaylorImportance(group_reduction="mean", normalizer=normalizer, target_types=kinds)
    pruner = tp.pruner.BasePruner(
        encoder,
        torch.zeros(1, 3, size, size, device=trunk.pos_embed.device),
        importance=taylor,
        global_pruning=everywhere,
        pruning_ratio=1 - keep,
        max_pruning_ratio=MAX_PRUNED if everywhere else 1.0,
        ignored_layers=ignored,
        num_heads=dict(heads),
        in_channel_groups={},
        out_channel_groups={},
        output_transform=lambda out: out["backbone_fpn"],
        unwrapped_parameters=[(trunk.pos_embed, 1), (trunk.pos_embed_window, 1)],
    )
    names, kept = {module: name for name, module in encoder.named_modules()}, {}
    for group in pruner.step(interactive=True):
        for dependency, removed in group:
            layer = dependency.target.module
            side = "out" if pruner.DG.is_out_channel_pruning_fn(dependency.handler) else "in"
            if isinstance(layer, nn.Linear | nn.Conv2d):
                n = getattr(layer, f"{side}_features" if isinstance(layer, nn.Linear) else f"{side}_channels")
                kept[f"{names[layer]}.{side}"] = sorted(set(range(n)) - set(removed))
        group.prune()
    return kept


def save_slim(path, model, kept: dict[str, list[int]]) -> None:
    """Write a pruned model with fused attention as one safetensors file, with the kept channels in its header."""
    write_tensors(path, model.state_dict(), kept=kept)


def load_slim(model, path) -> dict[str, list[int]]:
    """Give a model the shapes and weights of a file of `save_slim`, in place, and return the kept channels.

    Raises RDSInputError if the file is missing, another kind of file, or made from another model.
    """
    tensors, header = read_tensors(path)
    if not isinstance(header.get("kept"), dict):
        raise RDSInputError(f"{path}: no kept channels in its header; write it with save_slim")
    own = {name: tensor.shape for name, tensor in model.state_dict().items()}
    narrower = {name: (None,) * len(shape) for name, shape in own.items() if name.startswith("image_encoder.")}
    check_tensors(tensors, own | narrower, str(path))
    for name, own in model.state_dict().items():
        if own.shape != tensors[name].shape:
            owner, _, attribute = name.rpartition(".")
            _resize(model.get_submodule(owner), attribute, tensors[name])
    model.load_state_dict(tensors)
    try:
        with torch.no_grad():
            feature_maps(model, torch.zeros(1, 3, 64, 64, device=next(model.parameters()).device))
    except RuntimeError as cause:
        raise RDSInputError(f"{path}: widths of its layers do not fit together ({cause}); train it anew") from cause
    return header["kept"]


def _resize(layer, attribute, tensor):
    setattr(layer, attribute, nn.Parameter(tensor.clone(), requires_grad=getattr(layer, attribute).requires_grad))
    if isinstance(layer, nn.Linear) and attribute == "weight":
        layer.out_features, layer.in_features = tensor.shape
    elif isinstance(layer, nn.Conv2d) and attribute == "weight":
        layer.out_channels, layer.in_channels = tensor.shape[:2]
    elif isinstance(layer, nn.LayerNorm):
        layer.normalized_shape = tuple(tensor.shape)


def _linear(weight: Tensor, bias: Tensor) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0], device="meta")
    layer.weight, layer.bias = (nn.Parameter(x.detach().clone(), x.requires_grad) for x in (weight, bias))
    return layer
