"""Clips made as tensor operations: recipes fix them, masks fit what can be seen, and batches do not matter."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from rds_lib.data.batches import IMAGE_MEAN, IMAGE_STD, loader
from rds_lib.pretraining import recipes as recipes_module, stories
from rds_lib.pretraining.batches import RecipeBatches
from rds_lib.pretraining.effects import blurred, compressed, finish
from rds_lib.pretraining.maker import ClipMaker
from rds_lib.pretraining.recipes import SLOTS, draw_made, draw_real, stack

SIZE = 64
OPTIONS = {"seed": 4, "batch": 3, "frames": 5, "first_step": 0, "steps": 4}


def rgb(images):
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (IMAGE_MEAN, IMAGE_STD))
    return images * std + mean


def generator(number=0):
    return np.random.default_rng([8, number])


@pytest.fixture
def only(monkeypatch):
    """Return a function that lets one event, or none, happen in all clips, at full strength from frame 1 on."""

    def choose(name=None, rest="plain light"):
        def swells(rng, frames, names):
            strength = np.ones(frames)
            strength[0] = 0
            return {name: strength} if name else {}

        monkeypatch.setattr(recipes_module, "swells", swells)
        plain = recipes_module._look

        def light(rng, frames, events):
            look, zero = plain(rng, frames, events), torch.zeros(frames)
            bright = torch.ones(frames, 3)
            return look._replace(gain=bright, lift=zero, blur=zero, squash=zero, noise=zero)

        if rest:
            monkeypatch.setattr(recipes_module, "_look", light)

    return choose


def test_a_batch_depends_on_the_seed_and_its_step_alone(stock, footage):
    whole = RecipeBatches(stock, footage, real_share=0.5, **OPTIONS)
    resumed = RecipeBatches(stock, footage, real_share=0.5, **OPTIONS | {"first_step": 2, "steps": 1})
    maker = ClipMaker(stock, footage, objects=2)
    for a, b in zip(maker(*whole[2], SIZE), maker(*resumed[0], SIZE), strict=True):
        assert a.equal(b)
    assert not maker(*whole[1], SIZE).images.equal(maker(*whole[2], SIZE).images) and len(list(resumed)) == 1


def test_a_clip_is_the_same_alone_and_at_any_place_of_a_batch(stock, footage):
    drawn = [draw_made(generator(n), 6, stock) for n in range(4)]
    windows = [draw_real(generator(n), 6, footage) for n in range(3)]
    maker = ClipMaker(stock, footage, objects=2)
    forward = maker(stack(drawn), stack(windows), SIZE)
    backward = maker(stack(drawn[::-1]), stack(windows[::-1]), SIZE)
    order = [3, 2, 1, 0, 6, 5, 4]
    for place, other in enumerate(order):
        made, real = ([drawn[place]], []) if place < 4 else ([], [windows[place - 4]])
        alone = maker(stack(made), stack(real), SIZE)
        for clips, at in ((forward, place), (backward, other)):
            assert alone.images[0].equal(clips.images[at])
            assert alone.targets.equal(clips.targets[clips.owner == at])


def test_clips_are_shaped_for_the_model_and_their_objects_are_in_sight_on_frame_0(stock, footage):
    data, maker = (
        RecipeBatches(stock, footage, real_share=0.5, **OPTIONS | {"batch": 12}),
        ClipMaker(stock, footage, objects=3),
    )
    for batch in (data[0], data[1]):
        images, targets, owner = maker(*batch, SIZE)
        assert images.shape == (12, 5, 3, SIZE, SIZE) and targets.shape == (len(owner), 5, SIZE, SIZE)
        assert set(targets.unique().tolist()) == {0.0, 1.0} and (targets[:, 0].sum((1, 2)) >= 0.002 * SIZE**2).all()
        assert sorted(set(owner.tolist())) == list(range(12)), "every clip has one"
        assert owner.bincount().max() == 3 and not (targets.sum(1) > 5).any()
        for clip in range(12):
            assert (targets[owner == clip].sum(0) <= 1).all(), "objects of a clip do not overlap"
        assert rgb(images).min() > -1e-4 and rgb(images).max() < 1 + 1e-4


@pytest.mark.parametrize("name", [None, *recipes_module.IN_WORLD, "zoom"])
def test_masks_agree_with_what_can_be_seen(name, flat_stock, only, monkeypatch):
    """The objects are red, all else is blue or grey: red is where the masks are, on every frame."""
    only(name)
    monkeypatch.setattr(stories, "OBJECTS", 2 if name == "late_entry" else 1)
    maker = ClipMaker(flat_stock, objects=SLOTS)
    for number in range(6):
        made = stack([draw_made(generator(number), 5, flat_stock)])
        made = made._replace(tint=torch.ones_like(made.tint), sprite=(made.number == 0).long())
        images, targets, _ = maker(made, None, 96)
        red, mask = rgb(images)[0, :, 0] - rgb(images)[0, :, 2] > 0.3, targets.amax(0)[:, None]
        inside, around = F.max_pool2d(1 - mask, 5, 1, 2)[:, 0] == 0, F.max_pool2d(mask, 5, 1, 2)[:, 0] == 1
        assert inside[0].any() and red[inside].float().mean() > 0.98
        assert red[~around].float().mean() < 0.002 or name == "late_entry"


def test_an_object_starts_where_it_was_cut_out(flat_stock, only, monkeypatch):
    """On frame 0 its middle lies on the place that the background keeps for it."""
    only()
    monkeypatch.setattr(stories, "IN_PLACE", 1.0)
    found = 0
    for number in range(12):
        made = draw_made(generator(number), 3, flat_stock)
        if made.ground[0] != 2:
            continue
        slot = int((made.number == 1).nonzero()[0, 0])
        inverse = torch.linalg.inv(made.sprite_map[slot, 0, :, :2])
        middle = -inverse @ made.sprite_map[slot, 0, :, 2]
        x, y = made.ground_map[0, :, :2] @ middle + made.ground_map[0, :, 2]
        assert (2 * x + 1, y) == (pytest.approx(0.25, abs=1e-4), pytest.approx(-0.25, abs=1e-4))
        corner = made.ground_map[0, :, :2] @ (inverse @ torch.tensor([1.0, 0.0]))
        assert abs(2 * corner[0]) == pytest.approx(0.3, abs=1e-4)
        found += 1
    assert found > 3


@pytest.mark.parametrize(
    "name, measure",
    [
        ("night", lambda x: -x.mean((1, 2, 3))),
        ("noise", lambda x: (x[..., 1:] - x[..., :-1]).std((1, 2, 3))),
        ("blur", lambda x: -(x[..., 1:] - x[..., :-1]).std((1, 2, 3))),
        (
            "compression",
            lambda x: (x[..., 7:-1:8] - x[..., 8::8]).std((1, 2, 3)) / (x[..., 1:] - x[..., :-1]).std((1, 2, 3)),
        ),
    ],
)
def test_the_look_of_a_clip_changes_on_the_frames_of_its_event(name, measure, stock, only):
    only(name, rest="")
    maker, changed = ClipMaker(stock), []
    for number in range(6):
        made = stack([draw_made(generator(number), 4, stock)])
        frames = rgb(maker(made, None, 96).images)[0]
        look = {key: value[:, :1].expand_as(value) for key, value in made.look._asdict().items() if key != "noise_at"}
        still = made._replace(look=made.look._replace(**look))
        without = rgb(maker(still, None, 96).images)[0]
        assert frames[0].equal(without[0])
        changed.append((measure(frames) - measure(without))[1:])
    assert (torch.stack(changed) > 0).float().mean() > 0.9


def test_late_things_are_not_there_on_frame_0(stock, only):
    for name in ("crowding", "occlusion"):
        only(name)
        made = draw_made(generator(), 5, stock)
        late = (made.present[:, 0] == 0) & made.present.any(1)
        assert late.any() and (made.number[late] == 0).all() and not made.present[late, 0].any()


def test_a_pan_ends_on_the_second_background_and_a_cut_shows_it(flat_stock, only, monkeypatch):
    grounds = flat_stock.grounds.copy()
    grounds[1] = 220
    monkeypatch.setattr(stories, "IN_PLACE", 0.0)
    two, light = replace(flat_stock, grounds=grounds), []
    for name in ("pan", "cut"):
        only(name)
        for number in range(8):
            made = draw_made(generator(number), 9, two)
            if made.ground.tolist() == [0, 1]:
                made = made._replace(present=torch.zeros_like(made.present))
                frames = rgb(ClipMaker(two)(stack([made]), None, SIZE).images)[0].mean((1, 2, 3)) * 255
                light.append((name, frames[0].item(), frames[-1].item()))
    assert {name for name, *_ in light} == {"pan", "cut"}
    assert all(first == pytest.approx(60, abs=2) and last > 190 for _, first, last in light)


def test_windows_of_real_videos_keep_frames_and_labels_together(flat_stock, footage, only):
    only()
    for number in range(4):
        real = draw_real(generator(number), 4, footage)
        images, targets, _ = ClipMaker(flat_stock, footage)(None, stack([real]), 96)
        maps = real.frame_map
        assert (maps[..., 0, 1] == 0).all() and (maps[..., :2].abs().amax((-2, -1)) <= 1).all()
        for t in range(4):
            (a, _, c), (_, e, f) = maps[t].tolist()
            rows, cols = ((np.arange(96) * 2 + 1) / 96 - 1 for _ in range(2))
            y = np.clip(((e * rows + f + 1) / 2 * 240 - 0.5).round().astype(int), 0, 239)
            x = np.clip(((a * cols + c + 1) / 2 * 424 - 0.5).round().astype(int), 0, 423)
            crop = footage.labels[int(real.frame[t])][y][:, x]
            assert ((crop == int(real.wanted[0])) == targets[0, t].numpy().astype(bool)).mean() > 0.99
            picture = footage.frames[int(real.frame[t])][y][:, x].astype(float)
            assert np.abs(picture - rgb(images)[0, t].movedim(0, -1).numpy() * 255).mean() < 9


def test_frames_of_real_windows_lie_one_to_three_apart_and_are_cropped_around_the_object(footage):
    windows = [draw_real(generator(number), 3, footage) for number in range(60)]
    assert {int(step) for real in windows for step in real.frame.diff()} == {-3, -2, -1, 1, 2, 3}
    sides = torch.stack([real.frame_map[0, :, :2].abs().amax(1) for real in windows])
    assert len(sides.unique()) > 60 and 0.4 < sides.min() < 0.6 and sides.max() > 0.9


def test_pixels_are_made_on_the_device_alone(stock, footage):
    """The device here holds no numbers, so an operation that mixes it with the CPU, or waits for it, is an error."""
    maker = ClipMaker(stock, footage, device="meta")
    batch = RecipeBatches(stock, footage, real_share=0.5, **OPTIONS | {"batch": 8})[0]
    for make, recipe in ((maker._made, batch.made), (maker._real, batch.real)):
        images, labels = make(recipe, SIZE)
        images = finish(images, recipe.look, maker.noise)
        assert images.device.type == labels.device.type == "meta" and images.shape[-3:] == (3, SIZE, SIZE)


def test_real_clips_take_their_share(stock, footage):
    data = RecipeBatches(stock, footage, real_share=0.3, **OPTIONS | {"batch": 100})
    made, real = data[0]
    assert len(made.number) + len(real.wanted) == 100 and 15 < len(real.wanted) < 45
    made, real = RecipeBatches(stock, real_share=0.3, **OPTIONS)[0]
    assert real is None and len(made.number) == 3


def test_recipes_come_from_processes_of_their_own_and_are_the_same(stock, footage):
    data = RecipeBatches(stock, footage, real_share=0.5, **OPTIONS)
    maker = ClipMaker(stock, footage)
    for near, far in zip(loader(data, device="cpu"), loader(data, device="cuda"), strict=True):
        assert maker(*near, SIZE).images.equal(maker(*far, SIZE).images)


def test_blur_grows_with_its_level_and_keeps_the_mean():
    picture = torch.zeros(5, 3, 32, 32)
    picture[..., 15:17, 15:17] = 1
    widths = []
    for image in blurred(picture, torch.tensor([0.0, 0.5, 1.0, 2.0, 3.0])):
        assert image.sum() == pytest.approx(12, rel=1e-4)
        weight = image[0] / image[0].sum()
        widths.append(float((weight.sum(0) * (torch.arange(32) - 15.5) ** 2).sum() ** 0.5))
    assert widths == sorted(widths) and widths[0] == pytest.approx(0.5) and 3 < widths[-1] < 5


def test_compression_leaves_blocks_of_eight_and_a_flat_picture_alone():
    picture = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    mild, strong = compressed(picture, torch.tensor([0.0, 1.0]))
    assert (mild - picture[0]).abs().mean() < (strong - picture[1]).abs().mean()
    coefficients = torch.fft.rfft(strong[0].view(4, 8, 4, 8), dim=-1).abs().mean((0, 1, 2))
    assert coefficients[-1] < coefficients[1], "fine detail is gone"
    grey = torch.full((1, 3, 16, 16), 0.5)
    assert compressed(grey, torch.tensor([1.0])).allclose(grey, atol=0.01)


def test_compression_is_that_of_a_jpeg():
    """Against OpenCV's coder at the same quality, without halved colours."""
    pixels = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 255, (64, 64, 3)).astype(np.uint8), (0, 0), 2)
    quality = 23
    flags = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    code = cv2.imencode(".jpg", pixels[..., ::-1], flags)[1]
    wanted = cv2.imdecode(code, cv2.IMREAD_COLOR)[..., ::-1].astype(float)
    ours = compressed(torch.from_numpy(pixels.copy()).movedim(-1, 0)[None].float() / 255, torch.tensor([0.5]))
    ours = ours[0].movedim(0, -1).numpy() * 255
    assert np.abs(ours - wanted).mean() < 0.3 * np.abs(pixels - wanted).mean()
