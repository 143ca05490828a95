"""The stages of the pipeline by name, and the one way to ask for a product of another stage.

A stage has one name: in ``dvc.yaml``, for its folder below ``runs/<profile>``, its section of parameters and its module
in this package. No stage module imports another: `require` finds the builder here, and imports it only when a product
is missing.
"""

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from rds_lib.core.errors import RDSInputError
from rds_lib.work import locks
from rds_lib.work.finished import check_whole


@dataclass(frozen=True)
class Stage:
    """One stage of ``dvc.yaml``."""

    run: str = ""  # module:function that makes the products; "" where the notebook's cells do
    notebook: str = ""  # that runs the stage and tells of it

    def build(self, params, workdir: Path, out: Path) -> Any:
        """Make the stage's products in the folder ``out``; returns what its function does."""
        module, _, function = self.run.partition(":")
        return getattr(import_module(module), function)(params, workdir, out)


STAGES = {
    "pretrain": Stage("rds_lib.pipeline.pretrain:run", "00_pretrain"),
    "data": Stage(notebook="01_data"),
    "importance": Stage("rds_lib.pipeline.importance:run", "02_importance"),
    "headroom": Stage("rds_lib.pipeline.headroom:run"),
    "train": Stage("rds_lib.pipeline.train:run", "03_rds_training"),
    "baselines": Stage("rds_lib.pipeline.baselines:run", "04_baselines"),
    "evaluation": Stage("rds_lib.pipeline.evaluation:run", "05_evaluation"),
    "dinov3": Stage("rds_lib.pipeline.dinov3:run", "08_dinov3_transfer"),
    "benchmark": Stage("rds_lib.pipeline.benchmark:run"),
    "report": Stage("rds_lib.pipeline.report:run"),
    "figures": Stage("rds_lib.pipeline.figures:run", "06_figures"),
    "check": Stage("rds_lib.pipeline.check:run"),
}
NOTEBOOKS = {  # section of parameters by notebook; two notebooks belong to no stage
    **{stage.notebook: name for name, stage in STAGES.items() if stage.notebook},
    "07_inspect_routing": "inspect",
    "your_video": "your_video",
}


def require(product: str, params, workdir: Path) -> Path:
    """Return the path of a stage's product; a smoke run builds it if it is missing, so that every notebook opens alone.

    Parameters
    ----------
    product : str
        A stage, or a file or folder among its products: ``"train"``, ``"baselines/pbd"``,
        ``"importance/importance.csv"``.

    Raises
    ------
    RDSInputError
        If there is no such stage, or the product is missing and cannot be built here, or was damaged since.
    """
    name, _, inner = product.partition("/")
    if name not in STAGES:
        raise RDSInputError(f"stage {name!r} is unknown; the pipeline has: {', '.join(STAGES)}")
    build = (lambda out: STAGES[name].build(params, workdir, out)) if params.is_smoke and STAGES[name].run else None
    folder = locks.require(name, workdir, build, stage=name)
    check_whole(folder, inner)
    return locks.require(f"{name}/{inner}", workdir, stage=name) if inner else folder
