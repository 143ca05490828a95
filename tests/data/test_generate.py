"""The sets of a profile with wider and changing clips: what they add, and that they leave the others as they are."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from rds_lib.core.errors import RDSInputError
from rds_lib.data import textures
from rds_lib.data.clips import CATEGORIES
from rds_lib.data.datasets import read_dataset, write_dataset
from rds_lib.data.generate import PICTURES, Job, _drawn, generate_datasets
from rds_lib.data.output import MANIFEST
from rds_lib.data.shapes import UNSEEN
from rds_lib.data.sources import validation_sources
from rds_lib.pipeline.params import load_params

NARROW = {"train": 1, "calibration": 1, "val": 1, "sav": 1, "ytvos": 1, "frames": 6, "height": 32, "width": 48}
WIDER = {"wide": 3, "wide_ytvos": 6, "changing_train": 1, "changing_calibration": 1, "changing": 2}


def params_with(**clips):
    return load_params("smoke").with_section("clips", **NARROW | clips)


def files_of(root):
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def narrow(tmp_path_factory):
    out = tmp_path_factory.mktemp("narrow") / "clips"
    generate_datasets(params_with(), out)
    return out


@pytest.fixture(scope="module")
def wider(tmp_path_factory):
    out = tmp_path_factory.mktemp("wider") / "clips"
    generate_datasets(params_with(**WIDER), out)
    return out


def test_wider_sets_leave_the_clips_that_were_there_as_they_are(narrow, wider):
    lists = ("ImageSets", "meta.json", "seen_categories.json", MANIFEST)
    before, after = files_of(narrow), files_of(wider)
    clips = {name: content for name, content in before.items() if not any(part in name for part in lists)}
    assert len(clips) > 40 and {name: after.get(name) for name in clips} == clips
    assert PICTURES not in before and not any("conditions" in name for name in before)


def test_wider_sets_have_the_clips_that_the_profile_names(wider):
    sets = {name: ("davis2017", name, name) for name in ("train", "calibration")}
    sets |= {f"val/{name}": (layout, "val", f"val/{name}") for name, layout in
             {"davis2017": "davis2017", "sav": "sav", "ytvos": "ytvos", "changing": "davis2017"}.items()}  # fmt: skip
    found = {
        name: read_dataset(wider / folder, layout=layout, split=split) for name, (layout, split, folder) in sets.items()
    }
    numbers = {"train": 2, "calibration": 2, "val/davis2017": 4, "val/sav": 1, "val/ytvos": 7, "val/changing": 2}
    assert {name: len(group) for name, group in found.items()} == numbers
    changing = [s for group in found.values() for s in group if s.name.endswith("-changing")]
    assert len(changing) == 4 and all(40 <= len(s) <= 60 for s in changing)
    assert all(len(s) == 6 for group in found.values() for s in group if s not in changing)


def test_a_changing_clip_is_read_with_its_conditions_and_others_have_none(wider):
    for clip in read_dataset(wider / "val" / "changing", layout="davis2017"):
        table = clip.conditions()
        assert list(table.columns) == ["frame_idx", "condition", "strength"] and len(table) == len(clip)
        assert table["condition"].nunique() == 4 and table["strength"].between(0, 1).all()
        assert ((table["condition"] == "clear") == (table["strength"] == 0)).all()
    for layout in ("davis2017", "sav", "ytvos"):
        assert all(clip.conditions() is None for clip in read_dataset(wider / "val" / layout, layout=layout))


@pytest.mark.parametrize("layout", ["davis2017", "sav", "ytvos"])
def test_conditions_lie_beside_the_masks_in_every_layout(layout, tmp_path):
    from rds_lib.data.changing import generate_changing_clip

    clip = generate_changing_clip(1, 0, split="val", height=32, width=48, frames=15)
    write_dataset(tmp_path / "set", [clip], layout=layout)
    (read,) = read_dataset(tmp_path / "set", layout=layout)
    rows = [(row.condition, row.strength) for row in read.conditions().itertuples()]
    assert rows == list(clip.conditions)
    path = next((tmp_path / "set").rglob("conditions.csv"))
    path.write_text("\n".join(path.read_text().splitlines()[:-1]) + "\n")
    with pytest.raises(RDSInputError, match="14 rows; expected one for each frame, 0 to 14"):
        read.conditions()


def test_some_categories_of_the_youtube_vos_set_are_seen_in_training_and_some_are_not(wider):
    folder = wider / "val" / "ytvos" / "valid"
    videos = json.loads((folder / "meta.json").read_text())["videos"].values()
    found = {item["category"] for video in videos for item in video["objects"].values()}
    seen = set(json.loads((folder / "seen_categories.json").read_text()))
    assert found & seen and found - seen == found & set(UNSEEN) and found - seen
    assert not seen & set(UNSEEN) and found <= set(CATEGORIES)


def test_pictures_of_every_clip_are_listed_and_no_split_shares_one(wider):
    table = pd.read_csv(wider / PICTURES)
    by_split = {
        split: set(table.loc[table["set"].isin(sets), "picture"])
        for split, sets in {
            "train": ["train"],
            "calibration": ["calibration"],
            "val": ["davis2017", "sav", "ytvos", "changing"],
        }.items()
    }
    for split, used in by_split.items():
        known = {picture.name for picture in textures.more_pictures(split)}
        assert used <= known and used, split
    assert table.groupby("set")["clip"].nunique().sum() == 18


def test_without_a_folder_validation_has_more_than_twenty_pictures_and_no_split_shares_one():
    pools = {split: textures.more_pictures(split) for split in textures.PHOTOS}
    assert len(pools["val"]) >= 20
    pixels = [picture.rgb.tobytes() for pool in pools.values() for picture in pool]
    assert len(pixels) == len(set(pixels))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder of photographs laid out as BSDS500, without region maps."""
    root = tmp_path_factory.mktemp("photographs")
    rng = np.random.default_rng(0)
    for part, n in (("train", 2), ("test", 1), ("val", 5)):
        (root / "images" / part).mkdir(parents=True)
        for i in range(n):
            pixels = np.kron(rng.integers(0, 255, (6, 9, 3)), np.ones((10, 10, 1))).astype(np.uint8)
            Image.fromarray(pixels).save(root / "images" / part / f"{part}{i}.jpg")
    return root


def test_a_folders_photographs_are_dealt_to_splits(folder):
    names = {split: [p.name for p in textures.more_pictures(split, str(folder))] for split in textures.PHOTOS}
    assert names == {
        "train": ["train0", "train1", "test0"],
        "calibration": ["val0", "val2", "val4"],
        "val": ["val1", "val3"],
    }


def test_wide_and_changing_clips_are_drawn_from_the_folder_alone(folder, tmp_path):
    generate_datasets(params_with(wide=4, changing=2, photographs=str(folder)), tmp_path / "clips")
    table = pd.read_csv(tmp_path / "clips" / PICTURES)
    wide = table[table["clip"].str.contains("val-30") | (table["set"] == "changing")]
    assert set(wide["picture"]) == {"val1", "val3"}
    assert set(table[table["clip"] == "val-0000-plain"]["picture"]) <= set(textures.PHOTOS["val"])


def test_what_is_learnt_from_is_the_same_with_photographs_and_without(folder, tmp_path):
    for name, photographs in (("with", str(folder)), ("without", "")):
        spec = {"changing_train": 1, "changing_calibration": 1, "photographs": photographs}
        generate_datasets(params_with(**spec), tmp_path / name)
    for part in ("train", "calibration"):
        files = [file for file in sorted((tmp_path / "with" / part).rglob("*")) if file.is_file()]
        assert any("changing" in str(file) for file in files)
        for file in files:
            assert file.read_bytes() == (tmp_path / "without" / file.relative_to(tmp_path / "with")).read_bytes()


@pytest.mark.parametrize("place", ["none", "empty"])
def test_a_folder_without_photographs_is_refused_before_anything_is_drawn(place, tmp_path):
    (tmp_path / "empty" / "images" / "val").mkdir(parents=True)
    params = params_with(wide=1, photographs=str(tmp_path / place))
    with pytest.raises(RDSInputError, match=f"{place}.*(BSDS500)"):
        generate_datasets(params, tmp_path / "clips")
    assert not (tmp_path / "clips").exists()


def test_the_changing_set_is_a_set_to_validate_on(wider, monkeypatch):
    monkeypatch.setattr("rds_lib.data.sources.data_root", lambda params, workdir: wider)
    params = load_params("smoke").with_section("evaluation", datasets=["davis", "changing"])
    sources = validation_sources(params, wider)
    assert [(source.name, source.layout) for source in sources] == [
        ("generated-davis", "davis2017"),
        ("generated-changing", "davis2017"),
    ]
    assert [len(source.sequences()) for source in sources] == [4, 2]


def test_a_list_of_unseen_videos_validates_under_its_own_name(wider, monkeypatch):
    """A part of a real set must not be taken for the whole."""
    monkeypatch.setattr("rds_lib.data.sources.data_root", lambda params, workdir: wider)
    root = wider / "val" / "davis2017"
    lists = root / "ImageSets" / "2017"
    first = (lists / "val.txt").read_text().split()[0]
    (lists / "few.txt").write_text(f"{first}\n")
    params = load_params("smoke").with_section("evaluation", datasets=["davis"])
    names = {}
    for split in ("val", "few"):
        real = params.with_section("data", davis_root=str(root), davis_split=split)
        names[validation_sources(real, wider)[-1].name] = len(validation_sources(real, wider)[-1].sequences())
    (lists / "few.txt").unlink()
    assert names == {"davis": 4, "davis-few": 1}


def _die(job):
    os._exit(9)


def test_a_killed_process_is_one_line_that_names_the_clip():
    jobs = [Job("plain", "train", n) for n in range(4, 7)]
    words = "clips: a process was killed at work on clip 4 of train or on one of the next, perhaps for want of memory"
    with pytest.raises(RDSInputError, match=words), _drawn(_die, jobs, 2) as clips:
        list(clips)


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_the_processes_that_draw_end_with_the_command():
    code = """
import multiprocessing, threading, time
from rds_lib.data.generate import _drawn
say = lambda: print(*(child.pid for child in multiprocessing.active_children()), flush=True)
threading.Timer(1, say).start()
with _drawn(time.sleep, [60, 60], 2) as clips:
    next(clips)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        drawing = process.stdout.readline().split()
        process.kill()
    end = time.monotonic() + 10
    while any(Path(f"/proc/{pid}").exists() for pid in drawing) and time.monotonic() < end:
        time.sleep(0.1)
    assert len(drawing) == 2 and not [pid for pid in drawing if Path(f"/proc/{pid}").exists()]
