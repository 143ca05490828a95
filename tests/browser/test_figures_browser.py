"""The figures' pages in a real browser, opened from disk with the network cut."""

import os
from pathlib import Path

import pytest

from rds_lib import stage_figures

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed; pages are not opened")
BROWSERS = [os.environ.get("CHROMIUM", ""), "/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"]
PAGES = [f"figure_{number:02d}.html" for number in (4, 10, 11, 12, 13, 14, 15, 16, 23)]


@pytest.fixture(scope="module")
def folder(figure_products, tmp_path_factory):
    params, products = figure_products
    out = tmp_path_factory.mktemp("pages")
    stage_figures.run_figures(params, products, out)
    return out


@pytest.fixture(scope="module")
def browser():
    found = next((path for path in BROWSERS if path and Path(path).is_file()), None)
    if found is None:
        pytest.skip(f"no Chromium at {', '.join(filter(None, BROWSERS))}; name one in CHROMIUM")
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def opened(browser, folder):
    """A function that opens a page offline, and the list of what went wrong in it."""
    context = browser.new_context(offline=True, viewport={"width": 1100, "height": 900})
    page, wrong = context.new_page(), []
    page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("requestfailed", lambda request: wrong.append(request.url))
    page.on("request", lambda request: wrong.append(request.url) if request.url.startswith("http") else None)

    def open_page(name):
        page.goto((folder / name).as_uri())
        page.wait_for_selector(".js-plotly-plot .main-svg")
        return page

    yield open_page, wrong
    context.close()


@pytest.mark.parametrize("name", PAGES)
def test_a_page_shows_its_plot_and_its_texts_without_a_network(opened, name):
    open_page, wrong = opened
    page = open_page(name)
    page.wait_for_timeout(300)
    assert wrong == []
    assert page.locator("h1").inner_text().endswith("?") and "made by the stage figures from" in page.locator("p.small").inner_text()
    assert page.locator(".js-plotly-plot .trace, .js-plotly-plot .hm image, .js-plotly-plot .im image").count() > 0
    width = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert width <= 0  # nothing sticks out sideways


def test_the_pictures_of_a_video_stand_above_its_routes(opened):
    page = opened[0](PAGES[4])
    pictures, cells = page.locator(".layer-above image, .imagelayer image").first.bounding_box(), page.locator(".hm image").first.bounding_box()
    assert 0 < pictures["y"] and pictures["y"] + pictures["height"] <= cells["y"]


def test_hover_names_block_stage_and_share(opened):
    page = opened[0](PAGES[1])
    box = page.locator(".bars .point").first.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.wait_for_selector(".hoverlayer .hovertext")
    text = page.locator(".hoverlayer .hovertext").first.text_content()
    assert "block 1, stage 1" in text and "of 12 routed frames" in text


def test_the_slider_changes_pictures_blocks_and_numbers(opened):
    open_page, wrong = opened
    page = open_page(PAGES[-1])
    page.wait_for_timeout(500)

    def state():
        return page.evaluate("""() => { const plot = document.querySelector(".js-plotly-plot");
            return [plot._fullData[0].source, JSON.stringify(plot._fullData[5].marker.color), document.querySelector(".slider-label").textContent] }""")

    before, seen = state(), page.locator(".im").nth(2).screenshot()
    rail = page.locator(".slider-rail-touch-rect").bounding_box()
    page.mouse.click(rail["x"] + rail["width"] - 3, rail["y"] + rail["height"] / 2)
    page.wait_for_timeout(500)
    after = state()
    assert before[2].startswith("frame 1:") and after[2].startswith("frame 4:")
    assert before[0] != after[0] and before[1] != after[1] and wrong == []
    assert page.locator(".im").nth(2).screenshot() != seen
