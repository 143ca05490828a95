"""Differentiable tracking against SAM2's own video predictor, and the prompts that start it."""

import pytest
import torch

from rds_lib.core.errors import RDSInputError
from rds_lib.model.clip_tracking import Prompt, make_prompt, track_clip
from rds_lib.model.sam2 import set_image_size


@pytest.fixture(scope="module")
def targets():
    """Two objects of 64x64 px: a rectangle and an L."""
    masks = torch.zeros(2, 64, 64)
    masks[0, 10:30, 20:60] = 1
    masks[1, 5:50, 8:14] = 1
    masks[1, 44:50, 8:40] = 1
    return masks


@torch.inference_mode()
def stock_logits(model, folder, add_prompt):
    """Low-resolution logits of every frame from SAM2's predictor, and the images it saw."""
    state = model.init_state(str(folder))
    add_prompt(state)
    list(model.propagate_in_video(state))
    memory = state["output_dict_per_obj"][0]
    found = memory["cond_frame_outputs"] | memory["non_cond_frame_outputs"]
    return [found[t]["pred_masks"] for t in range(len(found))], state["images"]


@torch.inference_mode()
def compare(model, sequence, prompt, add_prompt):
    """Largest difference from the stock predictor on every frame."""
    expected, images = stock_logits(model, sequence.frame_paths[0].parent, add_prompt)
    outputs = track_clip(model, len(images), prompt, lambda t, previous: model.forward_image(images[t : t + 1]))
    assert len(outputs) == len(expected) == 5
    return [(a.low_res_logits - b).abs().max().item() for a, b in zip(outputs, expected)]


def test_tracks_a_click_as_the_stock_predictor_does(mini_model, sequences, monkeypatch):
    """The predictor keeps memories as bfloat16; here it is made to keep them as they are."""
    monkeypatch.setattr(torch, "bfloat16", torch.float32)
    prompt = Prompt(points=torch.tensor([[[96.5, 80.5]]]), labels=torch.ones(1, 1, dtype=torch.int32))
    worst = compare(mini_model, sequences[0], prompt, lambda state: mini_model.add_new_points_or_box(
        state, 0, 1, points=prompt.points[0] / mini_model.image_size, labels=prompt.labels[0], normalize_coords=False))
    assert max(worst) < 1e-5


def test_tracks_a_mask_as_the_stock_predictor_does(mini_model, sequences):
    """Closer than bfloat16 memories, and a memory of frame 0 that the predictor makes from the low-resolution mask, allow."""
    mask = torch.zeros(mini_model.image_size, mini_model.image_size)
    mask[60:130, 40:120] = 1
    worst = compare(mini_model, sequences[0], Prompt(masks=mask[None, None]),
                    lambda state: mini_model.add_new_mask(state, 0, 1, mask))
    assert worst[0] == 0 and max(worst) < 5e-4


def test_the_last_frame_trains_the_memory_of_the_first(mini_model):
    model = mini_model.train()
    set_image_size(model, 64)
    images = torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    mask = torch.zeros(1, 1, 64, 64)
    mask[..., 16:40, 16:40] = 1
    outputs = track_clip(model, 3, Prompt(masks=mask), lambda t, previous: model.forward_image(images[t : t + 1]))
    outputs[2].mask_logits.sum().backward()
    assert (images.grad.flatten(1).abs().sum(1) > 0).all()


def test_features_are_asked_for_in_order_with_the_previous_output(mini_model):
    model, asked = mini_model, []
    set_image_size(model, 64)

    def encode(t, previous):
        asked.append((t, previous))
        return model.forward_image(torch.full((1, 3, 64, 64), float(t)))

    with torch.inference_mode():
        outputs = track_clip(model, 3, Prompt(masks=torch.ones(1, 1, 64, 64)), encode)
    assert [t for t, _ in asked] == [0, 1, 2]
    assert asked[0][1] is None and asked[1][1] is outputs[0] and asked[2][1] is outputs[1]


def test_refuses_image_sizes_that_the_encoder_cannot_take(mini_model):
    with pytest.raises(RDSInputError, match="100 px"):
        set_image_size(mini_model, 100)


def test_mask_prompts_are_the_targets(targets):
    prompt = make_prompt("mask", targets, torch.Generator())
    assert prompt.masks.shape == (2, 1, 64, 64) and prompt.masks[:, 0].equal(targets)
    assert prompt.point_inputs() is None


def test_point_prompts_lie_inside_the_mask_and_move(targets):
    seen = set()
    for seed in range(20):
        prompt = make_prompt("point", targets, torch.Generator().manual_seed(seed))
        assert prompt.masks is None and prompt.points.shape == (2, 1, 2) and prompt.labels.tolist() == [[1], [1]]
        for target, (x, y) in zip(targets, prompt.points[:, 0].tolist()):
            assert target[int(y), int(x)] == 1
        seen.add(tuple(prompt.points[0, 0].tolist()))
    assert len(seen) > 15


def test_box_prompts_stay_within_a_tenth_of_the_side(targets):
    exact = torch.tensor([[20, 10, 60, 30], [8, 5, 40, 50]]).float()
    reach = 0.1 * (exact[:, 2:] - exact[:, :2]).repeat(1, 2)
    moves = []
    for seed in range(20):
        prompt = make_prompt("box", targets, torch.Generator().manual_seed(seed))
        assert prompt.points.shape == (2, 2, 2) and prompt.labels.tolist() == [[2, 3], [2, 3]]
        moves.append((prompt.points.reshape(2, 4) - exact) / reach)
    moves = torch.stack(moves)
    assert moves.abs().max() <= 1 + 1e-5
    assert moves.min() < -0.8 and moves.max() > 0.8


def test_boxes_end_at_the_border_of_the_image():
    full = torch.ones(1, 64, 64)
    boxes = [make_prompt("box", full, torch.Generator().manual_seed(seed)).points for seed in range(5)]
    assert min(box.min() for box in boxes) >= 0 and max(box.max() for box in boxes) <= 64
