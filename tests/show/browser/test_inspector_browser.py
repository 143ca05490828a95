"""The inspector in a browser: the page without a kernel or a network, and the widget in JupyterLab."""

import io
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.request

import numpy as np
import pytest
from PIL import Image

from rds_lib.core import paths
from rds_lib.evaluation.recordings import Recording, make_run
from rds_lib.model.shape import EncoderShape
from rds_lib.pipeline import notebook
from rds_lib.show.inspector.page import inspector_page
from rds_lib.show.paint import overlay

pytestmark = pytest.mark.browser
ROOT = ".rds-inspector[data-frame]"
K = (0, 2, 8, 44, 47)
EVIL = "\"'</script><img src=x onerror=\"document.title='owned'\">"


def make_recording(folder, name, run_names, length=12):
    """Two squares that move apart on grey frames; every run skips another set of blocks."""
    size, files, labels = (96, 160), [], np.zeros((length, 96, 160), np.uint8)
    for t in range(length):
        labels[t, 20:50, 20 + 2 * t : 50 + 2 * t], labels[t, 55:85, 90 - 2 * t : 120 - 2 * t] = 1, 2
        files.append(folder / f"{t:03d}.png")
        Image.fromarray(np.full((*size, 3), 100 + 8 * t, np.uint8)).save(files[-1])
    runs = []
    for n, run_name in enumerate(run_names):
        run = make_run(run_name, np.roll(labels, n, axis=2), None, depth=48, truth=labels, starts={1: 0, 2: 0})
        skipped = [i for i in range(48) if i not in K and i % (3 - n) == 0]
        run.active[1:, skipped], run.keep_prob[1:, skipped] = False, 0.2
        runs.append(run)
    return Recording(name, tuple(files), (1, 2), EncoderShape(48, K[:-1], K), tuple(runs), labels)


@pytest.fixture
def page(chromium, tmp_path):
    """The page of two videos, one of them named like code, opened with the network cut; errors fail the test."""
    recordings = [
        make_recording(tmp_path, "first", ("RDS 0.8", "RDS 0.4")),
        make_recording(tmp_path, EVIL, (EVIL, "second\nline \U0001f600"), length=5),
    ]
    content = inspector_page(recordings, ("RDS 0.8", "RDS 0.4"), title=EVIL, summary=EVIL)
    file = tmp_path / "page.html"
    file.write_text(content, encoding="utf-8")
    context = chromium.new_context(viewport={"width": 1200, "height": 900}, accept_downloads=True)
    context.set_offline(True)
    errors, wanted = [], []
    context.route(re.compile("^(?!file:|data:|blob:)"), lambda route: (wanted.append(route.request.url), route.abort()))
    page = context.new_page()
    kinds = ("error", "warning")
    page.on("console", lambda message: errors.append(message.text) if message.type in kinds else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(file.as_uri())
    page.wait_for_selector(ROOT)
    yield page
    context.close()
    assert errors == [] and wanted == []


def state(page):
    """Frame and runs that are drawn."""
    return page.locator(ROOT).evaluate("root => [Number(root.dataset.frame), root.dataset.run]")


def pixels(page, pane):
    """A pane's canvas as an array (H, W, 3)."""
    import base64

    url = page.locator(f"[data-pane={pane}] canvas").evaluate("canvas => canvas.toDataURL()")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))).convert("RGB")).astype(int)


def click_column(page, pane, t, length):
    """Click on a frame's column of a map or chart, whose plot lies 44 px from the left and 8 from the right."""
    canvas = page.locator(f"[data-pane={pane}] canvas")
    box = canvas.bounding_box()
    canvas.click(position={"x": 44 + (box["width"] - 52) * (t + 0.5) / length, "y": 60})


def test_maps_and_charts_lead_to_a_frame(page, shot):
    assert state(page) == [0, "RDS 0.8 | RDS 0.4"]
    before = pixels(page, "frameA")
    for pane, t in (("heatA", 7), ("heatB", 3), ("quality", 10), ("work", 5)):
        click_column(page, pane, t, 12)
        assert state(page)[0] == t
    assert abs(pixels(page, "frameA") - before).mean() > 5
    page.locator("[data-pane=heatA] canvas").hover(position={"x": 300, "y": 60})
    tip = page.locator(".rds-tip").text_content()
    assert re.fullmatch(r"frame \d+, block \d+: keep probability \d\.\d\d, (ran|skipped); full", tip)
    shot(page, "page-1200")


def test_keys_work_as_soon_as_the_page_is_open(page):
    page.keyboard.press("ArrowRight")
    assert state(page)[0] == 1


def test_dragging_over_a_map_scrubs(page):
    box = page.locator("[data-pane=heatA] canvas").bounding_box()
    page.mouse.move(box["x"] + 50, box["y"] + 50)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] - 12, box["y"] + 80, steps=5)
    assert state(page)[0] == 11
    page.mouse.up()
    page.mouse.move(box["x"] + 60, box["y"] + 50)
    assert state(page)[0] == 11


def test_keys_step_jump_and_play_but_leave_menus_alone(page):
    root = page.locator(ROOT)
    root.focus()
    for key, t in (
        ("ArrowRight", 1),
        ("ArrowRight", 2),
        ("ArrowLeft", 1),
        ("End", 11),
        ("ArrowRight", 11),
        ("Home", 0),
        ("ArrowLeft", 0),
    ):
        page.keyboard.press(key)
        assert state(page)[0] == t
    page.keyboard.press("Space")
    page.wait_for_function("Number(document.querySelector('.rds-inspector').dataset.frame) >= 3")
    page.keyboard.press("Space")
    stopped = state(page)[0]
    page.wait_for_timeout(400)
    assert 3 <= state(page)[0] == stopped < 11
    page.locator("select[aria-label='run B']").focus()
    page.keyboard.press("End")
    page.keyboard.press("ArrowLeft")
    assert state(page)[0] == stopped
    assert root.evaluate("root => [root.tabIndex, root.dataset.lmSuppressShortcuts]") == [0, "true"]


def test_keys_do_not_reach_the_page_around(page):
    page.evaluate("document.addEventListener('keydown', event => (window.leaked = event.key))")
    page.locator(ROOT).press("a")
    assert page.evaluate("window.leaked ?? null") is None


def test_slider_and_playback_end_at_the_last_frame(page):
    page.get_by_label("speed").select_option("24")
    page.get_by_label("frame", exact=True).fill("8")
    assert state(page)[0] == 8
    page.get_by_title("play (Space)").click()
    page.wait_for_function("document.querySelector('.rds-inspector').dataset.frame === '11'")
    page.get_by_title("play (Space)").wait_for()


def test_objects_have_the_colours_of_the_overlay_video(page):
    page.get_by_label("outline of the ground truth").uncheck()
    drawn, labels = pixels(page, "frameA"), np.zeros((96, 160), np.uint8)
    labels[20:50, 20:50], labels[55:85, 90:120] = 1, 2
    painted = overlay(np.full((96, 160, 3), 100, np.uint8), labels).astype(int)
    height, width = drawn.shape[:2]
    for y, x in ((35, 35), (70, 105), (5, 5)):
        assert np.abs(drawn[y * height // 96, x * width // 160] - painted[y, x]).max() <= 3
    left = drawn[35 * height // 96, 18 * width // 160 : 22 * width // 160]
    assert np.abs(left - painted[35, 20]).max(1).min() <= 12, "the outline, softened by scaling"


def test_objects_and_truth_can_be_switched_off(page):
    with_all, chart = pixels(page, "frameA"), pixels(page, "quality")
    page.get_by_label("object 1").uncheck()
    without_one = pixels(page, "frameA")
    height, width = without_one.shape[:2]
    changed = np.argwhere(abs(without_one - with_all).max(2) > 20) / [height, width]
    assert changed[:, 0].max() < 52 / 96 and changed[:, 0].min() > 18 / 96  # object 1: rows 20 to 50; object 2: below
    assert (without_one > 240).all(2).any()  # the white line of object 2's truth
    page.get_by_label("outline of the ground truth").uncheck()
    assert not (pixels(page, "frameA") > 240).all(2).any()
    page.get_by_label("object 2").uncheck()
    assert pixels(page, "frameA").std(axis=(0, 1)).max() < 2  # nothing is left but a grey frame
    assert (pixels(page, "quality") != chart).any()
    assert "no object" in page.locator("[data-pane=quality]").text_content()


def test_runs_can_be_chosen_and_one_alone_is_enough(page, shot):
    page.get_by_label("run A").select_option("RDS 0.4")
    page.get_by_label("run B").select_option("RDS 0.8")
    page.wait_for_selector(".rds-inspector[data-run='RDS 0.4 | RDS 0.8']")
    assert page.locator("[data-pane=encoderB]").is_visible()
    page.get_by_label("run B").select_option("")
    page.wait_for_selector(".rds-inspector[data-run='RDS 0.4']")
    assert not page.locator("[data-pane=encoderB]").is_visible() and page.locator("[data-pane=heatA]").is_visible()
    shot(page, "page-one-run")


def test_names_are_shown_as_text(page, shot):
    page.get_by_label("video", exact=True).select_option(EVIL)
    page.wait_for_function("name => document.querySelector('.rds-inspector').dataset.sequence === name", arg=EVIL)
    assert state(page)[1] == f"{EVIL}" and EVIL in page.locator("[data-pane=frameA] figcaption").text_content()
    page.get_by_label("run B").select_option(index=2)
    page.locator("[data-pane=frameB]").wait_for()
    assert page.title() == page.locator("h1").text_content() == EVIL and page.locator("img").count() == 0
    shot(page, "page-names")


def test_export_saves_the_view_as_a_picture(page):
    with page.expect_download() as download:
        page.get_by_role("button", name="save the view as a PNG").click()
    assert download.value.suggested_filename == "first-frame-0.png"
    file = paths.BUILD / "browser" / "export.png"
    download.value.save_as(file)
    picture = np.asarray(Image.open(file).convert("RGB"))
    assert picture.shape[1] > 1500 and picture.shape[0] > 1200 and picture.std() > 20


def test_window_without_room_does_no_harm(page):
    page.set_viewport_size({"width": 40, "height": 900})
    page.locator(ROOT).press("ArrowRight")
    page.set_viewport_size({"width": 1000, "height": 900})
    page.wait_for_function(
        """document.querySelector('.rds-inspector').dataset.frame === '1'
        && document.querySelector('[data-pane=work] canvas').clientWidth > 300""",
        timeout=5000,
    )
    assert state(page)[0] == 1


def test_nothing_is_cut_off_at_common_widths(page, shot):
    for width in (1400, 1000, 900, 560):
        page.set_viewport_size({"width": width, "height": 900})
        page.wait_for_function("""() => { const pane = document.querySelector('[data-pane=work]');
            return pane.querySelector('canvas').clientWidth <= pane.clientWidth }""")
        outside = page.locator(ROOT).evaluate("""root => { const right = root.getBoundingClientRect().right + 0.5;
            return [...root.querySelectorAll('canvas, span, label, button, select')]
                .filter(e => e.offsetParent && e.getBoundingClientRect().right > right).map(e => e.outerHTML) }""")
        assert outside == [] and page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        shot(page, f"page-{width}")


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """JupyterLab over a copy of the notebook: its address, with a token."""
    folder = tmp_path_factory.mktemp("lab")
    shutil.copy(paths.NOTEBOOKS / "07_inspect_routing.ipynb", folder)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    token = secrets.token_hex(16)
    with notebook.smoke_folder() as workdir, open(folder / "lab.log", "w") as log:
        settings = {f"JUPYTER_{name.upper()}_DIR": str(folder / name) for name in ("config", "data", "runtime")}
        server = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "jupyterlab",
                "--no-browser",
                "--allow-root",
                "--ip=127.0.0.1",
                f"--port={port}",
                f"--IdentityProvider.token={token}",
                f"--ServerApp.root_dir={folder}",
                "--LabApp.news_url=''",
            ],
            env={**os.environ, **notebook.environment(workdir, smoke=True), **settings},
            stdout=log,
            stderr=log,
        )
        try:
            yield _started(f"http://127.0.0.1:{port}", token, folder / "lab.log")
        finally:
            server.terminate()
            server.wait(30)


def _started(address, token, log):
    for _ in range(120):
        try:
            urllib.request.urlopen(f"{address}/api/status?token={token}", timeout=2)
            return f"{address}/lab/tree/07_inspect_routing.ipynb?token={token}"
        except OSError:
            time.sleep(0.5)
    pytest.fail(f"JupyterLab did not start: {log.read_text()[-2000:]}")


def test_widget_in_jupyterlab_steps_and_tracks_again(chromium, lab, shot):
    context = chromium.new_context(viewport={"width": 1400, "height": 1500})
    page, errors = context.new_page(), []
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(lab)
    page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=60_000)
    page.get_by_text("| Idle").wait_for(timeout=120_000)  # before the kernel is up, Run All does nothing
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.locator("[data-command='runmenu:run-all']").click()
    waiting = "[...document.querySelectorAll('.jp-InputPrompt')].some(prompt => prompt.textContent.includes('*'))"
    page.wait_for_function(waiting, timeout=60_000)
    page.wait_for_function(f"!{waiting}", timeout=600_000)
    root = page.locator(ROOT)
    root.scroll_into_view_if_needed()
    page.wait_for_selector(".rds-inspector[data-run^='SAM2 | live 0.6']")  # the notebook tracked again
    assert page.get_by_label("budget", exact=True).input_value() == "0.6"
    assert state(page)[0] > 0  # the notebook went to a frame of its choice, which the prompt's cannot be
    click_column(page, "heatA", 4, 9)
    assert state(page)[0] == 4
    page.get_by_label("frame", exact=True).fill("6")
    assert state(page)[0] == 6
    root.focus()
    page.keyboard.press("ArrowRight")
    assert state(page)[0] == 7
    cells = page.locator(".jp-Cell").count()
    for key in "abdd":  # command mode's shortcuts: insert above, below, delete
        page.keyboard.press(key)
    assert page.locator(".jp-Cell").count() == cells
    page.get_by_label("budget", exact=True).fill("0.9")
    page.get_by_label("budget", exact=True).dispatch_event("change")
    page.wait_for_function("document.querySelector('.rds-status').textContent === 'tracking...'")
    page.wait_for_selector(".rds-inspector[data-run^='SAM2 | live 0.9']", timeout=60_000)
    page.get_by_label("threshold").fill("1")
    page.get_by_label("threshold").dispatch_event("change")
    page.wait_for_selector(".rds-inspector[data-run='SAM2 | live 0.9, tau 1.00']", timeout=60_000)
    page.get_by_label("video", exact=True).select_option(index=1)
    page.wait_for_selector(".rds-inspector[data-sequence='val-0001-fast_motion']", timeout=60_000)
    shot(page, "lab")
    context.close()
    assert errors == []
