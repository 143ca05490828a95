"""What clips are made of, decoded once: what is in it, and when it is built again."""

import cv2
import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from rds_lib.core.errors import RDSInputError
from rds_lib.data import textures
from rds_lib.data.batches import label_map
from rds_lib.pretraining import footage as footage_module, stock as stock_module
from rds_lib.pretraining.footage import HEIGHT, WIDTH, open_footage
from rds_lib.pretraining.stock import GROUND, open_stock


@pytest.fixture
def bsds(tmp_path):
    """A folder of BSDS500 with one photograph, a red disc on blue; it is in the training part."""
    y, x = np.mgrid[:160, :240]
    disc = (y - 70) ** 2 + (x - 100) ** 2 < 30**2
    regions = np.empty((1, 1), object)
    regions[0, 0] = {"Segmentation": disc.astype(np.uint8) + 1}
    for kind in ("images", "groundTruth"):
        (tmp_path / "bsds" / kind / "train").mkdir(parents=True)
    photo = np.where(disc[..., None], (220, 20, 20), (20, 20, 220)).astype(np.uint8)
    Image.fromarray(photo).save(tmp_path / "bsds" / "images" / "train" / "disc.jpg", quality=100, subsampling=0)
    savemat(tmp_path / "bsds" / "groundTruth" / "train" / "disc.mat", {"groundTruth": regions})
    return tmp_path / "bsds"


def test_the_stock_holds_the_training_pictures_and_no_others(stock):
    names = [picture.name for picture in textures.more_pictures("train")]
    assert stock.grounds.shape == (len(names), GROUND, GROUND, 3) and stock.whole == len(names)
    means = [picture.rgb.mean() for picture in textures.more_pictures("train")]
    assert np.allclose(stock.grounds.mean((1, 2, 3)), means, atol=1.5)
    assert stock.sprites.shape == (12, 128, 128, 4) and stock.sprites.dtype == np.uint8
    assert (stock.sprites[..., 3].reshape(12, -1).max(1) == 255).all(), "each has an inside"
    assert (stock.sprites[..., :3] <= stock.sprites[..., 3:].astype(int) + 1).all(), "colours are premultiplied"
    assert len(stock.places) == 0


def test_an_object_of_a_photograph_is_cut_out_and_its_place_filled(bsds, tmp_path):
    stock = open_stock(tmp_path, str(bsds))
    (place,) = stock.places
    ground, sprite = stock.grounds[int(place[0])], stock.sprites[int(place[1])]
    assert len(stock.grounds) == stock.whole + 1 and stock.aspects[int(place[0])] == pytest.approx(1.5)
    assert (ground[..., 0] < 80).all() and (stock.grounds[stock.whole - 1][..., 0] > 200).any()
    assert sprite[64, 64].tolist()[3] == 255 and sprite[64, 64, 0] > 200
    assert place[2:] == pytest.approx([2 * 100.5 / 240 - 1, 2 * 70.5 / 160 - 1, 66 / 240, 66 / 160], abs=0.01)


def refused(*args):
    raise AssertionError("built again")


def test_the_stock_is_built_once_and_again_when_a_photograph_is_added(bsds, tmp_path):
    first = open_stock(tmp_path, str(bsds))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stock_module, "_build", refused)
        assert np.array_equal(open_stock(tmp_path, str(bsds)).grounds, first.grounds)
    assert isinstance(first.grounds, np.memmap)
    Image.fromarray(np.zeros((40, 60, 3), np.uint8)).save(bsds / "images" / "train" / "dark.jpg")
    textures.more_pictures.cache_clear()
    assert len(open_stock(tmp_path, str(bsds)).grounds) == len(first.grounds) + 1


def test_a_build_that_is_killed_leaves_nothing(tmp_path, stopped_at):
    with stopped_at(stock_module, "_place", 1), pytest.MonkeyPatch.context() as patch:
        patch.setattr(stock_module, "_save", lambda *args: stock_module._place(None))
        open_stock(tmp_path)
    assert not list(tmp_path.glob("stock-*")) and not list(tmp_path.glob(".tmp-*"))


def test_a_folder_without_photographs_is_refused(tmp_path):
    with pytest.raises(RDSInputError, match="nothing-here holds no images/train"):
        open_stock(tmp_path, str(tmp_path / "nothing-here"))


# --- real videos ---


def test_footage_shows_frames_and_labels_of_the_videos_in_their_order(footage, videos):
    assert footage.names == tuple(video.name for video in videos[1:3]) and footage.spans == ((0, 8), (8, 8))
    assert footage.frames.shape == (16, HEIGHT, WIDTH, 3) and footage.labels.shape == (16, HEIGHT, WIDTH)
    for n, t in ((3, 3), (13, 5)):
        video = videos[1 + n // 8]
        small = cv2.resize(footage.labels[n], video.size[::-1], interpolation=cv2.INTER_NEAREST)
        assert (small == label_map(video, t)).mean() > 0.99
        small = cv2.resize(footage.frames[n], video.size[::-1], interpolation=cv2.INTER_AREA).astype(int)
        assert np.abs(small - video.frame(t)).mean() < 4


def test_videos_are_decoded_once_and_again_when_a_file_changes(videos, tmp_path, monkeypatch):
    open_footage(tmp_path, videos[:1])
    monkeypatch.setattr(footage_module, "_decode", refused)
    open_footage(tmp_path, videos[:1])
    videos[0].frame_paths[2].touch()
    with pytest.raises(AssertionError, match="built again"):
        open_footage(tmp_path, videos[:1])


def test_videos_that_are_too_short_are_left_out_and_named_when_none_is_left(footage):
    assert footage.at_least(8).spans == footage.spans
    with pytest.raises(RDSInputError, match="no sequence has 9 annotated frames; the longest has 8"):
        footage.at_least(9)
