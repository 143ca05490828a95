"""The order of frames, and which pictures of a folder are frames."""

import random
import warnings

import numpy as np
import pytest
from PIL import Image

from rds_lib.core.errors import RDSInputError
from rds_lib.data.images import list_frames
from rds_lib.data.names import frame_files, in_time_order


def fill(folder, names):
    """Empty pictures of these names, made in a random order."""
    folder.mkdir(exist_ok=True)
    for name in random.Random(0).sample(names, len(names)):
        (folder / name).write_bytes(b"")
    return folder


def listed(folder):
    return [path.name for path in list_frames(folder)]


@pytest.mark.parametrize(
    "stems",
    [
        ["frame_1", "frame_2", "frame_9", "frame_10", "frame_100"],
        ["00000", "00005", "00010"],
        ["1_9", "1_10", "2_1"],
        [str(round(1700000000 + t / 25, 3)) for t in range(30)],  # 1700000000.04 before 1700000000.4
        [f"{t / 25:g}" for t in range(60)],  # 0, 0.04, ..., 1, 1.04
        [f"{t / 25:.2f}" for t in range(30)],
        [f"t={t / 30}s" for t in range(40)],
        [str(t / 8).replace(".", ",") for t in range(20)],  # a comma, as much of Europe writes it
        [f"00-00-{t / 5:06.3f}" for t in range(20)],
        [f"shot.{t:04d}" for t in range(12)],
        [f"take2.{t}" for t in range(1, 31)],  # counts on after a point
        [f"v1.2.{t}" for t in range(8, 13)],
        [f"2.10_{t / 25:g}" for t in range(30)],
    ],
)
def test_names_sort_by_time(stems):
    assert in_time_order(random.Random(1).sample(stems, len(stems)), "here") == stems


def test_names_of_one_number_are_refused():
    for twins in (["1", "00001"], ["0.5", "0,5"], ["a7", "a07"]):
        with pytest.raises(RDSInputError, match=f"here: {twins[0]} and {twins[1]} are the same frame"):
            in_time_order(twins, "here")


def test_times_in_seconds_are_frames_in_order_and_a_gap_in_them_warns(tmp_path):
    names = [f"{round(1700000000 + t / 30, 3)}.jpg" for t in range(30)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert listed(fill(tmp_path / "even", names)) == names
        assert len(listed(fill(tmp_path / "ms", [f"{1000 * t // 30}.jpg" for t in range(30)]))) == 30
    with pytest.warns(UserWarning, match="no frames between 1700000000.133 and 1700000000.233"):
        listed(fill(tmp_path / "gap", names[:5] + names[7:]))


FRAMES = [f"{t:05d}.jpg" for t in range(6)]


@pytest.mark.parametrize("stray", ["first_mask.png", "mask.jpg", "00000_mask.png", "preview.jpeg", "mask7.png"])
def test_a_picture_that_is_named_unlike_the_frames_is_left_out(tmp_path, stray):
    with pytest.warns(UserWarning, match=f"left out, as not named like the other frames: {stray}"):
        assert listed(fill(tmp_path / "v", [*FRAMES, stray])) == FRAMES


@pytest.mark.parametrize(
    "others",
    [
        ["00006.png"],  # the number fits, the type does not
        [name.replace(".jpg", "_mask.png") for name in FRAMES],
        ["mask_1.png", "mask_2.png"],
        [f"depth_{t}.jpg" for t in range(6)],
    ],
)
def test_two_series_in_one_folder_are_refused(tmp_path, others):
    with pytest.raises(RDSInputError, match="6 like .*; a video is one series") as caught:
        listed(fill(tmp_path / "v", [*FRAMES, *others]))
    assert any(name in str(caught.value) for name in others)


def test_one_frame_and_a_mask_of_another_type_are_refused(tmp_path):
    with pytest.raises(RDSInputError, match="a video is one series"):
        listed(fill(tmp_path / "v", ["00000.jpg", "mask.png"]))


def test_a_folder_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "v").write_bytes(b"")
    with pytest.raises(RDSInputError, match="v: cannot be read \\(Not a directory"):
        frame_files(tmp_path / "v", (".png",))


def test_links_are_followed_wherever_they_lead(tmp_path):
    """Data sets of links are what shared caches give."""
    store = tmp_path / "store"
    store.mkdir()
    (tmp_path / "v").mkdir()
    for t in range(3):
        Image.fromarray(np.full((4, 4, 3), 80 * t, np.uint8)).save(store / f"{t}x.png")
        (tmp_path / "v" / f"{t}.png").symlink_to(store / f"{t}x.png")
    assert listed(tmp_path / "v") == ["0.png", "1.png", "2.png"]
