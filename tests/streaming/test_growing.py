"""Folders and files that are still being written, on a clock of the tests' own, and once each in real time."""

import logging
import signal
import threading
import warnings
from threading import Event, Thread

import av
import numpy as np
import pytest

from rds_lib.core.errors import RDSInputError
from rds_lib.data.container import decode_video
from rds_lib.data.images import read_frame
from rds_lib.streaming import patience
from rds_lib.streaming.growing import growing_folder
from rds_lib.streaming.growing_file import growing_file
from rds_lib.streaming.sources import frames_of


class World(Event):
    """A time that passes only while the reader waits, and what happens at which second of it."""

    def __init__(self, *happens):
        super().__init__()
        self.now, self.happens = 0.0, list(happens)  # (second, what to call)

    def wait(self, timeout=None):
        self.now = round(self.now + timeout, 6)
        while self.happens and self.happens[0][0] <= self.now:
            self.happens.pop(0)[1]()


@pytest.fixture
def world(monkeypatch):
    """``world((second, call), ...)``: what the readers take for time and for the event that stops them."""

    def make(*happens):
        made = World(*happens)
        monkeypatch.setattr(patience.time, "monotonic", lambda: made.now)
        return made

    return make


def read(folder, world, seconds=1.0):
    """(names, frames) of a folder that grows."""
    items = list(growing_folder(folder, seconds, world, poll=0.1))
    return [path.name for _, path in items], [frame for frame, _ in items]


# --- a folder ---


def test_pictures_are_given_as_they_come_in_the_order_of_time(tmp_path, save, world, caplog):
    folder = tmp_path / "v"
    saving = [(0.3, 8), (1.2, 9), (1.2, 10), (1.2, 11), (2.1, 12)]
    happens = [(second, lambda t=t: save(folder / f"{t}.png", t)) for second, t in saving]
    save(folder / "7.png", 7)
    with caplog.at_level(logging.INFO, logger="rds_lib.streaming.growing"):
        names, frames = read(folder, world(*happens))
    assert names == [f"{t}.png" for t in range(7, 13)]
    assert all(np.array_equal(frame, read_frame(folder / name)) for name, frame in zip(names, frames))
    assert "no new picture for 1 s, the video ends after 6 frames" in caplog.text


def test_patience_counts_from_the_last_picture_and_not_while_nobody_asks(tmp_path, save, world):
    time = world((0.8, lambda: save(tmp_path / "1.png")), (2.6, lambda: save(tmp_path / "2.png")))
    frames = growing_folder(tmp_path, 1.0, time, poll=0.1)
    assert next(frames)[1].name == "1.png" and time.now == pytest.approx(0.8)
    time.now = 2.0  # the one who asks was busy
    assert next(frames)[1].name == "2.png" and time.now == pytest.approx(2.6)
    assert next(frames, None) is None and time.now == pytest.approx(3.6)


@pytest.mark.parametrize("name", ["v", "absent"])
def test_a_folder_that_stays_empty_is_an_error(tmp_path, world, name):
    (tmp_path / "v").mkdir()
    why = {"v": "holds no pictures", "absent": "there is no such folder"}[name]
    with pytest.raises(RDSInputError, match=f"{name}: no frame came in 1 s; .*{why}"):
        read(tmp_path / name, world())


def test_a_folder_may_come_later(tmp_path, save, world):
    names, _ = read(tmp_path / "v", world((0.5, lambda: save(tmp_path / "v" / "1.png"))))
    assert names == ["1.png"]


@pytest.mark.parametrize("options", [dict(suffix=".png"), dict(suffix=".jpg"), dict(suffix=".jpg", progressive=True)])
def test_a_picture_that_is_still_being_written_is_waited_for(tmp_path, save, world, options):
    suffix = options.pop("suffix")
    whole = save(tmp_path / f"whole{suffix}", 3, **options).read_bytes()
    folder, path = tmp_path / "v", tmp_path / "v" / f"2{suffix}"
    save(folder / f"1{suffix}")
    parts = [whole[:size] for size in (0, 1, 20, len(whole) // 2, len(whole) - 40, len(whole))]
    happens = [(0.2 + 0.1 * i, lambda part=part: path.write_bytes(part)) for i, part in enumerate(parts)]
    names, frames = read(folder, world(*happens))
    assert names == [f"1{suffix}", f"2{suffix}"]
    assert np.array_equal(frames[1], read_frame(tmp_path / f"whole{suffix}"))


def test_a_picture_that_decodes_but_still_grows_is_waited_for(tmp_path, save, world, monkeypatch):
    path, reads = save(tmp_path / "1.jpg"), []

    def slow(path):
        """A decoder during which a few bytes more are written, the first two times."""
        frame = read_frame(path)
        reads.append(path.stat().st_size)
        if len(reads) < 3:
            path.write_bytes(path.read_bytes() + b"more")
        return frame

    monkeypatch.setattr("rds_lib.streaming.growing.read_frame", slow)
    names, _ = read(tmp_path, world())
    assert names == ["1.jpg"] and len(reads) == 3 and reads[2] == path.stat().st_size


def test_a_picture_that_never_becomes_whole_is_named_after_all_before_it(tmp_path, save, world):
    for t in range(4):
        save(tmp_path / f"{t}.jpg", t)
    (tmp_path / "2.jpg").write_bytes((tmp_path / "2.jpg").read_bytes()[:200])
    time, got = world(), []
    with pytest.raises(RDSInputError, match=r"2\.jpg: a damaged image .*; it was waited for 1 s, as if still being"):
        for _, path in growing_folder(tmp_path, 1.0, time, poll=0.1):
            got.append(path.name)
    assert got == ["0.jpg", "1.jpg"] and time.now == pytest.approx(1.0)


def test_a_picture_that_comes_too_late_is_passed_over_with_a_warning(tmp_path, save, world):
    for t in (1, 4):
        save(tmp_path / f"f{t}.png", t)
    happens = [(0.2, lambda: save(tmp_path / "f3.png")), (0.4, lambda: save(tmp_path / "f5.png"))]
    with pytest.warns(UserWarning, match=r"f3\.png: came after f4\.png, before which it belongs; it is passed over"):
        names, _ = read(tmp_path, world(*happens))
    assert names == ["f1.png", "f4.png", "f5.png"]


def test_a_picture_that_comes_before_its_turn_is_not_late(tmp_path, save, world):
    """2.png comes while 1.png is waited for, 3.png is there already."""
    save(tmp_path / "0.png")
    (tmp_path / "1.png").write_bytes(b"")
    save(tmp_path / "3.png")
    happens = [(0.3, lambda: save(tmp_path / "2.png")), (0.5, lambda: save(tmp_path / "1.png"))]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message=".*no frames between")
        names, _ = read(tmp_path, world(*happens))
    assert names == ["0.png", "1.png", "2.png", "3.png"]


@pytest.mark.parametrize(
    "names",
    [
        [f"{t}.png" for t in range(8, 12)],
        [f"{1700000000 + t / 25:.2f}".rstrip("0").rstrip(".") + ".png" for t in range(22, 28)],
        [f"take2.{t}.png" for t in range(8, 12)],
        ["anna.png", "bert.png", "carl.png"],
    ],
)
def test_names_sort_by_time_as_in_a_finished_folder(tmp_path, save, world, names):
    happens = [(0.2 * i, lambda name=name: save(tmp_path / name)) for i, name in enumerate(names)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read(tmp_path, world(*happens))[0] == names


def test_pictures_named_unlike_the_frames_are_left_out_with_one_warning(tmp_path, save, world):
    happens = [(0.2 * t, lambda t=t: save(tmp_path / f"{t}.jpg", t)) for t in range(1, 4)]
    others = ["mask1.png", "mask2.png", ".4.jpg", "5.jpg.part", "Thumbs.db"]
    for name in others:
        happens.append((0.7, lambda name=name: save(tmp_path / name, format="PNG")))
    happens.append((0.9, lambda: save(tmp_path / "preview.jpg")))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        assert read(tmp_path, world(*happens))[0] == ["1.jpg", "2.jpg", "3.jpg"]
    said = sorted(str(warning.message) for warning in said)
    assert len(said) == 2 and "mask" in said[0] and "preview.jpg: left out" in said[1]


def test_a_mask_beside_the_first_frame_alone_is_left_out(tmp_path, save, world):
    save(tmp_path / "1.jpg")
    happens = [(0.2, lambda: save(tmp_path / "mask.png")), (0.4, lambda: save(tmp_path / "2.jpg"))]
    with pytest.warns(UserWarning, match=r"mask\.png: left out"):
        assert read(tmp_path, world(*happens))[0] == ["1.jpg", "2.jpg"]


def test_what_is_left_out_at_first_is_not_new_later(tmp_path, save, world):
    for name in ("1.jpg", "2.jpg", "3.jpg", "mask.png"):
        save(tmp_path / name)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        assert len(read(tmp_path, world((0.2, lambda: save(tmp_path / "4.jpg"))))[0]) == 4
    assert len(said) == 1 and "left out, as not named like the other frames: mask.png" in str(said[0].message)


def test_two_names_of_one_number_are_an_error(tmp_path, save, world):
    save(tmp_path / "1.png")
    with pytest.raises(RDSInputError, match="are the same frame by their names"):
        read(tmp_path, world((0.2, lambda: save(tmp_path / "01.png"))))


# --- a file ---


@pytest.fixture
def growing(tmp_path, encode, world):
    """``growing(parts, ...)``: frames of a file whose first 1/parts, 2/parts, ... come one second after the other."""

    def read(parts, seconds=2.0, name="g.mkv", **options):
        whole = encode(tmp_path / f"whole{name[1:]}", 30, **options)
        data, path = whole.read_bytes(), tmp_path / name
        cuts = [len(data) * (i + 1) // parts for i in range(parts)]
        happens = [(i + 1.0, lambda cut=cut: path.write_bytes(data[:cut])) for i, cut in enumerate(cuts)]
        time = world(*happens)
        frames = [(frame, time.now) for frame in growing_file(path, seconds, time, poll=0.1)]
        return whole, [frame for frame, _ in frames], [second for _, second in frames]

    return read


@pytest.mark.parametrize(
    "options",
    [
        dict(codec="libx264"),
        dict(codec="libx264", tune="zerolatency"),
        dict(codec="mjpeg", pix_fmt="yuvj420p"),
        dict(codec="libvpx", name="g.webm"),
        dict(codec="libx264", turned=90),
    ],
)
def test_the_frames_of_a_growing_file_are_those_of_the_finished_one(growing, options):
    whole, frames, times = growing(40, muxer={"cluster_time_limit": "200"}, **options)
    expected = [frame for _, frame in decode_video(whole)]
    assert len(frames) == len(expected) == 30 and all(map(np.array_equal, frames, expected))
    assert frames[0].shape == ((32, 24, 3) if "turned" in options else (24, 32, 3)) and frames[0].flags.c_contiguous
    assert times == sorted(times) and times[0] < 25 and len(set(times)) > 5  # not all at the end


def test_a_growing_file_that_stops_in_the_middle_ends_with_its_last_whole_frame(growing, tmp_path, encode, world):
    whole, frames, _ = growing(40, codec="mjpeg", pix_fmt="yuvj420p", muxer={"cluster_time_limit": "200"})
    path = tmp_path / "part.mkv"
    path.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    time = world()
    part = list(growing_file(path, 2.0, time, poll=0.1))
    assert 5 < len(part) < 25 and all(map(np.array_equal, part, frames)) and time.now == pytest.approx(2.0)


def test_patience_with_a_file_does_not_count_while_nobody_asks(tmp_path, encode, world):
    path, whole = tmp_path / "g.mkv", encode(tmp_path / "whole.mkv", 30, "mjpeg", "yuvj420p").read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    time = world((4.5, lambda: path.write_bytes(whole)))
    frames = growing_file(path, 2.0, time, poll=0.1)
    read = [next(frames)]
    time.now = 3.0  # the one who asks was busy
    for frame in frames:
        read.append(frame)
        time.now = max(time.now, 3.0)
    assert len(read) == 30


@pytest.mark.parametrize(
    ("content", "why"),
    [(None, "it does not exist"), (b"", "it holds 0 bytes"), (b"\x1aE\xdf\xa3\xa3", "holds 5 bytes")],
)
def test_a_file_without_a_frame_is_an_error_once_patience_ends(tmp_path, world, content, why):
    path, time = tmp_path / "g.mkv", world()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(RDSInputError, match=rf"g\.mkv: no frame came in 2 s; .*{why}"):
        list(growing_file(path, 2.0, time, poll=0.1))
    assert time.now == pytest.approx(2.0)


@pytest.mark.parametrize("name", ["a.mp4", "a.avi", "a.mov"])
def test_other_files_cannot_be_followed(tmp_path, encode, name):
    for path in (encode(tmp_path / name, 3), tmp_path / f"absent_{name}"):
        with pytest.raises(RDSInputError, match=rf"{name}: cannot be followed; of files only Matroska \(\.mkv\)"):
            frames_of(path, follow=True)


def test_a_file_that_is_only_called_matroska_is_refused(tmp_path, encode, world):
    path = encode(tmp_path / "a.mp4", 3).rename(tmp_path / "a.mkv")
    with pytest.raises(RDSInputError, match=r"a\.mkv: is no Matroska by its content"):
        list(growing_file(path, 2.0, world(), poll=0.1))


def test_a_file_that_cannot_be_decoded_is_refused_without_waiting(tmp_path, world):
    path, time = tmp_path / "a.mkv", world()
    path.write_bytes(b"\x1aE\xdf\xa3" + bytes(range(256)) * 999)
    with pytest.raises(RDSInputError, match=r"a\.mkv: cannot be decoded after 0 frames"):
        list(growing_file(path, 2.0, time, poll=0.1))
    assert time.now == 0


# --- in real time, with the thread ---


def test_a_folder_is_followed_while_another_thread_fills_it(tmp_path, save):
    whole = save(tmp_path / "whole.png", 0).read_bytes()

    def fill():
        for t in range(12):
            with (tmp_path / "v" / f"{t}.png").open("wb", buffering=0) as file:
                for half in (whole[:90], whole[90:]):
                    Event().wait(0.005)
                    file.write(half)

    (tmp_path / "v").mkdir()
    writer = Thread(target=fill)
    writer.start()
    with frames_of(tmp_path / "v", follow=True, patience=0.4) as frames:
        assert frames.live and frames.rate is None and frames.shorter_than(16) is None
        assert [frames.file.name for _ in frames] == [f"{t}.png" for t in range(12)]
        assert frames.count == 12
    writer.join()


def test_a_file_is_followed_while_another_thread_encodes_it(tmp_path, picture):
    path, go_on = tmp_path / "a.mkv", threading.Semaphore(0)

    def encode():
        options = {"cluster_time_limit": "100", "flush_packets": "1"}
        with av.open(str(path), "w", options=options) as container:
            stream = container.add_stream("libx264", rate=10)
            stream.height, stream.width, stream.options = 24, 32, {"tune": "zerolatency"}
            for t in range(30):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture(t), format="rgb24")))
                if t == 20:
                    go_on.acquire(timeout=20)
            container.mux(stream.encode())

    writer = Thread(target=encode)
    writer.start()
    with frames_of(path, follow=True, patience=0.5) as frames:
        read = [next(frames) for _ in range(18)]  # while the writer stands still
        assert writer.is_alive() and frames.live and frames.rate == 10
        go_on.release()
        read += frames
    writer.join()
    assert len(read) == 30 and all(np.array_equal(a, b) for a, (_, b) in zip(read, decode_video(path)))


@pytest.mark.parametrize("name", ["v", "a.mkv"])
def test_waiting_ends_at_once_when_it_is_closed(tmp_path, save, encode, name, caplog):
    save(tmp_path / "v" / "1.png")
    path = tmp_path / name
    if name == "a.mkv":
        encode(path, 3, codec="mjpeg", pix_fmt="yuvj420p")
    with caplog.at_level(logging.INFO), frames_of(path, follow=True, patience=1000) as frames:
        for _ in range(3 if name == "a.mkv" else 1):  # all that there are
            next(frames)
    assert [thread for thread in threading.enumerate() if thread.name == "frames ahead"] == []
    assert "the video ends" not in caplog.text


@pytest.mark.parametrize("ahead", [0, 4])
@pytest.mark.parametrize("name", ["v", "a.mkv"])
def test_control_c_ends_the_waiting(tmp_path, name, ahead):
    interrupt = threading.Timer(0.05, signal.pthread_kill, (threading.main_thread().ident, signal.SIGINT))
    with frames_of(tmp_path / name, follow=True, patience=float("inf"), ahead=ahead) as frames:
        with pytest.raises(KeyboardInterrupt):
            interrupt.start()
            next(frames)
