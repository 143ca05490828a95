"""The stages of the pipeline by name, and the one way to ask for a product of another stage.

No stage module imports another: `require` finds the builder here, and imports it only when a product is missing.
"""

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from rds_lib.core import artifacts
from rds_lib.core.errors import RDSInputError


@dataclass(frozen=True)
class Stage:
    """One stage of dvc.yaml: who builds its folder below ``runs/<profile>``, and which notebook tells it."""

    run: str  # module:function, called with (params, workdir, out)
    notebook: str = ""

    def build(self, params, workdir: Path, out: Path) -> None:
        """Build the stage's products into the folder ``out``."""
        module, _, function = self.run.partition(":")
        getattr(import_module(module), function)(params, workdir, out)


STAGES = {
    "importance": Stage("rds_lib.pipeline.importance:run", "02_importance"),
    "train": Stage("rds_lib.pipeline.train:run", "03_rds_training"),
    "baselines": Stage("rds_lib.pipeline.baselines:run", "04_baselines"),
    "evaluation": Stage("rds_lib.pipeline.evaluation:run", "05_evaluation"),
    "benchmark": Stage("rds_lib.pipeline.benchmark:run"),
    "report": Stage("rds_lib.pipeline.report:run"),
    "figures": Stage("rds_lib.pipeline.figures:run", "06_figures"),
}


def require(product: str, params, workdir: Path) -> Path:
    """Return the path of a stage's product; a smoke run builds it first if it is missing, so that every notebook opens alone.

    Parameters
    ----------
    product : str
        A stage, or a file or folder in its products: ``"train"``, ``"baselines/pbd"``, ``"importance/importance.csv"``.

    Raises
    ------
    RDSInputError
        If there is no such stage, or the product is missing and this is no smoke run.
    """
    name, _, inner = product.partition("/")
    if name not in STAGES:
        raise RDSInputError(f"stage {name!r} is unknown; the pipeline has: {', '.join(STAGES)}")
    build = (lambda out: STAGES[name].build(params, workdir, out)) if params.is_smoke else None
    folder = artifacts.require(name, workdir, build, stage=name)
    return artifacts.require(f"{name}/{inner}", workdir, stage=name) if inner else folder
