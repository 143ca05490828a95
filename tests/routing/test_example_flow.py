"""SAM2's own example of interactive tracking, click by click: as stock SAM2 does it, and frame by frame in a session.

The steps are those of sam2's ``notebooks/video_predictor_example.ipynb``: a click, a refining click, propagate; a box,
propagate; two objects, propagate; then an object goes and the rest is propagated again.
"""

import os

import numpy as np
import pytest
import torch

from rds_lib.data.clips import generate_clip
from rds_lib.data.images import list_frames, read_frame
from rds_lib.model.sam2 import build_model
from rds_lib.routing.build import POSTPROCESSING, build_rds_video_predictor

LENGTH = 20


@pytest.fixture(scope="module", params=["generated", *filter(None, os.environ.get("RDS_VIDEO", "").split(os.pathsep))])
def frames(request):
    """A generated clip, and the folders of frames that RDS_VIDEO names, separated as in PATH."""
    if request.param == "generated":
        return generate_clip(4, 1, split="val", frames=LENGTH, height=96, width=160, difficulty="plain").frames
    return np.stack([read_frame(path) for path in list_frames(request.param)[:LENGTH]])


@pytest.fixture(scope="module")
def folder(frames, tmp_path_factory):
    """The frames as stock SAM2 reads them: JPEG files. What they decode to is what both see."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("frames")
    for t, frame in enumerate(frames):
        Image.fromarray(frame).save(folder / f"{t:05d}.jpg", quality=95)
    return folder


def overrides():
    return [item for item in POSTPROCESSING if "fill_hole" not in item]  # which needs SAM2's extension


@pytest.fixture(scope="module")
def stock():
    return build_model("mini", overrides=overrides())


@pytest.fixture(scope="module")
def ours():
    return build_rds_video_predictor("mini", device="cpu")


def spots(frames):
    """Two places and a box in px, inside any video."""
    height, width = frames.shape[1:3]
    return (
        [width * 0.4, height * 0.5],
        [width * 0.45, height * 0.6],
        [width * 0.5, height * 0.2, width * 0.9, height * 0.8],
    )


def example(predictor, folder, frames):
    """Every mask that the notebook shows, in its order."""
    first, second, box = spots(frames)
    shown, state = [], predictor.init_state(str(folder))

    def propagate():
        shown.extend((t, list(obj_ids), logits) for t, obj_ids, logits in predictor.propagate_in_video(state))

    shown.append(predictor.add_new_points_or_box(state, 0, 1, points=[first], labels=[1]))
    shown.append(predictor.add_new_points_or_box(state, 0, 1, points=[first, second], labels=[1, 1]))
    propagate()
    shown.append(predictor.add_new_points_or_box(state, 12, 1, points=[second], labels=[0]))  # refine further on
    propagate()
    predictor.reset_state(state)
    shown.append(predictor.add_new_points_or_box(state, 0, 4, box=box))
    shown.append(predictor.add_new_points_or_box(state, 0, 4, points=[second], labels=[1], box=box))
    propagate()
    predictor.reset_state(state)
    shown.append(predictor.add_new_points_or_box(state, 0, 2, points=[first, second], labels=[1, 0]))
    shown.append(predictor.add_new_points_or_box(state, 0, 3, points=[second], labels=[1]))
    propagate()
    obj_ids, updated = predictor.remove_object(state, 2)
    shown.extend((t, list(obj_ids), logits) for t, logits in updated)
    propagate()
    return shown


def test_the_example_of_sam2_gives_its_masks(stock, ours, folder, frames):
    expected, found = example(stock, folder, frames), example(ours, folder, frames)
    assert len(found) == len(expected) == 8 + 5 * LENGTH
    for (t, ids, logits), (own_t, own_ids, own) in zip(expected, found, strict=True):
        assert (own_t, list(own_ids)) == (t, list(ids)) and torch.equal(own, logits)


def test_so_does_a_session_frame_by_frame(stock, ours, folder, frames):
    """Click, refining click, box and two objects on the first frame; a correction on the way; an object removed."""
    first, second, box = spots(frames)
    click = {"points": [first], "labels": [1]}
    refined = {"points": [first, second], "labels": [1, 1]}
    decoded = [read_frame(path) for path in list_frames(folder)]
    state = stock.init_state(str(folder))
    stock.add_new_points_or_box(state, 0, 1, **click)
    stock.add_new_points_or_box(state, 0, 4, box=box)
    stock.add_new_points_or_box(state, 0, 1, **refined)
    expected = {t: logits for t, _, logits in stock.propagate_in_video(state, 0, 8)}
    stock.add_new_points_or_box(state, 8, 1, points=[second], labels=[0])
    expected |= {t: logits for t, _, logits in stock.propagate_in_video(state, 9, 4)}
    stock.remove_object(state, 4)
    expected |= {t: logits for t, _, logits in stock.propagate_in_video(state, 14)}
    with ours.start() as session:
        session.step(decoded[0], {1: click, 4: {"box": box}})
        corrected = session.correct({1: refined})
        assert torch.equal(corrected.mask_logits, expected[0])
        for t in range(1, LENGTH):
            if t == 14:
                session.remove_object(4)
            assert torch.equal(session.step(decoded[t]).mask_logits, expected[t]), t
            if t == 8:
                session.correct({1: {"points": [second], "labels": [0]}})
