"""LiveInspector: what the front end gets while a video is tracked, how little of it is kept, and the picture."""

import io
import zlib

import numpy as np
import pytest
from PIL import Image

from rds_lib import LiveInspector
from rds_lib.core.errors import RDSInputError
from rds_lib.model.shape import EncoderShape
from rds_lib.routing.route_table import FrameRoute
from rds_lib.show.inspector import live as module

K = (0, 2, 8, 44, 47)
SHAPE = EncoderShape(48, K[:-1], K)


def frame_of(t, size=(24, 32)):
    labels = np.zeros(size, np.uint8)
    labels[4:12, 2 + t % 9 : 12 + t % 9] = 3
    active = tuple(i in K or (i + t) % 2 == 0 for i in range(48))
    route = FrameRoute(active, tuple(0.25 + 0.5 * flag for flag in active), "routed")
    return np.full((*size, 3), 5 * t % 250, np.uint8), labels, route


def labels_told(live):
    video, (run,) = live.video, live.runs["runs"]
    shape = len(video["frames"]), video["height"], video["width"]
    return np.frombuffer(zlib.decompress(run["masks"]), np.uint8).reshape(shape)


@pytest.fixture
def clock(monkeypatch):
    """The seconds that have passed, to be set by the test."""
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    return now


def test_the_front_end_gets_what_was_added():
    live = LiveInspector("clip", SHAPE, run="RDS 0.6")
    assert live.video == {} and live.menu == [live.sequence] == ["clip"] and live.shown == ["RDS 0.6", ""]
    for t in range(3):
        live.add(*frame_of(t))
    live.update()
    video, (run,) = live.video, live.runs["runs"]
    assert (video["name"], live.runs["name"], video["first"], video["live"]) == ("clip", "clip", 0, True)
    assert (video["depth"], video["starts"], video["always_on"]) == (48, [0, 2, 8, 44], list(K))
    assert [item["id"] for item in video["objects"]] == [3] and video["files"] == ["00000", "00001", "00002"]
    assert np.asarray(Image.open(io.BytesIO(video["frames"][2]))).mean() == pytest.approx(10, abs=2)
    assert (labels_told(live) == [frame_of(t)[1] for t in range(3)]).all()
    assert run["name"] == "RDS 0.6" and run["reasons"] == ["routed"] * 3
    routes = [frame_of(t)[2] for t in range(3)]
    assert run["active"] == "".join(str(int(flag)) for route in routes for flag in route.active)
    assert run["keep"] == [round(1000 * p) for route in routes for p in route.keep_prob]


def test_a_frame_on_which_nothing_ran_is_shown_so():
    live = LiveInspector("clip", SHAPE)
    frame, labels, route = frame_of(0)
    live.add(frame, 0 * labels, None)
    live.add(frame, labels, route)
    live.update()
    (run,) = live.runs["runs"]
    assert (
        run["reasons"] == ["not tracked", "routed"] and run["active"][:48] == "0" * 48 and run["keep"][:48] == [0] * 48
    )


def test_updates_come_once_a_second_and_take_a_tenth_of_the_time(clock, monkeypatch):
    told, live = [], LiveInspector("clip", SHAPE)
    live.observe(lambda change: told.append(len(change["new"]["frames"])), "video")
    for t in range(35):
        clock[0] += 0.125
        live.add(*frame_of(t))
    assert told == [1, 9, 17, 25, 33]
    slow = module.runs_data
    monkeypatch.setattr(module, "runs_data", lambda *a: (clock.__setitem__(0, clock[0] + 2), slow(*a))[1])
    told.clear()
    for t in range(500):
        clock[0] += 0.125
        live.add(*frame_of(t))
    assert len(told) == 4, "one soon, then one in 20 seconds, of which it takes 2"


def test_the_last_frames_are_kept_small(clock):
    live = LiveInspector("clip", SHAPE, kept=4)
    for t in range(10):
        clock[0] += 9
        live.add(*frame_of(t, (600, 960)))
    video = live.video
    assert (len(video["frames"]), video["first"], video["width"], video["height"]) == (4, 6, 480, 300)
    assert video["files"] == ["00006", "00007", "00008", "00009"] and len(live._kept) == 4 and live.count == 10
    assert repr(live) == "LiveInspector(clip: 48 blocks x the last 4 of 10 frames)"


def test_nothing_is_told_twice(clock):
    live = LiveInspector("clip", SHAPE)
    live.add(*frame_of(0))
    video = live.video
    live.update()
    live.picture()
    assert live.video is video


def test_a_viewer_without_a_kernel_gets_the_picture_of_what_has_come(clock):
    live = LiveInspector("two\nlines", SHAPE)
    before, _ = live._repr_mimebundle_()
    assert before["text/plain"] == "LiveInspector(two lines: no frames yet)"
    assert not any(kind.startswith("image/") for kind in before)
    live.add(*frame_of(0))
    one = live.picture().image()
    for t in range(1, 7):
        live.add(*frame_of(t))
    after, _ = live._repr_mimebundle_()
    (kind,) = {"image/png", "image/jpeg"} & set(after)
    assert Image.open(io.BytesIO(after[kind])).width > 700 and one != live.picture().image()
    assert after["text/plain"] == "LiveInspector(two lines: 48 blocks x 7 frames)"
    assert len(live.video["frames"]) == 7, "a view that opens now has them all"


def test_the_picture_counts_frames_as_the_video_does():
    live = LiveInspector("clip", SHAPE, kept=3)
    for t in range(8):
        live.add(*frame_of(t))
    figure = live.picture().figure
    figure.canvas.draw()
    titles = [axis.get_title() for panel in figure.subfigs for part in (panel, *panel.subfigs) for axis in part.axes]
    assert [title.partition(":")[0] for title in titles if title.startswith("frame ")] == [
        "frame 5",
        "frame 6",
        "frame 7",
    ]
    ticks = [label.get_text() for label in figure.subfigs[2].axes[0].get_xticklabels()]
    assert {"5", "7"} <= set(ticks) and "0" not in ticks


@pytest.mark.parametrize(("frame", "labels"), [((24, 32), (32, 24)), ((25, 32), (25, 32))])
def test_frames_and_masks_of_another_size_are_refused(frame, labels):
    live = LiveInspector("clip", SHAPE)
    live.add(*frame_of(0))
    with pytest.raises(RDSInputError, match="give all frames one size"):
        live.add(np.zeros((*frame, 3), np.uint8), np.zeros(labels, np.uint8))
    assert live.count == 1
    with pytest.raises(RDSInputError, match="kept is 0"):
        LiveInspector("clip", SHAPE, kept=0)
