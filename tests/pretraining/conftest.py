"""A small stock and small real videos for the tests of the base's training."""

import numpy as np
import pytest

from rds_lib.data.clips import generate_clip
from rds_lib.data.datasets import read_dataset
from rds_lib.data.textures import more_pictures
from rds_lib.data.writers import write_dataset
from rds_lib.pretraining import stock as stock_module
from rds_lib.pretraining.footage import open_footage
from rds_lib.pretraining.stock import Stock, open_stock


@pytest.fixture(scope="module", autouse=True)
def _small_stock():
    """A stock of few drawn objects is built in a moment; other tests find the whole one again."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stock_module, "DRAWN", 12)
        patch.setattr("rds_lib.data.textures.SCENES", {"train": 2, "calibration": 1, "val": 1})
        more_pictures.cache_clear()
        yield
    more_pictures.cache_clear()


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """A folder for what is decoded once."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def stock(cache):
    return open_stock(cache)


@pytest.fixture(scope="module")
def flat_stock():
    """Grounds of grey, a red and a blue disc, and one place from which the red one was taken out."""
    y, x = np.mgrid[:128, :128]
    disc = (((y - 63.5) ** 2 + (x - 63.5) ** 2) < 55**2).astype(np.uint8)[..., None] * 255
    sprite = np.concatenate([disc, disc // 10, disc // 10, disc], -1)  # premultiplied red, and alpha
    grounds = np.stack([np.full((64, 64, 3), grey, np.uint8) for grey in (60, 60, 60)])
    places = np.array([(2, 0, 0.25, -0.25, 0.3, 0.3)], np.float32)
    return Stock(grounds, np.ones(3, np.float32), 2, np.stack([sprite, sprite[..., [2, 1, 0, 3]]]), places)


@pytest.fixture(scope="module")
def real_root(tmp_path_factory):
    """A training list of twelve videos in DAVIS's layout, two objects each; the first and the eleventh are held out."""
    root = tmp_path_factory.mktemp("real") / "davis"
    clips = (
        generate_clip(3, i, split="train", frames=8, height=60, width=106, difficulty="plain", n_objects=2)
        for i in range(12)
    )
    write_dataset(root, clips, layout="davis2017", split="train")
    return str(root)


@pytest.fixture(scope="module")
def videos(real_root):
    return read_dataset(real_root, layout="davis2017", split="train")


@pytest.fixture(scope="module")
def footage(cache, videos):
    return open_footage(cache, videos[1:3])
