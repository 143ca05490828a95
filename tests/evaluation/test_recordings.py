"""Recordings: what an evaluation kept, or a tracker did, as masks, routes and J per frame."""

import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from rds_lib.core.artifacts import write_json, write_table
from rds_lib.core.errors import RDSInputError
from rds_lib.data.clips import generate_clip
from rds_lib.data.datasets import read_dataset, write_dataset, write_masks
from rds_lib.data.sources import Source
from rds_lib.evaluation.recordings import make_run, read_recordings, read_shape, record, recorded_names, run_of
from rds_lib.metrics.masks import region_similarity, score_frames
from rds_lib.model.shape import EncoderShape
from rds_lib.model.track import copy_first_mask
from rds_lib.routing.build import build_rds_video_predictor

K = (0, 2, 8, 44, 47)
SHAPE = EncoderShape(48, K[:-1], K)


@pytest.fixture(scope="module")
def source(davis_root):
    return Source("clips", davis_root, "davis2017")


@pytest.fixture(scope="module")
def evaluation(sequences, tmp_path_factory):
    """What stage `evaluation` keeps, of a SAM2 that copies the first mask and an RDS that loses a column of it."""
    folder = tmp_path_factory.mktemp("evaluation")
    routes = []
    for sequence in sequences:
        tracked = copy_first_mask(sequence)
        write_masks(folder / "predictions" / "clips" / "SAM2", sequence, tracked.masks, layout="davis2017")
        worse = {
            t: {i: mask & (np.arange(mask.shape[1]) != 60) for i, mask in masks.items()}
            for t, masks in tracked.masks.items()
        }
        write_masks(folder / "predictions" / "clips" / "routed", sequence, worse, layout="davis2017")
        for t in range(1, 4):
            rows = {
                "frame_idx": t,
                "block": range(48),
                "active": [i in K or i < 10 for i in range(48)],
                "keep_prob": 0.25,
                "reason": "routed",
            }
            routes.append(pd.DataFrame(rows).assign(dataset="clips", sequence=sequence.name, method="RDS", level=0.5))
    write_table(folder / "routes.csv", pd.concat(routes))
    write_table(
        folder / "predictions" / "clips" / "runs.csv",
        pd.DataFrame([("SAM2", "SAM2", 1.0), ("routed", "RDS", 0.5)], columns=["folder", "method", "level"]),
    )
    write_json(folder / "encoder.json", SHAPE.as_dict())
    return folder


def test_quality_is_what_the_metrics_say_frame_by_frame(evaluation, source, sequences):
    assert recorded_names(evaluation, source) == ["SAM2", "RDS 0.5"]
    recordings = read_recordings(evaluation, source)
    assert [one.name for one in recordings] == [one.name for one in sequences]
    for recording, sequence in zip(recordings, sequences):
        for run in recording.runs:
            folder = evaluation / "predictions" / "clips" / {"SAM2": "SAM2", "RDS": "routed"}[run.method]
            table = score_frames(source.root, folder, protocol="davis2017", sequences=[sequence.name])
            for row in table.itertuples():
                assert run.quality[row.object][int(row.frame)] == pytest.approx(row.J)
            assert all(np.isnan(values[0]) and np.isfinite(values[1:]).all() for values in run.quality.values())
    assert recordings[0].run("RDS 0.5").mean_quality[2] < recordings[0].run("SAM2").mean_quality[2]


def test_frames_without_a_route_ran_everything(evaluation, source, sequences):
    (recording,) = read_recordings(evaluation, source, names=[sequences[2].name])
    run = recording.run("RDS 0.5")
    assert run.reasons == ("full", "routed", "routed", "routed", "full")
    assert run.active.sum(1).tolist() == [48, 12, 12, 12, 48] and run.active_blocks == 12
    assert (run.keep_prob[[0, 4]] == 1).all() and (run.keep_prob[1:4] == 0.25).all()
    assert recording.run("SAM2").active.all() and recording.run("SAM2").active_blocks == 48


def test_unknown_videos_and_runs_are_named(evaluation, source, sequences):
    with pytest.raises(RDSInputError, match="clips has no video nowhere; it has: .*" + sequences[1].name):
        read_recordings(evaluation, source, names=[sequences[0].name, "nowhere"])
    (recording,) = read_recordings(evaluation, source, names=[sequences[0].name])
    with pytest.raises(RDSInputError, match="no run 'RDS 0.9'; it has: SAM2, RDS 0.5"):
        recording.run("RDS 0.9")


def test_runs_are_found_by_method_and_level_and_the_encoders_layout_is_read(evaluation, source, sequences):
    (recording,) = read_recordings(evaluation, source, names=[sequences[0].name])
    assert recording.run_at("RDS", 0.5) is recording.run("RDS 0.5") and recording.run_at("SAM2", 1.0).name == "SAM2"
    assert recording.shape == read_shape(evaluation) == SHAPE
    with pytest.raises(RDSInputError, match="no run of RDS 0.9; it has: SAM2, RDS 0.5"):
        recording.run_at("RDS", 0.9)


def test_a_layout_whose_last_block_may_be_skipped_is_kept(evaluation, source, sequences, tmp_path):
    """K without the last block says nothing of depth and stages."""
    shape = EncoderShape(48, (0, 16), (0, 16))
    (recording,) = read_recordings(evaluation, source, names=[sequences[0].name], shape=shape)
    assert (recording.depth, recording.stage_starts, recording.always_on) == (48, (0, 16), (0, 16))
    assert recording.runs[0].active.shape == (5, 48)


def test_a_data_set_without_kept_masks_has_no_runs(evaluation, davis_root):
    assert recorded_names(evaluation, Source("other", davis_root, "davis2017")) == []


def test_recording_on_the_spot_scores_what_the_tracker_gave(mini_weights, rds_file, sequences):
    predictor = build_rds_video_predictor(
        "mini", mini_weights, rds_file, budget=0.5, device="cpu", apply_postprocessing=False
    )
    recording = record("RDS 0.5", predictor, sequences[2])
    (run,) = recording.runs
    assert recording.always_on == K and recording.stage_starts == (0, 2, 8, 44) and recording.obj_ids == (1, 2)
    assert (
        run.reasons == ("first_frame", *4 * ["routed"])
        and run.active[0].all()
        and run.active[:, K].all()
        and not run.active[1:].all()
    )
    both, either = (run.labels[3] == 1) & (recording.truth[3] == 1), (run.labels[3] == 1) | (recording.truth[3] == 1)
    assert run.quality[1][3] == pytest.approx(both.sum() / either.sum())


def test_an_object_with_the_id_of_the_background_is_recorded(tmp_path):
    """SA-V's object 000: the same two objects as in DAVIS's layout, the same labels and quality."""
    clip = generate_clip(11, 3, split="val", frames=9, height=64, width=96, difficulty="plain", n_objects=2)
    runs = []
    for layout in ("davis2017", "sav"):
        write_dataset(tmp_path / layout, [clip], layout=layout)
        (sequence,) = read_dataset(tmp_path / layout, layout=layout)
        runs.append(run_of("copy", copy_first_mask(sequence), sequence, depth=4))
    assert np.array_equal(runs[0].labels, runs[1].labels) and runs[0].quality.keys() == runs[1].quality.keys() == {1, 2}
    for obj_id in (1, 2):
        assert np.array_equal(runs[0].quality[obj_id][4::4], runs[1].quality[obj_id][4::4])
        assert np.isnan(runs[1].quality[obj_id][5])


def test_quality_is_of_the_whole_mask_where_masks_overlap(tmp_path):
    clip = generate_clip(11, 3, split="val", frames=9, height=64, width=96, difficulty="plain", n_objects=2)
    write_dataset(tmp_path / "set", [clip], layout="sav")
    (sequence,) = read_dataset(tmp_path / "set", layout="sav")
    tracked = copy_first_mask(sequence)
    for masks in tracked.masks.values():
        masks[1] = masks[0] | masks[1]
    run = run_of("copy", tracked, sequence, depth=4)
    for t in (4, 8):
        assert run.quality[1][t] == region_similarity(tracked.masks[t][0], sequence.masks(t)[0]) > 0


def test_quality_has_no_value_on_the_prompt_nor_where_truth_is_unknown():
    truth = np.zeros((4, 2, 3), np.uint8)
    truth[:, 0], truth[2] = 1, 255
    run = make_run("one", truth.clip(0, 1), None, depth=4, truth=truth, starts={1: 1})
    assert run.quality[1].tolist() == pytest.approx([np.nan, np.nan, np.nan, 1.0], nan_ok=True)
    assert make_run("one", truth, None, depth=4).quality == {}


@pytest.mark.parametrize(
    "file, old, new, says",
    [
        ("routes.csv", "1,0,True,0.25", "7,0,True,0.25", "frame_idx = 7; expected numbers from 0 to 4"),
        ("routes.csv", "1,0,True,0.25", "-1,0,True,0.25", "frame_idx = -1"),
        ("routes.csv", "1,0,True,0.25", "1,48,True,0.25", "block = 48; expected numbers from 0 to 47"),
        ("routes.csv", "1,0,True,0.25", "1,0,,0.25", "active = nan"),
        ("routes.csv", "1,0,True,0.25", "1,0,True,1.5", "keep_prob = 1.5"),
        ("routes.csv", "keep_prob", "keep", "no column keep_prob"),
        ("predictions/clips/runs.csv", "routed", "../clips/routed", "plain name of a file"),
        ("encoder.json", "48", "1000000000", "describes no encoder"),
        ("encoder.json", "always_on", "always", "no entry 'always_on'"),
    ],
)
def test_products_that_lie_are_refused_by_file(evaluation, source, sequences, tmp_path, file, old, new, says):
    folder = shutil.copytree(evaluation, tmp_path / "evaluation")
    text = (folder / file).read_text()
    assert old in text
    (folder / file).write_text(text.replace(old, new, 1))
    with pytest.raises(RDSInputError, match=re.escape(says)) as caught:
        read_recordings(folder, source)
    assert Path(file).name in str(caught.value)
