"""The figures' pages in a real browser, opened from disk with the network cut."""

import pytest

from rds_lib.pipeline import figures as stage_figures

pytestmark = pytest.mark.browser
PAGES = [f"figure_{number:02d}.html" for number in (4, 10, 11, 12, 13, 14, 15, 16, 23)]


@pytest.fixture(scope="module")
def folder(figure_products, tmp_path_factory):
    params, products = figure_products
    out = tmp_path_factory.mktemp("pages")
    stage_figures.run_figures(params, products, out)
    return out


@pytest.fixture
def opened(chromium, folder):
    """A function that opens a page offline, and the list of what went wrong in it."""
    context = chromium.new_context(offline=True, viewport={"width": 1100, "height": 900})
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
def test_a_page_shows_its_plot_and_its_texts_without_a_network(opened, shot, name):
    open_page, wrong = opened
    page = open_page(name)
    page.wait_for_timeout(300)
    assert wrong == []
    assert page.locator("h1").inner_text().endswith("?") and "made by the stage figures from" in page.locator("p.small").inner_text()
    assert page.locator(".js-plotly-plot .trace, .js-plotly-plot .hm image, .js-plotly-plot .im image").count() > 0
    shot(page, name.removesuffix(".html"))
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
