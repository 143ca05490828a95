"""The stage `figures`: files in pairs, a list of them, and the page of results."""

import io
import shutil

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb
from PIL import Image

from rds_lib.core.artifacts import read_table
from rds_lib.core.errors import RDSInputError
from rds_lib.pipeline import figures as stage_figures
from rds_lib.show.results_page import as_page, escaped
from rds_lib.show.study import read_study

NAMES = [f"figure_{number:02d}" for number in (4, 10, 11, 12, 13, 14, 15, 16, 23)]


@pytest.fixture(scope="module")
def written(figure_products, tmp_path_factory):
    """What a run with the default profile's name leaves: its own folder and the reports."""
    params, products = figure_products
    folder = tmp_path_factory.mktemp("run")
    shutil.copytree(products, folder / "mini")
    (folder / "reports" / "figures").mkdir(parents=True)
    (folder / "reports" / "figures" / "another.png").write_bytes(b"kept")
    (folder / "reports" / "figures" / "figure_21.png").write_bytes(b"of an older run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stage_figures, "REPORTS", folder / "reports")
        table = stage_figures.run_figures(params.model_copy(update={"profile": "mini"}), folder / "mini", folder / "out")
    return folder, table


def test_every_figure_has_a_picture_and_a_page(written):
    folder, table = written
    kinds = [file.rpartition(".")[2] for file in table["file"]]
    wanted = sorted([f"{name}.{kind}" for name, kind in zip(NAMES, kinds)] + [f"{name}.html" for name in NAMES] + ["figures.csv", "plotly.min.js", "story.png", "inspector.html"])
    assert sorted(path.name for path in (folder / "out").iterdir()) == wanted
    assert sorted(path.name for path in (folder / "reports" / "figures").iterdir()) == sorted([*wanted, "another.png"])
    for path in (folder / "out").glob("figure_*"):
        assert path.stat().st_size < {".svg": 300_000, ".png": 400_000, ".html": 1_500_000}[path.suffix], path.name


def test_the_list_says_what_each_figure_is_made_of(written):
    folder, table = written
    assert list(table) == ["number", "title", "file", "data", "stages", "caption"]
    assert read_table(folder / "out" / "figures.csv").astype(str).equals(table.astype(str))
    assert set(table["stages"].str.split(", ").explode()) == {"data", "importance", "evaluation", "benchmark"}


def test_the_page_of_results_shows_every_figure_and_its_numbers_come_from_products(written):
    folder, table = written
    page = (folder / "reports" / "README.md").read_text()
    for file in table["file"]:
        assert f"](figures/{file})" in page and f"[Interactive](figures/{file.rpartition('.')[0]}.html)" in page
    assert "| RDS | 0.4 | 60.0 (58.0 to 63.0) | 22.0 | 0.18 | 100.0 |" in page and "plan A" not in page.partition("## Is it routing")[0]
    assert "| RDS, one training per budget | 65.0 (39.0) | 60.0 (22.0) |" in page and "| the supplement's static plan A |  | 50.0 (24.0) |" in page
    assert "| SAM2 | -5.0 (-7.0 to -3.0) | -10.0 (-13.0 to -6.0) |" in page and "| PBD | " not in page.partition("| RDS minus |")[2], "nothing without a number"
    assert "profile `mini`" in page and "data set davis, 3 videos" in page
    for link in ("claims.md", "table9.md", "../notebooks", "figures/story.png", "figures/inspector.html"):
        assert f"]({link})" in page
    assert "clone" in page


def test_colours_with_a_meaning_survive_a_palette_of_few_colours():
    noise = np.random.default_rng(0).integers(0, 256, (200, 200, 3), np.uint8)
    noise[:8, : len(stage_figures.MEANINGFUL)] = [[round(255 * value) for value in to_rgb(colour)] for colour in stage_figures.MEANINGFUL]
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, "png")
    packed = Image.open(io.BytesIO(stage_figures._packed(buffer.getvalue(), "png")))
    assert packed.mode == "P" and (np.asarray(packed.convert("RGB"))[:8, : len(stage_figures.MEANINGFUL)] == noise[:8, : len(stage_figures.MEANINGFUL)]).all()


def test_names_from_data_cannot_write_markdown(figure_products):
    assert escaped("a|b <script> [x](y) `c` *d*") == r"a\|b \<script\> \[x\](y) \`c\` \*d\*"
    params, products = figure_products
    study = read_study(params, products)
    row = {"number": 13, "title": "blocks, <b>|x", "file": "figure_13.png", "stages": "data", "caption": "Video [x](http://evil)", "data": "d"}
    page = as_page(study, pd.DataFrame([row]))
    assert "<b>" not in page and "[x](http" not in page and r"\<b\>\|x" in page


def test_a_smoke_run_leaves_the_reports_alone_and_another_profile_has_its_own(figure_products, tmp_path, monkeypatch):
    params, products = figure_products
    one = params.with_section("figures", videos=["val-0000-plain"], compared=["val-0000-plain"])
    monkeypatch.setattr(stage_figures, "REPORTS", tmp_path / "reports")
    stage_figures.run_figures(one, products, tmp_path / "out")
    assert not (tmp_path / "reports").exists()
    shutil.copytree(products, tmp_path / "other")
    stage_figures.run_figures(one.model_copy(update={"profile": "other"}), tmp_path / "other", tmp_path / "out")
    assert [path.name for path in (tmp_path / "reports").iterdir()] == ["other"] and not (tmp_path / "reports" / "other" / "README.md").exists()
    assert (tmp_path / "reports" / "other" / "figures" / "figure_10.svg").is_file()


def test_outside_smoke_a_missing_product_is_named_with_its_stage(figure_products, tmp_path):
    params, products = figure_products
    shutil.copytree(products / "evaluation", tmp_path / "mini" / "evaluation")
    with pytest.raises(RDSInputError, match="mini/benchmark is missing; make it with: dvc repro benchmark"):
        stage_figures.run_figures(params, tmp_path / "mini", tmp_path / "out")
