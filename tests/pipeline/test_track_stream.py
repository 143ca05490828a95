"""Tracking frame by frame: any source, stops in the middle, and nothing that grows with the video."""

import gc
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import tracemalloc
from contextlib import contextmanager
from types import SimpleNamespace

import av
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from rds_lib.__main__ import app
from rds_lib.core.artifacts import read_table
from rds_lib.core.errors import RDSInputError
from rds_lib.data import output
from rds_lib.data.images import read_frame, read_labels
from rds_lib.data.output import MANIFEST, check_output
from rds_lib.model.track import painted
from rds_lib.pipeline import track, track_files
from rds_lib.pipeline.track import MARKER, track_video
from rds_lib.pipeline.track_files import TrackFiles
from rds_lib.routing.build import build_rds_video_predictor
from rds_lib.routing.route_table import FrameRoute
from rds_lib.routing.session import TrackingSession
from rds_lib.show.paint import write_overlay_video
from rds_lib.streaming.sources import frames_of
from rds_lib.work import processes

pytestmark = pytest.mark.filterwarnings("ignore:.*what was tracked until then is there")


@pytest.fixture(scope="module")
def predictor(mini_weights, rds_file):
    return build_rds_video_predictor("mini", mini_weights, rds_file, budget=0.5, device="cpu")


@pytest.fixture(scope="module")
def clip(sequences):
    """Pictures of a clip with two objects, their prompts on the first frame, and the frames as arrays."""
    sequence = sequences[2]
    prompts = {obj_id: {"mask": mask} for obj_id, mask in sequence.masks(0).items()}
    return SimpleNamespace(
        folder=sequence.frame_paths[0].parent,
        paths=sequence.frame_paths,
        prompts=prompts,
        frames=[read_frame(path) for path in sequence.frame_paths],
    )


def labels_in(out):
    return {path.stem: read_labels(path) for path in sorted(out.glob("*.png"))}


def video_length(path):
    with av.open(str(path)) as container:
        return sum(1 for _ in container.decode(video=0))


def page_of(out):
    page = (out / "inspector.html").read_text()
    return page, json.loads(page.partition('id="data">')[2].partition("</script>")[0])


def assert_holds(out, frames, start=0):
    """The result is whole up to a frame, with its manifest, and nothing else is there."""
    assert sorted(labels_in(out)) == [f"{t:05d}" for t in range(frames)]
    assert sorted(read_table(out / MARKER)["frame_idx"].unique()) == list(range(start, frames))
    assert len(read_table(out / MARKER)) == (frames - start) * 48
    assert video_length(out / "overlay.mp4") == frames
    others = {path.name for path in out.iterdir() if path.suffix != ".png"}
    assert others <= {MARKER, MANIFEST, "model.json", "overlay.mp4", "inspector.html"} and MANIFEST in others
    assert check_output(out, overwrite=True, marker=MARKER) == out
    assert [path.name for path in out.parent.iterdir() if path.name[0] == "."] == []


def stops_after(frames, count, error):
    yield from frames[:count]
    raise error


@pytest.mark.parametrize("start", [0, 2])
def test_a_folder_gives_the_bits_of_propagate_in_video(predictor, clip, tmp_path, start):
    out = tmp_path / "out"
    summary = track_video(predictor, clip.folder, clip.prompts, out, start_frame=start)
    state = predictor.init_state(clip.folder)
    for obj_id, prompt in clip.prompts.items():
        predictor.add_new_mask(state, start, obj_id, prompt["mask"])
    expected = {t: painted(ids, logits) for t, ids, logits in predictor.propagate_in_video(state, start)}
    found = labels_in(out)
    for t in range(len(clip.frames)):
        assert (found[f"{t:05d}"] == expected.get(t, 0)).all()
    routes = predictor.route_table(state)
    routes[routes["frame_idx"] >= start].to_csv(tmp_path / "routes.csv", index=False)
    assert (out / MARKER).read_text() == (tmp_path / "routes.csv").read_text()
    routes = routes[routes["frame_idx"] >= start]
    active, routed = (
        one.groupby("frame_idx")["active"].sum() for one in (routes, routes[routes["reason"] == "routed"])
    )
    assert summary.routed_blocks == routed.mean() < summary.active_blocks == active.mean() < 48
    assert (summary.frames, summary.objects, summary.routed, summary.lost) == (5, 2, len(routed), 0)
    assert f"{active.mean():.1f} of 48 blocks active ({routed.mean():.1f} on {len(routed)} routed frames)" in str(
        summary
    )
    assert_holds(out, 5, start)


def test_a_video_file_gives_the_bits_of_propagate_in_video(predictor, clip, tmp_path):
    path = tmp_path / "clip.mp4"
    write_overlay_video(path, clip.frames, [np.zeros((96, 128), np.uint8)] * 5, fps=10)
    track_video(predictor, path, clip.prompts, tmp_path / "out")
    state = predictor.init_state(path)
    for obj_id, prompt in clip.prompts.items():
        predictor.add_new_mask(state, 0, obj_id, prompt["mask"])
    found = labels_in(tmp_path / "out")
    for t, ids, logits in predictor.propagate_in_video(state, 0):
        assert (found[f"{t:05d}"] == painted(ids, logits)).all()
    assert_holds(tmp_path / "out", 5)


def test_frames_without_files_are_tracked_alike_and_shown(predictor, clip, tmp_path):
    track_video(predictor, clip.folder, clip.prompts, tmp_path / "files")
    track_video(predictor, clip.frames, clip.prompts, tmp_path / "arrays")
    track_video(predictor, iter(clip.frames), clip.prompts, tmp_path / "generator")
    expected = labels_in(tmp_path / "files")
    for t, labels in labels_in(tmp_path / "arrays").items():
        assert (labels == expected[t]).all()
    assert_holds(tmp_path / "generator", 5)  # of a length that nobody told, whose masks may differ in bits
    _, data = page_of(tmp_path / "arrays")
    assert data["menu"] == ["frames"] and data["videos"]["frames"]["files"][4] == "00004.jpg"


@pytest.mark.parametrize("error", [RDSInputError("camera 0 is gone"), KeyboardInterrupt(), OSError(5, "no signal")])
def test_a_source_that_stops_in_the_middle_leaves_the_frames_before(predictor, clip, tmp_path, error):
    out = tmp_path / "out"
    with (
        pytest.raises(type(error)) as raised,
        pytest.warns(UserWarning, match="out: stopped after 3 frames; what was tracked is there"),
    ):
        track_video(predictor, stops_after(clip.frames, 3, error), clip.prompts, out)
    assert raised.value is error
    assert_holds(out, 3)
    why = "interrupted" if isinstance(error, KeyboardInterrupt) else str(error)
    page, _ = page_of(out)
    assert "3 frames, 2 objects" in page and f"stopped after 3 frames: {why}." in page


def test_a_broken_picture_in_the_middle_leaves_the_frames_before(predictor, clip, tmp_path):
    shutil.copytree(clip.folder, tmp_path / "clip")
    (tmp_path / "clip" / clip.paths[3].name).write_bytes(b"no picture")
    with pytest.raises(RDSInputError, match=clip.paths[3].name):
        track_video(predictor, tmp_path / "clip", clip.prompts, tmp_path / "out")
    assert_holds(tmp_path / "out", 3)


@pytest.mark.parametrize("name", ["write_palette_png", "OverlayVideo.add"])
def test_an_interrupt_while_a_frame_is_written_waits_for_the_whole_frame(predictor, clip, tmp_path, monkeypatch, name):
    owner, name = (track_files.OverlayVideo, "add") if "." in name else (track_files, name)
    write, calls = getattr(owner, name), []

    def interrupted(*arguments):
        calls.append(1)
        if len(calls) == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return write(*arguments)

    monkeypatch.setattr(owner, name, interrupted)
    with pytest.raises(KeyboardInterrupt):
        track_video(predictor, clip.folder, clip.prompts, tmp_path / "out")
    assert_holds(tmp_path / "out", 2)


@pytest.mark.parametrize("place", ["session", "files", "page", "result"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_second_interrupt_loses_no_frame_wherever_it_comes(predictor, clip, tmp_path, monkeypatch, place, number):
    """While the session, the files or the page are closed, or while the result is moved to its place."""
    before = signal.signal(signal.SIGTERM, processes.stop)
    owner, name = {
        "session": (TrackingSession, "close"),
        "files": (track_files.TrackFiles, "close"),
        "page": (track_files, "inspector_page"),
        "result": (output, "_put"),
    }[place]
    inner, paint, seen, painted_frames = getattr(owner, name), track.painted, [], []

    def interrupted(*arguments, **options):
        seen.append(1)
        os.kill(os.getpid(), number)
        return inner(*arguments, **options)

    def third(*arguments):
        painted_frames.append(1)
        if len(painted_frames) == 3:
            os.kill(os.getpid(), number)
        return paint(*arguments)

    monkeypatch.setattr(owner, name, interrupted)
    monkeypatch.setattr(track, "painted", third)
    try:
        with pytest.raises((KeyboardInterrupt, SystemExit)), pytest.warns(UserWarning, match="stopped after 2 frames"):
            track_video(predictor, clip.folder, clip.prompts, tmp_path / "out")
    finally:
        signal.signal(signal.SIGTERM, before)
    assert seen and len(labels_in(tmp_path / "out")) == 2
    assert (tmp_path / "out" / "inspector.html").exists() == (place != "page")


def test_an_interrupt_while_a_whole_result_is_moved_in_waits_for_it(predictor, clip, tmp_path, monkeypatch):
    put = output._put

    def interrupted(*arguments):
        os.kill(os.getpid(), signal.SIGINT)
        put(*arguments)

    monkeypatch.setattr(output, "_put", interrupted)
    with pytest.raises(KeyboardInterrupt):
        track_video(predictor, clip.folder, clip.prompts, tmp_path / "out")
    assert_holds(tmp_path / "out", 5)


def test_a_frame_that_cannot_be_written_leaves_nothing_of_itself(predictor, clip, tmp_path, monkeypatch):
    def full(path, labels):
        path.write_bytes(b"half a picture")
        if path.stem == "00002":
            raise OSError(28, "No space left on device")
        write(path, labels)

    write = track_files.write_palette_png
    monkeypatch.setattr(track_files, "write_palette_png", full)
    with pytest.raises(OSError, match="No space left"):
        track_video(predictor, clip.folder, clip.prompts, tmp_path / "out")
    assert_holds(tmp_path / "out", 2)


def test_a_second_interrupt_costs_the_page_and_no_masks(predictor, clip, tmp_path, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(track_files, "inspector_page", interrupted)
    with pytest.raises(RDSInputError, match="gone"):
        track_video(predictor, stops_after(clip.frames, 3, RDSInputError("gone")), clip.prompts, tmp_path / "out")
    assert_holds(tmp_path / "out", 3)
    with pytest.raises(KeyboardInterrupt):
        track_video(predictor, clip.frames, clip.prompts, tmp_path / "out", overwrite=True)
    assert_holds(tmp_path / "out", 5)


@pytest.mark.parametrize(
    ("frames", "options", "words"),
    [
        (0, {}, "gone"),
        (3, {"start_frame": 4}, "gone"),
        (5, {"start_frame": 5}, "start_frame is 5; give a whole number from 0 to 4"),
        (5, {"start_frame": -1}, "start_frame is -1"),
        (5, {"start_frame": 1.0}, "start_frame is 1.0"),
    ],
)
def test_an_error_before_the_first_tracked_frame_leaves_nothing(predictor, clip, tmp_path, frames, options, words):
    source = stops_after(clip.frames, frames, RDSInputError("gone")) if frames < 5 else iter(clip.frames)
    with pytest.raises(RDSInputError, match=words):
        track_video(predictor, source, clip.prompts, tmp_path / "deep" / "out", **options)
    assert list(tmp_path.iterdir()) == []


def test_an_earlier_result_stays_until_the_stopped_one_is_whole(predictor, clip, tmp_path):
    out = tmp_path / "out"
    track_video(predictor, clip.folder, clip.prompts, out)
    with pytest.raises(RDSInputError, match="gone"):
        track_video(predictor, stops_after(clip.frames, 0, RDSInputError("gone")), clip.prompts, out, overwrite=True)
    assert_holds(out, 5)
    with pytest.raises(RDSInputError, match="gone"):
        track_video(predictor, stops_after(clip.frames, 2, RDSInputError("gone")), clip.prompts, out, overwrite=True)
    assert_holds(out, 2)


def test_a_folder_that_grows_is_tracked_as_it_would_be_whole(predictor, clip, tmp_path):
    growing, out = tmp_path / "growing", tmp_path / "out"
    growing.mkdir()

    def fill():
        for path in clip.paths:
            shutil.copy(path, growing / f".{path.name}")
            os.replace(growing / f".{path.name}", growing / path.name)
            time.sleep(0.05)

    camera = threading.Thread(target=fill)
    camera.start()
    track_video(predictor, growing, clip.prompts, out, follow=True, patience=2)
    camera.join()
    assert_holds(out, 5)
    track_video(predictor, iter(clip.frames), clip.prompts, tmp_path / "whole")
    expected = labels_in(tmp_path / "whole")
    assert all((labels == expected[t]).all() for t, labels in labels_in(out).items())


def test_a_command_that_is_terminated_puts_its_result_in_place(clip, mini_weights, tmp_path):
    out = tmp_path / "out"
    options = ["--follow", "--patience", "99", "--box", "9,9,60,60", "--checkpoint", mini_weights, "--out", out]
    command = [sys.executable, "-m", "rds_lib", "track", clip.folder, *options]
    process = subprocess.Popen([str(part) for part in command], stderr=subprocess.PIPE, text=True)
    while process.poll() is None and len(list(tmp_path.glob(".tmp-*/*.png"))) < 5:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate()
    assert process.returncode == 143
    assert f"warning: {out}: stopped after 5 frames; what was tracked is there" in said
    assert_holds(out, 5)


def test_a_camera_is_named_on_the_command_line_and_its_size_comes_with_its_frames(
    clip, mini_weights, tmp_path, monkeypatch
):
    opened = []
    monkeypatch.setattr(
        track, "frames_of", lambda source, **options: opened.append((source, options)) or frames_of(clip.frames)
    )
    options = ["--box", "9,9,60,60", "--checkpoint", mini_weights, "--routing", "full", "--no-overlay"]
    command = ["track", "camera:0", "--out", tmp_path / "out", "--patience", "3", *options]
    result = CliRunner().invoke(app, [str(part) for part in command])
    assert result.exit_code == 0, result.output
    assert opened == [("camera:0", {"follow": False, "patience": 3.0})]
    assert page_of(tmp_path / "out")[1]["menu"] == ["camera:0"] and "5 frames, 1 object" in result.stdout


def test_a_mask_in_the_folder_that_is_followed_is_refused(clip, tmp_path):
    Image.new("L", (128, 96), 1).save(tmp_path / "mask.png")
    command = ["track", tmp_path, "--follow", "--mask", tmp_path / "mask.png", "--out", tmp_path / "out"]
    result = CliRunner().invoke(app, [str(part) for part in command])
    assert result.exit_code == 2 and "mask.png: lies in the folder that is followed" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1 and not (tmp_path / "out").exists()


def test_a_rate_to_hold_reaches_the_session_and_its_share_the_summary(predictor, clip, tmp_path, monkeypatch):
    asked, start = [], type(predictor).start

    @contextmanager
    def noted(self, *, fps=None, **options):
        asked.append((fps, options))
        with start(self, num_frames=options["num_frames"]) as session:
            pace = None if fps is None else SimpleNamespace(report=lambda: SimpleNamespace(in_time=0.8754))
            yield SimpleNamespace(step=session.step, pace=pace)

    monkeypatch.setattr(type(predictor), "start", noted)
    assert "in time" not in str(track_video(predictor, clip.folder, clip.prompts, tmp_path / "a"))
    summary = track_video(predictor, iter(clip.frames), clip.prompts, tmp_path / "b", hold=12.5)
    assert asked == [(None, {"num_frames": 5}), (12.5, {"num_frames": None, "counts_between": True})]
    assert str(summary).endswith(" s, 87.5% of frames in time")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--hold", "20", "--budget", "0.6", "--routing", "full"], "--hold 20: needs a router"),
        (["--hold", "0"], "hold is 0.0; give frames a second, above 0 and at most 1000"),
    ],
)
def test_a_rate_that_nothing_can_hold_is_refused(clip, tmp_path, options, words):
    command = ["track", clip.folder, "--box", "9,9,60,60", "--out", tmp_path / "out", *options]
    result = CliRunner().invoke(app, [str(part) for part in command])
    assert result.exit_code == 2 and words in result.stderr and not (tmp_path / "out").exists()


def test_a_rate_brings_its_router(clip, mini_weights, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    command = ["track", clip.folder, "--box", "9,9,60,60", "--hold", "1000", "--no-overlay", "--out", tmp_path / "out"]
    result = CliRunner().invoke(app, [str(part) for part in command])
    assert result.exit_code == 0 and "% of frames in time" in result.stdout


def traced_memory():
    """Bytes in use, but for the names of encoders that Python keeps, some at random, in its cache of attributes."""
    gc.collect()
    apart = [tracemalloc.Filter(False, module.__file__) for module in (Image, tracemalloc)]
    return sum(part.size for part in tracemalloc.take_snapshot().filter_traces(apart).statistics("filename"))


def test_what_is_kept_of_a_video_does_not_grow_with_it(tmp_path, monkeypatch):
    monkeypatch.setattr(track_files, "MOST_SHOWN", 8)
    files, sizes = TrackFiles(tmp_path), {}
    tracemalloc.start()
    for t in range(800):
        route = FrameRoute(tuple(i % 2 == 0 for i in range(48)), tuple(i / 48 + t for i in range(48)), "routed")
        files.add(np.full((24, 32, 3), t % 256, np.uint8), None, np.full((24, 32), 1, np.uint8), route)
        if files.count in (200, 800):
            sizes[files.count] = traced_memory()
    tracemalloc.stop()
    files.close()
    assert sizes[800] - sizes[200] < 10_000
    assert len(list((tmp_path / ".frames").iterdir())) <= 8 and files.active_blocks == 24


def test_a_long_video_has_a_page_of_evenly_spaced_frames(predictor, clip, tmp_path, monkeypatch):
    monkeypatch.setattr(track_files, "MOST_SHOWN", 8)
    frames = [clip.frames[t % 5] for t in range(18)]
    track_video(predictor, frames, clip.prompts, tmp_path / "out", start_frame=3)
    assert_holds(tmp_path / "out", 18, 3)
    page, data = page_of(tmp_path / "out")
    shown, (run,) = data["videos"]["frames"]["files"], data["runs"]["frames"]["runs"]
    assert shown == [f"{t:05d}.jpg" for t in range(0, 18, 4)] and "One frame in 4 is shown." in page
    assert run["reasons"][0] == "not tracked" and run["reasons"][1:] == ["routed"] * 4
    routes = read_table(tmp_path / "out" / MARKER)
    expected = routes[routes["frame_idx"].isin([4, 8, 12, 16])]["active"]
    assert run["active"] == "0" * 48 + "".join(map(str, expected.astype(int)))
