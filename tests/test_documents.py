"""The documents: every link leads somewhere, every example runs, every command is one, and README stays short."""

import re
from functools import cache
from urllib.parse import unquote

import pytest
from markdown_it import MarkdownIt
from PIL import Image
from typer.testing import CliRunner

from rds_lib.__main__ import app
from rds_lib.core.paths import ROOT
from rds_lib.data.clips import generate_clip

BY_HAND = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), ROOT / "reports" / "README.md"]
PAGES = sorted({*BY_HAND, *(ROOT / "reports").rglob("*.md"), *(ROOT / "assets").rglob("*.md")})
STAND_INS = {  # a camera, a writer that goes on, and a compiler are not at hand
    '"camera:0"': '"my_video/"',
    "follow=True": "follow=True, patience=0.2",
    'engine="compiled"': 'engine="cast"',
}


def name_of(path):
    return path.relative_to(ROOT).as_posix()


@cache
def tokens(path):
    """All tokens of a page, those inside paragraphs among them."""
    found = MarkdownIt("commonmark").enable("table").parse(path.read_text(encoding="utf-8"))
    return [inner for token in found for inner in (token, *(token.children or ()))]


def links(path):
    found = [token.attrs.get("href") or token.attrs.get("src") for token in tokens(path)]
    return [unquote(link) for link in found if link and not re.match(r"[a-z]+:", link)]


@cache
def anchors(path):
    """What GitHub lets a link name in a page: its headings, in small letters, without punctuation."""
    found = []
    for heading, inline in zip(tokens(path), tokens(path)[1:]):
        if heading.type == "heading_open":
            text = "".join(token.content for token in inline.children)
            name = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
            found.append(name + (f"-{found.count(name)}" if name in found else ""))
    return set(found)


def fences(language):
    """The examples in a language, of all pages written by hand."""
    return [
        pytest.param(token.content, id=f"{name_of(path)}:{token.map[0] + 1}")
        for path in sorted(BY_HAND)
        for token in tokens(path)
        if token.type == "fence" and token.info == language
    ]


def commands():
    """What follows ``-m rds_lib`` in the examples for a shell, without comments."""
    for example in fences("bash"):
        for line in example.values[0].replace("\\\n", " ").splitlines():
            _, found, rest = line.partition("#")[0].partition("-m rds_lib ")
            if found:
                yield pytest.param(rest.split(), id=rest.strip())


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_between_files_lead_somewhere(page):
    for link in links(page):
        file, _, anchor = link.partition("#")
        target = (page.parent / file).resolve() if file else page
        assert target.is_relative_to(ROOT) and target.exists(), f"{link}: there is no such file"
        if anchor:
            assert anchor in anchors(target), f"{link}: it has {', '.join(sorted(anchors(target)))}"


def test_links_and_anchors_are_seen(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# A `b`, c_d?\n\n# B\n\n# B\n\n| a |\n|---|\n| [x](a%20b.md#c) |\n\n![p](q.png) `[no](no.md)`\n")
    assert links(page) == ["a b.md#c", "q.png"] and anchors(page) == {"a-b-c_d", "b", "b-1"}


@pytest.mark.parametrize("example", fences("python"))
def test_examples_run_as_they_stand(example, tmp_path, monkeypatch):
    clip = generate_clip(7, 0, split="val", frames=3, height=256, width=384, difficulty="plain", n_objects=1)
    (tmp_path / "my_video").mkdir()
    for t, frame in enumerate(clip.frames):
        Image.fromarray(frame).save(tmp_path / "my_video" / f"{t:05d}.jpg")
    Image.fromarray(255 * (clip.masks[0] > 0).astype("uint8")).save(tmp_path / "first.png")
    monkeypatch.chdir(tmp_path)
    for what, stand_in in STAND_INS.items():
        example = example.replace(what, stand_in)
    exec(compile(example, "example", "exec"), {"__name__": "example"})


@pytest.mark.parametrize("arguments", list(commands()))
def test_commands_of_examples_have_these_options(arguments):
    done = CliRunner().invoke(app, [*arguments, "--help"])
    assert done.exit_code == 0, done.output


def test_the_readme_stays_short_and_leads_to_every_page_of_docs():
    readme = ROOT / "README.md"
    assert len(readme.read_text(encoding="utf-8").splitlines()) < 120
    linked = {link.partition("#")[0] for link in links(readme)}
    assert {name_of(path) for path in (ROOT / "docs").glob("*.md")} <= linked
    example = next(token.content for token in tokens(readme) if token.info == "python")
    assert len(example.splitlines()) <= 12
