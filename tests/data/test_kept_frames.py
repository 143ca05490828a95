"""Frames that are kept in memory: the same ones, decoded once, up to the room there is."""

import torch

from rds_lib.data import video
from rds_lib.data.video import kept_frames, load_video


def folders(sequences):
    return [str(sequence.frame_paths[0].parent) for sequence in sequences]


def test_kept_frames_are_those_that_are_loaded(sequences):
    first, *_ = folders(sequences)
    plain, height, width = load_video(first, 64)
    with kept_frames():
        one, two = load_video(first, 64), load_video(first, 64)
        other = load_video(first, 32)
    assert torch.equal(one[0], plain) and one[1:] == (height, width) and one[0] is two[0]
    assert other[0].shape[-1] == 32, "another size is another entry"
    assert load_video(first, 64)[0] is not one[0], "and outside nothing is kept"


def test_a_part_of_a_video_is_not_taken_for_the_whole(sequences):
    first, *_ = folders(sequences)
    with kept_frames():
        load_video(first, 32)
        assert len(load_video(first, 32, start=1, stop=3)[0]) == 2


def test_no_more_is_kept_than_there_is_room_for(sequences, monkeypatch):
    loads, load = [], video._load
    monkeypatch.setattr(video, "_load", lambda *args: loads.append(args[0]) or load(*args))
    first, second, _ = folders(sequences)
    with kept_frames(room=5 * 3 * 32 * 32 * 4) as frames:
        for folder in (first, second, first, second):
            load_video(folder, 32)
        assert loads == [first, second, second]
        frames.fill(second, 32)
        assert len(loads) == 3, "and nothing is decoded for a full memory"
