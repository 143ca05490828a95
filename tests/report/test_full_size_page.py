"""The page of a measurement at full size: from tables alone, and what it says of numbers that are not there."""

import pandas as pd
import pytest

from rds_lib.core.artifacts import write_json, write_table, write_text
from rds_lib.evaluation.names import ENGINES, VOS
from rds_lib.report.full_size import COMMANDS, page

ARMS = [("SAM2", 1.0, 20.0, 48), (VOS, 1.0, 12.0, 48), ("full", 1.0, 20.0, 48), ("RDS", 0.4, 8.0, 22)]


@pytest.fixture
def folder(tmp_path):
    """One run with one object: RDS is 2.5 times as fast as SAM2 and 1.5 times as fast as its own compiled form."""
    keys = {"run": "compiled", "objects": 1}
    speed = pd.DataFrame(ARMS, columns=["method", "level", "frame_ms", "active_blocks"]).assign(**keys)
    speed = speed.assign(frame_p99_ms=21.0, fps=1e3 / speed["frame_ms"], speedup_ideal=2.75, speedup_limit=4.25)
    speed = speed.assign(eta=0.9, eta_low=0.8, eta_high=1.0, encoder_ms=5.0, router_ms=[0, 0, 0, 0.25])
    frames = [(*arm[:2], 0, t, arm[2]) for arm in ARMS for t in range(5)]
    frames = pd.DataFrame(frames, columns=["method", "level", "pass", "frame", "ms"]).assign(**keys)
    routes = pd.DataFrame({"active_blocks": [5, 20, 48], "gmacs": [1, 2, 5], "encoder_ms": [4.5, 12.0, 26.0]})
    write_table(tmp_path / "speed.csv", speed)
    write_table(tmp_path / "frames.csv", frames)
    write_table(tmp_path / "routes.csv", routes.assign(run="compiled"))
    write_json(tmp_path / "machine.json", {"device": "a GPU", "threads": "4"})
    return tmp_path


def test_an_empty_folder_is_not_measured_and_names_the_command(tmp_path):
    text = page(tmp_path, "cuda")
    assert text.count(f"Not measured. `{COMMANDS['cuda']}` fills it in.") == 3 * (len(ENGINES) + 1) + 3
    assert "| EdgeTAM | compiled | A100 | 150.9 |" in text and "facebookresearch/EdgeTAM" in text


def test_ratios_are_over_both_forms_of_sam2_of_the_same_run(folder):
    row = next(line for line in page(folder, "cuda").splitlines() if line.startswith("| RDS 0.4"))
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[:5] == ["RDS 0.4", "22", "8.0", "21.0", "125.00"]
    assert cells[5:7] == ["2.50 (2.50 to 2.50)", "1.50 (1.50 to 1.50)"]
    assert cells[7:] == ["2.75", "4.25", "0.90 (0.80 to 1.00)", "5.00", "0.25"]


def test_encoder_time_has_slope_intercept_and_r2(folder):
    assert "| compiled | active blocks | 3 | 0.500 ± 0.000 | 2.00 | 1.0000 |" in page(folder, "cuda")


def test_runs_and_parts_that_are_missing_stay_not_measured(folder):
    text = page(folder, "cuda")
    one = text.partition("## One object")[2].partition("## Two objects")[0]
    assert (
        one.count("Not measured") == len(ENGINES)
        and "**eager**: Not measured" in one
        and "device a GPU; threads 4." in text
    )


def test_work_stands_beside_the_time_it_took(folder):
    work = pd.DataFrame({"method": "SAM2", "level": 1.0, "part": ["encoder", "decoder"], "gflops": [3.0, 1.0]})
    peaks = {"peak_tflops": 1.0, "peak_gbytes": 10.0, "peak_source": "a sheet", "objects": 1}
    write_table(folder / "work.csv", work.assign(mbytes=1.0, floor_ms=[3.0, 1.0], **peaks))
    speed = pd.read_csv(folder / "speed.csv").assign(run="eager")
    write_table(folder / "speed.csv", speed)
    write_table(folder / "frames.csv", pd.read_csv(folder / "frames.csv").assign(run="eager"))
    assert "| SAM2 | 3.0 | 1.0 | 4.0 | 4.00 | 5.0 |" in page(folder, "cpu")


def test_notes_and_earlier_tables_stay(folder):
    write_text(folder / "notes.md", "## Notes\n\nA remark.\n")
    old = {"method": "RDS", "level": 0.4, "frame_ms": 25.0, "active_blocks": 22, "speedup": 1.5, "speedup_ideal": 1.6}
    old |= {"eta": 0.8, "router_ms": 0.7, "device": "H", "dtype": "bfloat16", "engine": "eager", "image_size": 1024}
    write_table(folder / "hiera_l.csv", pd.DataFrame([old | {"torch": "2", "date": "2026-11-26"}]))
    text = page(folder, "cuda")
    assert (
        text.endswith("## Notes\n\nA remark.\n")
        and "| RDS 0.4 | 22 | 25.0 | 40.0 | 1.50 | 1.60 | 0.80 | 0.70 |" in text
    )
