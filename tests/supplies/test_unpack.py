"""Archives that nobody should trust: each is unpacked whole, or leaves nothing, inside the folder and outside."""

import bz2
import gzip
import io
import lzma
import stat
import tarfile
import zipfile

import pytest

from rds_lib.core.errors import RDSInputError
from rds_lib.supplies import unpack as unpacking
from rds_lib.supplies.unpack import unpack

FILE = ("set/a/1.txt", b"one")


def tar_bytes(*items, mode="w"):
    """A tar of (name, content) or (name, type, link)."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode) as content:
        for item in items:
            info = tarfile.TarInfo(item[0])
            if isinstance(item[1], bytes) and len(item) == 2:
                info.size = len(item[1])
                content.addfile(info, io.BytesIO(item[1]))
            else:
                info.type, info.linkname = item[1], item[2]
                content.addfile(info)
    return file.getvalue()


def zip_bytes(*items):
    """A zip of (name, content) or (name, content, mode of Unix)."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as content:
        for name, data, *mode in items:
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = (mode[0] if mode else stat.S_IFREG | 0o644) << 16
            content.writestr(info, data)
    return file.getvalue()


def tree(folder):
    """Every path below a folder, with the content of files."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


@pytest.fixture
def place(tmp_path):
    """A folder with a file outside the one that is unpacked into, and how to unpack."""

    class Place:
        out = tmp_path / "in" / "out"

        def put(self, content):
            self.out.mkdir(parents=True, exist_ok=True)
            (tmp_path / "secret.txt").write_text("mine")
            (self.out / "archive").write_bytes(content)
            self.before = tree(tmp_path)

        def unpack(self, **options):
            return unpack(self.out / "archive", self.out, **options)

        def is_untouched(self):
            return tree(tmp_path) == self.before

    return Place()


@pytest.mark.parametrize(
    "content",
    [
        zip_bytes(("set/", b""), FILE, ("set/2.txt", b"two")),
        tar_bytes(("set", tarfile.DIRTYPE, ""), FILE, ("set/2.txt", b"two")),
        tar_bytes(("./", tarfile.DIRTYPE, ""), ("./set/a/1.txt", b"one"), ("./set/2.txt", b"two")),
        gzip.compress(tar_bytes(FILE, ("set/2.txt", b"two"))),
        bz2.compress(tar_bytes(FILE, ("set/2.txt", b"two"))),
        lzma.compress(tar_bytes(FILE, ("set/2.txt", b"two"))),
        zip_bytes(FILE, ("set/2.txt", b"two"), ("__MACOSX/set/._2.txt", b"junk")),
    ],
    ids=["zip", "tar", "tar with dots", "gzip", "bzip2", "xz", "zip of a Mac"],
)
def test_all_kinds_are_unpacked(place, content):
    place.put(content)
    found = place.unpack()
    assert found.top == "set" and len(found.files) == 2 and found.size == 6
    assert tree(place.out / "set") == {"a": None, "a/1.txt": b"one", "2.txt": b"two"}


LONG = "x" * 300
HOSTILE = {
    "parent": ("../../secret.txt", b"bad"),
    "parent in the middle": ("set/a/../../../../secret.txt", b"bad"),
    "absolute": ("/tmp/fetch-hostile.txt", b"bad"),
    "backslashes": ("set\\..\\..\\secret.txt", b"bad"),
    "drive": ("C:/secret.txt", b"bad"),
    "control sign": ("set/\x1b[2J.txt", b"bad"),
    "long name": (f"set/{LONG}", b"bad"),
    "twice": FILE,
    "twice with dots": ("set/./a/1.txt", b"two"),
    "a folder where a file is": ("set/a/1.txt/2.txt", b"bad"),
    "a file where a folder is": ("set/a", b"bad"),
}


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("make", [zip_bytes, tar_bytes])
@pytest.mark.parametrize("item", HOSTILE.values(), ids=HOSTILE)
def test_a_name_that_leads_elsewhere_or_stands_twice_leaves_nothing(place, make, item):
    for content in (make(FILE, item), make(item, FILE)):
        place.put(content)
        with pytest.raises(RDSInputError, match="leads out of the folder|stands twice|a file and a folder at once"):
            place.unpack()
        assert place.is_untouched()


@pytest.mark.parametrize(
    "content",
    [
        tar_bytes(FILE, ("set/link", tarfile.SYMTYPE, "/etc")),
        tar_bytes(("set/link", tarfile.SYMTYPE, "../.."), ("set/link/secret.txt", b"bad")),
        tar_bytes(FILE, ("set/link", tarfile.LNKTYPE, "../../secret.txt")),
        tar_bytes(FILE, ("set/pipe", tarfile.FIFOTYPE, "")),
        tar_bytes(FILE, ("set/null", tarfile.CHRTYPE, "")),
        tar_bytes(FILE, ("set/disk", tarfile.BLKTYPE, "")),
        zip_bytes(FILE, ("set/link", b"/etc", stat.S_IFLNK | 0o777)),
        zip_bytes(FILE, ("set/null", b"", stat.S_IFCHR | 0o666)),
    ],
    ids=["link", "link and file behind it", "hard link", "pipe", "character", "block", "link in zip", "device in zip"],
)
def test_links_and_devices_leave_nothing(place, content):
    place.put(content)
    with pytest.raises(RDSInputError, match="is a link"):
        place.unpack()
    assert place.is_untouched()


def test_bombs_are_seen_before_they_go_off(place, monkeypatch):
    monkeypatch.setattr(unpacking, "LEAST_BOUND", 10_000)
    zeros = ("set/zeros", bytes(3_000_000))
    for content in (zip_bytes(FILE, zeros), gzip.compress(tar_bytes(FILE, zeros))):
        place.put(content)
        with pytest.raises(RDSInputError, match="unpacks to more than"):
            place.unpack()
        assert place.is_untouched()
    monkeypatch.setattr(unpacking, "MOST_FILES", 20)
    many = [(f"set/{i}", b"") for i in range(21)]
    for content in (zip_bytes(*many), tar_bytes(*many)):
        place.put(content)
        with pytest.raises(RDSInputError, match="more than 20 files"):
            place.unpack()
        assert place.is_untouched()


def test_a_header_that_would_fill_the_memory_is_refused(place):
    info = tarfile.TarInfo("set/long")
    info.type, info.size = tarfile.XHDTYPE, 2**33
    place.put(gzip.compress(info.tobuf(tarfile.GNU_FORMAT) + bytes(100_000)))
    with pytest.raises(RDSInputError, match="a header of 8589934592 bytes"):
        place.unpack()
    assert place.is_untouched()


def test_a_zip_that_lies_about_a_length_leaves_nothing(place):
    content = bytearray(zip_bytes(FILE, ("set/zeros", bytes(50_000))))
    at = content.rindex(b"PK\x01\x02") + 24  # the length in the list, which is the one that counts
    content[at : at + 4] = (40_000).to_bytes(4, "little")
    place.put(bytes(content))
    with pytest.raises(RDSInputError, match="is no whole zip or tar"):
        place.unpack()
    assert place.is_untouched()


def damaged(content, start):
    return content[:start] + bytes(40) + content[start + 40 :]


WHOLE = tar_bytes(FILE, ("set/b", bytes(range(256)) * 20))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<html>",
        b"PK\x03\x04 and no more",
        zip_bytes(FILE)[:-30],
        damaged(zip_bytes(("set/b", bytes(range(256)) * 20)), 60),
        WHOLE[:2000],
        gzip.compress(WHOLE)[:300],
        damaged(gzip.compress(WHOLE), 100),
        lzma.compress(WHOLE)[:200],
        bz2.compress(WHOLE)[:200],
    ],
    ids=["empty", "page", "head", "no list", "bits", "cut tar", "cut gzip", "gzip bits", "cut xz", "cut bzip2"],
)
def test_a_damaged_archive_leaves_nothing(place, content):
    place.put(content)
    with pytest.raises(RDSInputError, match="is no whole zip or tar archive|holds all the rest, found no file"):
        place.unpack()
    assert place.is_untouched()


def test_an_encrypted_file_is_refused(place):
    content = bytearray(zip_bytes(FILE))
    content[content.rindex(b"PK\x01\x02") + 8] |= 1
    place.put(bytes(content))
    with pytest.raises(RDSInputError, match="is encrypted"):
        place.unpack()
    assert place.is_untouched()


def test_the_folder_at_the_top_must_be_the_one_that_is_known(place):
    place.put(zip_bytes(FILE, ("readme.txt", b"hello"), ("other/1.txt", b"one")))
    with pytest.raises(
        RDSInputError, match="expected one folder that holds all the rest, found other, set, readme.txt"
    ):
        place.unpack()
    with pytest.raises(RDSInputError, match="no folder 'DAVIS' with files in it; found other, set"):
        place.unpack(top="DAVIS")
    assert place.is_untouched()
    assert place.unpack(top="set").left_out == 2
    assert tree(place.out / "set") == {"a": None, "a/1.txt": b"one"} and not (place.out / "other").exists()
    place.put(zip_bytes((".hidden/1.txt", b"one")))
    with pytest.raises(RDSInputError, match="expected the plain name"):
        place.unpack()


def test_a_place_that_is_taken_and_a_failure_at_the_end_leave_all_as_it_was(place):
    place.put(zip_bytes(FILE))
    with pytest.raises(KeyboardInterrupt):
        place.unpack(finish=lambda stage, contents: (_ for _ in ()).throw(KeyboardInterrupt))
    assert place.is_untouched()
    (place.out / "set").symlink_to(place.out / "nowhere")
    with pytest.raises(RDSInputError, match="is there already"):
        place.unpack()
    assert not (place.out / "nowhere").exists()


def test_a_full_disk_is_told_before_anything_is_written(place, monkeypatch):
    place.put(zip_bytes(FILE))
    monkeypatch.setattr(unpacking.shutil, "disk_usage", lambda folder: unpacking.shutil._ntuple_diskusage(1, 1, 0))
    with pytest.raises(RDSInputError, match="the disk has 0.00 GB free"):
        place.unpack()
    assert place.is_untouched()
