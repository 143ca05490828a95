"""Stage `report`: Table 9 and the ledger of the paper's claims, from the tables of the stages before."""

from pathlib import Path

import pandas as pd

from rds_lib.core.artifacts import atomic_write, read_table, require, write_table
from rds_lib.core.paths import REPORTS, is_smoke
from rds_lib.evaluation.baseline_products import LABELS, rows
from rds_lib.evaluation.controls import ADAPTERS
from rds_lib.evaluation.products import ANY, CONTROL, weights_file
from rds_lib.report import claims, table9
from rds_lib.report.evidence import Evidence
from rds_lib.routing.weights import load_rds

DEFAULT = "mini"


def run_report(params, workdir: Path, out: Path) -> pd.DataFrame:
    """Write ``claims.csv``, ``claims.md``, ``table9.csv`` and ``table9.md``, and return the ledger.

    Outside smoke runs they also go into ``reports``, those of another profile than ``mini`` into a folder of its name there.
    """
    scores, boxes, objects, routes, importance, speed = (read_table(require(name, workdir, stage=name.split("/")[0])) for name in (
        "evaluation/table.csv", "evaluation/boxes.csv", "evaluation/objects.csv", "evaluation/routes.csv", "importance/importance.csv",
        "benchmark/table.csv"))
    dataset = objects["dataset"].iloc[0]
    evidence = Evidence.of_dataset(dataset, params.evaluation, scores=scores, objects=objects, routes=routes, importance=importance, speed=speed)
    ledger = claims.judge(claims.the_claims(), evidence)
    ours = table9.measured_rows(scores, speed, trained=trained_parameters(params, workdir), profile=params.profile)
    table = pd.concat([ours, table9.paper_rows()], ignore_index=True)
    shown = REPORTS if params.profile == DEFAULT else REPORTS / params.profile  # what another profile finds does not replace ours
    for folder in [out] + ([] if is_smoke(workdir) else [shown]):
        write_table(folder / "claims.csv", ledger)
        write_table(folder / "table9.csv", table)
        for name, page in (("claims.md", claims.as_page(ledger, profile=params.profile, dataset=dataset)), ("table9.md", table9.as_page(table, boxes))):
            with atomic_write(folder / name) as temporary:
                temporary.write_text(page, encoding="utf-8")
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
