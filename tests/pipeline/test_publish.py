"""Publishing a run: what goes where, all or nothing, and the numbers in the README."""

import re
import shutil

import numpy as np
import pandas as pd
import pytest

from rds_lib.core import paths
from rds_lib.core.artifacts import read_json, read_table, write_json, write_table
from rds_lib.core.errors import RDSInputError
from rds_lib.pipeline import publish as module
from rds_lib.pipeline.machine import FILE, PACKAGES
from rds_lib.pipeline.params import load_params
from rds_lib.pipeline.publish import publish
from rds_lib.pipeline.readme import at_full_size, blocks, budget_kept, on_a_gpu, results, verdicts
from rds_lib.report.markdown import parts, without_parts

NAMES = ("measured", "results", "claims", "budget", "gpu")
EMPTY = "# T\n\n" + "\n".join(f"by hand\n\n<!-- begin {name} -->\n<!-- end {name} -->\n" for name in NAMES)
NUMBERS = (  # of a run: scores, speeds, shares of saved time
    r"J&F( of)? [+-]?\d",
    r"\d\.\d( points)? J&F",
    r"\d( frames a second| fps| FPS)",
    r"[+-]?\d+\.\d+ points",
    r"\d\.\d+ times",
    r"\b\d+\.\d+ (and|to|at) \d+\.\d+ (ms|%)",
    r"eta[^a-z]{1,4}\d",
)


WEIGHTS = {"config": "mini", "checkpoint": "mini_sam2.safetensors", "sha256": "0" * 64, "tensors_sha256": "1" * 64}
VIT = {"config": "dinov3_vit", "checkpoint": "mini", "sha256": "2" * 64, "tensors_sha256": "3" * 64}


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A finished run's folder with the committed tables, and a repository in miniature to publish it to."""
    workdir = tmp_path / "runs" / "mini"
    for name in ("claims.csv", "claims.md", "table9.csv", "table9.md"):
        (workdir / "report").mkdir(parents=True, exist_ok=True)
        shutil.copy(paths.REPORTS / name, workdir / "report" / name)
    for stage, found in (("evaluation", {"model": WEIGHTS, "smaller": []}), ("dinov3", {"model": VIT})):
        write_json(workdir / stage / "model.json", found)
    (workdir / "figures").mkdir()
    for name in ("README.md", "figure_04.svg", "figures.csv", "story.png"):
        (workdir / "figures" / name).write_text(f"new {name}")
    figures = tmp_path / "reports" / "figures"
    figures.mkdir(parents=True)
    (figures / "figure_25.png").write_text("of an older run")
    (figures / "inspector.png").write_text("made by hand")
    (tmp_path / "README.md").write_text(EMPTY)
    monkeypatch.setattr(paths, "REPORTS", tmp_path / "reports")
    monkeypatch.setattr(module, "DOCUMENTS", (tmp_path / "README.md",))
    return workdir, tmp_path / "reports"


def below(folder):
    return {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}


def test_report_figures_page_and_machine_are_published(run):
    workdir, reports = run
    changed = publish(load_params("mini"), workdir)
    assert below(reports) == {
        "README.md",
        "claims.csv",
        "claims.md",
        "table9.csv",
        "table9.md",
        FILE,
        "figures/figure_04.svg",
        "figures/figures.csv",
        "figures/story.png",
        "figures/inspector.png",
    }
    assert (reports / "README.md").read_text() == "new README.md"
    assert (reports / "figures" / "inspector.png").read_text() == "made by hand"
    machine = read_json(reports / FILE)
    assert machine.keys() >= {"processor", "date", "python", *PACKAGES}
    assert (machine["model"], machine["smaller"], machine["dinov3"]) == (WEIGHTS, [], VIT)
    assert reports / "figures" / "figure_25.png" in changed and reports.parent / "README.md" in changed


def test_the_readme_gets_its_numbers_and_the_rest_of_it_stays(run):
    workdir, reports = run
    publish(load_params("mini"), workdir)
    text = (reports.parent / "README.md").read_text()
    assert without_parts(text) == EMPTY and read_json(reports / FILE)["processor"] in parts(text)["measured"]
    assert parts(text)["results"] == blocks(reports, {})["results"] + "\n"
    assert publish(load_params("mini"), workdir) == []


def test_another_profile_has_a_folder_of_its_own_and_leaves_the_readme_alone(run):
    workdir, reports = run
    publish(load_params("mini_all"), workdir)
    assert {name for name in below(reports) if not name.startswith("mini_all/")} == {
        "figures/figure_25.png",
        "figures/inspector.png",
    }
    assert "mini_all/table9.csv" in below(reports) and "mini_all/README.md" not in below(reports)
    assert (reports.parent / "README.md").read_text() == EMPTY


@pytest.mark.parametrize(
    "fault", ["figures", "report/claims.csv", "figures/README.md", "marker", "evaluation/model.json"]
)
def test_nothing_is_written_where_something_is_missing(run, fault):
    workdir, reports = run
    if fault == "marker":
        (reports.parent / "README.md").write_text("<!-- begin speed -->\n<!-- end speed -->\n")
    else:
        path = workdir / fault
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    before = below(reports)
    with pytest.raises((RDSInputError, OSError)):
        publish(load_params("mini"), workdir)
    assert below(reports) == before


def test_a_smoke_run_is_not_published(run):
    with pytest.raises(RDSInputError, match="profile smoke is for tests"):
        publish(load_params("smoke"), run[0])


def test_the_readmes_numbers_are_those_of_the_committed_results():
    machine = read_json(paths.REPORTS / FILE) if (paths.REPORTS / FILE).is_file() else {}
    found = parts((paths.ROOT / "README.md").read_text(encoding="utf-8"))
    assert found == {name: text + "\n" for name, text in blocks(paths.REPORTS, machine).items()}, "run: make results"


def test_the_readmes_prose_holds_no_number_of_a_run():
    prose = without_parts((paths.ROOT / "README.md").read_text(encoding="utf-8"))
    assert [found[0] for pattern in NUMBERS for found in re.finditer(pattern, prose)] == []
    shown = "SAM2 has J&F 56.5, RDS 55.5 J&F at 56.1 frames a second, 1.20 times as fast, 2.6 points less, eta = 0.8"
    assert all(any(re.search(pattern, part) for pattern in NUMBERS) for part in shown.split(","))


def test_the_table_has_a_row_per_timed_method_and_its_levels_in_the_columns_of_rds():
    rows = read_table(paths.REPORTS / "table9.csv")
    lines = results(rows[rows["source"] == "measured"]).splitlines()
    split = [line.split(" | ") for line in lines[2:]]
    cells = {name.strip("| *"): [cell.strip(" |") for cell in rest] for name, *rest in split}
    assert list(cells)[:2] == ["SAM2 (mini)", "a SAM2 of half the depth, trained alike"] and "RDS" in cells

    def value(method, level, column="value"):
        found = rows[(rows["method"] == method) & (rows["level"] == level) & (rows["dataset"] == "generated-davis")]
        return f"{found[column].item():.1f}"

    assert cells["SAM2 (mini)"][0] == value("SAM2", "1") and cells["SAM2 (mini)"][1:4] == ["", "", ""]
    assert cells["SlimSAM"][1:4] == [value("SlimSAM", level) for level in ("8/9", "6/9", "4/9")]
    assert cells["RDS"][5:] == [value("RDS", level, "fps") for level in ("0.8", "0.6", "0.4")]
    assert cells["random routes, as many blocks as RDS"][5:] == ["as RDS"] * 3


def test_a_new_method_has_its_row_by_itself(tmp_path):
    rows = read_table(paths.REPORTS / "table9.csv").replace({"method": {"PBD": "Every other block"}})
    write_table(tmp_path / "table9.csv", rows)
    shutil.copy(paths.REPORTS / "claims.csv", tmp_path)
    assert "| Every other block |  | " in blocks(tmp_path, {})["results"]


def test_all_four_verdicts_are_counted_and_the_decided_ones_listed():
    words = ["reproduced", "undecided", "undecided", "contradicted", "not testable here"]
    rows = [
        (f"claim {n}", word, 1.5, 1.0 if word != "undecided" else np.nan, 2.0, "ratio") for n, word in enumerate(words)
    ]
    text = verdicts(pd.DataFrame(rows, columns=["claim", "verdict", "effect", "ci_low", "ci_high", "unit"]))
    assert text.replace("\n", " ").startswith(
        "Of the 5 claims in [the ledger](reports/claims.md), at this scale 1 is reproduced, 1 is contradicted, 2 are "
        "undecided and 1 is not testable here."
    )
    assert "Reproduced:\n\n- claim 0: +1.50 (+1.00 to +2.00) ratio\n" in text and "Contradicted:\n\n- claim 3: " in text
    assert "claim 1" not in text and "claim 4" not in text


def test_the_budget_table_has_all_frames_and_routed_ones(tmp_path):
    rows = read_table(paths.REPORTS / "table9.csv")
    measured = rows[rows["source"] == "measured"]
    table = pd.DataFrame(
        {
            "dataset": ["generated-davis", "generated-davis", "other"],
            "level": [0.8, 0.4, 0.4],
            "active_blocks": [39.3, 23.8, 1.0],
            "active_blocks_routed": [38.8, 22.4, 1.0],
        }
    )
    write_table(tmp_path / "budget.csv", table)
    lines = budget_kept(tmp_path, measured).splitlines()
    assert lines[0] == "| budget | 0.8 | 0.4 |"
    assert lines[2:] == ["| blocks, all frames | 39.3 | 23.8 |", "| blocks, routed frames | 38.8 | 22.4 |"]
    older = budget_kept(tmp_path / "older", measured).splitlines()
    assert len(older) == 3 and older[2].startswith("| blocks, routed frames | ")


def test_the_gpus_speed_is_over_sam2():
    arms = read_table(paths.REPORTS / "gpu" / "hiera_l.csv").assign(speedup=9.0)
    assert "9.00" not in on_a_gpu(arms) and "times as fast as SAM2" in on_a_gpu(arms)
    assert "9.00" in on_a_gpu(arms.drop(columns="speedup_vs_stock"))


def test_the_full_size_is_not_measured_until_a_run_left_its_table(tmp_path):
    text = " ".join(at_full_size("cuda", tmp_path).split())
    assert text.startswith("- SAM2.1 Hiera-L") and "not measured; `bash benchmarks/gpu.sh reports/gpu` fills in" in text
    rows = [("SAM2", 1.0, 30.0), ("SAM2, vos_optimized", 1.0, 24.0), ("full", 1.0, 20.0), ("RDS", 0.4, 12.0)]
    table = pd.DataFrame(rows, columns=["method", "level", "frame_ms"]).assign(run="compiled", objects=2)
    write_table(tmp_path / "gpu" / "speed.csv", table.assign(dtype="bfloat16", image_size=1024, device="H200"))
    text = " ".join(at_full_size("cuda", tmp_path).split())
    assert "1024 px on H200, bfloat16, compiled, objects: 2: at budgets 0.4 2.50 times as fast as SAM2; 2.00" in text
