"""A tracker whose masks shrink or grow is levelled by its weights alone."""

import pytest
import torch

from rds_lib.data.clips import generate_clip
from rds_lib.data.datasets import read_dataset
from rds_lib.data.writers import write_dataset
from rds_lib.model.sam2 import build_model
from rds_lib.pretraining.held_out import follow, look_at
from rds_lib.pretraining.levelling import NEAR_OUTLINE, level_masks, outline_constant


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    root = tmp_path_factory.mktemp("level") / "clips"
    made = (generate_clip(5, i, split="calibration", frames=12, height=128, width=192) for i in range(3))
    write_dataset(root, made, layout="davis2017", split="calibration")
    return read_dataset(root, layout="davis2017", split="calibration")


def heads(model):
    return [head.layers[-1].bias for head in model.sam_mask_decoder.output_hypernetworks_mlps]


def near_outlines(model, view):
    """Logits (N,) of the frame after a view's first."""
    seen = []
    hook = model.sam_mask_decoder.register_forward_hook(lambda module, inputs, outputs: seen.append(outputs[0][:, 0]))
    follow(model, view)
    hook.remove()
    return seen[1].flatten()


@torch.inference_mode()
def test_the_constant_raises_logits_along_outlines_by_one(clips):
    model = build_model("mini")
    views = list(look_at(model, clips, frames=4))
    unit = outline_constant(model, views)
    before = near_outlines(model, views[0])
    for bias in heads(model):
        bias.add_(0.2 * unit)
    rise = (near_outlines(model, views[0]) - before)[before.abs() < NEAR_OUTLINE]
    assert rise.mean().item() == pytest.approx(0.2, abs=0.04) and rise.std().item() < 0.1


def test_a_model_that_shrinks_is_shifted_back_and_only_there(clips):
    model = build_model("mini")
    with torch.inference_mode():
        views = list(look_at(model, clips, frames=4))
        unit = outline_constant(model, views)
        for bias in heads(model):
            bias.sub_(0.8 * unit)
    worse = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    rows = level_masks(model, [clips[:2], clips[2:]], shifts=(0.0, 0.4, 0.8))
    by_shift = {row["shift"]: row for row in rows}
    best = max(rows, key=lambda row: row["iou"])
    assert best["shift"] > 0 and best["iou"] > by_shift[0.0]["iou"] + 0.02
    assert best["iou"] == pytest.approx((best["iou_0"] + best["iou_1"]) / 2, abs=1e-3)
    changed = {name for name, tensor in model.state_dict().items() if not tensor.equal(worse[name])}
    assert changed == {f"sam_mask_decoder.output_hypernetworks_mlps.{i}.layers.2.bias" for i in range(4)}
    again = level_masks(model, [clips[:2], clips[2:]], shifts=(0.0,))
    assert again[0]["iou"] == pytest.approx(best["iou"], abs=5e-3), "the model is left at the best shift"


def test_a_level_model_is_left_as_it_is(clips):
    model = build_model("mini")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    level_masks(model, [clips[:1]], shifts=(-4.0, 0.0, 4.0))
    assert all(tensor.equal(before[name]) for name, tensor in model.state_dict().items())
