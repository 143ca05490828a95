"""The live inspector in a browser: a view follows the newest frame, unless someone looks at an earlier one."""

import base64
import json

import numpy as np
import pytest

from rds_lib import LiveInspector
from rds_lib.model.shape import EncoderShape
from rds_lib.routing.route_table import FrameRoute
from rds_lib.show.inspector.page import FRONT, STYLE

pytestmark = pytest.mark.browser
K = (0, 2, 8, 44, 47)
HOST = """<!doctype html><meta charset="utf-8"><style>%s</style><main id="inspector"></main><script type="module">
%s
const handlers = {}, state = { menu: ["clip"], sequence: "clip", shown: ["live", ""], frame: 0 };
Object.assign(state, { routing: {}, video: {}, runs: {} });
const model = { get: (name) => state[name], set: (name, value) => (state[name] = value), save_changes() {},
                on: (name, handler) => (handlers[name] = handler), off: (name) => delete handlers[name] };
render({ model, el: document.getElementById("inspector") });
window.tell = (told) => { Object.assign(state, told), handlers["change:video"](), handlers["change:runs"](); };
</script>"""


@pytest.fixture
def view(chromium, tmp_path):
    """A page with the front end and no frames yet; errors fail the test."""
    (tmp_path / "live.html").write_text(HOST % (STYLE.read_text(), FRONT.read_text()), encoding="utf-8")
    context, errors = chromium.new_context(viewport={"width": 1200, "height": 900}), []
    page = context.new_page()
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto((tmp_path / "live.html").as_uri())
    page.wait_for_function("'tell' in window")
    yield page
    context.close()
    assert errors == []


def add(live, view, count):
    """Add frames, tell the view, and wait until it has drawn; returns what it says of its frame."""
    for t in range(live.count, live.count + count):
        labels = np.zeros((96, 160), np.uint8)
        labels[20:50, 20 + t : 50 + t] = 1
        active = tuple(i in K or (i + t) % 3 > 0 for i in range(48))
        route = FrameRoute(active, tuple(0.3 + 0.4 * flag for flag in active), "routed")
        live.add(np.full((96, 160, 3), 100 + 5 * t, np.uint8), labels, route)
    live.update()
    told = {"video": live.video, "runs": live.runs}
    text = json.dumps(told, default=lambda data: base64.b64encode(data).decode())
    before = view.locator(".rds-count").text_content()
    view.evaluate("text => window.tell(JSON.parse(text))", text)
    view.wait_for_function("before => document.querySelector('.rds-count').textContent !== before", arg=before)
    return view.locator(".rds-count").text_content()


def test_a_view_follows_the_newest_frame_and_stays_where_someone_looks(view, shot):
    live = LiveInspector("clip", EncoderShape(48, K[:-1], K), kept=6)
    assert add(live, view, 3) == "frame 2 (00002), 3 so far"
    assert add(live, view, 2) == "frame 4 (00004), 5 so far"
    view.locator(".rds-inspector").press("Home")
    view.keyboard.press("ArrowRight")
    assert add(live, view, 1) == "frame 1 (00001), 6 so far"
    view.wait_for_timeout(300)  # by then it has told the model which frame it shows
    view.locator(".rds-inspector").press("End")
    view.keyboard.press("ArrowLeft")
    assert add(live, view, 2) == "frame 4 (00004), the last 6 are kept"
    view.locator("[data-pane=encoderA]").get_by_text("frame 4").wait_for()
    assert add(live, view, 9) == "frame 11 (00011), the last 6 are kept", "the oldest one, where its own is gone"
    view.locator(".rds-inspector").press("End")
    assert add(live, view, 1) == "frame 17 (00017), the last 6 are kept"
    shot(view, "live")


def test_an_object_that_was_hidden_stays_hidden(view):
    live = LiveInspector("clip", EncoderShape(48, K[:-1], K))
    add(live, view, 2)
    view.get_by_label("object 1").uncheck()
    add(live, view, 2)
    assert not view.get_by_label("object 1").is_checked()
