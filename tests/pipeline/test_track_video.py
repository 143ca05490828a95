"""Tracking one video: what can be prompted, before anything is tracked."""

import av
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from rds_lib.__main__ import app
from rds_lib.core.errors import RDSInputError
from rds_lib.data.images import save_palette_png
from rds_lib.data.video import video_size
from rds_lib.pipeline.track import first_prompts, track_video
from rds_lib.routing.build import build_rds_video_predictor


def test_more_objects_than_a_palette_holds_are_refused():
    assert list(first_prompts((9, 9), click=[(1, 1)] * 254))[-1] == 254
    for prompt in ({"click": [(1, 1)] * 255}, {"box": [(0, 0, 2, 2)] * 300}):
        with pytest.raises(RDSInputError, match="object id 255; a palette PNG takes whole numbers from 1 to 254"):
            first_prompts((9, 9), **prompt)


@pytest.mark.parametrize("obj_id", [0, 255, -1, "cow", True])
def test_object_ids_that_a_palette_cannot_hold_are_refused_before_tracking(tmp_path, obj_id):
    with pytest.raises(RDSInputError, match=f"prompts: object id {obj_id!r}"):
        track_video(None, tmp_path / "absent", {obj_id: {"points": [[1, 1]], "labels": [1]}}, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_mask_that_is_named_as_a_frame_is_not_tracked_as_one(tmp_path):
    frames = [tmp_path / f"{t}.png" for t in range(3)]
    for path in frames:
        save_palette_png(path, np.ones((4, 6), np.uint8))
    (tmp_path / "link.png").symlink_to(frames[0])
    for mask in (frames[0], tmp_path / "link.png"):
        with pytest.raises(RDSInputError, match="counts as a frame of the video"):
            first_prompts((4, 6), mask=mask, frames=frames)
    assert list(first_prompts((4, 6), mask=frames[0], frames=frames[1:])) == [1]


def test_the_overlay_lasts_as_long_as_the_video(tmp_path, mini_weights):
    path = tmp_path / "ten.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for t in range(3):
            picture = np.full((48, 64, 3), 80 * t, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    assert video_size(path) == (48, 64)
    predictor = build_rds_video_predictor("mini", mini_weights, device="cpu", routing="full")
    prompts = {1: {"box": [10, 10, 40, 40]}}
    for out, options, rate in (("own", {}, 10), ("given", {"fps": 5}, 5)):
        track_video(predictor, path, prompts, tmp_path / out, **options)
        with av.open(str(tmp_path / out / "overlay.mp4")) as container:
            assert container.streams.video[0].average_rate == rate


def test_a_mask_beside_the_frames_is_said_once_and_not_tracked(tmp_path, mini_weights):
    folder = tmp_path / "video"
    folder.mkdir()
    for t in range(3):
        Image.fromarray(np.full((48, 64, 3), 80 * t, np.uint8)).save(folder / f"{t}.jpg")
    labels = np.zeros((48, 64), np.uint8)
    labels[10:30, 10:30] = 1
    save_palette_png(folder / "first_mask.png", labels)
    options = ["--checkpoint", mini_weights, "--routing", "full", "--no-overlay", "--device", "cpu"]
    command = ["track", folder, "--mask", folder / "first_mask.png", "--out", tmp_path / "out", *options]
    result = CliRunner().invoke(app, [str(part) for part in command])
    assert result.exit_code == 0, result.output
    assert result.stderr.count("first_mask.png") == 1
    assert sorted(path.name for path in (tmp_path / "out").glob("*.png")) == ["0.png", "1.png", "2.png"]
