"""SA-V and the local YouTube-VOS proxy: which frames and objects count, and in which group."""

import json

import numpy as np
import pytest

from rds_lib.core.errors import RDSInputError
from rds_lib.data.images import write_palette_png
from rds_lib.metrics.masks import score_frames, score_masks

H, W = 40, 60
CAT, DOG, NOTHING = (np.zeros((H, W), np.uint8) for _ in range(3))
CAT[5:15, 5:20] = 1
DOG[22:34, 30:45] = 1


def write(folder, masks, stride):
    folder.mkdir(parents=True)
    for t, mask in enumerate(masks):
        write_palette_png(folder / f"{t * stride:05d}.png", mask)


def frame_scores(table, object):
    return dict(table[table["object"] == object][["frame", "J"]].itertuples(index=False))


# --- SA-V: one folder per object, every fourth frame annotated ---


@pytest.fixture
def sav(tmp_path):
    """Video ``v``: object 000 always there, 001 (overlapping it) from the fourth annotation on."""
    gt, pred = tmp_path / "gt", tmp_path / "pred"
    write(gt / "v" / "000", [CAT] * 6, 4)
    write(gt / "v" / "001", [NOTHING] * 3 + [CAT] * 3, 4)
    write(pred / "v" / "000", [CAT * 255] * 24, 1)
    write(pred / "v" / "001", [NOTHING] * 8 + [DOG] * 16, 1)
    return gt, pred


def test_sav_scores_annotated_frames_without_first_and_last(sav):
    scores = frame_scores(score_frames(*sav, protocol="sav"), "000")
    assert scores == {"00004": 1, "00008": 1, "00012": 1, "00016": 1}


def test_sav_counts_an_object_from_its_first_sight(sav):
    """In prediction (frame 8) or ground truth (frame 12); the empty frame 4 before it does not count."""
    assert frame_scores(score_frames(*sav, protocol="sav"), "001") == {"00008": 0, "00012": 0, "00016": 0}


def test_sav_counts_a_late_prediction_from_the_ground_truths_first_sight(sav):
    gt, pred = sav
    write(gt / "w" / "000", [NOTHING] * 2 + [DOG] * 4, 4)
    write(pred / "w" / "000", [NOTHING] * 12 + [DOG] * 12, 1)
    scores = frame_scores(score_frames(gt, pred, protocol="sav", sequences=["w"]), "000")
    assert scores == {"00008": 0, "00012": 1, "00016": 1}


def test_sav_object_never_in_the_ground_truth_counts_everywhere(sav):
    gt, pred = sav
    write(gt / "w" / "000", [NOTHING] * 6, 4)
    write(pred / "w" / "000", [NOTHING] * 8 + [DOG] * 16, 1)
    scores = frame_scores(score_frames(gt, pred, protocol="sav", sequences=["w"]), "000")
    assert scores == {"00004": 1, "00008": 0, "00012": 0, "00016": 0}


def test_sav_summary_is_the_mean_over_objects(sav):
    table = score_masks(*sav, protocol="sav")
    assert table["object"].tolist() == ["000", "001"] and table["frames"].tolist() == [4, 3]
    assert table.attrs["summary"]["JF"] == 0.5


@pytest.mark.parametrize("folder", ["Annotations_6fps", "sav_test/Annotations_6fps"])
def test_sav_root_may_be_the_data_set(sav, tmp_path, folder):
    root = tmp_path / "root"
    (root / folder).parent.mkdir(parents=True)
    sav[0].rename(root / folder)
    (root / folder).with_name("sav_test.txt").write_text("v\n")
    summary = score_masks(root, sav[1], protocol="sav", split="test").attrs["summary"]
    assert summary["split"] == "test" and summary["objects"] == 2


def test_sav_file_with_two_objects_is_refused(sav):
    write_palette_png(sav[1] / "v" / "000" / "00008.png", CAT + 2 * DOG)
    with pytest.raises(RDSInputError, match="00008.png holds more than one label"):
        score_masks(*sav, protocol="sav")


def test_sav_missing_object_folder_is_refused(sav):
    (sav[1] / "v" / "001").rename(sav[1] / "v" / "elsewhere")
    with pytest.raises(RDSInputError, match="sequence 'v' has no predictions: .*001"):
        score_masks(*sav, protocol="sav")


def test_sav_without_object_folders_is_refused(sav):
    write(sav[0] / "flat", [CAT] * 6, 4)
    with pytest.raises(RDSInputError, match="flat has no object folders"):
        score_masks(*sav, protocol="sav")


# --- YouTube-VOS proxy: every fifth frame, objects from meta.json ---


def describe(**objects):
    """``meta.json`` of one video ``v``; objects as ``cat_1=["00000", ...]``."""
    entries = {key.split("_")[1]: {"category": key.split("_")[0], "frames": frames} for key, frames in objects.items()}
    return {"videos": {"v": {"objects": entries}}}


@pytest.fixture
def ytvos(tmp_path):
    """Cat 2 from frame 0, dog 7 from frame 10 and tracked half as well; nothing is seen yet of ids between them."""
    gt, pred = tmp_path / "gt", tmp_path / "pred"
    half = DOG.copy()
    half[28:] = 0
    write(gt / "Annotations" / "v", [2 * CAT] * 2 + [2 * CAT + 7 * DOG] * 3, 5)
    write(pred / "v", [2 * CAT] * 10 + [2 * CAT + 7 * half] * 11, 1)
    stems = ["00000", "00005", "00010", "00015", "00020"]
    (gt / "meta.json").write_text(json.dumps(describe(cat_2=stems, dog_7=stems[2:])))
    (gt / "seen_categories.json").write_text('["cat"]')
    return gt, pred


def test_ytvos_leaves_out_each_objects_own_prompt_frame(ytvos):
    table = score_frames(*ytvos, protocol="ytvos")
    assert frame_scores(table, 2) == dict.fromkeys(["00005", "00010", "00015", "00020"], 1)
    assert frame_scores(table, 7) == dict.fromkeys(["00015", "00020"], 0.5)


def test_ytvos_g_is_the_mean_of_four_numbers(ytvos):
    table = score_masks(*ytvos, protocol="ytvos")
    summary = table.attrs["summary"]
    assert table[["object", "seen", "frames"]].values.tolist() == [[2, True, 4], [7, False, 2]]
    assert table["J_recall"].tolist() == [1, 0]  # the share of frames above, not at, 0.5
    four = [summary[name] for name in ("J_seen", "F_seen", "J_unseen", "F_unseen")]
    assert four[:3] == [1, 1, 0.5] and 0 < four[3] < 1
    assert summary["G"] == pytest.approx(sum(four) / 4) and summary["seen_split"] == "seen_categories.json"


def test_ytvos_without_categories_counts_all_as_seen_and_says_so(ytvos):
    (ytvos[0] / "seen_categories.json").unlink()
    summary = score_masks(*ytvos, protocol="ytvos").attrs["summary"]
    assert summary["seen_split"].startswith("missing") and summary["J_seen"] == 0.75
    assert np.isnan(summary["J_unseen"]) and summary["G"] == (summary["J_seen"] + summary["F_seen"]) / 2


def test_ytvos_objects_may_say_themselves_whether_they_are_seen(ytvos):
    meta = json.loads((ytvos[0] / "meta.json").read_text())
    meta["videos"]["v"]["objects"]["2"]["seen"] = False
    (ytvos[0] / "meta.json").write_text(json.dumps(meta))
    (ytvos[0] / "seen_categories.json").unlink()
    table = score_masks(*ytvos, protocol="ytvos")
    assert table["seen"].tolist() == [False, True] and table.attrs["summary"]["seen_split"] == "meta.json"


def test_ytvos_without_meta_takes_objects_from_the_annotations(ytvos):
    expected = score_frames(*ytvos, protocol="ytvos")
    (ytvos[0] / "meta.json").unlink()
    assert score_frames(*ytvos, protocol="ytvos").equals(expected)


def test_ytvos_without_meta_needs_an_object(ytvos):
    (ytvos[0] / "meta.json").unlink()
    write(ytvos[0] / "Annotations" / "w", [NOTHING] * 3, 5)
    with pytest.raises(RDSInputError, match="w shows no object in any frame"):
        score_masks(*ytvos, protocol="ytvos", sequences=["w"])


@pytest.mark.parametrize("content", ["[", '{"cat": true}'])
def test_ytvos_broken_category_list_is_refused(ytvos, content):
    (ytvos[0] / "seen_categories.json").write_text(content)
    with pytest.raises(RDSInputError, match="seen_categories.json"):
        score_masks(*ytvos, protocol="ytvos")


def test_ytvos_root_may_be_the_data_set(ytvos):
    gt, pred = ytvos
    expected = score_masks(gt, pred, protocol="ytvos")
    gt.rename(gt.with_name("valid"))
    assert score_masks(gt.parent, pred, protocol="ytvos").equals(expected)


@pytest.mark.parametrize(
    "meta, message",
    [
        ("{", "meta.json"),
        ('{"videos": {}}', "does not describe sequence 'v'"),
        ('{"videos": {"v": {"objects": {"1": {"category": "cat"}}}}}', "does not describe sequence 'v'"),
        (json.dumps(describe(cat_2=["00000", "00007"])), "00007.png is missing; meta.json lists it for object 2"),
    ],
)
def test_ytvos_broken_meta_is_refused(ytvos, meta, message):
    (ytvos[0] / "meta.json").write_text(meta)
    with pytest.raises(RDSInputError, match=message):
        score_masks(*ytvos, protocol="ytvos")


def test_ytvos_grey_prediction_is_refused(ytvos):
    write_palette_png(ytvos[1] / "v" / "00015.png", 255 * CAT)
    with pytest.raises(RDSInputError, match=r"00015.png holds label 255 \(a 0/255 grey mask\?\)"):
        score_masks(*ytvos, protocol="ytvos")


# --- names without leading zeros ---


@pytest.mark.parametrize("protocol", ["davis2017", "sav", "ytvos"])
def test_the_first_and_the_last_frame_are_those_in_time(tmp_path, protocol):
    """Text order would leave out frame_1 and frame_9 of twelve."""
    folder = "v/000" if protocol == "sav" else "v"
    for root in ("gt", "pred"):
        (tmp_path / root / folder).mkdir(parents=True)
        for t in range(1, 13):
            is_wrong = root == "pred" and t == (1 if protocol == "ytvos" else 12)
            write_palette_png(tmp_path / root / folder / f"frame_{t}.png", NOTHING if is_wrong else CAT)
    if protocol == "ytvos":
        frames = sorted(f"frame_{t}" for t in range(1, 13))
        (tmp_path / "gt" / "meta.json").write_text(json.dumps(describe(cat_1=frames)))
    table = score_frames(tmp_path / "gt", tmp_path / "pred", protocol=protocol)
    assert table["frame"].tolist() == [f"frame_{t}" for t in range(2, 13 if protocol == "ytvos" else 12)]
    assert (table["J"] == 1).all()


def test_the_prompt_is_the_first_frame_in_time_of_those_that_meta_lists(tmp_path):
    for root in ("gt", "pred"):
        (tmp_path / root / "v").mkdir(parents=True)
        for t in range(8, 13):
            write_palette_png(tmp_path / root / "v" / f"{t}.png", CAT)
    (tmp_path / "gt" / "meta.json").write_text(json.dumps(describe(cat_1=["10", "11", "12", "9"])))
    table = score_frames(tmp_path / "gt", tmp_path / "pred", protocol="ytvos")
    assert table["frame"].tolist() == ["10", "11", "12"]


# --- black and white, as DAVIS 2016 ---


@pytest.mark.parametrize("protocol", ["davis2017", "ytvos"])
@pytest.mark.parametrize("white", [1, 255])
def test_white_is_the_object_where_ground_truth_is_black_and_white(tmp_path, protocol, white):
    for root, value in (("gt", 255), ("pred", white)):
        write(tmp_path / root / "v", [value * CAT, value * CAT, NOTHING, value * CAT], 1)
    table = score_masks(tmp_path / "gt", tmp_path / "pred", protocol=protocol)
    assert table["object"].tolist() == [1] and table["JF"].tolist() == [1]
    write_palette_png(tmp_path / "pred" / "v" / "00001.png", NOTHING)
    assert score_masks(tmp_path / "gt", tmp_path / "pred", protocol=protocol)["J"][0] < 1
    write_palette_png(tmp_path / "pred" / "v" / "00001.png", 3 * CAT)
    with pytest.raises(RDSInputError, match="00001.png: label 3 in a mask of black and white"):
        score_masks(tmp_path / "gt", tmp_path / "pred", protocol=protocol)


def test_void_beside_objects_stays_void(tmp_path):
    for root in ("gt", "pred"):
        write(tmp_path / root / "v", [CAT + 2 * DOG, 255 * CAT * (root == "gt"), CAT], 1)
    assert score_masks(tmp_path / "gt", tmp_path / "pred")["J"].tolist() == [1, 1]


@pytest.mark.parametrize("frames", [7, ["00000", "../../secret"], ["00000", 5], "00000"])
def test_frames_of_meta_are_plain_names(ytvos, frames):
    (ytvos[0] / "meta.json").write_text(json.dumps(describe(cat_1=frames)))
    with pytest.raises(RDSInputError, match="meta.json"):
        score_masks(*ytvos, protocol="ytvos")


@pytest.mark.parametrize(("protocol", "folder"), [("sav", "sav_test/Annotations_6fps"), ("ytvos", "train/Annotations")])
def test_a_split_that_is_not_there_is_said(tmp_path, protocol, folder):
    (tmp_path / "gt" / folder).mkdir(parents=True)
    (tmp_path / "pred").mkdir()
    with pytest.raises(RDSInputError, match="gt: no split 'val' here; there is: (test|train)$"):
        score_masks(tmp_path / "gt", tmp_path / "pred", protocol=protocol)
