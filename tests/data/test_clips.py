"""Generated clips: the same bytes for the same seed, clean splits, and difficulties that do what their names say."""

import hashlib
from functools import cache

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat

from rds_lib.core.errors import RDSInputError
from rds_lib.data import batches as training_data, clips, textures
from rds_lib.data.batches import (
    GeneratedBatches,
    SequenceBatches,
    TrainingBatches,
    fit_clip,
    from_model_input,
    pick_object,
    to_model_input,
)
from rds_lib.data.clips import DIFFICULTIES, SPLIT_CODES, generate_clip
from rds_lib.data.scene import Scene
from rds_lib.data.scenes import scene
from rds_lib.data.shapes import UNSEEN
from rds_lib.data.video import load_video

SEEDS = range(6)
MASKS_SHA256 = "df7711566af802a3aeb1afd99947b9920999eda2fe2b36ac25ec6aa464a40fa6"
FRAMES_MEAN = [108.54, 96.86, 137.71, 115.83, 113.76, 110.32, 124.86, 114.08, 130.08]


@cache
def make(difficulty, index=0, *, n_objects=1, frames=9, split="train", seed=11):
    return generate_clip(
        seed, index, split=split, frames=frames, height=96, width=128, difficulty=difficulty, n_objects=n_objects
    )


def areas(clip, obj_id=1):
    return (clip.masks == obj_id).sum((1, 2))


def sprites_of(monkeypatch, difficulty, index):
    """What the clip is drawn from: its sprites from the back to the front."""
    seen, render = [], Scene.render
    monkeypatch.setattr(
        Scene, "render", lambda self, sprites, window: seen.extend(sprites) or render(self, sprites, window)
    )
    return make.__wrapped__(difficulty, index), seen


@pytest.fixture(scope="module")
def one_of_each():
    return [make(difficulty, i, n_objects=None, frames=3, split="val") for i, difficulty in enumerate(DIFFICULTIES)]


def test_the_same_seed_gives_the_same_bytes_in_any_order(one_of_each):
    again = [
        make.__wrapped__(d, i, n_objects=None, frames=3, split="val")
        for i, d in reversed(list(enumerate(DIFFICULTIES)))
    ]
    for first, second in zip(one_of_each, reversed(again)):
        assert first.name == second.name
        assert first.frames.tobytes() == second.frames.tobytes() and first.masks.tobytes() == second.masks.tobytes()


def test_clips_stay_what_they_were(one_of_each):
    """Masks to the bit; colours to a tenth of a grey level: without FMA, OpenCV rounds differently."""
    digest = hashlib.sha256(b"".join(clip.masks.tobytes() for clip in one_of_each)).hexdigest()
    assert digest == MASKS_SHA256
    assert np.allclose([clip.frames.mean() for clip in one_of_each], FRAMES_MEAN, atol=0.1)


@pytest.mark.parametrize("change", [{"seed": 12}, {"index": 1}, {"split": "val"}])
def test_seed_index_and_split_each_change_the_clip(change):
    assert make("plain").frames.tobytes() != make("plain", **change).frames.tobytes()


def test_splits_share_no_photograph_and_all_photographs_are_there():
    assert set(textures.PHOTOS) == set(SPLIT_CODES)
    names = [name for split in textures.PHOTOS.values() for name in split]
    assert len(names) == len(set(names))
    pixels = [picture.rgb.tobytes() for split in SPLIT_CODES for picture in textures.pictures(split)]
    assert len(pixels) == len(names) == len(set(pixels))


def test_ids_and_arrays_are_as_promised():
    for n_objects in (1, 2, 3):
        clip = make("plain", n_objects, n_objects=n_objects)
        assert clip.frames.shape == (9, 96, 128, 3) and clip.frames.dtype == np.uint8
        assert clip.masks.shape == (9, 96, 128) and clip.masks.dtype == np.uint8
        assert set(np.unique(clip.masks)) == set(range(n_objects + 1))
        assert len(clip.categories) == n_objects and set(clip.categories) <= set(clips.CATEGORIES)


def test_difficulties_take_turns_with_the_index():
    names = [
        generate_clip(0, i, split="val", frames=1, height=32, width=32).difficulty for i in range(len(DIFFICULTIES) + 1)
    ]
    assert names == [*DIFFICULTIES, DIFFICULTIES[0]]


def test_occlusion_hides_the_first_object():
    """Up to the occluder the clip is the plain one, so the share that stays visible is exact."""
    shares = [(areas(make("occlusion", i)) / areas(make("plain", i)))[1:] for i in SEEDS]
    assert max(share.max() for share in shares) <= 1
    assert np.median([share.min() for share in shares]) < 0.35
    assert max(share.min() for share in shares) < 0.8


def test_disappearance_takes_the_first_object_away_and_brings_it_back():
    for i in SEEDS:
        area = areas(make("disappearance", i))
        assert area[0] and area[-1] and (area[3:6] == 0).all()


def test_late_entry_brings_the_second_object_in():
    for i in SEEDS:
        clip = make("late_entry", i, n_objects=None)
        assert areas(clip, 1)[0] and not areas(clip, 2)[0] and areas(clip, 2)[-1]


def test_scale_change_changes_the_area():
    for i in SEEDS:
        plain, scaled = areas(make("plain", i)), areas(make("scale_change", i))
        ratio = (scaled[-1] / scaled[0]) / (plain[-1] / plain[0])
        assert ratio < 0.5 or ratio > 1.8


def test_fast_motion_is_faster():
    def speed(difficulty):
        centres = [np.argwhere(mask).mean(0) for i in SEEDS for mask in make(difficulty, i).masks[:5]]
        return np.linalg.norm(np.diff(np.reshape(centres, (len(SEEDS), 5, 2)), axis=1), axis=-1).mean()

    assert speed("fast_motion") > 2 * speed("plain")


def test_deformation_changes_the_outline():
    """The outline is compared after both masks are moved to their centre and cut to a common window."""

    def change(difficulty):
        worst = []
        for i in SEEDS:
            masks = make(difficulty, i).masks
            moved = [
                np.roll(mask, (np.array([48, 64]) - np.argwhere(mask).mean(0)).round().astype(int), (0, 1))
                for mask in masks
            ]
            worst.append(1 - (moved[0] & moved[-1]).sum() / (moved[0] | moved[-1]).sum())
        return np.mean(worst)

    assert change("deformation") > 1.3 * change("plain")


def test_appearance_change_changes_the_colour_of_the_object_alone():
    def drift(difficulty):
        clip = make(difficulty, 1)
        colours = [clip.frames[t][clip.masks[t] == 1].mean(0) for t in (0, -1)]
        return np.abs(colours[1] - colours[0]).max()

    assert drift("appearance_change") > 2 * drift("plain")
    assert np.mean(areas(make("appearance_change", 1))) == pytest.approx(np.mean(areas(make("plain", 1))), rel=0.3)


def test_distractor_adds_an_unlabelled_look_alike(monkeypatch):
    clip, sprites = sprites_of(monkeypatch, "distractor", 0)
    named = [sprite for sprite in sprites if sprite.obj_id == 1]
    twins = [sprite for sprite in sprites if sprite.obj_id == 0]
    assert len(named) == 1 and 1 <= len(twins) <= 2
    for twin in twins:
        assert twin.paint is named[0].paint and not np.array_equal(twin.path, named[0].path)
        inside = (twin.path >= 0) & (twin.path <= (128, 96))
        assert inside.all()
    assert set(np.unique(clip.masks)) == {0, 1}
    assert sprites[-1] is named[0], "look-alikes lie behind the object"
    assert np.array_equal(areas(clip), areas(make("plain", 0)))


@pytest.mark.parametrize(
    "bad, message",
    [
        ({"split": "test"}, "split 'test'"),
        ({"difficulty": "impossible"}, "difficulty 'impossible'"),
        ({"frames": 0}, "0 frames"),
        ({"height": 16}, "16x128"),
    ],
)
def test_rejects_what_it_cannot_draw(bad, message):
    wanted = {"split": "val", "frames": 2, "height": 96, "width": 128} | bad
    with pytest.raises(RDSInputError, match=message):
        generate_clip(0, 0, **wanted)


def test_photographs_of_an_unknown_split_are_refused():
    with pytest.raises(RDSInputError, match="split 'test'"):
        textures.pictures("test")


@pytest.mark.parametrize("name", UNSEEN)
def test_outlines_of_unseen_categories_vary_and_stay_on_their_patch(name):
    masks = [UNSEEN[name](np.random.default_rng(seed), 64) for seed in range(6)]
    assert all(
        set(np.unique(mask)) == {0, 255} and not mask[[0, -1]].any() and not mask[:, [0, -1]].any() for mask in masks
    )
    assert all(0.04 < (mask > 0).mean() < 0.6 for mask in masks) and len({mask.tobytes() for mask in masks}) == 6
    holes = [cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)[1][0, :, 2].max() >= 0 for mask in masks]
    assert all(holes) if name == "ring" else not any(holes)


def test_objects_of_unseen_categories_are_half_of_those_asked_for():
    options = {"split": "val", "frames": 1, "height": 32, "width": 48, "shapes": tuple(UNSEEN)}
    found = [name for i in range(40) for name in generate_clip(2, i, **options).categories]
    assert 0.35 < np.mean([name in UNSEEN for name in found]) < 0.65 and set(found) == {"blob", "spider", *UNSEEN}


def test_drawn_scenes_are_the_same_each_time_and_all_different():
    drawn = [scene(split, number) for split, number in (("train", 0), ("train", 4), ("val", 0), ("val", 1))]
    assert all(picture.shape == (480, 640, 3) and picture.std() > 15 for picture in drawn)
    assert len({picture.tobytes() for picture in drawn}) == 4
    assert np.array_equal(scene.__wrapped__("val", 1), drawn[3])


def test_a_missing_bsds_folder_is_named(tmp_path):
    with pytest.raises(RDSInputError, match=str(tmp_path)):
        textures.more_pictures("train", str(tmp_path))


@pytest.fixture(scope="module")
def bsds(tmp_path_factory):
    """A folder of BSDS500 with one photograph: a red disc on blue ground, outlined in its region map."""
    root = tmp_path_factory.mktemp("bsds")
    y, x = np.mgrid[:160, :240]
    disc = (y - 70) ** 2 + (x - 100) ** 2 < 30**2
    photo = np.where(disc[..., None], (220, 20, 20), (20, 20, 220)).astype(np.uint8)
    regions = np.empty((1, 1), object)
    regions[0, 0] = {"Segmentation": disc.astype(np.uint8) + 1}
    for part in ("train", "test"):
        (root / "images" / part).mkdir(parents=True), (root / "groundTruth" / part).mkdir(parents=True)
    Image.fromarray(photo).save(root / "images" / "train" / "disc.jpg", quality=100, subsampling=0)
    savemat(root / "groundTruth" / "train" / "disc.mat", {"groundTruth": regions})
    return str(root)


def test_a_region_keeps_its_place_in_its_photograph(bsds):
    (region,) = textures.bsds_objects(bsds, "train")
    assert (region.y, region.x, region.mask.shape) == (41, 71, (59, 59))
    assert region.rgb[29, 29, 0] > 200 and region.photo.shape == (160, 240, 3)


def test_an_object_in_place_leaves_no_second_one_behind(bsds, monkeypatch):
    """All red pixels are under the mask, on every frame, and it moves: its ground no longer shows where it was."""
    monkeypatch.setattr(clips, "IN_PLACE", 1.0)
    monkeypatch.setattr(textures, "jitter_colour", lambda rng, image, **options: image)
    for index in range(4):
        clip = generate_clip(
            3,
            index,
            split="train",
            frames=8,
            height=96,
            width=128,
            difficulty="fast_motion",
            n_objects=1,
            bsds_root=bsds,
        )
        red = clip.frames[..., 0].astype(int) - clip.frames[..., 2] > 100
        inside = np.stack([cv2.erode(mask, np.ones((5, 5))) for mask in clip.masks]) == 1
        around = np.stack([cv2.dilate(mask, np.ones((5, 5))) for mask in clip.masks]) == 1
        assert inside[0].any() and red[inside].mean() > 0.99 and red[~around].mean() < 0.001
        assert (clip.masks[0] != clip.masks[-1]).any() and clip.categories == ("cutout",)


def test_holes_are_filled_from_around_them_and_nothing_else_changes():
    image = np.random.default_rng(0).integers(90, 110, (40, 50, 3)).astype(np.uint8)
    hole = np.zeros((40, 50), bool)
    hole[10:25, 10:30] = True
    image[hole] = 255
    filled = textures.fill_hole(image, hole)
    assert np.array_equal(filled[~hole], image[~hole]) and filled[hole].min() >= 88 and filled[hole].max() <= 112


# --- batches made of clips ---


def test_a_batch_depends_on_the_seed_and_its_step_alone():
    options = {"seed": 5, "split": "train", "batch": 1, "frames": 2, "size": 64}
    whole = GeneratedBatches(**options, first_step=0, steps=3)
    resumed = GeneratedBatches(**options, first_step=2, steps=1)
    assert len(list(resumed)) == 1
    for a, b in zip(whole[2], resumed[0]):
        assert a.equal(b)
    assert not whole[1][0].equal(whole[2][0])


def test_batches_show_the_object_on_the_first_frame(sequences):
    generated = GeneratedBatches(seed=5, split="train", batch=2, frames=2, size=64, first_step=0, steps=1)
    stored = SequenceBatches(sequences, seed=5, batch=2, frames=3, size=64, first_step=0, steps=1)
    for data, frames in ((generated, 2), (stored, 3)):
        images, targets = data[0]
        assert images.shape == (2, frames, 3, 64, 64) and targets.shape == (2, frames, 64, 64)
        assert set(targets.unique().tolist()) == {0.0, 1.0} and (targets[:, 0].flatten(1).sum(1) > 0).all()


def test_beside_a_gpu_batches_come_from_processes_of_their_own_and_are_the_same():
    """OpenCV's threads are busy before the fork; children that touched them would wait for ever."""
    cv2.setNumThreads(2)
    image = np.zeros((600, 600, 3), np.uint8)
    cv2.GaussianBlur(image, (31, 31), 5)
    data = GeneratedBatches(seed=5, split="train", batch=1, frames=2, size=64, first_step=0, steps=3)
    near, far = training_data.loader(data, device="cpu"), training_data.loader(data, device="cuda")
    assert near.num_workers == 0 and far.num_workers >= 1
    for (images, targets), (same_images, same_targets) in zip(near, far, strict=True):
        assert images.equal(same_images) and targets.equal(same_targets)


def test_windows_depend_on_the_seed_and_the_step_alone(sequences):
    options = {"seed": 9, "batch": 2, "frames": 3, "size": 64}
    whole = SequenceBatches(sequences, **options, first_step=0, steps=4)
    resumed = SequenceBatches(sequences, **options, first_step=3, steps=1)
    assert all(a.equal(b) for a, b in zip(whole[3], resumed[0]))


def test_windows_keep_frames_and_masks_together(sequences, monkeypatch):
    """Every window is found in its sequence again: as it is, mirrored, reversed, or both, frame and mask alike."""
    monkeypatch.setattr(training_data, "RECOLOUR", 0.0)
    data = SequenceBatches(sequences[:1], seed=1, batch=1, frames=2, size=64, first_step=0, steps=6)
    sequence, found = sequences[0], set()
    frames, masks = fit_clip(
        [sequence.frame(t) for t in range(5)], np.stack([sequence.masks(t)[1] for t in range(5)]), 64
    )
    for images, targets in (data[i] for i in range(6)):
        for step in (1, -1):
            for flip in (1, -1):
                for start in range(5):
                    pair = [start, start + step]
                    if not 0 <= pair[1] < 5:
                        continue
                    if to_model_input(frames[pair][:, :, ::flip]).equal(images[0]):
                        assert np.array_equal(targets[0].numpy() > 0.5, masks[pair][:, :, ::flip])
                        found.add((step, flip))
                        break
    assert len(found) >= 3


def test_a_training_clip_is_seen_in_one_other_light(sequences, monkeypatch):
    options = {"seed": 1, "batch": 4, "frames": 3, "size": 64, "first_step": 0, "steps": 1}
    lit, targets = SequenceBatches(sequences[:1], **options)[0]
    monkeypatch.setattr(training_data, "RECOLOUR", 0.0)
    plain, same_targets = SequenceBatches(sequences[:1], **options)[0]
    assert torch.equal(targets, same_targets)
    slopes = []
    for clip, original in zip(from_model_input(lit), from_model_input(plain)):
        for channel in range(3):
            x, y = original[..., channel].astype(float).ravel(), clip[..., channel].astype(float).ravel()
            inside = (y > 0) & (y < 255)
            slope, offset = np.polyfit(x[inside], y[inside], 1)
            assert np.abs(slope * x + offset - y)[inside].max() < 2
            slopes.append(slope)
    assert np.std(slopes) > 0.05


def test_training_and_tracking_see_a_frame_alike(sequences):
    sequence = sequences[0]
    frames, _ = fit_clip([sequence.frame(t) for t in range(3)], np.stack([sequence.masks(t)[1] for t in range(3)]), 64)
    tracked, _, _ = load_video([sequence.frame(t) for t in range(3)], 64)
    assert torch.allclose(to_model_input(frames), tracked, atol=1e-6)


def test_generated_clips_are_squeezed_from_many_shapes(monkeypatch):
    widths, generate = [], training_data.generate_clip
    monkeypatch.setattr(training_data, "generate_clip", lambda *a, **k: widths.append(k["width"]) or generate(*a, **k))
    images, targets = GeneratedBatches(seed=1, split="train", batch=6, frames=1, size=64, first_step=0, steps=1)[0]
    assert images.shape == (6, 1, 3, 64, 64) and set(targets.unique().tolist()) == {0.0, 1.0}
    assert len(set(widths)) > 3 and min(widths) >= 64 and max(widths) <= 64 * training_data.WIDEST


def test_sequences_that_are_too_short_are_refused(sequences):
    with pytest.raises(RDSInputError, match="6 annotated frames"):
        SequenceBatches(sequences, seed=0, batch=1, frames=6, size=64, first_step=0, steps=1)


def test_only_objects_that_can_be_seen_are_picked():
    masks = np.zeros((2, 50, 50), np.uint8)
    rng = np.random.default_rng(0)
    masks[1, :20] = 1
    assert pick_object(masks, rng) is None
    masks[0, 0, :4] = 2  # 0.16 % of the frame
    assert pick_object(masks, rng) is None
    masks[0, 1, :2] = 2
    assert pick_object(masks, rng) == 2
    masks[0, 10:] = 3
    assert {pick_object(masks, rng) for _ in range(30)} == {2, 3}


def test_model_input_is_normalised_as_sam2_does_it():
    white = np.full((1, 4, 6, 3), 255, np.uint8)
    assert np.allclose(
        to_model_input(white)[0, :, 0, 0], [(1 - 0.485) / 0.229, (1 - 0.456) / 0.224, (1 - 0.406) / 0.225]
    )
    assert to_model_input(white).shape == (1, 3, 4, 6)


def test_processes_share_the_clips_of_a_step_and_each_clip_stays_as_it_is(sequences):
    options = {"seed": 5, "frames": 2, "size": 64, "first_step": 1, "steps": 2}
    whole = SequenceBatches(sequences, batch=4, **options)
    shares = [TrainingBatches(sequences, batch=4, process=i, processes=2, accumulate=2, **options) for i in range(2)]
    for item in range(2):
        images, targets, numbers = (torch.cat(parts) for parts in zip(*(share[item] for share in shares)))
        assert images.equal(whole[item][0]) and targets.equal(whole[item][1]) and numbers.tolist() == [0, 1, 2, 3]
    fewer = SequenceBatches(sequences, batch=2, **options)
    assert fewer[0][0].equal(whole[0][0][:2]), "whatever lies beside it"
    assert not whole[0][0][0].equal(whole[0][0][1]) and not whole[0][0][0].equal(whole[1][0][0])


@pytest.mark.parametrize(("batch", "processes", "accumulate"), [(4, 3, 1), (4, 2, 4), (1, 1, 2)])
def test_clips_that_cannot_be_shared_out_evenly_are_refused(batch, processes, accumulate, sequences):
    sharing = {"batch": batch, "processes": processes, "accumulate": accumulate}
    with pytest.raises(RDSInputError, match=f"batch is {batch}.*multiple of {processes * accumulate}"):
        TrainingBatches(sequences, seed=0, frames=2, size=64, first_step=0, steps=1, **sharing)
