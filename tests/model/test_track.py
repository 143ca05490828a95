"""Tracking a sequence: from which prompt, through which frames, and what a stock predictor gives."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from rds_lib.core.errors import RDSInputError
from rds_lib.data.clips import generate_clip
from rds_lib.data.datasets import read_dataset, write_dataset
from rds_lib.model.track import box_of, click_of, copy_first_mask, overlapping, painted, separate, track_sequence
from rds_lib.routing.build import build_rds_video_predictor


@pytest.fixture(scope="module")
def predictor(mini_weights, rds_file):
    return build_rds_video_predictor(
        "mini", mini_weights, rds_file, budget=0.5, device="cpu", apply_postprocessing=False
    )


def test_boxes_and_clicks_are_made_from_the_mask():
    mask = np.zeros((20, 30), bool)
    mask[5:12, 10:21] = True
    mask[8, 21:27] = True  # a spike that a click must not land on
    assert box_of(mask) == [10, 5, 27, 12]
    assert click_of(mask)[1] == 8 and 13 <= click_of(mask)[0] <= 18
    mask[:] = False
    mask[:3, :3] = True
    assert click_of(mask) == [1, 1], "beyond the frame lies no object"


@pytest.mark.parametrize("kind", ["box", "point"])
def test_tracking_starts_from_the_prompt_that_is_asked_for(predictor, sequences, monkeypatch, kind):
    seen, add = [], predictor.add_new_points_or_box
    monkeypatch.setattr(predictor, "add_new_points_or_box", lambda *a, **k: seen.append((a[1:], k)) or add(*a, **k))
    monkeypatch.setattr(predictor, "add_new_mask", None)
    sequence = sequences[2]
    tracked = track_sequence(predictor, sequence, prompt=kind)
    assert sorted(tracked.masks) == list(range(5)) and set(tracked.masks[4]) == set(sequence.obj_ids)
    assert [given for given, _ in seen] == [(0, obj_id) for obj_id in sequence.obj_ids]
    for (_, obj_id), options in seen:
        mask = sequence.masks(0)[obj_id]
        expected = {"box": box_of(mask)} if kind == "box" else {"points": [click_of(mask)], "labels": [1]}
        assert options == expected


def test_tracking_can_end_after_the_first_frames(predictor, sequences):
    assert sorted(track_sequence(predictor, sequences[0], frames=3).masks) == [0, 1, 2]
    late = replace(sequences[0], prompt_frame={1: 3})
    assert track_sequence(predictor, late, frames=3).masks == {}


def test_an_unknown_prompt_is_refused(predictor, sequences):
    with pytest.raises(RDSInputError, match="'scribble'.*mask, box or point"):
        track_sequence(predictor, sequences[0], prompt="scribble")


def test_the_floor_starts_every_object_at_its_prompt(sequences):
    late = replace(sequences[2], prompt_frame={1: 1, 2: 3})
    masks = copy_first_mask(late).masks
    assert {t: sorted(objects) for t, objects in masks.items()} == {1: [1], 2: [1], 3: [1, 2], 4: [1, 2]}
    assert np.array_equal(masks[4][2], late.masks(3)[2])


def test_pixels_go_to_the_largest_positive_logit():
    logits = torch.tensor([[3.0, -1.0, 2.0, 0.0], [1.0, -2.0, 5.0, -1.0]]).reshape(2, 1, 2, 2)
    masks = separate([7, 9], logits)
    assert masks[7].tolist() == [[True, False], [False, False]]
    assert masks[9].tolist() == [[False, False], [True, False]]
    assert painted([7, 9], logits).tolist() == [[7, 0], [9, 0]] and painted([7, 9], logits).dtype == np.uint8
    assert painted([], torch.zeros(0, 1, 2, 3)).tolist() == [[0, 0, 0]] * 2


def test_a_pixel_may_belong_to_several_objects_where_masks_may_overlap():
    logits = torch.tensor([[3.0, -1.0, 2.0, 0.0], [1.0, -2.0, 5.0, -1.0]]).reshape(2, 1, 2, 2)
    masks = overlapping([7, 9], logits)
    assert masks[7].tolist() == masks[9].tolist() == [[True, False], [True, False]]


@pytest.mark.parametrize("layout, may_overlap", [("davis2017", False), ("ytvos", False), ("sav", True)])
def test_masks_overlap_in_the_layout_of_sav_alone(predictor, tmp_path, monkeypatch, layout, may_overlap):
    """Every object claims every pixel, in a set written in each layout."""
    size = {"frames": 5, "height": 96, "width": 128}
    clip = generate_clip(3, 2, split="val", difficulty="deformation", n_objects=2, **size)
    write_dataset(tmp_path / "set", [clip], layout=layout)
    propagate = predictor.propagate_in_video

    def everywhere(*args):
        for t, obj_ids, logits in propagate(*args):
            yield t, obj_ids, torch.ones_like(logits)

    monkeypatch.setattr(predictor, "propagate_in_video", everywhere)
    (sequence,) = read_dataset(tmp_path / "set", layout=layout)
    first, second = track_sequence(predictor, sequence, frames=2).masks[1].values()
    assert first.all() and second.all() == may_overlap


def test_objects_are_added_when_they_appear(predictor, sequences, monkeypatch):
    late, propagate, visited = replace(sequences[2], prompt_frame={1: 0, 2: 2}), predictor.propagate_in_video, []

    def spy(*args):
        for step in propagate(*args):
            visited.append(step[0])
            yield step

    monkeypatch.setattr(predictor, "propagate_in_video", spy)
    tracked = track_sequence(predictor, late)
    assert visited == [0, 1, 2, 3, 4], "every frame once"
    assert {t: sorted(objects) for t, objects in tracked.masks.items()} == {
        0: [1],
        1: [1],
        2: [1, 2],
        3: [1, 2],
        4: [1, 2],
    }
    assert all(
        mask.shape == late.size and mask.dtype == bool
        for objects in tracked.masks.values()
        for mask in objects.values()
    )
    blocks = tracked.routes.groupby("frame_idx")["active"].sum()
    assert blocks[0] == blocks[2] == 48, "frames with a prompt run everything"
    assert (tracked.routes[tracked.routes["frame_idx"].isin([1, 3, 4])]["reason"] == "routed").all()
    assert tracked.seconds > 0


def test_stock_predictors_can_be_scored_too(mini_model, sequences):
    tracked = track_sequence(mini_model, sequences[0])
    assert sorted(tracked.masks) == [0, 1, 2, 3, 4] and tracked.routes.empty
