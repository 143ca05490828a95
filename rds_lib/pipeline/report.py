"""Stage `report`: Table 9 and the ledger of the paper's claims, from tables alone."""

from pathlib import Path

import numpy as np
import pandas as pd

from rds_lib.core.artifacts import read_json, read_table, write_table, write_text
from rds_lib.core.errors import RDSInputError
from rds_lib.core.paths import shown
from rds_lib.evaluation.names import DINO, DINO_RDS, RDS
from rds_lib.pipeline.stages import require
from rds_lib.report import table8, table9, verdicts
from rds_lib.report.claims import the_claims
from rds_lib.report.evidence import Evidence

TABLES = {
    "scores": "evaluation/table.csv",
    "objects": "evaluation/objects.csv",
    "routes": "evaluation/routes.csv",
    "importance": "importance/importance.csv",
    "speed": "benchmark/table.csv",
    "frames": "benchmark/frames.csv",
}
NEEDED = {  # columns; older runs lack some
    "scores": ("dataset", "method", "level", "metric", "active_blocks_routed", "gmacs_routed"),
    "objects": ("dataset", "method", "level", "sequence"),
    "routes": ("dataset", "level", "sequence", "reason"),
    "importance": ("always_on",),
    "speed": ("method", "level", "speedup_low", "device", "dtype"),
    "frames": ("method", "level"),
}
NUMBERS = {  # columns without a gap, on which verdicts rest
    "scores": ("value",),
    "objects": ("JF",),
    "routes": ("frame_idx", "block", "active"),
    "importance": ("block",),
    "speed": ("encoder_ms", "fps", "frame_ms"),
    "frames": ("ms",),
}


def run(params, workdir: Path, out: Path) -> pd.DataFrame:
    """Write ``claims.csv``, ``claims.md``, ``table9.csv``, ``table9.md`` and ``budget.csv``; return the ledger."""
    tables = {name: _table(require(product, params, workdir), name) for name, product in TABLES.items()}
    headroom = read_json(require("headroom/headroom.json", params, workdir))
    own = {
        name: read_table(require(f"dinov3/{name}.csv", params, workdir)) for name in ("table", "comparisons", "speed")
    }
    boxes = read_table(require("evaluation/boxes.csv", params, workdir))
    dataset = tables["objects"]["dataset"].iloc[0]
    both = tables | _with_dinov3(tables, params, workdir)
    ledger = verdicts.judge(the_claims(), Evidence.of_dataset(dataset, params.evaluation, **both, headroom=headroom))
    ours = table9.measured_rows(tables["scores"], tables["speed"], profile=params.profile)
    table = pd.concat([ours, table9.paper_rows()], ignore_index=True)
    write_table(out / "claims.csv", ledger)
    write_table(out / "table9.csv", table)
    write_table(out / "budget.csv", table9.budget_rows(tables["scores"]))
    write_text(out / "claims.md", verdicts.as_page(ledger, profile=params.profile, dataset=dataset))
    write_text(out / "table9.md", table9.as_page(table, boxes))
    second = table8.measured_rows(own["table"], own["speed"])
    depth = read_json(require("dinov3/encoder.json", params, workdir))["depth"]
    write_table(out / "table8.csv", second)
    write_text(out / "table8.md", table8.as_page(second, own["comparisons"], profile=params.profile, depth=depth))
    return ledger


def _table(path: Path, name: str, needed=None) -> pd.DataFrame:
    """Read a table and refuse one with NaN, infinity or words where numbers are needed."""
    table = read_table(path, columns=(*(NEEDED[name] if needed is None else needed), *NUMBERS[name]))
    for column in NUMBERS[name]:
        found = pd.to_numeric(table[column], errors="coerce").astype(float)
        wrong = table.index[~np.isfinite(found)]
        if len(wrong):
            raise RDSInputError(
                f"{shown(path)}: {column} = {table[column][wrong[0]]} in line {wrong[0] + 2}; finite numbers expected: "
                f"make it again with dvc repro {path.parent.name}"
            )
    return table


def _with_dinov3(tables, params, workdir) -> dict[str, pd.DataFrame]:
    """Objects, speeds and frames with those of the second backbone, under names of their own."""
    found = {}
    for name, file in (("objects", "objects"), ("speed", "speed"), ("frames", "frames")):
        own = _table(require(f"dinov3/{file}.csv", params, workdir), name, ("method",))
        own = own[own["method"].isin((DINO, RDS))].replace({"method": {RDS: DINO_RDS}})
        found[name] = pd.concat([tables[name], own], ignore_index=True)
    return found
