"""The stage `figures`: files in pairs, a list of them, the inspector and the page of results, in one folder."""

import re
import shutil

import numpy as np
import pandas as pd
import pytest

from rds_lib.core import paths
from rds_lib.core.artifacts import read_table
from rds_lib.core.errors import RDSInputError
from rds_lib.pipeline.figures import read_study, run
from rds_lib.show.results_page import as_page, escaped

NAMES = [f"figure_{number:02d}" for number in (4, 10, 11, 12, 13, 14, 15, 16, 23)]


@pytest.fixture(scope="module")
def written(figure_products, tmp_path_factory):
    """The folder that a run leaves, and the list that it returns; a figure of an older run lay there."""
    folder = tmp_path_factory.mktemp("run") / "out"
    folder.mkdir()
    (folder / "figure_21.png").write_bytes(b"of an older run")
    return folder, run(*figure_products, folder)


@pytest.fixture(scope="module")
def study(figure_products):
    return read_study(*figure_products)


def test_every_figure_has_a_picture_and_a_page(written):
    folder, table = written
    assert table["file"].str.rpartition(".")[0].tolist() == NAMES
    others = ["README.md", "figures.csv", "inspector.html", "plotly.min.js", "story.png"]
    wanted = sorted([*table["file"], *(f"{name}.html" for name in NAMES), *others])
    assert sorted(path.name for path in folder.iterdir()) == wanted
    for path in folder.glob("figure_*"):
        assert path.stat().st_size < {".svg": 300_000, ".png": 400_000, ".html": 600_000}[path.suffix], path.name


def test_the_list_says_what_each_figure_is_made_of(written):
    folder, table = written
    assert list(table) == ["number", "title", "file", "data", "stages", "caption"]
    assert read_table(folder / "figures.csv").astype(str).equals(table.astype(str))
    assert set(table["stages"].str.split(", ").explode()) == {"data", "importance", "evaluation", "benchmark"}


def test_the_page_of_results_takes_its_numbers_from_products(written):
    page = (written[0] / "README.md").read_text()
    assert "| RDS | 0.4 | 60.0 (58.0 to 63.0) | 22.0 (21.0) | 0.18 | 100.0 |" in page
    assert "plan A" not in page.partition("## Is it routing")[0], "it was not timed"
    controls, _, rivals = page.partition("| RDS minus |")
    assert "| RDS, one training per budget | 65.0 (39.0) | 60.0 (22.0) |" in controls
    assert "| the supplement's static plan A |  | 50.0 (24.0) |" in controls
    assert "| SAM2 | -5.0 (-7.0 to -3.0) | -10.0 (-13.0 to -6.0) |" in rivals
    assert "| PBD | " not in rivals, "nothing without a number"
    assert "what another seed would change is not in the interval" in page
    assert "profile `smoke`" in page and "data set davis, 3 videos" in page and "encoder of 48 blocks" in page


def test_the_page_of_results_links_what_is_there_once_it_is_published(written):
    folder, table = written
    page = (folder / "README.md").read_text()
    links = re.findall(r"\]\(([^)]*)\)", page)
    figures = [link.removeprefix("figures/") for link in links if link.startswith("figures/")]
    assert set(figures) == {path.name for path in folder.iterdir()} - {"README.md", "figures.csv", "plotly.min.js"}
    others = {link for link in links if not link.startswith("figures/")}
    assert others == {"claims.md", "table8.md", "table9.md", "../notebooks", "../notebooks/06_figures.ipynb"}
    for caption in table["caption"]:
        assert caption not in page, "it stands in the picture"


def test_a_new_baseline_stands_among_the_rivals_and_hindsight_does_not(study):
    rows = [
        {"dataset": "davis", "level": 0.4, "against": name, "effect": 1.0, "ci_low": 0.0, "ci_high": 2.0}
        for name in ("oracle of fixed routes", "plan A", "NewOne", "mini_half")
    ]
    table = pd.concat([study.comparisons, pd.DataFrame(rows)])
    page = as_page(type(study)(**(vars(study) | {"comparisons": table})), pd.DataFrame(columns=["number"]))
    names = re.findall(r"^\| ([^|]*) \|", page.partition("| RDS minus |")[2], re.M)
    assert names == ["SAM2", "NewOne", "the model of half the depth", "the supplement's static plan A"]


def test_what_has_no_interval_is_shown_without(study):
    bare = {"ci_low": np.nan, "ci_high": np.nan}
    few = {"scores": study.scores.assign(**bare), "comparisons": study.comparisons.assign(**bare)}
    page = as_page(type(study)(**(vars(study) | few)), pd.DataFrame(columns=["number"]))
    assert "| RDS | 0.4 | 60.0 | 22.0 (21.0) |" in page and "| SAM2 | -5.0 | -10.0 |" in page and "nan" not in page


def test_names_from_data_cannot_write_markdown(study):
    assert escaped("a|b <script> [x](y) `c` *d*") == r"a\|b \<script\> \[x\](y) \`c\` \*d\*"
    page = as_page(study, pd.DataFrame([{"number": 13, "title": "[x](http://evil), <b>|x", "file": "figure_13.png"}]))
    assert "<b>" not in page and "[x](http" not in page and r"\<b\>\|x" in page


def test_a_run_writes_nothing_outside_its_folder(figure_products, tmp_path):
    params, products = figure_products
    one = params.with_section("figures", videos=["val-0000-plain"], compared=["val-0000-plain"])
    shutil.copytree(products, tmp_path / "mini")

    def files():
        found = [*(tmp_path / "mini").rglob("*"), *paths.REPORTS.rglob("*")]
        return {path: path.stat().st_mtime_ns for path in found}

    before = files()
    run(one.model_copy(update={"profile": "mini"}), tmp_path / "mini", tmp_path / "out")
    assert files() == before and sorted(path.name for path in tmp_path.iterdir()) == ["mini", "out"]


def test_outside_smoke_a_missing_product_is_named_with_its_stage(figure_products, tmp_path):
    params, products = figure_products
    for name in ("evaluation", "importance"):
        shutil.copytree(products / name, tmp_path / "mini" / name)
    with pytest.raises(RDSInputError, match="mini/benchmark is missing; make it with: dvc repro benchmark"):
        run(params.model_copy(update={"profile": "mini"}), tmp_path / "mini", tmp_path / "out")
