"""Clips whose conditions change: what the table says is what the pixels show, and masks fit what can be seen."""

from functools import cache

import cv2
import numpy as np
import pytest

from rds_lib.core.errors import RDSInputError
from rds_lib.data import changing
from rds_lib.data.changing import CLEAR, CONDITIONS, generate_changing_clip
from rds_lib.data.clips import SPLIT_CODES
from rds_lib.data.film import EFFECTS, Film
from rds_lib.data.scene import PATCH, Scene, paint_object

SMALL = {"split": "val", "height": 64, "width": 96}


@cache
def make(index=0, **options):
    return generate_changing_clip(5, index, **SMALL | options)


def one(condition, index=0, frames=20, **options):
    return make(index, frames=frames, conditions=(condition,), n_objects=1, **options)


def in_it(clip):
    return np.array([name != CLEAR for name, _ in clip.conditions])


def strength(clip):
    return np.array([value for _, value in clip.conditions])


def without(monkeypatch, condition, undo, index=0):
    """The same clip with the same draws, in which ``undo(film)`` takes the condition back."""

    def harmless(own, start, stop):
        found = EFFECTS[condition](own, start, stop)
        undo(own)
        return found

    monkeypatch.setattr(changing, "EFFECTS", EFFECTS | {condition: harmless})
    return generate_changing_clip(5, index, **SMALL, frames=20, conditions=[condition], n_objects=1)


def test_the_same_seed_gives_the_same_bytes_whatever_was_drawn_before():
    first = make(3, frames=15)
    make(4, frames=15)
    again = make.__wrapped__(3, frames=15)
    assert first.frames.tobytes() == again.frames.tobytes() and first.masks.tobytes() == again.masks.tobytes()
    assert first.conditions == again.conditions and first.name == again.name == "val-0003-changing"


@pytest.mark.parametrize("change", [{"seed": 6}, {"index": 4}, {"split": "train"}])
def test_seed_index_and_split_each_change_the_clip(change):
    options = {"seed": 5, "index": 3, "frames": 15} | SMALL
    assert generate_changing_clip(**options | change).frames.tobytes() != make(3, frames=15).frames.tobytes()


def test_a_clip_has_forty_to_sixty_frames_and_three_conditions_in_turn():
    found = [generate_changing_clip(1, i, split="val", height=32, width=32) for i in range(len(CONDITIONS))]
    for number, clip in enumerate(found):
        names = [name for name, _ in clip.conditions]
        runs = [name for i, name in enumerate(names) if i == 0 or names[i - 1] != name]
        assert 40 <= len(clip.frames) <= 60 and len(names) == len(clip.frames)
        assert runs[0::2] == [CLEAR] * 4 and runs[1] == CONDITIONS[number] and len(set(runs[1::2])) == 3
        assert all((value == 0) == (name == CLEAR) and 0 <= value <= 1 for name, value in clip.conditions)
    assert len({len(clip.frames) for clip in found}) > 3


@pytest.mark.parametrize("condition", ["night", "blur", "noise", "compression"])
def test_a_condition_of_the_picture_is_on_the_frames_that_the_table_names_and_as_strong(condition, monkeypatch):
    clip = one(condition)
    plain = without(monkeypatch, condition, lambda film: setattr(film, "finish", [None] * len(film.finish)))
    change = np.abs(clip.frames.astype(int) - plain.frames).mean((1, 2, 3))
    assert (change[~in_it(clip)] == 0).all() and (change[in_it(clip)] > 1).all()
    assert np.corrcoef(strength(clip), change)[0, 1] > 0.9
    assert np.array_equal(clip.masks, plain.masks)


def test_at_night_light_falls_to_what_the_strength_says(monkeypatch):
    clip = one("night")
    plain = without(monkeypatch, "night", lambda film: setattr(film, "finish", [None] * len(film.finish)))
    left = clip.frames[..., 1].mean((1, 2)) / plain.frames[..., 1].mean((1, 2))
    assert np.allclose(left, 1 - 0.9 * strength(clip), atol=0.02)


@pytest.mark.parametrize("index", range(4))
def test_the_lens_zooms_around_the_first_object(index, monkeypatch):
    clip = one("zoom", index)
    plain = without(monkeypatch, "zoom", lambda film: film.zoom.fill(1), index)
    assert np.array_equal(clip.frames[~in_it(clip)], plain.frames[~in_it(clip)])
    area, before = (each.masks.astype(bool).sum((1, 2)) for each in (clip, plain))
    t = int(strength(clip).argmax())
    zoom = (area[t] / before[t]) ** 0.5
    assert zoom == pytest.approx(0.5 ** strength(clip)[t], rel=0.1) or (1.2 < zoom <= 2.5)
    middle = [np.argwhere(each.masks[t]).mean(0) for each in (clip, plain)]
    assert zoom > 1 or np.abs(middle[0] - middle[1]).max() < 4, "the object stays where it is"


def test_a_crowd_comes_in_and_leaves(monkeypatch):
    clip = one("crowding")
    plain = without(
        monkeypatch, "crowding", lambda film: setattr(film, "sprites", [s for s in film.sprites if s.obj_id])
    )
    change = (np.abs(clip.frames.astype(int) - plain.frames).max(-1) > 0).mean((1, 2))
    assert (change[~in_it(clip)] == 0).all(), "nobody is in the picture before and after"
    assert change[strength(clip) == 1].min() > 0.1
    seen, uncovered = clip.masks.astype(bool), plain.masks.astype(bool)
    assert not (seen & ~uncovered).any() and (uncovered & ~seen).any(), "some pass in front"


def test_a_cut_shows_another_shot_and_comes_back_to_the_same_object():
    away = set()
    for index in range(6):
        clip = one("cut", index)
        inside = np.flatnonzero(in_it(clip))
        jump = np.abs(np.diff(clip.frames.astype(int), axis=0)).mean((1, 2, 3))
        cuts = [inside[0] - 1, inside[-1]]
        assert jump[cuts].min() > 2 * np.median(np.delete(jump, cuts)), "both cuts are cuts"
        seen = clip.masks[inside].any((1, 2))
        assert seen[len(seen) // 2 :].all() and clip.masks[inside[-1] + 1].any()
        away.add(bool(seen[0]))
        before, after = clip.frames[inside[0] - 1], clip.frames[inside[-1] + 1]
        assert np.abs(before.astype(int) - after).mean() < jump[cuts].min(), "the first shot goes on"
    assert away == {True, False}, "some shots begin without the object"


def test_a_pan_moves_to_another_background_as_fast_as_the_table_says(monkeypatch):
    films, render = [], Film.render
    monkeypatch.setattr(Film, "render", lambda self: films.append(self) or render(self))
    monkeypatch.setattr(Scene, "look", lambda self: (np.zeros((PATCH, PATCH, 4), np.float32), "blob"))  # nothing to see
    greys = iter((40, 200))
    monkeypatch.setattr(Scene, "texture", lambda self, h, w: np.full((h, w, 3), next(greys), np.uint8))
    clip = make.__wrapped__(0, frames=20, conditions=("pan",))
    inside = in_it(clip)
    light = clip.frames.mean((1, 2, 3)) / films[0].scene.light[:, 0]
    start, stop = np.flatnonzero(inside)[[0, -1]]
    assert np.allclose(light[:start], 40, atol=4) and np.allclose(light[stop + 1 :], 200, atol=8)
    assert (np.diff(light[start - 1 : stop + 2]) > -2).all()
    speed = np.diff(films[0].share[start - 1 : stop + 1])
    assert np.allclose(speed, strength(clip)[inside] / strength(clip)[inside].sum(), atol=2e-3)


@pytest.mark.parametrize("condition", ["zoom", "crowding", "cut", "pan"])
def test_masks_agree_with_what_can_be_seen(condition, monkeypatch):
    """One red object over everything else in blue: red is where the mask is, on every frame."""
    looks = iter([(220, 10, 10)])
    disc = cv2.circle(np.zeros((PATCH, PATCH), np.uint8), (PATCH // 2, PATCH // 2), 50, 255, -1)

    def look(self):
        colour = np.array(next(looks, (10, 10, 220)), np.float32)
        return paint_object(disc, np.broadcast_to(colour, (PATCH, PATCH, 3))), "blob"

    monkeypatch.setattr(Scene, "look", look)
    monkeypatch.setattr(Scene, "texture", lambda self, h, w: np.full((h, w, 3), (20, 20, 200), np.uint8))
    if condition == "crowding":  # its look-alikes would be red too
        happen = EFFECTS["crowding"]

        def strangers(own, start, stop):
            strength, blue = happen(own, start, stop), look(own)[0]
            for sprite in own.sprites:
                sprite.paint = sprite.paint if sprite.obj_id else blue
            return strength

        monkeypatch.setattr(changing, "EFFECTS", EFFECTS | {"crowding": strangers})
    clip = make.__wrapped__(2, frames=15, conditions=(condition,), n_objects=1)
    red = clip.frames[..., 0].astype(int) - clip.frames[..., 2] > 30
    kernel = np.ones((5, 5), np.uint8)
    inside = np.stack([cv2.erode(mask, kernel) for mask in clip.masks]) == 1
    around = np.stack([cv2.dilate(mask, kernel) for mask in clip.masks]) == 1
    assert inside[0].any() and red[inside].mean() > 0.99 and red[~around].mean() < 0.001


@pytest.mark.parametrize(
    "bad, message",
    [
        ({"conditions": ["fog"]}, "'fog'.*choose one or more of night, zoom"),
        ({"conditions": []}, "choose one or more"),
        ({"frames": 9, "conditions": ["night", "blur"]}, "9 frames are too few for 2 conditions; 5 a condition"),
        ({"split": "test"}, "split 'test'"),
        ({"height": 16}, "16x96"),
    ],
)
def test_rejects_what_it_cannot_draw(bad, message):
    with pytest.raises(RDSInputError, match=message):
        generate_changing_clip(0, 0, **SMALL | bad)


def test_every_split_has_its_clips():
    frames = {split: make(0, frames=15, split=split).frames.tobytes() for split in SPLIT_CODES}
    assert len(set(frames.values())) == len(SPLIT_CODES)
