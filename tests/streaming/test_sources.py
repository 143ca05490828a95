"""Frames from folders, files, arrays and generators: the same as `load_video` reads, and each error at its frame."""

import threading
import warnings
import weakref
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import rds_lib
from rds_lib.core.errors import RDSInputError
from rds_lib.data.container import decode_video
from rds_lib.data.images import read_frame
from rds_lib.data.video import load_video
from rds_lib.streaming import sources
from rds_lib.streaming.sources import frames_of

H, W = 24, 32
AHEAD = pytest.mark.parametrize("ahead", [0, 1, 4])


def given_before(error, match, *arguments, **options):
    """The frames that come before an error."""
    frames = []
    with frames_of(*arguments, **options) as reader, pytest.raises(error, match=match):
        for frame in reader:
            frames.append(frame)
    return frames


def same(frames, others):
    frames, others = list(frames), list(others)
    return len(frames) == len(others) and all(np.array_equal(*pair) for pair in zip(frames, others))


@pytest.fixture
def folder(tmp_path, save):
    for t in range(7):
        save(tmp_path / "v" / f"f{t + 8}.jpg", t)  # f8, f9, f10: by number
    return tmp_path / "v"


# --- the same frames ---


@AHEAD
def test_a_folder_gives_what_load_video_reads(folder, save, ahead):
    exif = Image.Exif()
    for t in range(7):
        exif[0x0112] = 6  # on its side
        save(folder / f"f{t + 8}.jpg", t, exif=exif)
    with frames_of(folder, ahead=ahead) as frames:
        read = []
        for t, frame in enumerate(frames):
            assert frame.dtype == np.uint8 and frame.shape == (W, H, 3) and frames.file == folder / f"f{t + 8}.jpg"
            read.append(frame)
        assert frames.count == 7 and frames.rate is None and not frames.live
    assert load_video(folder, 16)[0].equal(load_video(read, 16)[0])
    assert same(read, [read_frame(folder / f"f{t + 8}.jpg") for t in range(7)])


@AHEAD
@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.avi"])
def test_a_file_gives_what_load_video_reads(tmp_path, encode, name, ahead):
    path = encode(tmp_path / name, 12, turned=90 if name == "a.mp4" else None)
    with frames_of(str(path), ahead=ahead) as frames:
        assert frames.rate == 10 and not frames.live
        read = list(frames)
        assert frames.file is None
    assert same(read, [frame for _, frame in decode_video(path)])
    assert load_video(path, 16)[0].equal(load_video(read, 16)[0])
    assert all(frame.flags.c_contiguous for frame in read)


@AHEAD
def test_arrays_lists_and_generators_give_their_frames(picture, ahead):
    video = np.stack([picture(t) for t in range(6)])
    for source in (video, list(video), tuple(video), iter(video), (frame for frame in video)):
        with frames_of(source, ahead=ahead) as frames:
            assert same(frames, video)


def test_a_list_of_paths_gives_their_pictures(folder):
    paths = sorted(folder.iterdir())[:3]
    with frames_of([str(paths[0]), *paths[1:]]) as frames:
        for path, frame in zip(paths, frames):
            assert frames.file == path and np.array_equal(frame, read_frame(path))


def test_a_generator_may_draw_into_one_array():
    canvas = np.zeros((2, 2, 3), np.uint8)

    def draw():
        for t in range(9):
            canvas[:] = t
            yield canvas

    with frames_of(draw()) as frames:
        assert [frame[0, 0, 0] for frame in frames] == list(range(9))


def test_it_is_one_of_the_names_of_the_package():
    assert rds_lib.frames_of is frames_of


# --- memory and threads ---


def test_only_frames_ahead_are_in_memory(folder, monkeypatch, until):
    alive = set()

    def watched(path):
        frame = read_frame(path)
        alive.add(path)
        weakref.finalize(frame, alive.discard, path)
        return frame

    monkeypatch.setattr(sources, "read_frame", watched)
    with frames_of(folder, ahead=2) as frames:
        for frame in frames:  # noqa: B007
            until(lambda: len(alive) == min(3, 8 - frames.count))
        del frame
        assert not alive


@AHEAD
def test_breaking_off_stops_the_thread_and_lets_go_of_the_file(tmp_path, encode, ahead):
    path = encode(tmp_path / "a.mkv", 30)
    with frames_of(path, ahead=ahead) as frames:
        for _ in frames:
            break

    def is_open():
        return any(link.exists() and link.samefile(path) for link in Path("/proc/self/fd").iterdir())

    assert not is_open()
    assert list(frames) == [] and frames.count == 1
    frames.close()


def test_nothing_is_read_before_the_first_frame_is_asked_for():
    read = []
    frames = frames_of(read.append(t) or np.zeros((2, 2, 3), np.uint8) for t in range(3))
    threading.Event().wait(0.02)
    assert read == []
    frames.close()
    assert list(frames) == []


# --- errors at their frames ---


@AHEAD
def test_a_damaged_picture_is_named_after_the_frames_before_it(folder, ahead):
    path = folder / "f11.jpg"
    path.write_bytes(path.read_bytes()[:300])
    frames = given_before(RDSInputError, r"f11\.jpg: a damaged image", folder, ahead=ahead)
    assert same(frames, [read_frame(folder / f"f{t}.jpg") for t in (8, 9, 10)])


def test_another_size_is_named_whatever_the_source(folder, picture, save):
    save(folder / "f12.jpg", 0, 20, 40)
    message = r"f12\.jpg: frame 4 is 40x20 px, but the first frame has 32x24; give all frames one size"
    assert len(given_before(RDSInputError, message, folder)) == 4
    source = [picture(0), picture(1, 24, 30)]
    message = "the frames given: frame 1 is 30x24 px, but the first frame has 32x24"
    assert len(given_before(RDSInputError, message, iter(source))) == 1


def test_a_file_that_ends_in_the_middle_warns_after_its_last_frame(tmp_path, encode):
    path = encode(tmp_path / "a.mkv", 30, "mjpeg", "yuvj420p")
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * 0.6)])
    with pytest.warns(UserWarning) as said:
        expected = [frame for _, frame in decode_video(path)]
    with frames_of(path) as frames, pytest.warns(UserWarning) as said_now:
        assert same(frames, expected) and 0 < len(expected) < 30
    assert [str(warning.message) for warning in said_now] == [str(warning.message) for warning in said]
    assert "may be cut short" in str(said_now[0].message)


def test_a_file_without_its_index_says_that_its_end_is_missing(tmp_path, encode):
    path = encode(tmp_path / "a.mp4", 20)
    path.write_bytes(path.read_bytes()[:-200])
    assert frames_of(path).rate is None
    assert given_before(RDSInputError, "its end is missing; get it again", path) == []


def test_an_exception_of_the_users_generator_comes_out_unchanged(picture):
    error = KeyError("mine")

    def frames():
        yield picture(0)
        yield picture(1)
        raise error

    for ahead in (0, 4):
        with frames_of(frames(), ahead=ahead) as reader, pytest.raises(KeyError) as caught:
            for t, _ in enumerate(reader):
                assert t < 2
        assert caught.value is error and reader.count == 2
        assert list(reader) == []


@pytest.mark.parametrize(
    ("frame", "what"),
    [
        (np.zeros((H, W, 3)), r"\(24, 32, 3\) float64"),
        (np.zeros((H, W), np.uint8), r"\(24, 32\) uint8"),
        (np.zeros((H, W, 4), np.uint8), r"\(24, 32, 4\) uint8"),
        (np.zeros((0, W, 3), np.uint8), r"\(0, 32, 3\) uint8"),
        (None, r"\(\) object"),
        ([[1, 2], [3]], "list"),
    ],
)
def test_what_is_no_frame_is_refused_by_its_number(picture, frame, what):
    message = rf"frame 2\b.*{what}; expected \(H, W, 3\) uint8 RGB"
    assert len(given_before(RDSInputError, message, iter([picture(), picture(), frame, picture()]))) == 2


@pytest.mark.parametrize("source", [[], iter(()), np.zeros((0, H, W, 3), np.uint8)])
def test_a_source_without_frames_is_an_error(source):
    assert given_before(RDSInputError, "the frames given: no frames; give at least one", source) == []


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("absent", "absent: no such file or folder"),
        ("empty", "empty: holds no frames"),
        (3.5, "float is no source of frames"),
        (None, "NoneType is no source of frames"),
        (True, "bool is no source of frames"),
        (np.zeros((H, W, 3), np.uint8), r"an array \(24, 32, 3\) uint8; expected frames \(T, H, W, 3\)"),
        (np.zeros((2, H, W, 3)), r"an array \(2, 24, 32, 3\) float64"),
        ("camera:x", "camera 'x'; expected the number of a camera"),
        (-1, "camera '-1'; expected the number of a camera"),
    ],
)
def test_a_source_that_is_none_is_refused_at_once(tmp_path, monkeypatch, source, message):
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    with pytest.raises(RDSInputError, match=message):
        frames_of(source)


@pytest.mark.parametrize("patience", [0, -1, float("nan"), "10", None, True])
def test_patience_is_seconds(patience):
    with pytest.raises(RDSInputError, match="patience = .*; expected seconds above 0"):
        frames_of([], patience=patience)


@pytest.mark.parametrize("ahead", [-1, 1.5, "4", None, True])
def test_ahead_is_a_number_of_frames(ahead):
    with pytest.raises(RDSInputError, match="ahead = .*; expected a number of frames, 0 or more"):
        frames_of([], ahead=ahead)


# --- how many there are ---


@AHEAD
def test_a_short_file_is_known_to_be_short_and_loses_no_frame(tmp_path, encode, ahead):
    path = encode(tmp_path / "a.mp4", 6)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with frames_of(path, ahead=ahead) as frames:
            assert frames.shorter_than(6) is None
            first = next(frames)
            assert frames.shorter_than(5) is None and frames.shorter_than(7) == 6 and frames.shorter_than(16) == 6
            assert same([first, *frames], [frame for _, frame in decode_video(path)])
            assert frames.shorter_than(16) == 6 and frames.shorter_than(6) is None


def test_a_file_that_was_closed_early_is_not_taken_for_a_short_one(tmp_path, encode):
    with frames_of(encode(tmp_path / "a.mp4", 20)) as frames:
        next(frames)
    assert frames.shorter_than(16) is None


def test_no_more_is_read_than_is_asked_for(tmp_path, encode, monkeypatch):
    read = []
    monkeypatch.setattr(sources, "decode_video", lambda path: (read.append(t) or (t, f) for t, f in decode_video(path)))
    with frames_of(encode(tmp_path / "a.mp4", 20), ahead=0) as frames:
        assert frames.shorter_than(8) is None and len(read) == 8
        assert frames.shorter_than(4) is None and len(read) == 8
        assert len(list(frames)) == 20


def test_folders_and_arrays_are_counted_without_reading(folder, picture):
    (folder / "f9.jpg").write_bytes(b"")
    for source in (folder, [picture()] * 7, np.stack([picture()] * 7)):
        with frames_of(source) as frames:
            assert frames.shorter_than(8) == 7 and frames.shorter_than(7) is None


def test_a_generator_is_not_read_to_count_it(picture):
    with frames_of(iter([picture()] * 3)) as frames:
        assert frames.shorter_than(16) is None


def test_what_looking_ahead_finds_wrong_is_said_at_its_frame(tmp_path, encode, monkeypatch):
    def broken(path):
        yield from list(decode_video(path))[:3]
        raise RDSInputError("a.mp4: cannot be decoded")

    monkeypatch.setattr(sources, "decode_video", broken)
    with frames_of(encode(tmp_path / "a.mp4", 6)) as frames:
        assert frames.shorter_than(16) is None
        assert len([next(frames) for _ in range(3)]) == 3
        with pytest.raises(RDSInputError, match="cannot be decoded"):
            next(frames)
