"""The three layouts: written as the real sets are, read back, and refused when something is missing."""

import json
import os
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image, JpegImagePlugin

from rds_lib.core.errors import RDSInputError
from rds_lib.data import writers as dataset_writers
from rds_lib.data.batches import label_map
from rds_lib.data.datasets import davis_palette, describe, read_dataset, save_palette_png, write_dataset, write_masks
from rds_lib.data.labels import label_numbers

LAYOUTS = ("davis2017", "sav", "ytvos")
T, H, W = 11, 32, 44
MASKS = {"davis2017": "Annotations/480p", "sav": "sav_val/Annotations_6fps", "ytvos": "valid/Annotations"}
FRAMES = {"davis2017": "JPEGImages/480p", "sav": "sav_val/JPEGImages_24fps", "ytvos": "valid/JPEGImages"}
INDEX = {"davis2017": "ImageSets/2017/val.txt", "sav": "sav_val/sav_val.txt", "ytvos": "valid/meta.json"}


def make_clip(name="cow", *, late=0, gone=T, seed=0):
    """Two rectangles; object 2 is there in frames late <= t < gone."""
    rng = np.random.default_rng(seed)
    frames = np.repeat(rng.integers(0, 255, (T, H // 4, W // 4, 3), np.uint8), 4, 1).repeat(4, 2)
    masks = np.zeros((T, H, W), np.uint8)
    for t in range(T):
        masks[t, 2:12, 2 + t : 14 + t] = 1
        if late <= t < gone:
            masks[t, 15:30, 20:40] = 2
    return SimpleNamespace(
        name=name, frames=frames, masks=masks, difficulty="plain", categories=("blob", "spider"), conditions=()
    )


def tree(root):
    """Every file with its bytes."""
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


@pytest.mark.parametrize(("layout", "stride", "first_id"), [("davis2017", 1, 1), ("sav", 4, 0), ("ytvos", 5, 1)])
def test_what_is_written_is_read_back(tmp_path, layout, stride, first_id):
    clips = [make_clip("cow"), make_clip("ant", gone=5, seed=1)]
    write_dataset(tmp_path / "set", clips, layout=layout)
    sequences = read_dataset(tmp_path / "set", layout=layout)
    assert [s.name for s in sequences] == ["cow", "ant"]
    for sequence, clip in zip(sequences, clips):
        assert len(sequence) == T and sequence.size == (H, W)
        assert sequence.frame_names == tuple(f"{t:05d}" for t in range(T))
        assert sequence.annotated == tuple(range(0, T, stride))
        assert sequence.obj_ids == (first_id, first_id + 1)
        assert sequence.prompt_frame == dict.fromkeys(sequence.obj_ids, 0)
        assert np.abs(sequence.frame(3).astype(int) - clip.frames[3]).mean() < 3
        for t in sequence.annotated:
            for obj, mask in sequence.masks(t).items():
                assert mask.dtype == bool and np.array_equal(mask, clip.masks[t] == obj + 1 - first_id)
        assert np.array_equal(sequence.prompt(first_id + 1), clip.masks[0] == 2)


def test_the_folders_are_those_of_the_real_sets(tmp_path):
    for layout in LAYOUTS:
        write_dataset(tmp_path / layout, [make_clip()], layout=layout)
        for path in (f"{FRAMES[layout]}/cow/00010.jpg", INDEX[layout]):
            assert (tmp_path / layout / path).is_file()
        with Image.open(tmp_path / layout / FRAMES[layout] / "cow/00000.jpg") as image:
            assert JpegImagePlugin.get_sampling(image) == 0  # 4:4:4
    assert (tmp_path / "davis2017/Annotations/480p/cow/00010.png").is_file()
    assert sorted(os.listdir(tmp_path / "sav/sav_val/Annotations_6fps/cow")) == ["000", "001"]
    assert sorted(os.listdir(tmp_path / "sav/sav_val/Annotations_6fps/cow/000")) == [
        "00000.png",
        "00004.png",
        "00008.png",
    ]
    assert sorted(os.listdir(tmp_path / "ytvos/valid/Annotations/cow")) == ["00000.png", "00005.png", "00010.png"]
    assert (tmp_path / "davis2017" / INDEX["davis2017"]).read_text() == "cow\n"


@pytest.mark.parametrize("layout", LAYOUTS)
def test_equal_clips_give_equal_bytes(tmp_path, layout):
    for name in "ab":
        write_dataset(tmp_path / name, [make_clip()], layout=layout)
    assert tree(tmp_path / "a") == tree(tmp_path / "b")


def test_an_object_that_comes_late_is_prompted_when_it_comes(tmp_path):
    clip = make_clip(late=6)
    for layout in ("sav", "ytvos"):
        write_dataset(tmp_path / layout, [clip], layout=layout)
    (sav,) = read_dataset(tmp_path / "sav", layout="sav")
    assert sav.prompt_frame == {0: 0, 1: 8}
    assert list(sav.masks(4)) == [0] and list(sav.masks(8)) == [0, 1]
    (ytvos,) = read_dataset(tmp_path / "ytvos", layout="ytvos")
    assert ytvos.prompt_frame == {1: 0, 2: 10}
    assert list(ytvos.masks(5)) == [1]
    meta = json.loads((tmp_path / "ytvos/valid/meta.json").read_text())
    assert meta["videos"]["cow"]["objects"] == {
        "1": {"category": "blob", "frames": ["00000", "00005", "00010"]},
        "2": {"category": "spider", "frames": ["00010"]},
    }


def test_davis_objects_come_from_the_first_annotation(tmp_path):
    write_dataset(tmp_path / "late", [make_clip(late=3)], layout="davis2017")
    (sequence,) = read_dataset(tmp_path / "late", layout="davis2017")
    assert sequence.obj_ids == (1,) and list(sequence.masks(5)) == [1]
    clip = make_clip(gone=5)
    clip.masks[0][clip.masks[0] == 1] = 0  # id 1 comes at frame 1, but id 2 says that there are two objects
    write_dataset(tmp_path / "swap", [clip], layout="davis2017")
    (sequence,) = read_dataset(tmp_path / "swap", layout="davis2017")
    assert sequence.prompt_frame == {1: 1, 2: 0}
    assert not sequence.masks(7)[2].any()
    clip.masks[0] = 0
    with pytest.raises(RDSInputError, match="clip cow: no object in its first frame"):
        write_dataset(tmp_path / "none", [clip], layout="davis2017")


def test_void_is_background(tmp_path):
    write_dataset(tmp_path / "set", [make_clip()], layout="davis2017")
    labels = make_clip().masks[0]
    labels[0, :5] = 255
    save_palette_png(tmp_path / "set/Annotations/480p/cow/00000.png", labels)
    (sequence,) = read_dataset(tmp_path / "set", layout="davis2017")
    assert sequence.obj_ids == (1, 2)


@pytest.mark.parametrize("layout", ["davis2017", "ytvos"])
def test_white_is_the_object_of_a_black_and_white_set(tmp_path, layout):
    """As in DAVIS 2016; 255 beside other labels is void all the same."""
    clip = make_clip(late=T)
    write_dataset(tmp_path / "set", [clip], layout=layout)
    masks = tmp_path / "set" / MASKS[layout] / "cow"
    for path in masks.glob("*.png"):
        Image.fromarray(255 * clip.masks[int(path.stem)]).save(path)
    (sequence,) = read_dataset(tmp_path / "set", layout=layout)
    assert sequence.obj_ids == (1,) and sequence.black_white
    assert np.array_equal(sequence.prompt(1), clip.masks[0] == 1)
    assert np.array_equal(sequence.masks(5)[1], clip.masks[5] == 1)


def test_seen_categories(tmp_path):
    write_dataset(tmp_path / "all", [make_clip()], layout="ytvos")
    assert json.loads((tmp_path / "all/valid/seen_categories.json").read_text()) == ["blob", "spider"]
    write_dataset(tmp_path / "one", [make_clip()], layout="ytvos", seen_categories=["blob"])
    assert json.loads((tmp_path / "one/valid/seen_categories.json").read_text()) == ["blob"]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_set_grows_and_splits_share_a_root(tmp_path, layout):
    root = tmp_path / "set"
    write_dataset(root, [make_clip("a")], layout=layout)
    before = tree(root)
    write_dataset(root, [make_clip("b")], layout=layout)
    write_dataset(root, [make_clip("c")], layout=layout, split="train")
    assert [s.name for s in read_dataset(root, layout=layout)] == ["a", "b"]
    assert [s.name for s in read_dataset(root, layout=layout, split="train")] == ["c"]
    changed = {path for path, content in before.items() if tree(root)[path] != content}
    assert changed == {INDEX[layout]}
    assert not [p for p in root.rglob(".tmp-*")]
    with pytest.raises(RDSInputError, match="already there"):
        write_dataset(root, [make_clip("d"), make_clip("a")], layout=layout)
    assert [s.name for s in read_dataset(root, layout=layout)] == ["a", "b"]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("grows", [False, True])
def test_an_interrupted_write_leaves_the_set_as_it_was(tmp_path, layout, grows):
    root = tmp_path / "set"
    if grows:
        write_dataset(root, [make_clip("a")], layout=layout)
    before = tree(tmp_path)

    def clips():
        yield make_clip("b")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_dataset(root, clips(), layout=layout)
    assert tree(tmp_path) == before and root.exists() == grows


def test_a_set_being_written_is_not_seen(tmp_path, monkeypatch):
    """Killed after the last clip and before the list: nothing under the root's name."""
    monkeypatch.setattr(dataset_writers, "_write_index", lambda *_: os.listdir(tmp_path / "set"))
    with pytest.raises(FileNotFoundError):
        write_dataset(tmp_path / "set", [make_clip()], layout="davis2017")


@pytest.mark.parametrize("name", ["../out", "a/b", ".hidden", "", ".."])
def test_names_that_lead_elsewhere_are_refused(tmp_path, name):
    with pytest.raises(RDSInputError, match="plain name"):
        write_dataset(tmp_path / "set", [make_clip(name)], layout="davis2017")
    write_dataset(tmp_path / "set", [make_clip()], layout="davis2017")
    with pytest.raises(RDSInputError, match="split"):
        read_dataset(tmp_path / "set", layout="davis2017", split=name)
    if name:
        (tmp_path / "set" / INDEX["davis2017"]).write_text(f"cow\n{name}\n")
        with pytest.raises(RDSInputError, match=r"val\.txt.*plain name"):
            read_dataset(tmp_path / "set", layout="davis2017")


def test_clips_that_cannot_be_written_are_refused(tmp_path):
    empty, wrong = make_clip("empty"), make_clip("wrong")
    empty.masks[:] = 0
    wrong.masks = wrong.masks[:-1]
    for clips, message in (([empty], "annotated frames"), ([wrong], r"expected \(T, H, W, 3\)"), ([], "no clips")):
        with pytest.raises(RDSInputError, match=message):
            write_dataset(tmp_path / "set", clips, layout="sav")
    with pytest.raises(RDSInputError, match="layout 'davis' is unknown; choose one of davis2017, sav, ytvos"):
        write_dataset(tmp_path / "set", [make_clip()], layout="davis")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_missing_parts_are_listed(tmp_path, layout):
    root = tmp_path / "set"
    write_dataset(root, [make_clip(name) for name in "abc"], layout=layout)
    (root / FRAMES[layout] / "a" / "00000.jpg").unlink()
    with pytest.raises(RDSInputError, match="no frame for the annotations 00000"):
        read_dataset(root, layout=layout)
    shutil.rmtree(root / FRAMES[layout] / "a")
    shutil.rmtree(root / MASKS[layout] / "c")
    with pytest.raises(RDSInputError, match="2 of its 3 sequences .*: a, c"):
        read_dataset(root, layout=layout)
    (root / INDEX[layout]).unlink()
    with pytest.raises(RDSInputError, match="missing; it lists the sequences"):
        read_dataset(root, layout=layout)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_annotations_that_are_no_label_maps_are_refused(tmp_path, layout):
    write_dataset(tmp_path / "set", [make_clip()], layout=layout)
    path = sorted((tmp_path / "set" / MASKS[layout] / "cow").rglob("*.png"))[0]
    for mode, form, message in (("L", "JPEG", "coded as JPEG"), ("RGB", "PNG", "mode 'RGB'")):
        Image.new(mode, (W, H), "red").save(path, format=form)
        with pytest.raises(RDSInputError, match=f"{path.name}: .*{message}"):
            read_dataset(tmp_path / "set", layout=layout)


def test_an_annotation_of_another_size_is_named(tmp_path):
    write_dataset(tmp_path / "set", [make_clip()], layout="davis2017")
    save_palette_png(tmp_path / "set/Annotations/480p/cow/00004.png", np.ones((H, W + 1), np.uint8))
    (sequence,) = read_dataset(tmp_path / "set", layout="davis2017")
    with pytest.raises(RDSInputError, match=r"00004\.png: 45x32 px, but the first frame of cow has 44x32"):
        sequence.masks(4)


def test_stray_files_are_passed_over(tmp_path):
    for layout in LAYOUTS:
        root = tmp_path / layout
        write_dataset(root, [make_clip()], layout=layout)
        for folder in (root / MASKS[layout] / "cow", root / FRAMES[layout] / "cow"):
            for name in (".DS_Store", "._00000.png", "Thumbs.db"):
                (folder / name).write_bytes(b"stray")
        (sequence,) = read_dataset(root, layout=layout)
        assert len(sequence) == T


ENCODINGS = ["utf-8", "utf-8-sig", "utf-16"]  # Windows' Notepad has written all of them


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lists_of_other_systems_are_read(tmp_path, layout, encoding, end):
    write_dataset(tmp_path / "set", [make_clip("kuh_ü"), make_clip("cow")], layout=layout)
    index = tmp_path / "set" / INDEX[layout]
    for path in index.parent.glob("*.*"):
        path.write_bytes(path.read_text(encoding="utf-8").replace("\n", end).encode(encoding))
    assert [sequence.name for sequence in read_dataset(tmp_path / "set", layout=layout)] == ["kuh_ü", "cow"]
    write_dataset(tmp_path / "set", [make_clip("more")], layout=layout)
    assert len(read_dataset(tmp_path / "set", layout=layout)) == 3
    index.write_bytes("kuh_ü\n".encode("latin-1"))
    with pytest.raises(RDSInputError, match=f"{index.name}: cannot be read"):
        read_dataset(tmp_path / "set", layout=layout)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_split_that_is_not_there_is_said_with_those_that_are(tmp_path, layout):
    for split in ("test", "train"):
        write_dataset(tmp_path / "set", [make_clip(split)], layout=layout, split=split)
    with pytest.raises(RDSInputError, match="set: no split 'val' here; there is: test, train"):
        read_dataset(tmp_path / "set", layout=layout)
    assert [sequence.name for sequence in read_dataset(tmp_path / "set", layout=layout, split="test")] == ["test"]
    write_dataset(tmp_path / "set", [make_clip()], layout=layout)
    assert [sequence.name for sequence in read_dataset(tmp_path / "set", layout=layout)] == ["cow"]
    with pytest.raises(RDSInputError, match="no split 'testdev' here; there is: test, train, val"):
        read_dataset(tmp_path / "set", layout=layout, split="testdev")


def test_a_name_as_long_as_a_file_system_takes_is_written_and_read(tmp_path):
    name = 245 * "n"
    write_dataset(tmp_path / "set", [make_clip(name)], layout="davis2017")
    (sequence,) = read_dataset(tmp_path / "set", layout="davis2017")
    folder = write_masks(tmp_path / "out", sequence, {0: sequence.masks(0)})
    assert folder.name == name and len(os.listdir(folder)) == 1


def test_questions_about_what_is_not_there_are_answered_with_an_error(tmp_path):
    write_dataset(tmp_path / "set", [make_clip()], layout="sav")
    (sequence,) = read_dataset(tmp_path / "set", layout="sav")
    with pytest.raises(RDSInputError, match="cow: frame 1 has no annotation; annotated are 0, 4, 8"):
        sequence.masks(1)
    with pytest.raises(RDSInputError, match="cow: no object 7; it has 0, 1"):
        sequence.prompt(7)


def test_meta_and_annotations_must_agree(tmp_path):
    write_dataset(tmp_path / "set", [make_clip()], layout="ytvos")
    meta = tmp_path / "set/valid/meta.json"
    meta.write_text('{"videos": {"cow": {"objects": {"1": {}, "9": {}}}}}')
    with pytest.raises(RDSInputError, match="no annotation shows object 9"):
        read_dataset(tmp_path / "set", layout="ytvos")
    for text in ("{", '{"videos": {"cow": []}}', '{"videos": []}'):
        meta.write_text(text)
        with pytest.raises(RDSInputError, match="meta.json"):
            read_dataset(tmp_path / "set", layout="ytvos")
    meta.write_text('{"videos": {"cow": {"objects": {"2": {}}}}}')
    assert read_dataset(tmp_path / "set", layout="ytvos")[0].obj_ids == (2,)


def test_describe_has_a_row_per_sequence(tmp_path):
    write_dataset(tmp_path / "set", [make_clip("a"), make_clip("b")], layout="ytvos")
    table = describe(read_dataset(tmp_path / "set", layout="ytvos"))
    assert table.to_dict("records")[1] == dict(name="b", frames=T, annotated=3, objects=2, size="44x32", layout="ytvos")


def test_every_object_has_a_label_of_its_own_in_a_label_map(tmp_path):
    """SA-V's first object is 0, the label map's background."""
    write_dataset(tmp_path / "set", [make_clip()], layout="sav")
    (sequence,) = read_dataset(tmp_path / "set", layout="sav")
    assert np.array_equal(label_map(sequence, 4), make_clip().masks[4])
    assert label_numbers([3, 254]) == {3: 3, 254: 254} and label_numbers([900, 2]) == {2: 1, 900: 2}
    with pytest.raises(RDSInputError, match="255 objects; a label map holds at most 254"):
        label_numbers(range(255))


# --- predictions ---


def _sequence(tmp_path, layout):
    write_dataset(tmp_path / "set", [make_clip()], layout=layout)
    return read_dataset(tmp_path / "set", layout=layout)[0]


@pytest.mark.parametrize("layout", ["davis2017", "ytvos"])
def test_predictions_are_palette_pngs(tmp_path, layout):
    sequence = _sequence(tmp_path, layout)
    labels = make_clip().masks
    folder = write_masks(tmp_path / "out", sequence, {0: labels[0], 5: labels[5]})
    assert folder == tmp_path / "out/cow" and sorted(os.listdir(folder)) == ["00000.png", "00005.png"]
    with Image.open(folder / "00005.png") as image:
        assert image.mode == "P" and image.getpalette()[3:6] == [128, 0, 0]
        assert np.array_equal(np.array(image), labels[5])


def test_the_lower_id_wins_an_overlap(tmp_path):
    whole, part = np.ones((H, W), bool), make_clip().masks[0] == 2
    folder = write_masks(tmp_path / "out", _sequence(tmp_path, "davis2017"), {0: {2: whole, 1: part}})
    assert np.array_equal(np.array(Image.open(folder / "00000.png")), np.where(part, 1, 2))


def test_sav_predictions_keep_overlaps(tmp_path):
    sequence = _sequence(tmp_path, "sav")
    masks = {0: np.ones((H, W), bool), 1: make_clip().masks[4] == 2}
    folder = write_masks(tmp_path / "out", sequence, {4: masks})
    for obj, mask in masks.items():
        assert np.array_equal(np.array(Image.open(folder / f"{obj:03d}" / "00004.png")), mask)
    with pytest.raises(RDSInputError, match="one mask per object"):
        write_masks(tmp_path / "out", sequence, {4: make_clip().masks[4]})


def test_predictions_replace_older_ones_as_a_whole(tmp_path):
    sequence, labels = _sequence(tmp_path, "davis2017"), make_clip().masks
    write_masks(tmp_path / "out", sequence, dict(enumerate(labels)))
    with pytest.raises(RDSInputError, match=r"mask of frame 1 is \(3, 3\)"):
        write_masks(tmp_path / "out", sequence, {0: labels[0], 1: np.zeros((3, 3), np.uint8)})
    assert len(os.listdir(tmp_path / "out/cow")) == T
    write_masks(tmp_path / "out", sequence, {2: labels[2]})
    assert os.listdir(tmp_path / "out") == ["cow"] and os.listdir(tmp_path / "out/cow") == ["00002.png"]


@pytest.mark.parametrize(
    ("t", "content", "message"),
    [
        (T, np.zeros((H, W), np.uint8), "frames 0 to 10"),
        (-1, np.zeros((H, W), np.uint8), "frames 0 to 10"),
        (0, np.zeros((H, W), np.float32), "float32"),
        (0, {1: np.zeros((H, W), np.uint8)}, "bool for one object"),
        (0, {0: np.zeros((H, W), bool)}, "from 1 to 254"),
    ],
)
def test_predictions_that_do_not_fit_are_refused(tmp_path, t, content, message):
    with pytest.raises(RDSInputError, match=message):
        write_masks(tmp_path / "out", _sequence(tmp_path, "davis2017"), {t: content})
    assert not os.listdir(tmp_path / "out")


def test_the_palette_is_that_of_davis():
    palette = davis_palette()
    assert palette.shape == (256, 3) and palette.dtype == np.uint8
    known = {
        0: (0, 0, 0),
        1: (128, 0, 0),
        2: (0, 128, 0),
        3: (128, 128, 0),
        4: (0, 0, 128),
        8: (64, 0, 0),
        20: (0, 64, 128),
    }
    known |= {22: (0, 192, 128), 64: (32, 0, 0), 255: (224, 224, 192)}
    assert {i: tuple(palette[i].tolist()) for i in known} == known
