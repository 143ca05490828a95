"""Masks over frames: the colours of known pixels, and the same ones in the overlay video and in the inspector."""

import numpy as np
import pytest
from PIL import Image

from rds_lib.data.images import read_frame
from rds_lib.data.video import extract_frames
from rds_lib.evaluation.recordings import Recording, make_run
from rds_lib.model.shape import EncoderShape
from rds_lib.show.inspector.data import video_data
from rds_lib.show.paint import ALPHA, OverlayVideo, few_colours, fitted, overlay, write_overlay_video
from rds_lib.show.style import EXACT, rgb

BLUE, ORANGE = (0, 114, 178), (230, 159, 0)
GREY = np.full((40, 60, 3), 100, np.uint8)


def labels_of_two():
    """Object 1 in rows 5 to 19 and columns 5 to 24, object 2 in rows 10 to 39 and columns 30 to 54."""
    labels = np.zeros((40, 60), np.uint8)
    labels[5:20, 5:25], labels[10:, 30:55] = 1, 2
    return labels


def test_an_object_is_tinted_inside_and_outlined_solid():
    drawn = overlay(GREY, labels_of_two(), alpha=0.25)
    assert tuple(drawn[10, 12]) == (75, 104, 120) and tuple(drawn[5, 12]) == tuple(drawn[10, 5]) == BLUE
    assert tuple(drawn[20, 45]) == (132, 115, 75) and tuple(drawn[10, 45]) == ORANGE
    assert tuple(drawn[39, 45]) == ORANGE, "where the frame cuts an object off, too"
    assert (drawn[labels_of_two() == 0] == 100).all() and (GREY == 100).all()


def test_outlines_grow_with_the_frame():
    labels = np.zeros((900, 1600), np.uint8)
    labels[100:800, 100:800] = 1
    drawn = overlay(np.zeros((900, 1600, 3), np.uint8), labels)
    assert tuple(drawn[103, 400]) == BLUE != tuple(drawn[104, 400])


def test_masks_by_object_may_overlap_and_colours_repeat_after_six():
    one, two = (np.zeros((40, 60), bool) for _ in range(2))
    one[5:25, 5:25], two[10:30, 10:30] = True, True
    drawn = overlay(GREY, {1: one, 8: two}, alpha=0.5)
    assert tuple(drawn[24, 15]) == BLUE, "the outline of the lower object shows"
    assert tuple(drawn[28, 28]) == tuple(overlay(GREY, {2: two}, alpha=0.5)[28, 28])
    assert np.allclose(drawn[20, 20], 0.25 * GREY[0, 0] + 0.25 * np.array(BLUE) + 0.5 * np.array(ORANGE), atol=1)


def test_void_is_left_alone():
    labels = np.where(labels_of_two() == 2, 255, 0).astype(np.uint8)
    assert (overlay(GREY, labels) == GREY).all()


@pytest.mark.parametrize("obj_id", [1, 2, 6, 7])
def test_the_video_and_the_inspector_show_an_object_in_one_colour(tmp_path, obj_id):
    labels = (labels_of_two() == 2).astype(np.uint8) * obj_id
    labels = labels.repeat(4, 0).repeat(4, 1)
    frame = np.full((160, 240, 3), 100, np.uint8)
    Image.fromarray(frame).save(tmp_path / "0.png")
    write_overlay_video(tmp_path / "overlay.mp4", [frame], [labels], fps=10)
    (path,) = extract_frames(tmp_path / "overlay.mp4", tmp_path / "frames")
    run = make_run("RDS", labels[None], None, depth=6)
    video = video_data(Recording("clip", (tmp_path / "0.png",), (obj_id,), EncoderShape(6, (0,), (0,)), (run,)), 240)
    colour = np.array([int(video["objects"][0]["colour"][n : n + 2], 16) for n in (1, 3, 5)])
    assert np.abs(read_frame(path)[100, 170] - (100 + ALPHA * (colour - 100))).max() < 6


def test_colours_with_a_meaning_survive_a_palette_of_few_colours():
    exact = [rgb(colour) for colour in EXACT]
    noise = np.random.default_rng(0).integers(0, 256, (200, 200, 3), np.uint8)
    noise[8:16] = 253  # beside white, as soft edges are
    noise[:8, : len(exact)] = exact
    packed = few_colours(Image.fromarray(noise), exact)
    assert packed.mode == "P" and len(np.unique(np.asarray(packed))) > 200
    drawn = np.asarray(packed.convert("RGB")).astype(int)
    assert (drawn[:8, : len(exact)] == noise[:8, : len(exact)]).all() and (drawn[8:16] == 253).all()
    assert np.abs(drawn - noise).mean() < 20, "and the others are near"


def test_images_are_shrunk_and_never_enlarged():
    assert fitted(GREY, 30).shape == (20, 30, 3) and fitted(GREY.swapaxes(0, 1), 30).shape == (30, 20, 3)
    assert fitted(GREY, 100).shape == GREY.shape
    assert fitted(np.zeros((2, 2000, 3), np.uint8), 480).shape == (1, 480, 3)


def test_an_overlay_video_that_is_stopped_plays_what_it_was_given(tmp_path):
    frames = [np.full((40, 60, 3), 40 * t, np.uint8) for t in range(4)]
    with pytest.raises(KeyboardInterrupt), OverlayVideo(tmp_path / "stopped.mp4", fps=10) as video:
        for frame in frames:
            video.add(frame, labels_of_two())
        raise KeyboardInterrupt
    shown = [read_frame(path) for path in extract_frames(tmp_path / "stopped.mp4", tmp_path / "frames")]
    assert len(shown) == video.count == 4
    for frame, seen in zip(frames, shown):
        assert np.abs(seen.astype(int) - overlay(frame, labels_of_two())).mean() < 12
    OverlayVideo(tmp_path / "empty.mp4", fps=10).close()
