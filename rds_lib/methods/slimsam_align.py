"""SlimSAM's two alignments: a pruned encoder learns the original's activations where both have the same size.

Source: czg1225/SlimSAM. Its code compares the student's q, k and v of globally attending blocks with themselves, a term
that is always 0; here they are compared with the teacher's.
"""

from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn import functional as F

from rds_lib.methods.slimsam import feature_maps


def bottleneck_aligning(student, teacher, images: Tensor, share: float) -> Tensor:
    """Loss of phase 1: ``(1 - a) MSE(features) + a (MSE(qkv, windows) + MSE(qkv, global) + MSE(hidden))``.

    Only the width was pruned: q, k, v and the hidden units still have the teacher's size. Both models have split
    attention. ``share`` is a, see `bottleneck_share`.
    """
    with _watch(student, _bottlenecks) as ours:
        features = feature_maps(student, images)
    with torch.no_grad(), _watch(teacher, _bottlenecks) as theirs:
        targets = feature_maps(teacher, images)
    loss = _distance(features, targets)
    if not share:
        return loss
    return (1 - share) * loss + share * sum(_distance(ours[kind], theirs[kind]) for kind in ours)


def embedding_aligning(student, slimmed, teacher, images: Tensor, share: float) -> Tensor:
    """Loss of phase 2: ``(1 - a) MSE(features, teacher) + a (MSE(stream, slimmed) + MSE(features, slimmed))``.

    Only bottlenecks were pruned: the stream after every attention and MLP still has the size of ``slimmed``, the model
    of phase 1. ``share`` is a, see `embedding_share`.
    """
    with _watch(student, _streams) as ours:
        features = feature_maps(student, images)
    with torch.no_grad():
        originals = feature_maps(teacher, images)
    loss = _distance(features, originals)
    if not share:
        return loss
    with torch.no_grad(), _watch(slimmed, _streams) as theirs:
        targets = feature_maps(slimmed, images)
    return (1 - share) * loss + share * (_distance(ours["stream"], theirs["stream"]) + _distance(features, targets))


def bottleneck_share(progress: float) -> float:
    """Half in the first half of the phase, nothing afterwards."""
    return 0.5 if progress < 0.5 else 0.0


def embedding_share(progress: float) -> float:
    """SlimSAM's ``(10 - e) / 11`` of 20 epochs, for a progress from 0 to 1: it falls to 0 in the first half."""
    return max(0.0, (10 - 20 * progress) / 11)


def _distance(ours, theirs):
    return sum(F.mse_loss(a, b) for a, b in zip(ours, theirs, strict=True)) / len(ours)


@contextmanager
def _watch(model, register):
    """Collect activations by kind; ``register(blocks, keep)`` adds the hooks, ``keep(kind, tensor)`` stores."""
    seen = {}
    hooks = register(model.image_encoder.trunk.blocks, lambda kind, tensor: seen.setdefault(kind, []).append(tensor))
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def _bottlenecks(blocks, keep):
    hooks = []
    for block in blocks:
        kind, attention = "qkv, windows" if block.window_size else "qkv, global", block.attn
        for layer, name in ((attention.q, kind), (attention.k, kind), (attention.v, kind), (block.mlp.act, "hidden")):
            hooks.append(layer.register_forward_hook(lambda _, inputs, out, name=name: keep(name, out)))
    return hooks


def _streams(blocks, keep):
    hooks = []
    for block in blocks:
        hooks.append(block.norm2.register_forward_pre_hook(lambda _, inputs: keep("stream", inputs[0])))
        hooks.append(block.register_forward_hook(lambda _, inputs, out: keep("stream", out)))
    return hooks
