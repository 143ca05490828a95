"""The site as `make site` builds it, in a copy of the repository: its pages, its links, its looks in a browser."""

import json
import os
import shutil
import subprocess
import sys
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from ruamel.yaml import YAML

import rds_lib
from rds_lib.core import paths

WIDTHS = (1280, 390)
PAGES = (
    "index",
    "reports/README",
    "reports/claims",
    "notebooks/05_evaluation",
    "docs/bad_input",
    "api/names/rds_lib.RDSVideoPredictor",
)


class Page(HTMLParser):
    """The addresses in a page, what it loads by itself, and the names that a link may lead to."""

    def __init__(self):
        super().__init__()
        self.links, self.loaded, self.names, self.pictures = [], [], set(), []

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.names |= {attributes[key] for key in ("id", "name") if attributes.get(key)}
        if tag in ("a", "link") and attributes.get("href"):
            (self.links if tag == "a" else self.loaded).append(attributes["href"])
        if attributes.get("src"):
            self.loaded.append(attributes["src"])
        if tag == "img":
            self.pictures.append(attributes["src"])


@cache
def read(path):
    page = Page()
    page.feed(path.read_text(encoding="utf-8"))
    return page


def broken(site):
    """(page, address) of every link, picture, script and frame of the site that leads nowhere in it."""
    found = []
    for file in site.rglob("*.html"):
        for address in [*read(file).links, *read(file).loaded]:
            parts = urlsplit(address)
            if parts.scheme or parts.netloc:
                continue
            target = (file.parent / unquote(parts.path)).resolve() if parts.path else file
            is_there = target.is_file() and target.is_relative_to(site)
            if not is_there or (parts.fragment and unquote(parts.fragment) not in read(target).names):
                found.append((file.relative_to(site).as_posix(), address))
    return found


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site of this checkout; where a run has left no findings yet, with a page of findings."""
    tree = tmp_path_factory.mktemp("site") / "tree"

    def left_out(folder, names):
        top = (".*", "build", "runs", "data", "datasets") if Path(folder) == paths.ROOT else ()
        return shutil.ignore_patterns("__pycache__", "*.safetensors", *top)(folder, names)

    shutil.copytree(paths.ROOT, tree, ignore=left_out)
    findings = tree / "reports" / "findings.md"
    if not findings.exists():
        findings.write_text("# What we learnt\n\nSee [the ledger](claims.md).\n")
    (tree / "venv").mkdir()
    (tree / "venv" / ".ready").write_text("")
    tools = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["make", "site", "VENV=venv"], cwd=tree, env={**os.environ, "PATH": tools}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return tree / "build" / "site"


def test_every_notebook_report_guide_and_public_name_has_its_page(site):
    pages = ("*.md", "docs/*.md", "reports/**/*.md", "notebooks/*.ipynb", "assets/*/*.md")
    sources = [file.relative_to(paths.ROOT) for pattern in pages for file in paths.ROOT.glob(pattern)]
    wanted = {file.with_suffix(".html").as_posix() for file in sources} - {"reports/gpu/notes.html"}
    wanted |= {f"api/names/rds_lib.{name}.html" for name in rds_lib.__all__}
    wanted |= {f"api/modules/rds_lib.{name}.html" for name in ("routing.session", "routing.engine.cast", "data.clips")}
    assert sorted(name for name in wanted if not (site / name).is_file()) == []


def test_findings_are_taken_up_by_themselves(site):
    assert "reports/findings.html" in read(site / "index.html").links


def test_every_link_of_every_page_leads_somewhere(site):
    assert broken(site) == []


def test_a_link_that_leads_nowhere_is_found(tmp_path):
    (tmp_path / "a.html").write_text('<p id="here"><a href="b.html#there"></a><a href="#here"></a><img src="c.png">')
    (tmp_path / "b.html").write_text("<a href='https://example.org/x'></a><a href='a.html#gone'></a>")
    assert sorted(broken(tmp_path)) == [("a.html", "b.html#there"), ("a.html", "c.png"), ("b.html", "a.html#gone")]


def test_no_page_loads_anything_from_elsewhere(site):
    loaded = {address for file in site.rglob("*.html") for address in read(file).loaded}
    assert [address for address in loaded if urlsplit(address).scheme not in ("", "data") or "//" in address[:8]] == []
    styles = [file.read_text(encoding="utf-8") for file in site.rglob("*.css")]
    assert styles and not any("url(http" in text.replace('"', "").replace("'", "") for text in styles)


@pytest.mark.parametrize("name", sorted(file.stem for file in paths.NOTEBOOKS.glob("*.ipynb")))
def test_a_notebook_shows_all_its_stored_pictures(site, name):
    cells = json.loads((paths.NOTEBOOKS / f"{name}.ipynb").read_text(encoding="utf-8"))["cells"]
    outputs = [output.get("data", {}) for cell in cells for output in cell.get("outputs", [])]
    stored = sum(any(kind.startswith("image/") for kind in data) for data in outputs)
    shown = [address for address in read(site / "notebooks" / f"{name}.html").pictures if "_images" in address]
    assert len(shown) == stored > 0


def test_what_is_published_is_what_is_built_and_the_tests_run_as_here():
    found = {}
    for file in (paths.ROOT / ".github" / "workflows").glob("*.yml"):
        jobs = YAML(typ="safe").load(file.read_text())["jobs"].values()
        found[file.stem] = [step.get("run") or step.get("with") for job in jobs for step in job["steps"]]
    assert ".ci/run" in found["test"] and os.access(paths.ROOT / ".ci" / "run", os.X_OK)
    assert found["site"].index("make site") < found["site"].index({"path": "build/site"})


@pytest.fixture
def opened(chromium, site):
    """A function that opens a page of the site, offline, at a width in px; errors and requests fail the test."""
    wrong, contexts = [], []

    def open_page(name, width):
        contexts.append(chromium.new_context(offline=True, viewport={"width": width, "height": 900}))
        page = contexts[-1].new_page()
        page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("requestfailed", lambda request: wrong.append(request.url))
        page.on("request", lambda request: wrong.append(request.url) if request.url.startswith("http") else None)
        page.goto((site / f"{name}.html").as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert wrong == []


@pytest.mark.browser
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", PAGES)
def test_a_page_fits_its_window_and_shows_its_text(opened, shot, name, width):
    page = opened(name, width)
    assert page.locator("h1").is_visible() and len(page.locator("article").inner_text()) > 300
    assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0
    cut = """right => {
        const scrolls = e => e.tagName != 'ARTICLE'
            && (['auto', 'scroll'].includes(getComputedStyle(e).overflowX) || scrolls(e.parentElement));
        return [...document.querySelectorAll('article *')].filter(e => e.getClientRects().length
            && e.getBoundingClientRect().right > right + 1 && !scrolls(e.parentElement)).map(e => e.outerHTML) }"""
    assert page.evaluate(cut, width) == []
    shot(page, f"site-{name.replace('/', '-')}-{width}")


@pytest.mark.browser
@pytest.mark.parametrize("width", WIDTHS)
def test_the_inspector_works_in_its_page(opened, shot, width):
    page = opened("reports/inspector", width)
    inside = page.frame_locator("iframe")
    inside.locator(".rds-inspector[data-frame]").press("End")
    assert int(inside.locator(".rds-inspector").get_attribute("data-frame")) > 0
    assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0
    shot(page, f"site-inspector-{width}")


@pytest.mark.browser
def test_an_interactive_figure_opens_in_the_page_of_results_and_not_before(opened, shot):
    page = opened("reports/README", 390)
    figures, pages = page.locator("details.page"), list((paths.REPORTS / "figures").glob("figure_*.html"))
    assert figures.count() == len(pages) > 0 and {frame.url for frame in page.frames[1:]} == {"about:blank"}
    figures.first.locator("summary").click()
    figures.first.frame_locator("iframe").locator(".js-plotly-plot .main-svg").first.wait_for()
    shot(page, "site-figure-390")


@pytest.mark.browser
def test_search_finds_a_page_without_a_server(opened):
    page = opened("search", 390)
    page.goto(f"{page.url}?q=calibrated")
    page.wait_for_selector("#search-results li a")
