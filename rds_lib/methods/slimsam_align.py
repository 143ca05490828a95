"""SlimSAM's two alignments: a pruned encoder learns from the original what lies on either side of what was removed.

Source: czg1225/SlimSAM. Its code compares the student's q, k and v of globally attending blocks with themselves, so that
this term is always 0; here they are compared with the teacher's.
"""

from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn import functional as F

from rds_lib.methods.slimsam import feature_maps


def bottleneck_aligning(student, teacher, images: Tensor, share: float) -> Tensor:
    """Loss of phase 1: ``(1 - a) MSE(features) + a (MSE(qkv, windows) + MSE(qkv, global) + MSE(hidden))``.

    Width was pruned, so that q, k, v and the hidden units still have the teacher's size. Both models have split attention.

    Parameters
    ----------
    share : float
        a; 0.5 in the first half of the phase and 0 afterwards.
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

    Bottlenecks were pruned, so that the stream after every attention and MLP still has the size that ``slimmed``, the
    model of phase 1, has.

    Parameters
    ----------
    share : float
        a; falls from 10/11 to 0 over the first half of the phase, see :func:`embedding_share`.
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


def embedding_share(progress: float) -> float:
    """SlimSAM's ``(10 - e) / 11`` of 20 epochs, for a progress from 0 to 1."""
    return max(0.0, (10 - 20 * progress) / 11)


def _distance(ours, theirs):
    return sum(F.mse_loss(a, b) for a, b in zip(ours, theirs, strict=True)) / len(ours)


@contextmanager
def _watch(model, register):
    seen = {}
    hooks = register(model.image_encoder.trunk.blocks, seen)
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def _bottlenecks(blocks, seen):
    hooks = []
    for block in blocks:
        kind = "qkv, windows" if block.window_size else "qkv, global"
        for layer, name in ((block.attn.q, kind), (block.attn.k, kind), (block.attn.v, kind), (block.mlp.act, "hidden")):
            hooks.append(layer.register_forward_hook(lambda _, inputs, out, name=name: seen.setdefault(name, []).append(out)))
    return hooks


def _streams(blocks, seen):
    hooks = []
    for block in blocks:
        hooks.append(block.norm2.register_forward_pre_hook(lambda _, inputs: seen.setdefault("stream", []).append(inputs[0])))
        hooks.append(block.register_forward_hook(lambda _, inputs, out: seen.setdefault("stream", []).append(out)))
    return hooks
