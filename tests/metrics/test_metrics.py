"""J, F and the three protocols: equal to the official DAVIS evaluation, known answers, and refused input."""

import json
import os
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from rds_lib.core.errors import RDSInputError
from rds_lib.data.images import write_palette_png
from rds_lib.metrics.masks import contour_accuracy, region_similarity, score_frames, score_masks

H, W = 40, 60
STATISTICS = ("J_recall", "J_decay", "F_recall", "F_decay")


def box(top, left, height, width, shape=(H, W)):
    mask = np.zeros(shape, bool)
    mask[top : top + height, left : left + width] = True
    return mask


def save(path, labels):
    path.parent.mkdir(parents=True, exist_ok=True)
    write_palette_png(path, np.asarray(labels, np.uint8))


def write(root, sequence, label_maps):
    for t, labels in enumerate(label_maps):
        save(root / sequence / f"{t:05d}.png", labels)


def two_objects(shift=0):
    return box(5, 5 + shift, 10, 10) * 1 + box(22, 30 + shift, 12, 15) * 2


@pytest.fixture
def davis(tmp_path):
    """Folders gt and pred: ``a`` of six frames and two objects, ``b`` of five frames and one."""
    for name, shift in (("gt", 0), ("pred", 2)):
        write(tmp_path / name, "a", [two_objects(t + shift) for t in range(6)])
        write(tmp_path / name, "b", [box(8, 8 + t + shift, 15, 20) for t in range(5)])
    return tmp_path / "gt", tmp_path / "pred"


# --- parity with davis2017-evaluation ---


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """Made-up masks with what davis2017-evaluation ac7c43f says of each object and frame."""
    folder = tmp_path_factory.mktemp("reference")
    shutil.unpack_archive(Path(__file__).with_name("reference.zip"), folder)
    return folder / "metrics-reference"


def test_every_object_and_frame_equals_the_official_evaluation(reference):
    official = json.loads((reference / "official.json").read_text())
    table = score_masks(reference, reference / "predictions")
    frames = score_frames(reference, reference / "predictions").set_index(["sequence", "object"])
    assert len(table) == len(official["objects"])
    for row in table.itertuples():
        expected = official["objects"][f"{row.sequence}_{row.object}"]
        assert (row.J, row.F) == (expected["J_mean"], expected["F_mean"])
        assert [getattr(row, name) for name in STATISTICS] == [expected[name] for name in STATISTICS]
        values = frames.loc[[(row.sequence, row.object)]]
        assert values["J"].tolist() == expected["J"] and values["F"].tolist() == expected["F"]
        assert row.frames == len(expected["J"])


def test_summary_equals_the_official_global_numbers(reference):
    expected = json.loads((reference / "official.json").read_text())["global"]
    summary = score_masks(reference, reference / "predictions").attrs["summary"]
    assert [summary[name] for name in ("JF", "J", "F")] == [expected[f"{name}_mean"] for name in ("JF", "J", "F")]
    assert [summary[name] for name in STATISTICS] == [expected[name] for name in STATISTICS]
    assert summary["protocol"] == "davis2017" and summary["split"] == "val"


def test_crop_changes_nothing():
    """Against seg2bmap and dilation of the whole image, on random blobs that touch every border."""
    rng = np.random.default_rng(3)
    for _ in range(60):
        pred, gt = (cv2.GaussianBlur(rng.normal(size=(H, W)), (0, 0), 4) > rng.uniform(-0.05, 0.12) for _ in range(2))
        assert contour_accuracy(pred, gt, radius=2) == whole_image_f(pred, gt, radius=2)


def whole_image_f(pred, gt, radius):
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    disk = (x**2 + y**2 <= radius**2).astype(np.uint8)
    edges = []
    for mask in (pred, gt):
        padded = np.pad(mask, ((0, 1), (0, 1)), mode="edge")
        edge = (mask ^ padded[:-1, 1:]) | (mask ^ padded[1:, :-1]) | (mask ^ padded[1:, 1:])
        edge[-1], edge[:, -1] = mask[-1] ^ padded[-2, 1:], mask[:, -1] ^ padded[1:, -2]
        edges.append(edge.astype(np.uint8))
    if not edges[0].any() or not edges[1].any():
        return float(edges[0].any() == edges[1].any())
    precision = (edges[0] & cv2.dilate(edges[1], disk)).sum() / edges[0].sum()
    recall = (edges[1] & cv2.dilate(edges[0], disk)).sum() / edges[1].sum()
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


# --- known answers of J and F ---


def test_empty_masks():
    empty, full = np.zeros((H, W), bool), box(5, 5, 9, 9)
    for pred, gt, expected in ((empty, empty, 1), (full, empty, 0), (empty, full, 0), (full, full, 1)):
        assert region_similarity(pred, gt) == contour_accuracy(pred, gt) == expected


def test_f_tolerates_eight_pixels_at_480p():
    gt = box(140, 200, 200, 300, (480, 854))
    assert contour_accuracy(np.roll(gt, 8, 1), gt) == 1.0
    assert contour_accuracy(np.roll(gt, 9, 1), gt) == pytest.approx(0.616, abs=5e-4)


def test_image_border_has_no_boundary():
    """A square in the corner keeps only its two inner sides; the full frame has no boundary at all."""
    full = np.ones((H, W), bool)
    assert contour_accuracy(full, full) == 1.0
    assert contour_accuracy(full, box(0, 0, 20, 20)) == 0.0
    corner, moved = box(0, 0, 20, 20), box(0, 0, 21, 21)  # boundaries of 39 and 41 px
    assert contour_accuracy(corner, moved, radius=0) == 0.0
    assert contour_accuracy(corner, moved, radius=1) == 2 * (40 / 41) / (1 + 40 / 41)


def test_one_pixel_objects():
    assert region_similarity(box(9, 9, 1, 1), box(9, 10, 1, 1)) == 0.0
    assert contour_accuracy(box(9, 9, 1, 1), box(9, 10, 1, 1), radius=0) == 0.5
    assert contour_accuracy(box(9, 9, 1, 1), box(9, 10, 1, 1), radius=1) == 1.0


def test_masks_may_be_bool_or_any_integers():
    pred, gt = box(5, 5, 9, 9), box(6, 7, 9, 9)
    expected = region_similarity(pred, gt), contour_accuracy(pred, gt)
    for a, b in ((pred * np.uint8(1), gt * np.uint8(2)), (pred.astype(np.int64), gt)):
        assert (region_similarity(a, b), contour_accuracy(a, b)) == expected


def test_logits_are_no_masks():
    gt = box(6, 7, 9, 9)
    assert region_similarity(gt * 1.0, gt) == 1
    for measure in (region_similarity, contour_accuracy):
        for soft in (np.where(gt, 8.0, -8.0), 0.3 * gt, np.where(gt, 1, np.nan)):
            with pytest.raises(RDSInputError, match="mask holds"):
                measure(soft, gt)


def test_masks_of_two_sizes_are_refused():
    for measure in (region_similarity, contour_accuracy):
        with pytest.raises(RDSInputError, match=r"\(40, 60\) and \(40, 59\)"):
            measure(box(0, 0, 2, 2), box(0, 0, 2, 2, (H, W - 1)))


# --- DAVIS 2017 ---


def test_first_and_last_frame_do_not_count(davis):
    gt, pred = davis
    before = score_masks(gt, pred)
    for frame in ("00000.png", "00005.png"):
        save(pred / "a" / frame, np.zeros((H, W)))
    assert score_masks(gt, pred).equals(before)
    assert before["frames"].tolist() == [4, 4, 3]


def test_mean_is_over_objects_and_not_sequences(davis):
    table = score_masks(*davis)
    summary = table.attrs["summary"]
    assert summary["J"] == pytest.approx(table["J"].sum() / 3)
    assert summary["J"] != pytest.approx(table.groupby("sequence")["J"].mean().mean(), abs=1e-3)
    assert summary["JF"] == (summary["J"] + summary["F"]) / 2
    assert (summary["objects"], summary["sequences"]) == (3, 2)


def test_order_of_sequences_changes_no_row(davis):
    one, other = score_masks(*davis, sequences=["a", "b"]), score_masks(*davis, sequences=["b", "a"])
    assert other["sequence"].tolist() == ["b", "a", "a"]
    assert other.sort_values(["sequence", "object"], ignore_index=True).equals(one)


def test_split_list_says_what_is_scored(davis, tmp_path):
    gt, pred = davis
    (tmp_path / "root" / "ImageSets" / "2017").mkdir(parents=True)
    (tmp_path / "root" / "ImageSets" / "2017" / "train.txt").write_text("b\n")
    shutil.copytree(gt, tmp_path / "root" / "Annotations" / "Full-Resolution")
    table = score_masks(tmp_path / "root", pred, split="train")
    assert table["sequence"].tolist() == ["b"] and table.attrs["summary"]["split"] == "train"
    with pytest.raises(RDSInputError, match="no split 'val' here; there is: train"):
        score_masks(tmp_path / "root", pred)
    table = score_masks(tmp_path / "root", pred, sequences=["a"])
    assert set(table["sequence"]) == {"a"} and table.attrs["summary"]["split"] == "named sequences"


def test_annotations_may_have_any_one_resolution_or_none(davis, tmp_path):
    gt, pred = davis
    before, root = score_masks(gt, pred), tmp_path / "root"
    shutil.copytree(gt, root / "Annotations")
    assert score_masks(root, pred).equals(before)
    for name in ("1080p", "Full-Resolution"):
        shutil.copytree(gt, tmp_path / "two" / "Annotations" / name)
    with pytest.raises(RDSInputError, match="found 1080p, Full-Resolution"):
        score_masks(tmp_path / "two", pred)


def test_frames_are_in_the_order_of_their_numbers(davis):
    """Without padding, 10.png sorts before 2.png as text, and is not the last frame by it."""
    for root in davis:
        for t in range(11):
            save(root / "c" / f"{t}.png", box(8, 8, 15, 20))
    assert score_frames(*davis, sequences=["c"])["frame"].tolist() == [str(t) for t in range(1, 10)]


def test_object_that_leaves_counts_as_right_where_both_are_empty(davis):
    gt, pred = davis
    for t in (1, 2):
        save(gt / "b" / f"{t:05d}.png", np.zeros((H, W)))
    save(pred / "b" / "00001.png", np.zeros((H, W)))
    values = score_frames(gt, pred, sequences=["b"])
    assert values["frame"].tolist() == ["00001", "00002", "00003"]
    assert values["J"].tolist()[:2] == [1, 0] and values["F"].tolist()[:2] == [1, 0]


def test_gap_in_the_ids_counts_as_an_object(davis):
    """As the official tool: objects are 1 to the largest id of the first frame."""
    gt, pred = davis
    for root in davis:
        for t in range(5):
            save(root / "b" / f"{t:05d}.png", box(8, 8, 15, 20) * 3)
    table = score_masks(gt, pred, sequences=["b"])
    assert table["object"].tolist() == [1, 2, 3] and table["J"].tolist() == [1, 1, 1]


def test_void_in_the_ground_truth_is_background(davis):
    gt, pred = davis
    first = two_objects()
    first[0, 0] = 255
    save(gt / "a" / "00000.png", first)
    inside = two_objects(1)
    inside[inside == 2] = 255
    save(gt / "a" / "00001.png", inside)
    table = score_frames(gt, pred, sequences=["a"])
    assert sorted(set(table["object"])) == [1, 2]
    assert table.query("object == 2")["J"].iloc[0] == 0


def test_decay_beyond_256_frames(tmp_path):
    """Right until the last quarter of 400 scored frames, where a uint8 index would wrap around."""
    good, wrong = box(2, 2, 4, 4, (8, 12)), box(2, 7, 4, 4, (8, 12))
    write(tmp_path / "gt", "a", [good] * 402)
    write(tmp_path / "pred", "a", [good] * 301 + [wrong] * 101)
    row = score_masks(tmp_path / "gt", tmp_path / "pred").iloc[0]
    assert row["J_decay"] == pytest.approx(1, abs=0.02) and row["J_recall"] == 0.75


@pytest.mark.parametrize("length", [1, 2])
def test_clip_without_scored_frames_is_left_out_with_a_warning(davis, length):
    gt, pred = davis
    expected = score_masks(gt, pred).attrs["summary"]["J"]
    write(gt, "short", [box(8, 8, 15, 20)] * length)
    (pred / "short").mkdir()
    with pytest.warns(UserWarning, match="'short' has no scored frame"):
        table = score_masks(gt, pred)
    assert np.isnan(table["JF"].iloc[-1]) and table["frames"].iloc[-1] == 0
    assert table.attrs["summary"]["J"] == expected and table.attrs["summary"]["objects"] == 3


def test_stray_files_are_passed_over(davis):
    gt, pred = davis
    before = score_masks(gt, pred)
    for root in davis:
        for name in (".DS_Store", "a/.DS_Store", "a/._00001.png", "a/Thumbs.db"):
            (root / name).write_bytes(b"stray")
        (root / ".cache").mkdir()
    assert score_masks(gt, pred).equals(before)


# --- refused predictions ---


def rgb(path):
    Image.open(path).convert("RGB").save(path)


def jpeg(path):
    Image.open(path).convert("L").save(path, format="JPEG")


BROKEN = {
    "frame missing": (os.remove, "00002.png is missing"),
    "sequence missing": (lambda path: shutil.rmtree(path.parent), "sequence 'a' has no predictions"),
    "grey 0/255": (
        lambda path: Image.fromarray(box(5, 5, 9, 9) * np.uint8(255)).save(path),
        "holds label 255 .*0 to 2",
    ),
    "RGB": (rgb, "RGB"),
    "JPEG": (jpeg, "JPEG"),
    "other size": (lambda path: save(path, np.zeros((H // 2, W // 2))), "30x20 px.*60x40 px"),
    "label of no object": (lambda path: save(path, two_objects() + box(0, 0, 2, 2) * 3), "holds label 3.*0 to 2"),
    "empty file": (lambda path: path.write_bytes(b""), "0 bytes"),
    "truncated": (lambda path: path.write_bytes(path.read_bytes()[:-40]), "damaged"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_prediction_is_refused_by_name(davis, case):
    damage, message = BROKEN[case]
    damage(davis[1] / "a" / "00002.png")
    with pytest.raises(RDSInputError, match=message) as error:
        score_masks(*davis)
    assert str(davis[1] / "a") in str(error.value)


def test_broken_arguments_are_refused(davis, tmp_path):
    cases = (
        ({"protocol": "davis2016"}, "'davis2016' is unknown"),
        ({"sequences": ["a", "zebra"]}, "'zebra' has no ground-truth folder"),
        ({"sequences": []}, "no sequences"),
    )
    for arguments, message in cases:
        with pytest.raises(RDSInputError, match=message):
            score_masks(*davis, **arguments)
    with pytest.raises(RDSInputError, match="pred_root .*nowhere is not a folder"):
        score_masks(davis[0], tmp_path / "nowhere")


def test_first_frame_without_objects_is_refused(davis):
    save(davis[0] / "b" / "00000.png", box(8, 8, 15, 20) * 255)
    with pytest.raises(RDSInputError, match="00000.png shows no object"):
        score_masks(*davis)


def test_opencv_keeps_its_threads(davis):
    before = cv2.getNumThreads()
    score_masks(*davis)
    assert cv2.getNumThreads() == before
