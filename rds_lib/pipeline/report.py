"""Stage `report`: Table 9 and the ledger of the paper's claims, from tables alone."""

from pathlib import Path

import pandas as pd

from rds_lib.core.artifacts import read_json, read_table, write_table, write_text
from rds_lib.pipeline.stages import require
from rds_lib.report import table9, verdicts
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
NEEDED = {"scores": ("active_blocks_routed", "gmacs_routed"), "speed": ("speedup_low",)}  # older runs lack them


def run(params, workdir: Path, out: Path) -> pd.DataFrame:
    """Write ``claims.csv``, ``claims.md``, ``table9.csv``, ``table9.md`` and ``budget.csv``; return the ledger."""
    tables = {
        name: read_table(require(product, params, workdir), columns=NEEDED.get(name, ()))
        for name, product in TABLES.items()
    }
    headroom = read_json(require("headroom/headroom.json", params, workdir))
    boxes = read_table(require("evaluation/boxes.csv", params, workdir))
    dataset = tables["objects"]["dataset"].iloc[0]
    ledger = verdicts.judge(the_claims(), Evidence.of_dataset(dataset, params.evaluation, **tables, headroom=headroom))
    ours = table9.measured_rows(tables["scores"], tables["speed"], profile=params.profile)
    table = pd.concat([ours, table9.paper_rows()], ignore_index=True)
    write_table(out / "claims.csv", ledger)
    write_table(out / "table9.csv", table)
    write_table(out / "budget.csv", table9.budget_rows(tables["scores"]))
    write_text(out / "claims.md", verdicts.as_page(ledger, profile=params.profile, dataset=dataset))
    write_text(out / "table9.md", table9.as_page(table, boxes))
    return ledger
