"""Differentiable tracking against SAM2's own video predictor, and the prompts that start it."""

import pytest
import torch

from rds_lib.core.errors import RDSInputError
from rds_lib.model.clip_tracking import FrameOutput, Prompt, SAM2Clips, make_prompt, track_clip
from rds_lib.model.losses import mask_iou, sam2_loss
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
    worst = compare(
        mini_model,
        sequences[0],
        prompt,
        lambda state: mini_model.add_new_points_or_box(
            state,
            0,
            1,
            points=prompt.points[0] / mini_model.image_size,
            labels=prompt.labels[0],
            normalize_coords=False,
        ),
    )
    assert max(worst) < 1e-5


def test_tracks_a_mask_as_the_stock_predictor_does(mini_model, sequences):
    """The predictor's memories are bfloat16, and that of frame 0 is made from the low-resolution mask."""
    mask = torch.zeros(mini_model.image_size, mini_model.image_size)
    mask[60:130, 40:120] = 1
    worst = compare(
        mini_model,
        sequences[0],
        Prompt(masks=mask[None, None]),
        lambda state: mini_model.add_new_mask(state, 0, 1, mask),
    )
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


@pytest.fixture
def encode(mini_model):
    """Features of three random frames of two clips at 64 px."""
    set_image_size(mini_model, 64)
    images = torch.randn(3, 2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    return lambda t, previous: mini_model.forward_image(images[t])


@torch.inference_mode()
def test_a_mask_prompt_is_what_the_first_frame_shows(mini_model, encode, targets):
    outputs = track_clip(mini_model, 1, make_prompt("mask", targets, torch.Generator()), encode)
    assert ((outputs[0].mask_logits[:, 0] > 0) == (targets > 0)).float().mean((1, 2)).min() > 0.99


@torch.inference_mode()
def test_a_tracker_of_clips_is_prompted_with_the_first_frame_and_sees_no_later_mask(mini_model, encode, targets):
    clips = torch.stack([targets, 1 - targets, torch.zeros_like(targets)], 1)  # (B, T, S, S)
    outputs = SAM2Clips(mini_model).track(clips, encode)
    expected = track_clip(mini_model, 3, make_prompt("mask", targets, torch.Generator()), encode)
    assert len(outputs) == len(expected) == 3
    assert all(torch.equal(a.mask_logits, b.mask_logits) for a, b in zip(outputs, expected))


def test_the_loss_is_the_mean_over_the_frames_after_the_first(mini_model, targets):
    tracker, generator = SAM2Clips(mini_model), torch.Generator().manual_seed(0)
    logits = torch.randn(3, 2, 3, 64, 64, generator=generator)
    outputs = [
        FrameOutput(x, torch.rand(2, 3, generator=generator), torch.ones(2, 1), x[:, :1], x[:, :1]) for x in logits
    ]
    clips = torch.stack([torch.zeros_like(targets), targets, 1 - targets], 1)
    loss, iou = tracker.loss(outputs, clips)
    assert loss == pytest.approx(((sam2_loss(outputs[1], targets) + sam2_loss(outputs[2], 1 - targets)) / 2).item())
    ious = torch.stack([mask_iou(logits[1, :, 0], targets), mask_iou(logits[2, :, 0], 1 - targets)])
    assert iou == pytest.approx(ious.mean().item())
    clips[:, 0] = 1
    assert tracker.loss(outputs, clips) == (loss, iou), "the first frame's mask is given"


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
