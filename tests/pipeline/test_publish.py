"""Publishing a run: what goes where, all or nothing, and the numbers in README and on the page of results."""

import re
import shutil

import numpy as np
import pandas as pd
import pytest

from rds_lib.core import paths
from rds_lib.core.artifacts import read_json, read_table, write_json, write_table
from rds_lib.core.errors import RDSInputError
from rds_lib.pipeline import publish as module
from rds_lib.pipeline.documents import at_full_size, blocks, headline, on_a_gpu, page_parts, verdicts
from rds_lib.pipeline.machine import FILE, PACKAGES
from rds_lib.pipeline.params import load_params
from rds_lib.pipeline.publish import publish
from rds_lib.report.markdown import parts, without_parts

OF_README, OF_RESULTS = ("headline",), ("tables", "measured", "claims", "gpu", "figures")
NUMBERS = (  # of a run: scores, speeds, shares of saved time
    r"J&F( of)? [+-]?\d",
    r"\d\.\d( points)? J&F",
    r"\d( frames a second| fps| FPS)",
    r"[+-]?\d+\.\d+ points",
    r"\d\.\d+ times",
    r"\b\d+\.\d+ (and|to|at) \d+\.\d+ (ms|%)",
    r"eta[^a-z]{1,4}\d",
)
PAGE = "# New\n\n## A table\n\n1.5\n\n## Figures\n\nnew ones\n"  # as stage `figures` makes it

WEIGHTS = {"config": "mini", "checkpoint": "mini_sam2.safetensors", "sha256": "0" * 64, "tensors_sha256": "1" * 64}
VIT = {"config": "dinov3_vit", "checkpoint": "mini", "sha256": "2" * 64, "tensors_sha256": "3" * 64}


def by_hand(names):
    """A document with empty parts, and words around them."""
    return "# T\n\n" + "\n".join(f"by hand\n\n<!-- begin {name} -->\n<!-- end {name} -->\n" for name in names)


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
    for name in ("figure_04.svg", "figures.csv", "story.png"):
        (workdir / "figures" / name).write_text(f"new {name}")
    (workdir / "figures" / "README.md").write_text(PAGE)
    figures = tmp_path / "reports" / "figures"
    figures.mkdir(parents=True)
    (figures / "figure_25.png").write_text("of an older run")
    (figures / "inspector.png").write_text("made by hand")
    (tmp_path / "README.md").write_text(by_hand(OF_README))
    (tmp_path / "reports" / "README.md").write_text(by_hand(OF_RESULTS))
    monkeypatch.setattr(paths, "REPORTS", tmp_path / "reports")
    monkeypatch.setattr(module, "README", tmp_path / "README.md")
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
    assert (reports / "figures" / "inspector.png").read_text() == "made by hand"
    machine = read_json(reports / FILE)
    assert machine.keys() >= {"processor", "date", "python", *PACKAGES}
    assert (machine["model"], machine["smaller"], machine["dinov3"]) == (WEIGHTS, [], VIT)
    assert reports / "figures" / "figure_25.png" in changed and reports.parent / "README.md" in changed


def test_readme_and_page_get_their_parts_and_what_is_written_by_hand_stays(run):
    workdir, reports = run
    publish(load_params("mini"), workdir)
    readme, page = ((folder / "README.md").read_text() for folder in (reports.parent, reports))
    assert without_parts(readme) == by_hand(OF_README) and without_parts(page) == by_hand(OF_RESULTS)
    made = blocks(reports, read_json(reports / FILE)) | page_parts(PAGE)
    for text, names in ((readme, OF_README), (page, OF_RESULTS)):
        assert parts(text) == {name: made[name].rstrip("\n") + "\n" for name in names}
    processor = read_json(reports / FILE)["processor"]
    assert processor in parts(readme)["headline"] and processor in parts(page)["measured"]
    assert publish(load_params("mini"), workdir) == []


def test_the_numbers_of_the_findings_are_filled_in_from_the_run_and_from_what_lies_beside(run):
    workdir, reports = run
    write_table(reports / "other" / "extra.csv", pd.DataFrame({"value": [4.25]}))
    marks = "table9.csv: method=SAM2; source=paper: #", "other/extra.csv: : value: .2f"
    (reports / "findings.md").write_text("Rows: ?<!-- {} -->, and 1.0<!-- {} --> more.\n".format(*marks))
    publish(load_params("mini"), workdir)
    table = read_table(workdir / "report" / "table9.csv")
    count = ((table["method"] == "SAM2") & (table["source"] == "paper")).sum()
    filled = "Rows: {}<!-- {} -->, and 4.25<!-- {} --> more.\n".format(count, *marks)
    assert (reports / "findings.md").read_text() == filled and count > 0
    (reports / "findings.md").write_text("?<!-- table9.csv: method=None: value -->\n")
    (workdir / "figures" / "story.png").write_text("newer")
    with pytest.raises(RDSInputError, match="method=None"):
        publish(load_params("mini"), workdir)
    assert (reports / "figures" / "story.png").read_text() == "new story.png", "nothing is written"


def test_nothing_of_the_page_that_the_stage_made_is_lost():
    made = page_parts(PAGE)
    assert made == {"tables": "# New\n\n## A table\n\n1.5\n", "figures": "## Figures\n\nnew ones\n"}
    assert f"{made['tables']}\n{made['figures']}" == PAGE


def test_another_profile_has_a_folder_of_its_own_and_leaves_readme_and_page_alone(run):
    workdir, reports = run
    publish(load_params("mini_all"), workdir)
    assert {name for name in below(reports) if not name.startswith("mini_all/")} == {
        "README.md",
        "figures/figure_25.png",
        "figures/inspector.png",
    }
    assert "mini_all/table9.csv" in below(reports) and "mini_all/README.md" not in below(reports)
    assert (reports.parent / "README.md").read_text() == by_hand(OF_README)
    assert (reports / "README.md").read_text() == by_hand(OF_RESULTS)


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


def committed(place):
    return (paths.ROOT / place / "README.md").read_text(encoding="utf-8")


def test_the_committed_numbers_are_those_of_the_committed_tables():
    machine = read_json(paths.REPORTS / FILE) if (paths.REPORTS / FILE).is_file() else {}
    readme, page = parts(committed("")), parts(committed("reports"))
    assert tuple(readme) == OF_README and tuple(page) == OF_RESULTS
    found = readme | {name: text for name, text in page.items() if name not in page_parts(PAGE)}
    assert found == {name: text + "\n" for name, text in blocks(paths.REPORTS, machine).items()}, "run: make results"


def test_the_committed_page_has_the_rows_of_the_committed_table():
    """Quality with its interval, blocks, GMACs and speed, of every method that was timed."""
    rows = read_table(paths.REPORTS / "table9.csv").astype({"level": str})
    rows = rows[(rows["source"] == "measured") & (rows["dataset"] == "generated-davis") & rows["fps"].notna()]
    budget = read_table(paths.REPORTS / "budget.csv").astype({"level": str})
    routed = budget[budget["dataset"] == "generated-davis"].set_index("level")["active_blocks_routed"]
    lines = parts(committed("reports"))["tables"].partition("## Is it routing")[0].splitlines()
    assert {"SAM2", "mini_half", "SlimSAM", "RDS"} <= set(rows["method"])
    for row in rows.to_dict("records"):
        name, level = row["method"].replace("_", r"\_"), row["level"]
        cells = [found for line in lines if (found := line.strip("| ").split(" | "))[:2] == [name, level]]
        blocks_run = f"{row['active_blocks']:.1f} ("
        assert len(cells) == 1 and cells[0][2] == f"{row['value']:.1f} ({row['ci_low']:.1f} to {row['ci_high']:.1f})"
        assert cells[0][3].startswith(f"{blocks_run}{routed[level]:.1f})" if row["method"] == "RDS" else blocks_run)
        assert cells[0][4:] == [f"{row['gmacs']:.2f}", f"{row['fps']:.1f}"]


@pytest.mark.parametrize("place", ["", "reports"])
def test_prose_holds_no_number_of_a_run(place):
    prose = without_parts(committed(place))
    assert [found[0] for pattern in NUMBERS for found in re.finditer(pattern, prose)] == []


def test_numbers_of_a_run_are_known_when_they_are_seen():
    shown = "SAM2 has J&F 56.5, RDS 55.5 J&F at 56.1 frames a second, 1.20 times as fast, 2.6 points less, eta = 0.8"
    assert all(any(re.search(pattern, part) for pattern in NUMBERS) for part in shown.split(","))


def test_the_readme_has_rds_beside_sam2_with_the_verdicts_on_the_papers_claims():
    rows = pd.DataFrame(
        [("SAM2", 1.0, "a", 60.04, 20.0), ("RDS", 0.6, "a", 59.5, 25.0), ("RDS", 0.6, "b", 1.0, np.nan)],
        columns=["method", "level", "dataset", "value", "fps"],
    ).astype({"level": object})
    rows.loc[rows["method"] == "SAM2", "level"] = "1"
    claims = pd.DataFrame(
        [
            ("quality", "as good", "undecided", -0.5, -1.0, 0.5, "J&F points"),
            ("headline, speed", "faster", "reproduced", 1.25, 1.2, 1.3, "times as fast"),
        ],
        columns=["key", "claim", "verdict", "effect", "ci_low", "ci_high", "unit"],
    )
    assert " ".join(headline(rows, claims).split()) == (
        "- *faster*: reproduced. Here: 25.0 frames a second against 20.0, 1.25 (1.20 to 1.30) times as fast. "
        "- *as good*: undecided. Here: J&F 59.5 against 60.0, -0.50 (-1.00 to +0.50) J&F points."
    )


def test_all_four_verdicts_are_counted_and_the_decided_ones_listed():
    words = ["reproduced", "undecided", "undecided", "contradicted", "not testable here"]
    rows = [
        (f"claim {n}", word, 1.5, 1.0 if word != "undecided" else np.nan, 2.0, "ratio") for n, word in enumerate(words)
    ]
    text = verdicts(pd.DataFrame(rows, columns=["claim", "verdict", "effect", "ci_low", "ci_high", "unit"]))
    assert text.replace("\n", " ").startswith(
        "Of the 5 claims in [the ledger](claims.md), at this scale 1 is reproduced, 1 is contradicted, 2 are "
        "undecided and 1 is not testable here."
    )
    assert "Reproduced:\n\n- claim 0: +1.50 (+1.00 to +2.00) ratio\n" in text and "Contradicted:\n\n- claim 3: " in text
    assert "claim 1" not in text and "claim 4" not in text


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
