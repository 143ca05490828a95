"""Box metrics: extents of masks, LaSOT's and GOT-10k's conventions, each on tracks small enough to count by hand."""

import logging

import numpy as np
import pandas as pd
import pytest

from rds_lib.core.errors import RDSInputError
from rds_lib.metrics.boxes import (
    box_iou,
    box_table,
    boxes_of_masks,
    got10k_scores,
    hold_last,
    lasot_scores,
    summarise_boxes,
)


def track(*boxes):
    return np.array(boxes, float)


STILL = track(*[(10, 10, 20, 20)] * 4)


def test_a_box_covers_all_pixels_of_a_mask_and_an_empty_one_has_none():
    masks = np.zeros((2, 30, 40), bool)
    masks[0, 5:9, 10] = True
    masks[0, 20, 30] = True
    boxes = boxes_of_masks(masks)
    assert boxes[0].tolist() == [10, 5, 21, 16] and np.isnan(boxes[1]).all()


def test_a_lost_object_keeps_its_last_box_and_the_log_says_so(caplog):
    boxes = track((1, 1, 2, 2), (np.nan,) * 4, (np.nan,) * 4, (5, 5, 2, 2), (np.nan,) * 4)
    with caplog.at_level(logging.INFO):
        held = hold_last(boxes, name="dog 1")
    assert held[:, 0].tolist() == [1, 1, 1, 5, 5] and "dog 1" in caplog.text and "3 of 5" in caplog.text
    with pytest.raises(RDSInputError, match="dog 2"):
        hold_last(boxes[1:], name="dog 2")


def test_iou_of_boxes():
    other = track((10, 10, 20, 20), (20, 10, 20, 20), (30, 10, 20, 20), (15, 15, 10, 10))
    assert box_iou(STILL, other) == pytest.approx([1, 200 / 600, 0, 100 / 400])


def test_lasot_gives_a_perfect_track_20_of_21():
    scores = lasot_scores(STILL, STILL)
    assert scores["success"] == pytest.approx(20 / 21)
    assert scores["precision"] == scores["norm_precision"] == scores["norm_precision_area"] == 1


def test_lasot_counts_the_first_frame_as_given_and_absent_frames_as_failures():
    truth, predicted = STILL.copy(), STILL.copy()
    predicted[0] = (500, 500, 3, 3)
    truth[3] = np.nan
    scores = lasot_scores(truth, predicted)
    assert scores["success"] == pytest.approx(20 / 21 * 3 / 4)
    assert scores["precision"] == 0.75 and scores["norm_precision"] == 0.75
    assert predicted[0, 0] == 500, "the caller's boxes are left alone"


def test_lasot_measures_the_centre_in_pixels_and_in_target_sizes():
    predicted = STILL + np.array([[0, 0, 0, 0], [20, 0, 0, 0], [20.5, 0, 0, 0], [4, 0, 0, 0]])
    scores = lasot_scores(STILL, predicted)
    assert scores["precision"] == 0.75
    assert scores["norm_precision"] == 0.5  # 0, 1, 1.025 and 0.2 target widths
    assert scores["norm_precision_area"] == pytest.approx((1 + 31 / 51) / 4)  # 0.2 to 0.5 are 31 thresholds


def test_an_overlap_on_the_threshold_is_no_success():
    predicted = STILL.copy()
    predicted[1:, 2] = 10  # half of the target
    assert lasot_scores(STILL, predicted)["success"] == pytest.approx((20 / 21 + 3 * 10 / 21) / 4)


def test_got10k_drops_first_and_absent_frames_and_lets_long_videos_weigh_more():
    truth = STILL.copy()
    truth[2] = np.nan
    bad = track(*[(10, 10, 20, 20), (200, 200, 5, 5)])
    scores = got10k_scores([(truth, STILL), (STILL[:2], bad)], size=(100, 100))
    assert scores["AO"] == pytest.approx(2 / 3) and scores["SR_0.5"] == scores["SR_0.75"] == pytest.approx(2 / 3)


def test_got10k_clips_boxes_to_the_image():
    truth = track((80, 80, 20, 20), (80, 80, 20, 20))
    predicted = track((80, 80, 20, 20), (80, 80, 40, 40))
    assert got10k_scores([(truth, predicted)], size=(100, 100))["AO"] == pytest.approx(1)
    assert got10k_scores([(truth, predicted)], size=(200, 200))["AO"] == pytest.approx(0.25)


def test_tracks_that_cannot_be_scored_are_refused():
    with pytest.raises(RDSInputError, match=r"\(4, 4\) and \(3, 4\)"):
        lasot_scores(STILL, STILL[:3])
    with pytest.raises(RDSInputError, match="hold_last"):
        lasot_scores(STILL, np.full((4, 4), np.nan))
    with pytest.raises(RDSInputError, match="no frame counts"):
        got10k_scores([(STILL[:1], STILL[:1])], size=(100, 100))


def test_perfect_masks_give_the_best_scores_that_the_protocols_allow(sequences):
    for sequence in sequences:
        table = box_table(sequence, {t: sequence.masks(t) for t in sequence.annotated})
        assert table["object"].tolist() == list(sequence.obj_ids)
        assert table["success"].tolist() == pytest.approx([20 / 21] * len(table)) and (
            table[["AO", "SR_0.75", "precision"]] == 1
        ).all(axis=None)


def test_a_track_that_is_lost_keeps_its_prompt_and_later_objects_start_at_theirs(sequences):
    sequence = sequences[2]
    nothing = {t: {} for t in range(len(sequence))}
    table = box_table(sequence, nothing).set_index("object")
    still = boxes_of_masks(np.stack([sequence.masks(0)[1]] * len(sequence)))
    real = boxes_of_masks(np.stack([sequence.masks(t)[1] for t in range(len(sequence))]))
    assert (
        table.loc[1, "AO"] == pytest.approx(box_iou(real, still)[1:].mean())
        and table.loc[1, "frames"] == len(sequence) - 1
    )


def test_got10k_means_over_frames_and_lasot_over_objects():
    table = pd.DataFrame(
        {
            name: [1.0, 0.0]
            for name in ("success", "precision", "norm_precision", "norm_precision_area", "AO", "SR_0.5", "SR_0.75")
        }
    )
    found = summarise_boxes(table.assign(frames=[30, 10]))
    assert found["success"] == 0.5 and found["AO"] == 0.75
