"""The figures' pages in a real browser, opened from disk with the network cut."""

import pytest

from rds_lib.pipeline.figures import run

pytestmark = pytest.mark.browser
PLOTS = [f"figure_{number:02d}.html" for number in (4, 10, 11, 12, 14, 16)]
VIDEOS = [f"figure_{number:02d}.html" for number in (13, 15, 23)]


@pytest.fixture(scope="module")
def folder(figure_products, tmp_path_factory):
    out = tmp_path_factory.mktemp("pages")
    run(*figure_products, out)
    return out


@pytest.fixture
def opened(chromium, folder):
    """A function that opens a page offline and waits for ``selector``, and the list of what went wrong in it."""
    context = chromium.new_context(offline=True, viewport={"width": 1100, "height": 900})
    page, wrong = context.new_page(), []
    page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("requestfailed", lambda request: wrong.append(request.url))
    page.on("request", lambda request: wrong.append(request.url) if request.url.startswith("http") else None)

    def open_page(name, selector):
        page.goto((folder / name).as_uri())
        page.wait_for_selector(selector)
        return page

    yield open_page, wrong
    context.close()


def check_page(page, wrong):
    """Raise unless the page asks a question, names its origin, fits the window and had no errors."""
    assert wrong == []
    assert page.locator("h1").inner_text().endswith("?") and "Made by stage figures from" in page.inner_text("body")
    assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0


@pytest.mark.parametrize("name", PLOTS)
def test_a_page_shows_its_plot_and_its_texts_without_a_network(opened, shot, name):
    open_page, wrong = opened
    page = open_page(name, ".js-plotly-plot .main-svg")
    page.wait_for_timeout(300)
    assert page.locator(".js-plotly-plot .trace").count() > 0
    check_page(page, wrong)
    shot(page, name.removesuffix(".html"))


@pytest.mark.parametrize("name", VIDEOS)
def test_a_page_of_a_video_steps_through_it_without_a_network(opened, shot, name):
    open_page, wrong = opened
    page = open_page(name, ".rds-inspector[data-frame]")
    root = page.locator(".rds-inspector")
    assert root.get_attribute("data-run") == ("SAM2 | RDS 0.4" if name == VIDEOS[-1] else "RDS 0.4")
    page.keyboard.press("End")
    assert root.get_attribute("data-frame") == "4"
    check_page(page, wrong)
    shot(page, name.removesuffix(".html"))


def test_hover_names_block_stage_and_share(opened):
    page = opened[0](PLOTS[1], ".js-plotly-plot .main-svg")
    box = page.locator(".bars .point").first.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.wait_for_selector(".hoverlayer .hovertext")
    text = page.locator(".hoverlayer .hovertext").first.text_content()
    assert "block 1, stage 1" in text and "of 12 routed frames" in text
