"""Tracking data sets, the floor and the controls, calibration, and the tables made of routes."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from rds_lib.core.errors import RDSInputError
from rds_lib.evaluation.scores import Job, Scores, score_jobs, score_tracker
from rds_lib.methods.static import fixed_route, random_routes
from rds_lib.metrics.masks import score_masks
from rds_lib.model.track import box_of, click_of, copy_first_mask, separate, track_sequence
from rds_lib.routing.algorithm1 import target_active
from rds_lib.routing.calibration import calibrate, threshold_curve
from rds_lib.routing.predictor import build_rds_video_predictor
from rds_lib.routing.route_table import keep_prob_matrix, mean_active, route_spread

K = (0, 2, 8, 44, 47)


@pytest.fixture(scope="module")
def predictor(mini_weights, rds_file):
    return build_rds_video_predictor("mini", mini_weights, rds_file, budget=0.5, device="cpu", apply_postprocessing=False)


@pytest.fixture
def routes():
    """Two frames of two sequences and three blocks; one of them ran full."""
    rows = [("a", 0, i, True, 1.0, "first_frame") for i in range(3)]
    rows += [("a", 1, i, on, w, "routed") for i, (on, w) in enumerate([(True, 1.0), (False, 0.2), (True, 0.7)])]
    rows += [("b", 1, i, on, w, "routed") for i, (on, w) in enumerate([(True, 1.0), (False, 0.4), (False, 0.3)])]
    return pd.DataFrame(rows, columns=["sequence", "frame_idx", "block", "active", "keep_prob", "reason"])


def scores(table, routes=None):
    rows = [(name, obj, jf) for (name, obj), jf in table.items()]
    objects = pd.DataFrame(rows, columns=["sequence", "object", "JF"])
    return Scores(objects, pd.DataFrame() if routes is None else routes, 1.0, 10)


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
    assert floor.frames == 15 and np.isnan(floor.active)


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


def test_calibration_looks_at_the_frames_it_is_given(predictor, sequences):
    _, w = calibrate(predictor, sequences, target_active=24, frames=3)
    assert len(w) == 2 * len(sequences)


def test_results_come_back_in_the_order_of_the_jobs_whatever_ran_first(sequences, davis_root, tmp_path):
    started = []

    def track(sequence):
        started.append(sequence.name)
        return copy_first_mask(sequence)

    jobs = [Job(sequence, davis_root, "davis2017", "val", tmp_path) for sequence in sequences]
    results = score_jobs(track, jobs)
    assert [table["sequence"].iloc[0] for table, *_ in results] == [sequence.name for sequence in sequences]
    assert started[0] == sequences[2].name, "the one with two objects takes longest"


def test_an_unknown_prompt_is_refused(predictor, sequences):
    with pytest.raises(RDSInputError, match="'scribble'.*mask, box or point"):
        track_sequence(predictor, sequences[0], prompt="scribble")


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


def test_objects_are_added_when_they_appear(predictor, sequences, monkeypatch):
    late, propagate, visited = replace(sequences[2], prompt_frame={1: 0, 2: 2}), predictor.propagate_in_video, []

    def spy(*args):
        for step in propagate(*args):
            visited.append(step[0])
            yield step

    monkeypatch.setattr(predictor, "propagate_in_video", spy)
    tracked = track_sequence(predictor, late)
    assert visited == [0, 1, 2, 3, 4], "every frame once"
    assert {t: sorted(objects) for t, objects in tracked.masks.items()} == {0: [1], 1: [1], 2: [1, 2], 3: [1, 2], 4: [1, 2]}
    assert all(mask.shape == late.size and mask.dtype == bool for objects in tracked.masks.values() for mask in objects.values())
    blocks = tracked.routes.groupby("frame_idx")["active"].sum()
    assert blocks[0] == blocks[2] == 48, "frames with a prompt run everything"
    assert (tracked.routes[tracked.routes["frame_idx"].isin([1, 3, 4])]["reason"] == "routed").all()
    assert tracked.seconds > 0


def test_stock_predictors_can_be_scored_too(mini_model, sequences):
    tracked = track_sequence(mini_model, sequences[0])
    assert sorted(tracked.masks) == [0, 1, 2, 3, 4] and tracked.routes.empty


def test_random_routes_are_reproducible_fresh_and_of_the_right_size():
    options = {"depth": 48, "always_on": K, "n_active": 20, "seed": 3}
    route, again = random_routes("dog", **options), random_routes("dog", **options)
    drawn = [route(t) for t in range(6)]
    assert [again(t) for t in reversed(range(6))] == drawn[::-1]
    assert all(sum(flags) == 20 and all(flags[i] for i in K) and len(flags) == 48 for flags in drawn)
    assert len({tuple(flags) for flags in drawn}) == 6
    assert random_routes("cat", **options)(0) != drawn[0] != random_routes("dog", **options | {"seed": 4})(0)


def test_random_routes_use_every_block_alike():
    route = random_routes("dog", depth=48, always_on=K, n_active=20, seed=0)
    share = np.mean([route(t) for t in range(400)], axis=0)
    free = np.delete(share, K)
    assert free.mean() == pytest.approx(15 / 43) and free.min() > 0.24 and free.max() < 0.46


def test_fixed_routes_keep_the_best_blocks():
    route = fixed_route([-5.0, -40.0, 3.0, 1000.0, -1.0], [1], 3)
    assert route == [False, True, True, True, False]


def test_active_blocks_are_counted_on_routed_frames_only(routes):
    assert mean_active(routes) == 1.5 and scores({}, routes).active == 1.5
    assert np.isnan(mean_active(routes[routes["reason"] != "routed"])) and np.isnan(mean_active(pd.DataFrame()))


def test_keep_probabilities_become_a_matrix_in_block_order(routes):
    assert keep_prob_matrix(routes.sample(frac=1, random_state=0)).tolist() == [[1.0, 0.2, 0.7], [1.0, 0.4, 0.3]]


def test_spread_tells_how_much_each_block_varies(routes):
    table = route_spread(routes).set_index("block")
    assert table["mean_keep_prob"].tolist() == pytest.approx([1.0, 0.3, 0.5])
    assert table["std_keep_prob"].tolist() == pytest.approx([0.0, 0.02**0.5, 0.08**0.5])
    assert table["active_share"].tolist() == [1.0, 0.0, 0.5]


def test_threshold_curve_falls_from_all_blocks_to_the_always_on_ones():
    w = np.random.default_rng(0).random((10, 48)) * 0.98 + 0.01
    taus, active = threshold_curve(w, K)
    assert len(taus) == 201 and active[0] == 48 and active[-1] == 5 and (np.diff(active) <= 0).all()
    free = np.delete(w, K, axis=1)
    assert threshold_curve(w, K, [0.3])[1][0] == pytest.approx(5 + (free >= 0.3).sum(1).mean())


def test_calibration_meets_the_target_within_one_block(predictor, sequences):
    before = predictor.policy
    goal = target_active(0.5, predictor.depth, predictor.always_on)
    tau, w = calibrate(predictor, sequences[:2], target_active=goal)
    assert w.shape == (8, 48) and predictor.policy.mode == "threshold" and predictor.policy.tau == tau
    assert abs(threshold_curve(w, predictor.always_on, [tau])[1][0] - goal) < 1
    tables = [track_sequence(predictor, s).routes.assign(sequence=s.name) for s in sequences[:2]]
    assert abs(mean_active(pd.concat(tables)) - goal) < 1, "and so it does when tracking"
    predictor.set_policy(before)
