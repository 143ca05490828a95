"""Video files: containers, streams, orientation, speed, and files that are cut short."""

import io
import struct
import warnings

import av
import cv2
import numpy as np
import pytest
from films import write_film
from PIL import Image

from rds_lib.core.errors import RDSInputError
from rds_lib.data.container import decode_video, video_rate
from rds_lib.data.images import read_frame
from rds_lib.data.video import extract_frames, load_video

H, W = 48, 66


def picture(t=0, height=H, width=W):
    """A smooth coloured pattern that moves with t."""
    y, x = np.mgrid[:height, :width]
    return np.stack([127 + 120 * np.sin((x + 3 * t) / 9 + c) * np.cos(y / 7 - c) for c in range(3)], -1).astype(
        np.uint8
    )


def encode(path, n=1, **options):
    """A video file of n pictures; returns its path."""
    return write_film(path, map(picture, range(n)), **options)


def box(kind, *content):
    return struct.pack(">I", 8 + len(b"".join(content))) + kind + b"".join(content)


def put(path, kind, offset, layout, *values):
    """Write numbers into the first box of a kind, at an offset behind its type."""
    data = bytearray(path.read_bytes())
    struct.pack_into(layout, data, data.index(kind) + 4 + offset, *values)
    path.write_bytes(data)
    return path


def with_cover(path):
    """The file with a cover picture, as taggers write it: FFmpeg's first video stream."""
    image = io.BytesIO()
    Image.new("RGB", (64, 64), "yellow").save(image, "JPEG")
    covr = box(b"covr", box(b"data", struct.pack(">II", 13, 0), image.getvalue()))
    hdlr = box(b"hdlr", struct.pack(">II4s4sIIB", 0, 0, b"mdir", b"appl", 0, 0, 0))
    udta = box(b"udta", box(b"meta", struct.pack(">I", 0), hdlr, box(b"ilst", covr)))
    data = path.read_bytes()
    moov = data.index(b"moov") - 4
    head = moov + 8 + struct.unpack(">I", data[moov + 8 : moov + 12])[0]  # mvhd comes first
    size = struct.unpack(">I", data[moov : moov + 4])[0] + len(udta)
    path.write_bytes(data[:moov] + struct.pack(">I", size) + data[moov + 4 : head] + udta + data[head:])
    return path


def frames_of(path):
    return [frame for _, frame in decode_video(path)]


def without_warnings(path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return len(frames_of(path))


# --- which stream ---


def test_the_cover_of_a_video_is_not_the_video(tmp_path):
    path = with_cover(encode(tmp_path / "a.mp4", 5))
    with av.open(str(path)) as container:
        assert [stream.width for stream in container.streams.video] == [64, W]
    assert load_video(path, 16)[0].shape[0] == 5 and load_video(path, 16)[1:] == (H, W)


def test_a_song_with_a_cover_has_no_video(tmp_path):
    path = tmp_path / "song.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 44100
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with pytest.raises(RDSInputError, match=r"song\.mp4: has no video stream"):
        load_video(with_cover(path), 16)


def test_a_still_beside_the_film_is_passed_over(tmp_path):
    path = tmp_path / "two.mkv"
    with av.open(str(path), "w") as container:
        streams = [container.add_stream("libx264", rate=10) for _ in range(2)]
        for stream, (height, width) in zip(streams, ((24, 32), (H, W))):
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for t in range(6):
            for stream in streams[t > 0 :]:
                frame = av.VideoFrame.from_ndarray(picture(t, stream.height, stream.width), format="rgb24")
                container.mux(stream.encode(frame))
        for stream in streams:
            container.mux(stream.encode())
    assert [frame.shape for frame in frames_of(path)] == 6 * [(H, W, 3)]


# --- which way up ---


@pytest.mark.parametrize("degrees", [90, 180, -90])
def test_a_video_filmed_on_its_side_is_upright(tmp_path, degrees):
    path = tmp_path / "phone.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = W, H, "yuv420p"
        stream.set_display_rotation(degrees)
        container.mux(stream.encode(av.VideoFrame.from_ndarray(picture(), format="rgb24")))
        container.mux(stream.encode())
    (frame,) = extract_frames(path, tmp_path / "frames")
    upright = cv2.VideoCapture(str(path)).read()[1][..., ::-1]
    assert read_frame(frame).shape == upright.shape
    assert np.abs(read_frame(frame).astype(int) - upright).mean() < 4


@pytest.mark.parametrize("b_first", [False, True], ids=["straight", "turned"])
@pytest.mark.parametrize("first", [1, -1])
@pytest.mark.parametrize("second", [1, -1])
def test_a_mirrored_video_is_shown_as_its_matrix_says(tmp_path, b_first, first, second):
    """Each pixel of column p and row q belongs at column a p + c q and row b p + d q."""
    a, b, c, d = (0, first, second, 0) if b_first else (first, 0, 0, second)
    path = encode(tmp_path / "a.mp4", crf="4")
    (stored,) = frames_of(path)
    put(path, b"tkhd", 40, ">9i", *(a << 16, b << 16, 0), *(c << 16, d << 16, 0), 0, 0, 1 << 30)
    q, p = np.mgrid[:H, :W]
    columns, rows = a * p + c * q, b * p + d * q
    expected = np.zeros((W, H, 3) if b_first else (H, W, 3), np.uint8)
    expected[rows - rows.min(), columns - columns.min()] = stored
    (shown,) = frames_of(path)
    assert shown.shape == expected.shape and np.array_equal(shown, expected)


def test_a_video_to_be_shown_aslant_is_refused(tmp_path):
    path = put(encode(tmp_path / "a.mp4"), b"tkhd", 40, ">5i", 56756, 32768, 0, -32768, 56756)  # 30 degrees
    with pytest.raises(RDSInputError, match=r"a\.mp4: is to be shown aslant"):
        frames_of(path)


# --- what it is ---


@pytest.mark.parametrize("content", [b"", b"ffconcat version 1.0\nfile real.mp4\n", b"\0\0\0\x18ftypmp42" + b"\0" * 99])
def test_a_file_that_is_no_video_is_refused(tmp_path, content):
    """Above all a playlist, which would open other files."""
    encode(tmp_path / "real.mp4")
    path = tmp_path / "a.mp4"
    path.write_bytes(content)
    with pytest.raises(RDSInputError, match=r"a\.mp4: (cannot be decoded|has no video)"):
        load_video(path, 16)
    (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(RDSInputError, match="not a video"):
        load_video(tmp_path / "a.txt", 16)


@pytest.mark.parametrize("name", ["a.mp4", "a.avi", "a.webm"])
@pytest.mark.parametrize(("real", "codec"), [("x.webm", "libvpx"), ("x.mkv", "libx264"), ("x.mov", "libx264")])
def test_the_content_says_which_container_it_is(tmp_path, name, real, codec):
    path = encode(tmp_path / real, 4, codec=codec).rename(tmp_path / name)
    assert without_warnings(path) == 4 and video_rate(path) == 10


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"GIF89a", "a GIF"),
        (b"OggS", "Ogg"),
        (b"\xff\xd8\xff\xe0", "a JPEG picture"),
        (b"<!DOCTYPE html>", "a web page"),
    ],
)
def test_what_else_is_called_a_video_is_said(tmp_path, content, what):
    (tmp_path / "a.mp4").write_bytes(content + b" " * 99)
    with pytest.raises(RDSInputError, match=rf"a\.mp4: is {what} by its content"):
        frames_of(tmp_path / "a.mp4")


def test_a_rate_is_the_videos_own(tmp_path):
    assert video_rate(encode(tmp_path / "a.mp4", 3, rate=12)) == 12
    assert video_rate(encode(tmp_path / "a.mkv", 3, rate=30)) == 30
    with pytest.raises(RDSInputError, match="absent.mp4: no such file"):
        video_rate(tmp_path / "absent.mp4")


# --- whether all of it is there ---


def test_a_video_cut_short_warns(tmp_path):
    path = tmp_path / "a.mp4"
    encode(path, 8, codec="mjpeg", pix_fmt="yuvj420p", muxer={"movflags": "faststart"})
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * 0.7)])
    with pytest.warns(UserWarning, match=r"a\.mp4: [1-7] of 8 frames"):
        load_video(path, 16)


@pytest.mark.parametrize("name", ["a.mkv", "a.webm", "a.avi", "a.mov"])
def test_a_cut_file_warns_whatever_its_container(tmp_path, name):
    codec, pix_fmt = ("libvpx", "yuv420p") if name == "a.webm" else ("mjpeg", "yuvj420p")
    muxer = {"movflags": "faststart"} if name == "a.mov" else {}
    path = encode(tmp_path / name, 30, codec=codec, pix_fmt=pix_fmt, muxer=muxer)
    assert without_warnings(path) == 30
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * 0.6)])
    with pytest.warns(UserWarning, match=rf"{name}: [0-9]+( of 30)? frames could be decoded; the file may be cut"):
        assert 0 < len(frames_of(path)) < 30


@pytest.mark.parametrize("left", [0.5, 0.95])
def test_a_file_without_its_end_is_not_to_be_encoded_again(tmp_path, left):
    path = encode(tmp_path / "a.mp4", 20)
    path.write_bytes(path.read_bytes()[: int(left * path.stat().st_size)])
    with pytest.raises(RDSInputError, match="its end is missing; get it again"):
        frames_of(path)


@pytest.mark.parametrize("b_frames", ["0", "2"])
@pytest.mark.parametrize(("first", "last"), [(8, 20), (0, 6), (8, 14), (3, 20)])
def test_a_trimmed_video_is_whole(tmp_path, b_frames, first, last):
    """An edit list hides what was cut off without encoding."""
    path = encode(tmp_path / "a.mp4", 20, g="20", bf=b_frames)
    data = path.read_bytes()
    elst, mdhd = data.index(b"elst"), data.index(b"mdhd")
    duration, start = struct.unpack(">Ii", data[elst + 12 : elst + 20])
    (scale,) = struct.unpack(">I", data[mdhd + 16 : mdhd + 20])
    put(path, b"elst", 8, ">Ii", duration * (last - first) // 20, start + first * scale // 10)
    assert without_warnings(path) == last - first
