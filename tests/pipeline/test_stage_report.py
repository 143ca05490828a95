"""The stage `report`: tables and pages from tables alone, without torch."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from rds_lib.core import paths
from rds_lib.core.artifacts import read_table, write_json, write_table
from rds_lib.core.errors import RDSInputError
from rds_lib.evaluation.headroom_names import BETWEEN, TOTAL, WITHIN
from rds_lib.model.shape import EncoderShape
from rds_lib.pipeline import report
from rds_lib.pipeline.params import load_params
from rds_lib.report.table9 import COLUMNS

SEQUENCES = [f"s{n}" for n in range(6)]


@pytest.fixture
def workdir(tmp_path):
    """What the stages before leave, made up: RDS is 3 points above random routes on the first data set."""
    folder = tmp_path / "mini"
    arms = [("RDS", 0.4, 50.0), ("random routes", 0.4, 47.0), ("SlimSAM", 0.667, 41.0), ("SAM2", 1.0, 52.0)]
    objects = pd.DataFrame(
        [(name, 1, method, level, value / 100, "set") for name in SEQUENCES for method, level, value in arms],
        columns=["sequence", "object", "method", "level", "JF", "dataset"],
    )
    write_table(folder / "evaluation" / "objects.csv", pd.concat([objects, objects.assign(dataset="other", JF=0.1)]))
    write_table(
        folder / "evaluation" / "routes.csv",
        pd.DataFrame(
            [(name, 1, block, block < 3, "routed", 0.4, "set") for name in SEQUENCES for block in range(6)],
            columns=["sequence", "frame_idx", "block", "active", "reason", "level", "dataset"],
        ),
    )
    table = pd.DataFrame(
        [("set", method, level, "JF", value) for method, level, value in arms],
        columns=["dataset", "method", "level", "metric", "value"],
    )
    write_table(
        folder / "evaluation" / "table.csv",
        table.assign(
            active_blocks=20.0,
            active_blocks_routed=19.0,
            gmacs=0.2,
            gmacs_routed=0.19,
            ci_low=table["value"] - 2,
            ci_high=table["value"] + 3,
            params_trained=[99, None, 77, None],
        ),
    )
    write_table(
        folder / "evaluation" / "boxes.csv",
        pd.DataFrame({"dataset": ["set"], "method": ["RDS"], "level": [0.8], "success": [50.0]}),
    )
    write_table(
        folder / "importance" / "importance.csv",
        pd.DataFrame(
            {
                "block": range(6),
                "global_score": np.arange(6.0),
                "local_score": np.arange(6.0),
                "always_on": [True, *[False] * 5],
            }
        ),
    )
    write_table(
        folder / "benchmark" / "table.csv",
        pd.DataFrame(
            {
                "method": ["SAM2", "full", "RDS"],
                "level": [1.0, 1.0, 0.4],
                "encoder_ms": 9.0,
                "fps": [50.0, 50.0, 80.0],
                "eta": np.nan,
                "frame_ms": [20.0, 20.0, 12.5],
                "active_blocks": [48, 48, 20],
                "speedup": [1.0, 1.0, 1.6],
                "speedup_low": [1.0, 1.0, 1.6],
                "device": "CPU",
                "dtype": "float32",
            }
        ),
    )
    arms = (("SAM2", 1.0, 20.0), ("full", 1.0, 20.0), ("RDS", 0.4, 12.5))
    frames = [(*arm, 0, t, ms) for *arm, ms in arms for t in range(4)]
    write_table(
        folder / "benchmark" / "frames.csv", pd.DataFrame(frames, columns=["method", "level", "pass", "frame", "ms"])
    )
    won = {name: [effect, effect - 1, effect + 1] for name, effect in ((TOTAL, 2.0), (BETWEEN, 1.5), (WITHIN, 0.5))}
    headroom = {"routes": 12, "blocks": 3, "videos": 6, "measures": {"iou": won}}
    write_json(folder / "headroom" / "headroom.json", headroom)
    _write_dinov3(folder / "dinov3")
    return folder


def _write_dinov3(folder):
    """Of stage `dinov3`: RDS loses half a point and is 1.25 times as fast."""
    arms = [("DINOv3", 1.0, 60.0, 20.0), ("RDS", 0.6, 59.5, 16.0), ("random routes", 0.6, 50.0, np.nan)]
    objects = pd.DataFrame(
        [(name, 1, method, level, value / 100, "set") for name in SEQUENCES for method, level, value, _ in arms],
        columns=["sequence", "object", "method", "level", "JF", "dataset"],
    )
    table = pd.DataFrame([("set", *arm[:3]) for arm in arms], columns=["dataset", "method", "level", "value"])
    timed = pd.DataFrame([arm for arm in arms if arm[3] > 0], columns=["method", "level", "value", "frame_ms"])
    timed = timed.assign(encoder_ms=9.0, fps=1e3 / timed["frame_ms"], speedup=20 / timed["frame_ms"], eta=np.nan)
    frames = [(*row, 0, t, ms) for *row, ms in timed[["method", "level", "frame_ms"]].values for t in range(4)]
    gaps = {"dataset": "set", "level": 0.6, "against": ["DINOv3"], "effect": -0.5, "ci_low": -0.5, "ci_high": -0.5}
    write_table(folder / "objects.csv", objects)
    write_table(
        folder / "table.csv", table.assign(ci_low=50.0, ci_high=61.0, trainings=1, active_blocks=12.0, gmacs=1.0)
    )
    write_table(folder / "speed.csv", timed.assign(active_blocks=12.0).drop(columns="value"))
    write_table(folder / "frames.csv", pd.DataFrame(frames, columns=["method", "level", "pass", "frame", "ms"]))
    write_table(folder / "comparisons.csv", pd.DataFrame(gaps))
    write_json(folder / "encoder.json", EncoderShape(12, (0,), (0, 11)).as_dict())


def test_the_stage_writes_its_own_folder_and_nothing_else(workdir, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    ledger = report.run(load_params("mini"), workdir, tmp_path / "out")
    names = ("budget.csv", "claims.csv", "claims.md", "table8.csv", "table8.md", "table9.csv", "table9.md")
    made = {"out", *(f"out/{name}" for name in names)}
    assert {path.relative_to(tmp_path).as_posix() for path in set(tmp_path.rglob("*")) - set(before)} == made
    claims = read_table(tmp_path / "out" / "claims.csv").set_index("key")
    assert claims.loc["random", "effect"] == pytest.approx(3) and list(ledger["key"]) == list(claims.index)
    assert claims.loc["speed 0.4", "ci_low"] == pytest.approx(1.6 / (46.5 / 29.8), abs=1e-3), "from the frames"
    assert claims.loc["headroom", ["effect", "ci_low", "verdict"]].tolist() == [2, 1, "reproduced"]
    verdicts = claims.loc[["Table 8, quality", "Table 8, speed"], ["effect", "verdict"]].values.tolist()
    assert verdicts == [[-0.5, "reproduced"], [1.25, "reproduced"]]
    assert "data set `set`" in (tmp_path / "out" / "claims.md").read_text()


@pytest.mark.parametrize(
    "file, column, value, line",
    [
        ("evaluation/table.csv", "value", np.nan, 2),
        ("evaluation/objects.csv", "JF", np.inf, 2),
        ("evaluation/routes.csv", "active", None, 2),
        ("benchmark/table.csv", "fps", "fast", 2),
        ("benchmark/frames.csv", "ms", np.nan, 2),
        ("dinov3/objects.csv", "JF", np.nan, 2),
    ],
)
def test_a_table_with_a_gap_where_a_number_is_needed_is_refused(workdir, tmp_path, file, column, value, line):
    table = read_table(workdir / file).astype({column: object})
    table.loc[line - 2, column] = value
    write_table(workdir / file, table)
    wanted = rf"{file}: {column} = .* in line {line}; .* dvc repro {file.split('/')[0]}"
    with pytest.raises(RDSInputError, match=wanted):
        report.run(load_params("mini"), workdir, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_trained_parameters_and_speeds_come_from_the_tables(workdir, tmp_path):
    report.run(load_params("mini"), workdir, tmp_path / "out")
    table = read_table(tmp_path / "out" / "table9.csv", columns=COLUMNS)
    ours = table[table["source"] == "measured"].set_index(["method", "level"])
    assert ours.loc[("RDS", "0.4"), ["params_trained", "fps"]].tolist() == [99, 80]
    assert ours.loc[("SlimSAM", "6/9"), "params_trained"] == 77 and np.isnan(ours.loc[("SlimSAM", "6/9"), "fps"])
    assert (table["source"] == "paper").sum() == 90


def test_the_budget_has_all_frames_and_routed_ones_beside(workdir, tmp_path):
    report.run(load_params("mini"), workdir, tmp_path / "out")
    (row,) = read_table(tmp_path / "out" / "budget.csv").to_dict("records")
    assert row == {
        "dataset": "set",
        "level": 0.4,
        "active_blocks": 20.0,
        "active_blocks_routed": 19.0,
        "gmacs": 0.2,
        "gmacs_routed": 0.19,
    }


def test_a_missing_product_is_named_with_its_stage(workdir, tmp_path):
    (workdir / "benchmark" / "table.csv").unlink()
    with pytest.raises(RDSInputError, match="dvc repro benchmark"):
        report.run(load_params("mini"), workdir, tmp_path / "out")


def test_an_older_run_is_named_with_what_it_lacks(workdir, tmp_path):
    table = read_table(workdir / "evaluation" / "table.csv").drop(columns="active_blocks_routed")
    write_table(workdir / "evaluation" / "table.csv", table)
    with pytest.raises(RDSInputError, match="evaluation/table.csv: no column active_blocks_routed"):
        report.run(load_params("mini"), workdir, tmp_path / "out")


def test_the_report_needs_neither_a_model_nor_torch():
    code = "import sys, rds_lib.pipeline.report; sys.exit(int('torch' in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], cwd=paths.ROOT).returncode == 0
