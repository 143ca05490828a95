"""Stage `report`: Table 9 and the ledger of the paper's claims, from the tables of the stages before."""

from pathlib import Path

import pandas as pd

from rds_lib.core.artifacts import read_table, require, write_table, write_text
from rds_lib.evaluation.baseline_products import LABELS, rows
from rds_lib.evaluation.controls import ADAPTERS
from rds_lib.evaluation.products import ANY, CONTROL, weights_file
from rds_lib.report import claims, table9
from rds_lib.report.evidence import Evidence
from rds_lib.routing.weights import load_rds


def run_report(params, workdir: Path, out: Path) -> pd.DataFrame:
    """Write ``claims.csv``, ``claims.md``, ``table9.csv`` and ``table9.md``, and return the ledger.

    ``publish`` copies them into ``reports``.
    """
    scores, boxes, objects, routes, importance, speed = (read_table(require(name, workdir, stage=name.split("/")[0])) for name in (
        "evaluation/table.csv", "evaluation/boxes.csv", "evaluation/objects.csv", "evaluation/routes.csv", "importance/importance.csv",
        "benchmark/table.csv"))
    dataset = objects["dataset"].iloc[0]
    evidence = Evidence.of_dataset(dataset, params.evaluation, scores=scores, objects=objects, routes=routes, importance=importance, speed=speed)
    ledger = claims.judge(claims.the_claims(), evidence)
    ours = table9.measured_rows(scores, speed, trained=trained_parameters(params, workdir), profile=params.profile)
    table = pd.concat([ours, table9.paper_rows()], ignore_index=True)
    write_table(out / "claims.csv", ledger)
    write_table(out / "table9.csv", table)
    write_text(out / "claims.md", claims.as_page(ledger, profile=params.profile, dataset=dataset))
    write_text(out / "table9.md", table9.as_page(table, boxes))
    return ledger


def trained_parameters(params, workdir: Path) -> dict[tuple[str, float], int]:
    """Parameters that each training moved: RDS's adapters, and the router where there is one, and what each baseline's stage says."""
    train = workdir / "train"
    files = {("RDS", budget): weights_file(train, str(budget)) for budget in params.evaluation.budgets}
    files |= {("RDS, one for all", budget): weights_file(train, ANY) for budget in params.evaluation.budgets}
    files[("SAM2 + I-LoRA", 1.0)] = weights_file(train, CONTROL)
    files |= {(label, params.baselines.placement_budget): weights_file(workdir / "placement", kind) for kind, label in ADAPTERS.items()}
    counts = {key: _count(load_rds(path)) for key, path in files.items() if path.is_file()}
    described = {method: workdir / "baselines" / method / "levels.csv" for method in LABELS}
    trained = {method: read_table(path).set_index("level")["trained_params"] for method, path in described.items() if path.is_file()}
    return counts | {(label, level): int(trained[method].loc[float(Path(file).stem)])
                     for method, label, level, file in rows(params) if method in trained}


def _count(weights):
    router = weights.router.parameters() if weights.router is not None else ()
    return sum(tensor.numel() for tensor in (*router, *weights.lora.values()))
