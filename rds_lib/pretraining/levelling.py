"""Level a trained tracker: shift its mask logits so that objects neither shrink nor grow while they are tracked.

A mask goes into the memory from which the next one is made, so a bias that no single frame shows adds up over a video.
The shift is one number, searched on calibration videos. It is folded into the weights, so the model stays SAM2's:
a mask is the product of a head's output and the decoder's pixel embedding, and the output that is nearest to giving 1
at every pixel along outlines is added to the heads' last biases.
"""

from collections.abc import Sequence

import torch

from rds_lib.pretraining.held_out import follow, look_at

SHIFTS = (-0.2, 0.0, 0.2, 0.4, 0.6)  # logits
NEAR_OUTLINE = 3.0  # logits: pixels that a shift may move across the outline
LONGEST = 60  # frames of a video


@torch.inference_mode()
def level_masks(model, sets: Sequence[Sequence], shifts: Sequence[float] = SHIFTS) -> list[dict]:
    """Shift the mask logits of a SAM2 by the best of ``shifts`` and the middles beside it, in place.

    Parameters
    ----------
    sets : sequence of lists of Sequence
        Videos to decide by. All sets count alike, and in a set all objects.
    shifts : sequence of float, rising
        Logits that are tried; 0 among them leaves a model that is level as it is.

    Returns
    -------
    list of dict
        ``shift`` and ``iou``, the mean over the sets, of all that were tried, and each set's own as ``iou_0``, ...
    """
    views = [list(look_at(model, videos, frames=LONGEST)) for videos in sets]
    unit, rows = outline_constant(model, [part[0] for part in views]), []
    biases = _last_biases(model)
    learnt = [bias.clone() for bias in biases]

    def attempt(shift):
        _set(biases, learnt, shift * unit)
        means = [_mean([iou for view in part for iou in follow(model, view)]) for part in views]
        by_set = {f"iou_{i}": round(mean, 4) for i, mean in enumerate(means)}
        rows.append({"shift": shift, "iou": round(_mean(means), 4), **by_set})

    def best():
        return max(rows, key=lambda row: row["iou"])["shift"]

    for shift in shifts:
        attempt(shift)
    for middle in _beside(best(), shifts):
        attempt(middle)
    _set(biases, learnt, best() * unit)
    return sorted(rows, key=lambda row: row["shift"])


def outline_constant(model, views) -> torch.Tensor:
    """Return the output of a mask head (C,) whose product with the pixel embedding is nearest to 1 along outlines.

    Least squares over the pixels of tracked videos with logits within ``NEAR_OUTLINE``, scaled to a mean of 1. The
    first frame of a video does not count: its mask is given.
    """
    decoder, seen = model.sam_mask_decoder, {}
    width = decoder.conv_s0.out_channels
    products, sums, pixels = torch.zeros(width, width).double(), torch.zeros(width).double(), 0

    def keep_embedding(module, inputs, embedding):
        seen["embedding"] = embedding

    def add_pixels(module, inputs, outputs):
        nonlocal products, sums, pixels
        if seen.pop("first", False):
            return
        near = outputs[0][:, 0].abs() < NEAR_OUTLINE  # (B, h, w)
        rows = seen["embedding"].permute(0, 2, 3, 1)[near].double().cpu()
        products, sums, pixels = products + rows.T @ rows, sums + rows.sum(0), pixels + len(rows)

    hooks = [
        decoder.output_upscaling[-1].register_forward_hook(keep_embedding),
        decoder.register_forward_hook(add_pixels),
    ]
    try:
        for view in views:
            seen["first"] = True
            follow(model, view)
    finally:
        for hook in hooks:
            hook.remove()
    ridge = 1e-6 * products.diagonal().mean().clamp(min=1e-12) * torch.eye(width).double()
    nearest = torch.linalg.solve(products + ridge, sums)
    return (nearest * pixels / (nearest @ sums)).float()


def _beside(chosen, shifts) -> list[float]:
    """The middles between a shift and its neighbours."""
    lower = [shift for shift in shifts if shift < chosen][-1:]
    upper = [shift for shift in shifts if shift > chosen][:1]
    return [(chosen + shift) / 2 for shift in lower + upper]


def _last_biases(model) -> list[torch.Tensor]:
    """The bias (C,) that ends each of the decoder's mask heads."""
    return [head.layers[-1].bias for head in model.sam_mask_decoder.output_hypernetworks_mlps]


def _set(biases, learnt, change):
    for bias, before in zip(biases, learnt, strict=True):
        bias.copy_(before + change.to(before))


def _mean(values) -> float:
    return sum(values) / len(values)
