"""A run beside the committed results: what is identical, what differs and where, and on which machines."""

import numpy as np
import pandas as pd
import pytest

from rds_lib.core import paths
from rds_lib.core.artifacts import read_table, write_json, write_table
from rds_lib.pipeline import check
from rds_lib.pipeline.machine import FILE, machine_facts
from rds_lib.pipeline.params import load_params

ARMS = (
    ("copy first mask", "0", 20.1, np.nan),
    ("SAM2", "1", 56.5022, 47.0),
    ("SlimSAM", "6/9", 50.25, 50.0),
    ("RDS", "0.6", 55.5, 56.4),
)


def results(folder):
    """Made-up results in the form that stage `report` writes; the rows of the paper do not count."""
    rows = [
        {
            "method": method,
            "level": level,
            "dataset": dataset,
            "metric": "JF",
            "value": value,
            "ci_low": value - 8,
            "ci_high": value + 8,
            "fps": fps,
            "source": "measured",
        }
        for dataset in ("generated-davis", "generated-sav")
        for method, level, value, fps in ARMS
    ]
    rows.append({"method": "RDS", "level": "0.6", "dataset": "DAVIS 2017", "value": 89.6, "source": "paper"})
    write_table(folder / "table9.csv", pd.DataFrame(rows))
    write_table(
        folder / "claims.csv",
        pd.DataFrame({"key": ["quality", "dyt"], "effect": [-1.04, 1.3], "verdict": ["undecided", "reproduced"]}),
    )


def change(file, where, column, value):
    table = read_table(file)
    for name, wanted in where.items():
        where = table[name] == wanted if isinstance(where, dict) else where & (table[name] == wanted)
    table.loc[where, column] = value
    write_table(file, table)


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """A run's folder and the committed results, which are the same."""
    monkeypatch.setattr(paths, "REPORTS", tmp_path / "reports")
    results(tmp_path / "mini" / "report")
    results(tmp_path / "reports")
    return tmp_path / "mini", tmp_path / "reports"


def run(workdir, profile="mini"):
    lines = check.run(load_params(profile), workdir, workdir / "check")
    page = (workdir / "check" / "reproduction.md").read_text()
    assert all(line in page for line in lines)
    return lines, page, read_table(workdir / "check" / "reproduction.csv", columns=check.COLUMNS)


def test_equal_results_are_identical_row_by_row(folders):
    workdir, reports = folders
    write_json(reports / FILE, machine_facts() | {"date": "2026-11-26"})
    lines, page, table = run(workdir)
    assert lines == [
        "Scores: 8 of 8 rows identical to the last digit.",
        "Verdicts: 2 of 2 the same.",
        "Frame times over SAM2's: 1.00 to 1.00 of the committed ones.",
        check.SAME_MACHINE,
    ]
    assert page.endswith("## What differs\n\nNothing.\n") and table["identical"].all()
    assert len(table[table["kind"] == "score"]) == 3 * 8 and "DAVIS 2017" not in set(table["dataset"].dropna())


def test_one_changed_score_is_found_and_named(folders):
    workdir, _ = folders
    where = {"method": "RDS", "dataset": "generated-sav"}
    change(workdir / "report" / "table9.csv", where, "value", 55.4999)
    lines, page, table = run(workdir)
    assert lines[0] == (
        "Scores: 7 of 8 rows identical to the last digit. "
        "The largest difference is 0.0001 points, of RDS 0.6 on generated-sav."
    )
    (row,) = table[~table["identical"]].to_dict("records")
    assert (row["method"], row["quantity"], row["committed"], row["here"]) == ("RDS", "value", "55.5", "55.4999")
    assert "| generated-sav | RDS | 0.6 | value | 55.5 | 55.4999 |" in page


def test_intervals_count_as_part_of_a_row(folders):
    workdir, _ = folders
    change(workdir / "report" / "table9.csv", {"method": "SAM2", "dataset": "generated-sav"}, "ci_low", 1.0)
    assert run(workdir)[0][0] == "Scores: 7 of 8 rows identical to the last digit. Only intervals differ."


def test_rows_of_one_side_alone_and_other_verdicts_are_counted(folders):
    workdir, reports = folders
    change(workdir / "report" / "table9.csv", {"method": "SlimSAM"}, "method", "NewMethod")
    change(workdir / "report" / "claims.csv", {"key": "dyt"}, "verdict", "contradicted")
    lines, page, _ = run(workdir)
    assert lines[0] == "Scores: 6 of 10 rows identical to the last digit. 4 rows are on one side only."
    assert lines[1] == "Verdicts: 1 of 2 the same." and "dyt | reproduced | contradicted |" in page


def test_speeds_are_ratios_over_sam2_beside_the_committed_ones(folders):
    workdir, _ = folders
    for method, fps in (("SAM2", 94.0), ("RDS", 56.4), ("SlimSAM", 100.0)):  # a machine twice as fast, but for RDS
        change(workdir / "report" / "table9.csv", {"method": method}, "fps", fps)
    lines, page, table = run(workdir)
    assert lines[2] == "Frame times over SAM2's: 1.00 to 2.00 of the committed ones."
    assert "| RDS | 0.6 | 0.833 | 1.667 |" in page and "| SlimSAM | 6/9 | 0.94 | 0.94 |" in page
    assert "copy first mask" not in set(table.loc[table["kind"] == "speed", "method"])


def test_on_another_processor_differences_are_expected(folders):
    workdir, reports = folders
    write_json(reports / FILE, machine_facts() | {"processor": "Another CPU"})
    lines, page, _ = run(workdir)
    assert lines[-1] == check.OTHER_MACHINE and "not a failure" in lines[-1] and "| processor | Another CPU |" in page


def test_an_unknown_machine_is_said_to_be_unknown(folders):
    assert run(folders[0])[0][-1] == check.UNKNOWN_MACHINE


def test_without_committed_results_the_page_says_so(folders):
    workdir, _ = folders
    results(workdir.parent / "paper" / "report")
    lines, page, table = run(workdir.parent / "paper", "paper")
    assert lines == ["There are no committed results of profile `paper` to compare with."] and table.empty


def test_other_profiles_are_compared_with_their_own_results(folders):
    workdir, reports = folders
    results(reports / "mini_all")
    change(reports / "table9.csv", {"method": "RDS"}, "value", 1.0)
    assert run(workdir, "mini_all")[0][0] == "Scores: 8 of 8 rows identical to the last digit."


def test_rows_of_the_second_backbone_are_compared_too_and_are_not_those_of_sam2(folders):
    run, committed = folders
    row = {
        "dataset": "generated-davis",
        "method": "RDS",
        "level": "0.6",
        "value": 70.0,
        "ci_low": 61.0,
        "ci_high": 78.0,
    }
    write_table(committed / "table8.csv", pd.DataFrame([row]))
    write_table(run / "report" / "table8.csv", pd.DataFrame([row | {"value": 70.5}]))
    params = load_params("mini")
    check.run(params, run, run / "check")
    table = read_table(run / "check" / "reproduction.csv")
    apart = table[(table["kind"] == "score") & ~table["identical"]]
    assert apart[["dataset", "method", "quantity", "committed", "here"]].values.tolist() == [
        ["generated-davis, DINOv3", "RDS", "value", "70.0", "70.5"]
    ]
