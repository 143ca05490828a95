"""Stage `claims`: judge the paper's claims by the tables of the stages before."""

from pathlib import Path

from rds_lib.artifacts import atomic_write, read_table, require, write_table
from rds_lib.claims import Evidence, as_page, judge, the_claims
from rds_lib.paths import REPORTS, is_smoke


def run_claims(params, workdir: Path, out: Path) -> None:
    """Write ``claims.csv`` and ``claims.md`` for the first data set of the profile's evaluation, and, outside smoke runs, into ``reports``."""
    tables = {name: read_table(require(name, workdir, stage=stage)) for name, stage in (
        ("evaluation/objects.csv", "evaluation"), ("evaluation/routes.csv", "evaluation"), ("importance/importance.csv", "importance"),
        ("benchmark/table.csv", "benchmark"))}
    objects, routes, importance, speed = tables.values()
    dataset = objects["dataset"].iloc[0]
    evidence = Evidence(objects[objects["dataset"] == dataset], routes[routes["dataset"] == dataset], importance, speed,
                        resamples=params.evaluation.bootstrap, seed=params.evaluation.seed)
    table = judge(the_claims(), evidence)
    for folder in [out] + ([] if is_smoke(workdir) else [REPORTS]):
        write_table(folder / "claims.csv", table)
        with atomic_write(folder / "claims.md") as temporary:
            temporary.write_text(as_page(table, profile=params.profile, dataset=dataset), encoding="utf-8")
