"""Scores of a tracker on a data set: those of the official evaluation, whatever order the sequences are run in."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from rds_lib.evaluation.scores import Job, score_jobs, score_tracker
from rds_lib.metrics.masks import score_masks
from rds_lib.model.track import copy_first_mask


def test_the_floor_scores_what_it_scores_by_hand(sequences, davis_root):
    """J by hand: the first mask against every frame but the first and the last, as DAVIS counts them."""
    floor = score_tracker(copy_first_mask, sequences, davis_root, layout="davis2017")
    expected = {}
    for sequence in sequences:
        for obj in sequence.obj_ids:
            first = sequence.masks(0)[obj]
            truth = [sequence.masks(t)[obj] for t in range(1, len(sequence) - 1)]
            expected[sequence.name, obj] = np.mean([(first & mask).sum() / (first | mask).sum() for mask in truth])
    got = {(row.sequence, row.object): row.J for row in floor.objects.itertuples()}
    assert len(got) == 4 and got == pytest.approx(expected)
    assert min(got.values()) < 0.9, "something moves"
    assert floor.frames == 15 and np.isnan(floor.active) and np.isnan(floor.active_routed)


def test_results_come_back_in_the_order_of_the_jobs_whatever_ran_first(sequences, davis_root, tmp_path):
    started = []

    def track(sequence):
        started.append(sequence.name)
        return copy_first_mask(sequence)

    jobs = [Job(sequence, davis_root, "davis2017", "val", tmp_path) for sequence in sequences]
    results = score_jobs(track, jobs)
    assert [table["sequence"].iloc[0] for table, *_ in results] == [sequence.name for sequence in sequences]
    assert started[0] == sequences[2].name, "the one with two objects takes longest"


@pytest.mark.parametrize("workers", [1, 2])
def test_scores_are_those_of_the_whole_set_at_once(sequences, davis_root, tmp_path, workers):
    scores = score_tracker(copy_first_mask, sequences, davis_root, layout="davis2017", keep=tmp_path, workers=workers)
    whole = score_masks(davis_root, tmp_path, "davis2017", sequences=[s.name for s in sequences])
    pd.testing.assert_frame_equal(scores.objects, whole)
    assert scores.objects.attrs["summary"] == whole.attrs["summary"]


def test_predictions_are_kept_where_asked(sequences, davis_root, tmp_path):
    score_tracker(copy_first_mask, sequences[:3], davis_root, layout="davis2017", keep=tmp_path / "kept")
    assert sorted(path.name for path in (tmp_path / "kept").iterdir()) == sorted(s.name for s in sequences)


def test_only_the_tracked_sequences_are_scored(sequences, davis_root):
    table = score_tracker(copy_first_mask, sequences[1:2], davis_root, layout="davis2017").objects
    assert table["sequence"].tolist() == ["val-0001-fast_motion"]


def test_a_perfect_tracker_scores_one(sequences, davis_root):
    def perfect(sequence):
        return replace(copy_first_mask(sequence), masks={t: sequence.masks(t) for t in range(len(sequence))})

    table = score_tracker(perfect, sequences, davis_root, layout="davis2017").objects
    assert (table["J"] == 1).all() and (table["F"] == 1).all()
