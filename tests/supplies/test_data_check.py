"""Data sets that are broken in one way each: the check names sequence and file, and a whole set has no finding."""

import shutil

import numpy as np
import pytest
from broken import BROKEN, FRAMES, Set, T, cut, flipped, gone, labels, make_set, resized, with_seven
from PIL import Image
from typer.testing import CliRunner

from rds_lib.__main__ import app
from rds_lib.core.errors import RDSInputError
from rds_lib.supplies import pictures
from rds_lib.supplies.check import check_dataset


@pytest.fixture(scope="session")
def whole_sets(tmp_path_factory):
    root = tmp_path_factory.mktemp("sets")
    for layout in FRAMES:
        (root / layout).mkdir()
        make_set(root / layout, layout)
    return root


@pytest.fixture
def copied(whole_sets, tmp_path):
    return lambda layout: Set(layout, shutil.copytree(whole_sets / layout, tmp_path / layout))


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("layout", FRAMES)
def test_a_whole_set_has_no_finding(whole_sets, layout, deep):
    report = check_dataset(whole_sets / layout, layout=layout, deep=deep)
    assert report.findings == []
    masks = {"sav": 2 * 2 * 3, "ytvos": 2 * 3}.get(layout, 2 * T)
    assert report.summary == f"2 sequences, {2 * T} frames, {masks} masks: 0 errors, 0 warnings"


@pytest.mark.parametrize(
    ("layout", "case"),
    [pytest.param(layout, case, id=f"{case[0]} ({layout})") for case in BROKEN for layout in case[1]],
)
def test_one_thing_broken_is_found_where_it_is(copied, layout, case):
    _, _, change, told = case
    severity, sequence, file, words = told.split(": ", 3)
    broken = copied(layout)
    change(broken)
    found = broken.check().findings
    fitting = [
        finding
        for finding in found
        if (finding.severity, finding.sequence) == (severity, sequence)
        and finding.file.endswith(tuple(file.split("|")))
        and words in finding.what
    ]
    assert len(fitting) == 1, found
    assert fitting[0].fix and {finding.sequence for finding in found} <= {sequence, "-"}


def test_a_gap_in_an_objects_masks_is_found(copied):
    broken = copied("sav")
    for t in (2, 6, 10):
        shutil.copy(broken.mask(8), broken.mask(t))
    gone(broken.mask(4)), gone(broken.mask(6))
    (finding,) = broken.check().findings
    assert finding.severity == "warning" and finding.what == "no masks between 2 and 8"


def test_many_files_of_one_kind_are_one_line(copied):
    broken = copied("davis2017")
    for t in (2, 5, 7):
        resized(broken.frame(t), (16, 16 + t))
        cut(broken.mask(t), 0.4 + t / 20)
    lines = [str(finding) for finding in broken.check().findings]
    assert len(lines) == 2 and all("(and 2 more such files)" in line for line in lines)
    size = "16x18 px, but the first frame has 32x24 (and 2 more such files); make all frames of one size"
    assert lines[0] == f"error: cow: JPEGImages/480p/cow/00002.jpg: {size}"


def test_what_headers_do_not_show_is_found_deep(copied):
    broken = copied("davis2017")
    flipped(broken.mask(4))
    labels(broken.mask(6), with_seven)
    assert broken.check().findings == []
    found = broken.check(deep=True).findings
    assert ["00004.png" in finding.file for finding in found] == [True]
    (finding,) = copied_again(broken, flipped_back=4).check(deep=True).findings
    assert finding.severity == "warning" and finding.what == "object 7 is not in the first mask"


def copied_again(broken, flipped_back):
    flipped(broken.mask(flipped_back))
    return broken


def test_pixels_are_decoded_only_where_something_is_odd(copied, monkeypatch):
    read = []
    for name in ("read_frame", "read_labels"):
        true = getattr(pictures, name)
        monkeypatch.setattr(pictures, name, lambda path, true=true: (read.append(path.name), true(path))[1])
    fine = copied("davis2017")
    fine.check()
    assert read == []
    cut(fine.frame(3))
    fine.check()
    assert read == ["00003.jpg"]
    read.clear()
    fine.check(deep=True)
    assert len(read) == 4 * T


def test_an_upright_size_is_that_of_the_reader(copied):
    turned = copied("davis2017")
    exif = Image.Exif()
    exif[0x0112] = 6
    for path in turned.frames.iterdir():
        with Image.open(path) as image:
            flat = image.transpose(Image.Transpose.ROTATE_90)
        flat.save(path, exif=exif, quality=95)
    assert turned.check().findings == []


def test_black_and_white_masks_are_whole(copied):
    white = copied("davis2017")
    for path in white.masks.iterdir():
        with Image.open(path) as image:
            Image.fromarray(np.where(np.array(image) == 1, 255, 0).astype(np.uint8)).save(path)
    assert white.check().findings == []


def test_other_splits_of_davis_are_no_strangers(copied):
    both = copied("davis2017")
    both.index.with_name("train.txt").write_text("cow\n")
    both.index.write_text("ant\n")
    report = both.check()
    assert report.findings == [] and report.sequences == 1


def test_what_only_the_reader_sees_is_an_error_too(copied, monkeypatch):
    from rds_lib.supplies import check

    def refuses(root, **_):
        raise RDSInputError(f"{root}: not for me; mend it")

    monkeypatch.setattr(check, "read_dataset", refuses)
    (finding,) = copied("davis2017").check().findings
    assert str(finding).startswith("error: -: ") and "not for me; mend it" in str(finding)


@pytest.mark.parametrize(
    ("layout", "root", "split", "message"),
    [
        ("imagenet", "davis2017", "val", "--layout 'imagenet': is unknown; choose one of davis2017, sav, ytvos, mose"),
        ("davis2017", "nowhere", "val", "no such folder; name the root of the data set"),
        ("davis2017", "davis2017", "test", "no split 'test' here; there is: val"),
        ("sav", "sav", "../x", "expected the plain name"),
        ("mose", "mose", "train", "no split 'train' here; there is: valid"),
    ],
)
def test_what_is_no_data_set_ends_in_one_error(whole_sets, layout, root, split, message):
    with pytest.raises(RDSInputError, match=message.replace("..", r"\.\.")):
        check_dataset(whole_sets / root, layout=layout, split=split)


def test_a_root_one_folder_up_is_told(whole_sets):
    (finding,) = check_dataset(whole_sets, layout="davis2017").findings
    assert finding.what == "no such folder of frames" and finding.fix.endswith("davis2017 as the root")


@pytest.mark.parametrize("layout", ["mose", "lvos"])
def test_the_folder_of_a_split_is_a_root_too(whole_sets, layout):
    report = check_dataset(whole_sets / layout / "valid", layout=layout)
    assert report.findings == [] and report.sequences == 2


def command(*arguments):
    return CliRunner().invoke(app, ["data", "check", *map(str, arguments)])


def test_the_command_ends_with_2_where_there_are_errors_alone(copied):
    some = copied("davis2017")
    assert command(some.root).exit_code == 0
    some.index.write_text("ant\n")
    warned = command(some.root, "--layout", "davis2017", "--split", "val", "--deep")
    assert warned.exit_code == 0 and warned.output.startswith("warning: -: JPEGImages/480p: folders of frames")
    assert warned.output.endswith("1 sequences, 11 frames, 11 masks: 0 errors, 2 warnings\n")
    cut(some.root / FRAMES["davis2017"] / "ant" / "00002.jpg")
    failed = command(some.root)
    assert failed.exit_code == 2 and failed.output.splitlines()[0].startswith(
        "error: ant: JPEGImages/480p/ant/00002.jpg"
    )
    assert failed.output.endswith("1 error, 2 warnings\n")
