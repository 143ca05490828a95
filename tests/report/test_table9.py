"""Table 9: the paper's thirty rows, and our rows beside them."""

import subprocess

import numpy as np
import pandas as pd

from rds_lib.report import table9
from rds_lib.report.table9 import COLUMNS, as_page, budget_rows, measured_rows, paper_rows


def scores():
    rows = [
        ("set", "SAM2", 1.0, "JF", 50.0, 48.0),
        ("set", "RDS", 0.8, "JF", 49.0, 39.5),
        ("set", "RDS", 0.6, "JF", 48.0, 30.0),
        ("set", "random routes", 0.8, "JF", 40.0, 39.0),
        ("tube", "RDS", 0.8, "G", 33.0, 39.0),
        ("set", "SlimSAM", 0.667, "JF", 41.0, 48.0),
        ("set", "mini_half", 1.0, "JF", 42.0, 24.0),
    ]
    table = pd.DataFrame(rows, columns=["dataset", "method", "level", "metric", "value", "active_blocks"])
    trained = [1234.0 if (method, level) == ("RDS", 0.8) else np.nan for _, method, level, *_ in rows]
    return table.assign(
        active_blocks_routed=table["active_blocks"] - 1,
        gmacs=table["active_blocks"] / 120,
        gmacs_routed=table["active_blocks"] / 125,
        ci_low=table["value"] - 2,
        ci_high=table["value"] + 3,
        sequences=4,
        objects=5,
        params_trained=trained,
    )


def speed():
    return pd.DataFrame(
        {
            "method": ["SAM2", "full", "RDS", "SlimSAM", "mini_half"],
            "level": [1.0, 1.0, 0.8, 0.667, 1.0],
            "encoder_ms": [13.0, 13.1, 11.0, 12.0, 7.0],
            "fps": [49.0, 48.0, 53.0, 50.0, 70.0],
            "eta": np.nan,
            "active_blocks": 48.0,
            "frame_ms": 20.0,
            "speedup": [1.0, 1.0, 1.1, 1.0, 1.4],
            "device": "CPU",
            "dtype": "float32",
        }
    )


def test_the_papers_table_has_thirty_rows_on_three_data_sets():
    table = paper_rows()
    assert tuple(table.columns) == COLUMNS and len(table) == 90 and set(table["source"]) == {"paper"}
    assert table.groupby("method")["level"].nunique().to_dict() == {
        "SAM2": 1,
        "SlimSAM": 5,
        "PBD": 6,
        "DyT": 6,
        "AdaViT": 6,
        "RDS": 6,
    }
    found = table.set_index(["method", "level", "dataset"])
    assert found.loc[("RDS", "0.4", "DAVIS 2017"), ["value", "fps"]].tolist() == [84.8, 46.5]
    assert found.loc[("SlimSAM", "6/9", "YouTube-VOS 2019"), ["metric", "value"]].tolist() == ["G", 82.9]
    for method in ("SlimSAM", "PBD", "DyT", "AdaViT", "RDS"):
        for dataset in ("DAVIS 2017", "SA-V", "YouTube-VOS 2019"):
            values = table[(table["method"] == method) & (table["dataset"] == dataset)]["value"]
            assert values.is_monotonic_decreasing, (method, dataset)


def test_our_rows_carry_speed_only_where_it_was_measured():
    table = measured_rows(scores(), speed(), profile="mini").set_index(["method", "level", "dataset"])
    assert tuple(table.reset_index().columns[:3]) == ("method", "level", "dataset")
    assert table.loc[("RDS", "0.8", "set"), ["encoder_ms", "fps", "gmacs", "params_trained"]].tolist() == [
        11,
        53,
        39.5 / 120,
        1234,
    ]
    assert table.loc[("SAM2", "1", "set"), "fps"] == 49
    assert table.loc[("SlimSAM", "6/9", "set"), "fps"] == 50 and table.loc[("mini_half", "1", "set"), "fps"] == 70
    assert (
        table.loc[[("RDS", "0.6", "set"), ("random routes", "0.8", "set")], ["fps", "params_trained"]]
        .isna()
        .all(axis=None)
    )
    assert (
        set(table["source"]) == {"measured"}
        and set(table["profile"]) == {"mini"}
        and set(table["dtype"]) == {"float32"}
    )


def test_the_page_shows_both_and_keeps_them_apart():
    ours = measured_rows(scores(), speed(), profile="mini")
    boxes = pd.DataFrame(
        [("set", "SlimSAM", 0.667, 50.0, 40.0), ("tube", "RDS", 0.4, 1.0, 1.0)],
        columns=["dataset", "method", "level", "success", "SR_0.5"],
    )
    page = as_page(pd.concat([ours, paper_rows()], ignore_index=True), boxes)
    measured, paper = page.split("## The paper")
    assert "| RDS | 0.8 | 49.0 (47.0 to 52.0) | 33.0 (31.0 to 36.0) | 39.5 | 0.329 | 11.0 | 53.0 | 1,234 |" in measured
    assert "4 of the paper's 30 rows" in measured
    assert (
        measured.index("| SlimSAM | 6/9 | 41.0")
        < measured.index("| RDS | 0.8 |")
        < measured.index("lacks")
        < measured.index("| random routes |")
    )
    assert (
        "| method | level | success | SR 0.5 |\n| --- | --- | --- | --- |\n| SlimSAM | 6/9 | 50.0 | 40.0 |\n"
        in measured
        and "tube | 1.0" not in measured
    )
    assert "| RDS | 0.4 | 84.8 | 65.4 | 81.2 | 46.5 |" in paper and paper.count("\n| ") == 32 and "84.8" not in measured
    assert "proxy" in measured


def test_a_set_without_intervals_is_shown_without_and_named():
    few = scores()
    few.loc[few["dataset"] == "tube", ["ci_low", "ci_high"]] = np.nan
    page = as_page(measured_rows(few, speed(), profile="mini"))
    assert "| RDS | 0.8 | 49.0 (47.0 to 52.0) | 33.0 | 39.5 |" in page and "nan" not in page
    assert "intervals over videos; tube: no interval, which of fewer than 6 videos would" in page
    assert "no interval" not in as_page(measured_rows(scores(), speed(), profile="mini"))


def test_the_budgets_have_routed_frames_beside_all():
    table = budget_rows(scores())
    assert table[["dataset", "level"]].to_records(index=False).tolist() == [("set", 0.8), ("set", 0.6), ("tube", 0.8)]
    assert (table["active_blocks"] - table["active_blocks_routed"] == 1).all() and "gmacs_routed" in table


def test_the_commit_is_that_of_our_own_checkout_or_none(tmp_path, monkeypatch):
    """Not that of a repository which an unpacked archive happens to lie in; and git need not be there."""
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@example.org"]
    for command in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "a"]):
        subprocess.run([*git, *command], check=True)
    monkeypatch.setattr(table9, "ROOT", tmp_path)
    assert len(table9.commit()) >= 7
    (tmp_path / "copy").mkdir()
    monkeypatch.setattr(table9, "ROOT", tmp_path / "copy")
    assert table9.commit() == ""
    monkeypatch.setattr(table9, "ROOT", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert table9.commit() == ""
