"""A server that answers as told, and an archive of a tiny data set."""

import io
import random
import zipfile

import pytest
from served import served

from rds_lib.supplies.catalogue import Supply


@pytest.fixture
def server():
    with served() as running:
        yield running


@pytest.fixture(scope="session")
def archive():
    """A zip of three files below ``DAVIS``, one of them of 300 kB that do not shrink."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as content:
        content.writestr("DAVIS/ImageSets/2017/val.txt", "cow\n")
        content.writestr("DAVIS/JPEGImages/480p/cow/00000.jpg", random.Random(1).randbytes(300_000))
        content.writestr("DAVIS/Annotations/480p/cow/00000.png", b"png")
    return file.getvalue()


@pytest.fixture
def entry():
    """Makes an entry of the catalogue."""

    def make(*addresses, size=None, sha256=None, unpacks_to="DAVIS"):
        about = {"layout": "davis2017", "shape": "JPEGImages", "licence": "free"}
        return Supply("tiny", "A tiny set", "home", addresses, size, sha256, unpacks_to, **about)

    return make
