"""Scores of a tracker on a data set: those of the official evaluation, whatever order the sequences are run in."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from rds_lib.core.errors import RDSInputError
from rds_lib.data.clips import generate_clip
from rds_lib.data.datasets import read_dataset, write_dataset
from rds_lib.evaluation.scores import Job, score_jobs, score_tracker
from rds_lib.evaluation.tables import with_truth
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


@pytest.fixture
def ytvos(tmp_path):
    """Two clips in YouTube-VOS's layout, one with two objects, and the second as valid is published: prompts alone."""
    kinds = [("plain", 1), ("deformation", 2)]
    clips = [
        generate_clip(3, i, split="val", frames=11, height=96, width=128, difficulty=kind, n_objects=n)
        for i, (kind, n) in enumerate(kinds)
    ]
    write_dataset(tmp_path / "set", clips, layout="ytvos", split="val")
    for sequence in read_dataset(tmp_path / "set", layout="ytvos")[1:]:
        for t in set(sequence.annotated) - set(sequence.prompt_frame.values()):
            sequence.mask_paths[t][None].unlink()
    return tmp_path / "set"


def test_what_has_no_ground_truth_is_tracked_and_named_and_the_rest_is_scored(ytvos, tmp_path):
    sequences = read_dataset(ytvos, layout="ytvos")
    with pytest.warns(UserWarning, match="has no scored frame .*2 of 3 objects"):
        scores = score_tracker(copy_first_mask, sequences, ytvos, layout="ytvos", keep=tmp_path / "kept")
    for sequence in sequences:
        assert len(list((tmp_path / "kept" / sequence.name).iterdir())) == 11
    assert scores.objects["J"].isna().tolist() == [False, True, True] and not scores.faults
    assert scores.objects.attrs["summary"]["objects"] == 1 and scores.has_truth
    with pytest.warns(UserWarning):
        hidden = score_tracker(copy_first_mask, sequences[1:], ytvos, layout="ytvos")
    assert not hidden.has_truth
    assert list(with_truth({"seen": {1: scores}, "hidden": {1: hidden}})) == ["seen"]
    with pytest.raises(RDSInputError, match="hidden: no ground truth but the prompts.*masks are written"):
        with_truth({"hidden": {1: hidden}})


def test_a_damaged_ground_truth_or_sequence_costs_no_other_its_masks(ytvos, tmp_path):
    first, second = read_dataset(ytvos, layout="ytvos")
    first.mask_paths[5][None].unlink()  # of the middle frame: no prompt, so the ground truth is not kept back

    def track(sequence):
        if sequence is second:
            raise RDSInputError("frame 7 is damaged")
        return copy_first_mask(sequence)

    scores = score_tracker(track, [first, second], ytvos, layout="ytvos", keep=tmp_path / "kept", keep_going=True)
    assert len(list((tmp_path / "kept" / first.name).iterdir())) == 11 and scores.frames == 11
    assert list(scores.faults) == [first.name, second.name] and not scores.has_truth
    assert "00005.png is missing" in scores.faults[first.name] and "damaged" in scores.faults[second.name]
    with pytest.raises(RDSInputError, match="00005.png is missing"):
        score_tracker(copy_first_mask, [first], ytvos, layout="ytvos")
