"""RoutingInspector: what the front end gets, the page, the picture, tracking again; tests/show/browser has the rest."""

import base64
import io
import json
import re
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rds_lib import RoutingInspector
from rds_lib.core.errors import RDSInputError
from rds_lib.evaluation.recordings import Recording, make_run, record
from rds_lib.model.shape import EncoderShape
from rds_lib.routing.build import build_rds_video_predictor
from rds_lib.routing.weights import load_rds
from rds_lib.show.inspector.data import LIVE_PIXELS, live_side, runs_data, scaled, video_data
from rds_lib.show.inspector.page import inspector_page

K = (0, 2, 8, 44, 47)
NAMES = ["</script><script>alert(1)</script>", "\"'&<b>", "two\nlines", "\U0001f600 \u2028"]


def make_recording(folder, *, name="clip", runs=("A", "B"), length=3, size=(24, 32), noise=False):
    """A recording with random frames, an object that moves right, and run names as given."""
    rng, paths = np.random.default_rng(0), []
    labels = np.zeros((length, *size), np.uint8)
    for t in range(length):
        frame = np.full((*size, 3), 10 * t % 250, np.uint8)
        if noise and t < 2:
            frame = rng.integers(0, 256, (*size, 3), np.uint8)
        paths.append(paths[t % 2] if noise and t >= 2 else folder / f"{t:03d}<b>.png")
        if not paths[t].exists():
            Image.fromarray(frame).save(paths[t])
        labels[t, 4:12, 2 + t % 5 : 12 + t % 5] = 3
    truth = np.roll(labels, 1, axis=2)
    made = tuple(make_run(run, labels, None, depth=48, truth=truth, starts={3: 0}) for run in runs)
    return Recording(name, tuple(paths), (3,), EncoderShape(48, K[:-1], K), made, truth)


@pytest.fixture
def recording(tmp_path):
    return make_recording(tmp_path)


@pytest.fixture(scope="module")
def live(sequences, mini_weights, rds_file):
    """A predictor for budget 0.5, what it was built with, and its recording of a sequence."""
    predictor = build_rds_video_predictor(
        "mini", mini_weights, rds_file, budget=0.5, device="cpu", apply_postprocessing=False
    )
    return predictor, load_rds(rds_file), record("RDS 0.5", predictor, sequences[2])


def data_of(page):
    return json.loads(page.partition('id="data">')[2].partition("</script>")[0])


def test_front_end_gets_frames_masks_and_numbers_that_read_back(tmp_path, recording):
    run = recording.runs[0]
    run.active[1, 5:9], run.keep_prob[1, 5:9] = False, 0.1234
    page = RoutingInspector(recording).to_html(tmp_path / "page.html").read_text(encoding="utf-8")
    data = data_of(page)
    video, first = data["videos"]["clip"], data["runs"]["clip"]["runs"][0]
    assert (data["menu"], data["shown"], data["routing"]) == (["clip"], ["A", "B"], {})
    shape = (len(video["frames"]), video["height"], video["width"])
    assert shape == (3, 24, 32) and video["files"][1] == "001<b>.png"
    assert (video["starts"], video["always_on"], video["depth"]) == ([0, 2, 8, 44], list(K), 48)
    assert Image.open(io.BytesIO(base64.b64decode(video["frames"][0]))).size == (32, 24)
    for text, expected in [(first["masks"], run.labels), (video["truth"], recording.truth)]:
        assert (np.frombuffer(zlib.decompress(base64.b64decode(text)), np.uint8).reshape(shape) == expected).all()
    assert first["active"] == "".join(map(str, run.active.astype(int).ravel())) and first["keep"][48 + 5] == 123
    assert first["quality"]["3"] == [None, *np.round(run.quality[3][1:], 3).tolist()] and first["mean"] is None


def test_page_needs_nothing_from_outside(tmp_path, recording):
    page = RoutingInspector(recording).to_html(tmp_path / "page.html").read_text(encoding="utf-8")
    shell = page.replace(page.partition('id="data">')[2].partition("</script>")[0], "")
    assert re.findall(r"https?://[^\"'\s)]*", shell) == ["http://www.w3.org/2000/svg"], "a name that nobody fetches"
    loads = r"\b(src|href)\s*=\s*[\"']|@import|url\(|\bfetch\(|\bimport\s*\(|\bfrom\s+[\"']|XMLHttpRequest"
    assert not re.search(loads, shell) and "innerHTML" not in shell


def test_page_of_eighty_large_frames_stays_below_five_megabytes(tmp_path):
    large = make_recording(tmp_path, length=80, size=(480, 854), noise=True, runs=("SAM2", "RDS 0.8", "RDS 0.4"))
    page = RoutingInspector(large).to_html(tmp_path / "page.html")
    assert page.stat().st_size < 5e6
    assert len(data_of(page.read_text(encoding="utf-8"))["videos"]["clip"]["frames"]) == 80


def test_a_few_frames_of_a_long_video_tell_which_sizes_need_no_trying(tmp_path, monkeypatch):
    tried = []
    monkeypatch.setattr(
        "rds_lib.show.inspector.page.video_data",
        lambda recording, side, **options: tried.append(side) or video_data(recording, side, **options),
    )
    long = make_recording(tmp_path, length=240, size=(120, 160), noise=True)
    mean = sum(len(jpeg) for jpeg in video_data(long, 160, quality=75)["frames"]) / 240
    limits = {"all fit": 1.2 * 240 * 4 / 3 * mean + 300_000, "half fit": 240 * 4 / 3 * mean / 2}
    for limit, sides in ((limits["all fit"], [854]), (limits["half fit"], [96])):
        tried.clear()
        inspector_page([long], (), title="long", limit=limit)
        assert tried == sides
    tried.clear()
    short = make_recording(tmp_path, length=3, size=(120, 160), noise=True)
    inspector_page([short], (), title="short", limit=1)
    assert len(tried) == 7, "of a short one each is made"


def test_recordings_too_large_for_a_page_are_refused_and_nothing_is_written(tmp_path, recording, monkeypatch):
    monkeypatch.setattr("rds_lib.show.inspector.page.PAGE_BYTES", 20_000)
    words = r"page.html: with the smallest frames the page has \d\d,\d{3} bytes, 20,000 are allowed; give fewer"
    with pytest.raises(RDSInputError, match=words):
        RoutingInspector(recording).to_html(tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()


@pytest.mark.parametrize("name", NAMES)
def test_names_are_text_in_the_page(tmp_path, name):
    recording = make_recording(tmp_path, name=name, runs=(name, "B"))
    page = inspector_page([recording], (), title=name, summary=name)
    assert page.count("<script") == page.count("</script>") == 2 and "<b>" not in page
    assert data_of(page)["menu"] == [name] and data_of(page)["runs"][name]["runs"][0]["name"] == name
    assert "\n" not in repr(RoutingInspector(recording))


def test_cell_output_is_a_widget_a_small_picture_and_one_line(tmp_path):
    recordings = [make_recording(tmp_path, name=n, size=(240, 427), length=20, noise=True) for n in ("one", "two")]
    data, _ = RoutingInspector(recordings, ["B"])._repr_mimebundle_()
    assert data["text/plain"] == "RoutingInspector(2 videos, one: 48 blocks x 20 frames, B)"
    (kind,) = {"image/png", "image/jpeg"} & set(data)
    assert set(data) == {"text/plain", kind, "application/vnd.jupyter.widget-view+json"}
    assert len(data[kind]) < 120_000 * 3 / 4 and Image.open(io.BytesIO(data[kind])).width > 700


def test_picture_follows_the_view(tmp_path):
    other = make_recording(tmp_path, name="two", runs=("A",))
    inspector = RoutingInspector([make_recording(tmp_path, name="one"), other])
    before = inspector.picture().image()
    inspector.frame = 1
    assert inspector.picture().image() != before
    inspector.sequence = "two"
    assert inspector.frame == 0 and inspector.video["name"] == inspector.runs["name"] == "two"
    assert repr(inspector) == "RoutingInspector(2 videos, two: 48 blocks x 3 frames, A)"
    assert inspector.picture().text == repr(inspector)


@pytest.mark.parametrize("runs", [("A",), ("A", "B")])
def test_a_video_of_one_frame_has_a_picture(tmp_path, runs):
    picture = RoutingInspector(make_recording(tmp_path, length=1, runs=runs)).picture()
    assert Image.open(io.BytesIO(picture.image())).width > 700


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (([],), "recordings: give one"),
        ((["clip.mp4"],), "recordings: give one"),
        (("same",), "names must differ; got clip, clip"),
        ((None, "A"), "runs is 'A'; give one or two names"),
        ((None, ["A", "B", "A"]), "give one or two names"),
        ((None, ["A", "C"]), "no run 'C'; it has: A, B"),
    ],
)
def test_bad_arguments_are_refused(recording, arguments, words):
    first, *others = arguments
    first = [recording, recording] if first == "same" else recording if first is None else first
    with pytest.raises(RDSInputError, match=re.escape(words)):
        RoutingInspector(first, *others)


def test_predictor_without_budget_or_thresholds_is_refused(live, mini_weights):
    predictor, weights, recording = live
    full = build_rds_video_predictor("mini", mini_weights, routing="full", device="cpu")
    blind = {"predictor": predictor, "weights": replace(weights, taus={})}
    for arguments in ({"predictor": full, "weights": weights}, {"predictor": predictor}, blind):
        with pytest.raises(RDSInputError, match="a predictor with a budget and `weights`"):
            RoutingInspector(recording, **arguments)


def test_tracking_again_adds_a_run_and_keeps_the_rest(live, sequences):
    predictor, weights, recording = live
    inspector = RoutingInspector(recording, predictor=predictor, weights=weights, sequences=sequences)
    video, policy = inspector.video, predictor.policy
    run = inspector.reroute(0.9)
    assert run.name == "live 0.9, 44 blocks" and (run.active[run.is_routed].sum(1) == 44).all() and run.is_routed.any()
    assert inspector.routing["budget"] == 0.9 and inspector.routing["tau"] is None
    assert run.active[1:].sum() > recording.runs[0].active[1:].sum()
    assert inspector.shown == ["RDS 0.5", run.name] == [one["name"] for one in inspector.runs["runs"]]
    assert inspector.video is video and predictor.policy is policy
    assert inspector.recording.runs[0] is recording.runs[0] and len(recording.runs) == 1 and set(run.quality) == {1, 2}
    assert inspector.reroute(0.9, 1.0).active.sum() < run.active.sum()
    assert inspector.reroute(0.5).name == "live 0.5, tau 0.50" and inspector.routing["tau"] == 0.5
    with pytest.raises(RDSInputError, match="budget is 0.4; this router serves 0.5 to 1"):
        inspector.reroute(0.4)
    assert predictor.policy is policy


def test_sliders_start_from_the_policy_and_know_the_calibrated_thresholds(live, sequences):
    predictor, weights, recording = live
    routing = RoutingInspector(recording, predictor=predictor, weights=weights, sequences=sequences).routing
    assert (routing["budget"], routing["tau"]) == (0.5, 0.5)
    assert routing["budgets"] == pytest.approx(np.linspace(0.5, 1, 11)), "none below the lowest that the router serves"
    assert routing["taus"] == [0.5, *[None] * 9, 0.0], "one was calibrated; budget 1 runs all"
    assert routing["blocks"] == [26, 29, 31, 33, 35, 37, 39, 42, 44, 46, 48]


def test_front_end_request_is_answered_also_when_it_fails(live, sequences, monkeypatch):
    predictor, weights, recording = live
    inspector = RoutingInspector(recording, predictor=predictor, weights=weights, sequences=sequences)
    sent = []
    monkeypatch.setattr(inspector, "send", sent.append)
    inspector._handle_custom_msg({"budget": 0.5, "tau": 0.3}, [])
    assert sent == [{}] and inspector.shown[1] == "live 0.5, tau 0.30"
    inspector._handle_custom_msg({"budget": 7, "tau": None}, [])
    assert sent[1]["error"].startswith("RDSInputError: budget is 7") and predictor.policy.budget == 0.5


def test_another_video_opens_with_the_first_runs_where_the_live_one_is_unknown(live, sequences, tmp_path):
    predictor, weights, recording = live
    other = make_recording(tmp_path, name="other", runs=("A", "RDS 0.5"))
    inspector = RoutingInspector([recording, other], predictor=predictor, weights=weights, sequences=sequences)
    inspector.reroute(0.9)
    assert inspector.routing["budget"] == 0.9
    inspector.sequence = "other"
    assert inspector.shown == ["RDS 0.5", ""] and inspector.routing == {}


def test_video_without_its_sequence_cannot_be_tracked_again(live, sequences):
    predictor, weights, recording = live
    inspector = RoutingInspector(recording, predictor=predictor, weights=weights, sequences=sequences[:1])
    assert inspector.routing == {}
    with pytest.raises(RDSInputError, match="cannot be tracked again; give RoutingInspector a predictor"):
        inspector.reroute(0.5)


def test_long_videos_are_sent_in_smaller_frames(tmp_path, recording):
    assert live_side(recording) == 854 and video_data(recording, 16)["width"] == 16
    long = replace(recording, frame_paths=recording.frame_paths[:1] * 1000)
    long.__dict__["size"] = (1080, 1920)
    masks = runs_data(recording, 16)["runs"][0]["masks"]
    assert set(zlib.decompress(masks)) == {0, 3} and len(zlib.decompress(masks)) == 3 * 12 * 16
    height, width = scaled(long.size, live_side(long))
    assert 1000 * height * width <= LIVE_PIXELS and width / height == pytest.approx(16 / 9, rel=0.02)


def test_package_data_names_the_front_end():
    import tomllib

    from rds_lib.show.inspector import page as module

    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    files = project["tool"]["setuptools"]["package-data"]["rds_lib.show.inspector"]
    assert {module.FRONT.name, module.STYLE.name} == set(files)
    assert all((module.FRONT.parent / name).is_file() for name in files)
