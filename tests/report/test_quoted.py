"""Numbers in prose: filled in from tables, and none without a source."""

import pandas as pd
import pytest

from rds_lib.core.artifacts import write_table
from rds_lib.core.errors import RDSInputError
from rds_lib.core.paths import REPORTS
from rds_lib.report.quoted import refill, unquoted

FINDINGS = REPORTS / "findings.md"


@pytest.fixture
def folder(tmp_path):
    rows = {"method": ["SAM2", "RDS", "RDS"], "level": [1.0, 0.6, 0.4], "value": [58.44, 57.06, -1.5]}
    write_table(tmp_path / "own" / "scores.csv", pd.DataFrame(rows))
    return tmp_path


@pytest.mark.parametrize(
    ("mark", "number"),
    [
        ("own/scores.csv: method=RDS; level=0.6: value", "57.1"),
        ("own/scores.csv: method=RDS; level=0.4: value: +.2f", "-1.50"),
        ("own/scores.csv: level=1: value: .0f", "58"),
        ("own/scores.csv: method=RDS: #", "2"),
        ("own/scores.csv: : #", "3"),
    ],
)
@pytest.mark.parametrize("before", ["?", "-12.5", "1,234"])
def test_a_number_is_filled_in_from_its_table(mark, number, before, folder):
    page = f"It has {before}<!-- {mark} --> points."
    assert refill(page, folder) == f"It has {number}<!-- {mark} --> points."
    assert not unquoted(page)


@pytest.mark.parametrize(
    ("mark", "words"),
    [
        ("own/scores.csv: method=RDS: value", "2 rows found"),
        ("own/scores.csv: method=DyT: value", "0 rows found"),
        ("own/scores.csv: method=SAM2: worth", "a column expected"),
        ("own/scores.csv: way=SAM2: value", "no column 'way'"),
        ("own/none.csv: method=SAM2: value", "none.csv"),
    ],
)
def test_a_mark_that_names_no_single_number_is_an_error(mark, words, folder):
    with pytest.raises(RDSInputError, match=words):
        refill(f"?<!-- {mark} -->", folder)


def test_a_run_goes_before_what_was_published(folder, tmp_path):
    write_table(tmp_path / "run" / "scores.csv", pd.DataFrame({"value": [3.0]}))
    write_table(tmp_path / "old" / "scores.csv", pd.DataFrame({"value": [2.0]}))
    folders = tmp_path / "run", tmp_path / "old"
    assert refill("?<!-- scores.csv: : value -->", *folders) == "3.0<!-- scores.csv: : value -->"
    assert refill("?<!-- scores.csv: : value -->", *folders[1:], folders[0]) == "2.0<!-- scores.csv: : value -->"
    assert refill("?<!-- own/scores.csv: : # -->", *folders, folder) == "3<!-- own/scores.csv: : # -->"


def test_numbers_without_a_source_are_found():
    page = "# 3 lessons\n\nSAM2 on DAVIS 2017 at `0.6` loses 1.5 points ([there](a.md#4)), 2<!-- a.csv: : # --> of 30."
    assert unquoted(page) == ["1.5", "30"]


@pytest.mark.skipif(not FINDINGS.is_file(), reason="no findings yet")
def test_the_findings_quote_the_published_tables():
    text = FINDINGS.read_text(encoding="utf-8")
    assert refill(text, REPORTS) == text, "python -m rds_lib publish fills them in"
    assert not unquoted(text)
