"""Frames, masks and videos: what is read, and what is refused with the file's name."""

import os
import struct
import warnings
import zlib

import av
import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from sam2.utils.misc import load_video_frames

from rds_lib.core.errors import RDSInputError
from rds_lib.data.images import list_frames, read_frame, read_labels, read_mask, save_palette_png
from rds_lib.data.video import extract_frames, load_video, start_loading
from rds_lib.show.paint import overlay, write_overlay_video

H, W = 48, 66


def picture(t=0, height=H, width=W):
    """A smooth coloured pattern that moves with t."""
    y, x = np.mgrid[:height, :width]
    return np.stack([127 + 120 * np.sin((x + 3 * t) / 9 + c) * np.cos(y / 7 - c) for c in range(3)], -1).astype(
        np.uint8
    )


def save(path, pixels, **options):
    Image.fromarray(pixels).save(path, **options)
    return path


@pytest.fixture
def folder(tmp_path):
    frames = tmp_path / "frames"
    frames.mkdir()
    for t in range(6):
        save(frames / f"{t:05d}.jpg", picture(t))
    return frames


# --- listing ---


def test_frames_sort_by_number_and_strays_are_passed_over(tmp_path):
    for name in ("shot10.png", "shot9.png", "shot11.png"):
        save(tmp_path / name, picture())
    for name in ("._shot9.png", "Thumbs.db", ".DS_Store", "notes.txt"):
        (tmp_path / name).write_bytes(b"stray")
    assert [p.name for p in list_frames(tmp_path)] == ["shot9.png", "shot10.png", "shot11.png"]


def test_names_without_numbers_sort(tmp_path):
    for name in ("b.jpg", "a.jpg", "a1.jpg"):
        save(tmp_path / name, picture())
    assert [p.name for p in list_frames(tmp_path)] == ["a.jpg", "a1.jpg", "b.jpg"]


def test_a_gap_warns_and_a_regular_stride_does_not(folder):
    for t in (1, 3, 5):
        (folder / f"{t:05d}.jpg").unlink()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(list_frames(folder)) == 3
    save(folder / "00005.jpg", picture())
    with pytest.warns(UserWarning, match="no frames between 0 and 2"):
        list_frames(folder)


@pytest.mark.parametrize("twin", ["1.jpg", "00001.png"])
def test_two_names_of_one_frame_are_refused(folder, twin):
    save(folder / twin, picture())
    with pytest.raises(RDSInputError, match="same frame"):
        list_frames(folder)


def test_empty_and_missing_folders_are_refused(tmp_path):
    with pytest.raises(RDSInputError, match="holds no frames"):
        list_frames(tmp_path)
    with pytest.raises(RDSInputError, match="no such folder"):
        list_frames(tmp_path / "absent")
    with pytest.raises(RDSInputError, match="no such file or folder"):
        load_video(tmp_path / "absent", 16)


@pytest.mark.parametrize("target", ["00006.jpg", "absent.jpg"])
def test_a_link_that_leads_nowhere_is_named(folder, target):
    (folder / "00006.jpg").symlink_to(target)
    with pytest.raises(RDSInputError, match=r"00006\.jpg: cannot be read \((Too many levels|No such file)"):
        load_video(folder, 16)
    (folder / "loop").symlink_to("loop")
    with pytest.raises(RDSInputError, match="no such f"):
        load_video(folder / "loop", 16)


# --- one picture ---


def test_content_decides_the_format(tmp_path):
    path = save(tmp_path / "a.jpg", picture(), format="PNG")
    assert np.array_equal(read_frame(path), picture())


@pytest.mark.parametrize("mode", ["L", "CMYK", "P", "RGBA", "1"])
def test_other_colour_modes_become_rgb(tmp_path, mode):
    image = Image.fromarray(picture()).convert(mode)
    path = tmp_path / ("a.jpg" if mode == "CMYK" else "a.png")
    image.save(path)
    with Image.open(path) as stored:
        expected = np.array(stored.convert("RGB"))
    assert np.array_equal(read_frame(path), expected)
    assert expected.shape == (H, W, 3)


def test_sixteen_bit_pictures_are_refused(tmp_path):
    path = save(tmp_path / "a.png", np.arange(H * W, dtype=np.uint16).reshape(H, W))
    with pytest.raises(RDSInputError, match=r"a\.png: 16 bits a channel"):
        read_frame(path)
    cv2.imwrite(str(path), picture().astype(np.uint16) * 257)
    with pytest.raises(RDSInputError, match=r"a\.png: 16 bits a channel"):
        read_frame(path)


def test_exif_orientation_is_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to see it upright
    path = save(tmp_path / "0.jpg", picture(), exif=exif)
    upright = np.rot90(read_frame(save(tmp_path / "plain.jpg", picture())), -1)
    assert np.array_equal(read_frame(path), upright)
    assert load_video([path], 16)[1:] == (W, H)


def _damage(data, kind):
    half = len(data) // 2
    if kind == "overwritten":
        return data[:half] + b"\xff\xd8" * 32 + data[half + 64 :]  # a marker that has no place there
    return {"truncated": data[:half], "empty": b"", "text": b"hello"}[kind]


@pytest.mark.parametrize("kind", ["truncated", "overwritten", "empty", "text"])
@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_damaged_files_are_named(folder, kind, suffix):
    path = save(folder / f"00006{suffix}", picture(), **({"quality": 95} if suffix == ".jpg" else {}))
    path.write_bytes(_damage(path.read_bytes(), kind))
    reason = {"empty": "the file is empty", "text": "neither JPEG nor PNG"}.get(kind, "a damaged image")
    with pytest.raises(RDSInputError, match=f"00006{suffix}: {reason}"):
        read_frame(path)
    with pytest.raises(RDSInputError, match=f"00006{suffix}"):
        load_video(folder, 16)


@pytest.mark.parametrize("side", [9_000, 20_000])
def test_a_pixel_bomb_is_refused_before_it_is_decoded(tmp_path, side, monkeypatch):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")
    path = tmp_path / "bomb.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("decoded"))
    with pytest.raises(RDSInputError, match=r"bomb\.png: more than 67 megapixels"):
        read_frame(path)


def test_what_is_no_file_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "device.png").symlink_to("/dev/zero")
    with open(tmp_path / "huge.png", "wb") as file:
        file.truncate(2 * 10**11)
    for name in ("pipe", "folder", "device"):
        with pytest.raises(RDSInputError, match=f"{name}.png: is no file with a picture"):
            read_frame(tmp_path / f"{name}.png")
    with pytest.raises(RDSInputError, match=r"huge\.png: more than 512 MiB"):
        read_mask(tmp_path / "huge.png")


# --- videos ---


def test_a_jpeg_folder_loads_to_the_bits_of_stock_sam2(folder):
    images, height, width = load_video(folder, 40)
    expected, *size = load_video_frames(str(folder), 40, offload_video_to_cpu=True)
    assert torch.equal(images, expected)
    assert images.dtype == torch.float32 and [height, width] == size == [H, W]


def test_every_pixel_value_scales_as_in_stock_sam2(tmp_path):
    ramp = np.repeat(np.arange(256, dtype=np.uint8).reshape(16, 16)[..., None], 3, -1)
    save(tmp_path / "0.jpg", ramp, format="PNG")
    assert torch.equal(load_video(tmp_path, 16)[0], load_video_frames(str(tmp_path), 16, offload_video_to_cpu=True)[0])


def test_folders_arrays_and_lists_agree(folder):
    arrays = [read_frame(path) for path in list_frames(folder)]
    expected = load_video(folder, 32)[0]
    for video in (str(folder), np.stack(arrays), arrays, list_frames(folder), [str(p) for p in list_frames(folder)]):
        assert torch.equal(load_video(video, 32)[0], expected)


def test_a_window_of_frames(folder):
    everything = load_video(folder, 16)[0]
    assert torch.equal(load_video(folder, 16, start=2, stop=4)[0], everything[2:4])
    assert torch.equal(load_video(folder, 16, start=4)[0], everything[4:])
    for window in ({"start": -1}, {"start": 3, "stop": 3}, {"start": 6}):
        with pytest.raises(RDSInputError):
            load_video(folder, 16, **window)


def test_one_frame_is_a_video(folder):
    assert load_video(folder, 16, stop=1)[0].shape == (1, 3, 16, 16)


def test_a_frame_of_another_size_is_named(folder):
    save(folder / "00003.jpg", picture(height=H + 2))
    with pytest.raises(RDSInputError, match=r"00003\.jpg: 66x50 px, but the first frame has 66x48"):
        load_video(folder, 16)


def test_a_thread_loads_the_same_frames(folder, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    for t in range(3):
        save(tmp_path / f"{t}.jpg", picture(t), exif=exif)
    arrays = [read_frame(path) for path in list_frames(folder)]
    for video in (folder, str(folder), list_frames(folder), np.stack(arrays), arrays, list_frames(tmp_path)):
        (expected, *size), (images, *its_size) = load_video(video, 32), start_loading(video, 32)
        assert its_size == size and len(images) == len(expected)
        assert all(torch.equal(images[t], expected[t]) for t in reversed(range(len(images))))


def test_what_a_thread_cannot_load_is_said_as_ever(folder, tmp_path):
    save(folder / "00003.jpg", picture(height=H + 2))
    (folder / "00004.jpg").write_bytes(b"text")
    images, *_ = start_loading(folder, 16)
    assert images[2].shape == (3, 16, 16)
    for t, message in ((3, r"00003\.jpg: 66x50 px, but the first"), (4, r"00004\.jpg: neither JPEG nor PNG")):
        with pytest.raises(RDSInputError, match=message):
            images[t]
    (folder / "00001.jpg").unlink()
    with pytest.warns(UserWarning, match="no frames between 0 and 2"):
        start_loading(folder, 16)
    for video, message in (
        (tmp_path / "absent", "no such file"),
        ([], "without frames"),
        (tmp_path, "holds no frames"),
    ):
        with pytest.raises(RDSInputError, match=message):
            start_loading(video, 16)


@pytest.mark.parametrize("bad", [picture().astype(np.float32), picture()[..., 0], np.zeros((H, W, 4), np.uint8)])
def test_arrays_of_another_kind_are_refused(bad):
    with pytest.raises(RDSInputError, match=r"frame 1: .* expected \(H, W, 3\) uint8"):
        load_video([picture(), bad], 16)


def labels_of(t, height=H, width=W):
    labels = np.zeros((height, width), np.uint8)
    labels[10:30, 10 + t : 30 + t] = 1
    labels[25:40, 40:60] = 2
    return labels


def test_an_overlay_video_can_be_read_back(tmp_path):
    frames, masks = [picture(t, 47, 65) for t in range(5)], [labels_of(t, 47, 65) for t in range(5)]
    path = tmp_path / "out" / "overlay.mp4"
    write_overlay_video(path, frames, masks, fps=12.5)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.pix_fmt, float(stream.average_rate)) == ("h264", "yuv420p", 12.5)
    images, height, width = load_video(path, 32)
    assert (images.shape[0], height, width) == (5, 48, 66)  # odd sides gain a pixel
    extracted = extract_frames(path, tmp_path / "frames")
    assert [p.name for p in extracted] == [f"{t:05d}.jpg" for t in range(5)]
    error = np.abs(read_frame(extracted[3])[:47, :65].astype(int) - overlay(frames[3], masks[3]))
    assert error.mean() < 12
    assert (load_video(tmp_path / "frames", 32)[0] - images).abs().mean() < 0.1
    assert torch.equal(load_video(path, 32, start=1, stop=3)[0], images[1:3])
    with pytest.raises(RDSInputError, match="already there"):
        extract_frames(path, tmp_path / "frames")


@pytest.mark.parametrize(
    ("frames", "masks", "message"),
    [
        ([], [], "no frames"),
        ([picture()] * 2, [labels_of(0)], "label maps end at 1"),
        ([picture()], [labels_of(0, W, H)], "frame 0: a label map of shape"),
        ([picture(), picture(0, 50, 50)], [labels_of(0), labels_of(0, 50, 50)], "give all frames one size"),
    ],
)
def test_a_bad_overlay_leaves_no_file(tmp_path, frames, masks, message):
    with pytest.raises(RDSInputError, match=message):
        write_overlay_video(tmp_path / "a.mp4", frames, masks, fps=10)
    assert not os.listdir(tmp_path)


# --- first masks ---


def test_palette_mask_keeps_ids_and_drops_void(tmp_path):
    labels = labels_of(0)
    labels[0, :3] = 255
    save_palette_png(tmp_path / "m.png", labels)
    mask = read_mask(tmp_path / "m.png", (H, W))
    assert mask.dtype == np.uint8 and np.array_equal(mask, labels_of(0))


def test_grey_masks(tmp_path):
    labels = labels_of(0)
    assert np.array_equal(read_mask(save(tmp_path / "ids.png", labels)), labels)
    black_white = (labels == 1).astype(np.uint8) * 255
    assert np.array_equal(read_mask(save(tmp_path / "bw.png", black_white)), labels == 1)
    Image.fromarray(black_white).convert("1").save(tmp_path / "bit.png")
    assert np.array_equal(read_mask(tmp_path / "bit.png"), labels == 1)
    assert read_mask(save(tmp_path / "full.png", np.full((H, W), 255, np.uint8))).all()
    black_white[0, 0] = 128
    with pytest.raises(RDSInputError, match=r"smooth\.png: grey values \[128, 255\]"):
        read_mask(save(tmp_path / "smooth.png", black_white))


def _paletted(path, indices, *colours):
    image = Image.fromarray(indices.astype(np.uint8))
    image.putpalette([value for colour in colours for value in colour])
    image.save(path)
    return path


def test_a_palette_of_black_and_white_is_a_black_and_white_picture(tmp_path):
    white, path = labels_of(0) == 1, tmp_path / "m.png"
    grey = Image.fromarray((white * 255).astype(np.uint8))
    for image in (grey.quantize(2), grey.convert("P"), grey.convert("RGB").convert("P", palette=1), grey.convert("1")):
        image.save(path)
        assert np.array_equal(read_mask(path), white)
    black, near = (0, 0, 0), (250, 251, 252)
    for indices, colours in (
        (~white, [(255, 255, 255), black]),
        (white, [black, (255, 255, 255)]),
        (~white, [near, (3, 2, 3)]),
        (2 * white, [black, black, (255, 255, 255), black]),
    ):
        assert np.array_equal(read_labels(_paletted(path, indices, *colours)), white)


def test_black_and_white_may_be_stored_in_colours(tmp_path):
    """As drawing programs save it; white that is not opaque says nothing."""
    white, path = labels_of(0) == 1, tmp_path / "m.png"
    grey = Image.fromarray((white * 255).astype(np.uint8))
    for mode in ("RGB", "RGBA", "LA"):
        grey.convert(mode).save(path)
        assert np.array_equal(read_mask(path), white)
    clear = Image.new("RGBA", grey.size, "white")
    clear.putalpha(grey)
    clear.save(path)
    with pytest.raises(RDSInputError, match="a mask of mode 'RGBA'"):
        read_mask(path)


def test_a_palette_in_which_the_background_is_not_index_0_is_refused(tmp_path):
    red, black, labels = (200, 10, 10), (0, 0, 0), labels_of(0)
    path = _paletted(tmp_path / "m.png", np.choose(labels, (1, 0, 2)), red, black, (0, 200, 0))
    with pytest.raises(RDSInputError, match=r"m\.png: its palette shows index 1 in black .*\[200, 10, 10\]"):
        read_mask(path)
    for colours in ([(255, 255, 255), red, (0, 200, 0)], [black, (255, 255, 255), red], 3 * [black]):
        assert np.array_equal(read_mask(_paletted(tmp_path / "m.png", labels, *colours)), labels)
    ramp = [(i, i, i) for i in range(256)]
    assert np.array_equal(read_mask(_paletted(tmp_path / "m.png", labels, *ramp)), labels)


def test_mask_of_another_size_names_both(tmp_path):
    path = save(tmp_path / "m.png", labels_of(0))
    with pytest.raises(RDSInputError, match="66x48 px, the video 33x24 px"):
        read_mask(path, (24, 33))


def test_colour_and_jpeg_masks_are_refused(tmp_path):
    with pytest.raises(RDSInputError, match="save it as a palette PNG"):
        read_mask(save(tmp_path / "rgb.png", picture()))
    with pytest.raises(RDSInputError, match="coded as JPEG"):
        read_mask(save(tmp_path / "m.png", labels_of(0), format="JPEG"))


def test_an_empty_mask_warns(tmp_path):
    with pytest.warns(UserWarning, match="mask is empty"):
        read_mask(save(tmp_path / "m.png", np.zeros((H, W), np.uint8)))
