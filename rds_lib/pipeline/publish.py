"""Copy a run's results into ``reports/`` and into the README. Nothing else writes there."""

import datetime
from pathlib import Path

from rds_lib.core.artifacts import copy_file, require, write_json, write_text
from rds_lib.core.errors import RDSInputError
from rds_lib.core.machine import machine_facts
from rds_lib.core.markdown import replace_parts
from rds_lib.core.paths import REPORTS, ROOT
from rds_lib.pipeline.readme import blocks

DEFAULT = "mini"  # its results lie in reports/ itself, those of another profile in a folder of its name there
MACHINE = "machine.json"
PAGE = "README.md"  # the page of results; it lies in the stage's folder and goes beside the folder of figures
DOCUMENTS = (ROOT / "README.md",)  # with parts that are generated


def reports_of(profile: str) -> Path:
    """Return the folder of a profile's committed results."""
    return REPORTS if profile == DEFAULT else REPORTS / profile


def publish(params, workdir: Path) -> list[Path]:
    """Publish a run: its report, its figures, the machine it is published from, and the documents' generated parts.

    All is read before anything is written; every file is replaced as a whole, and figures that the run does not have
    are removed. Run it on the machine that computed the results.

    Returns
    -------
    list of Path
        The files that changed.

    Raises
    ------
    RDSInputError
        If a product is missing, a document has a part that nothing generates, or this is a smoke run.
    """
    if params.is_smoke:
        raise RDSInputError("profile smoke is for tests and has no results to publish; name another one with --profile")
    target = reports_of(params.profile)
    report, figures = (require(name, workdir, stage=name) for name in ("report", "figures"))
    machine = machine_facts() | {"date": datetime.date.today().isoformat()}
    files = {target / file.name: file for file in sorted(report.iterdir())}
    files |= {target / "figures" / file.name: file for file in sorted(figures.iterdir()) if file.name != PAGE}
    documents = {}
    if params.profile == DEFAULT:  # the page and the README tell of the default profile
        files |= {target / PAGE: figures / PAGE}
        texts = blocks(report, machine)
        documents = {path: replace_parts(path.read_text(encoding="utf-8"), texts) for path in DOCUMENTS}
    changed = [path for path, file in files.items() if not path.is_file() or path.read_bytes() != file.read_bytes()]
    for path in changed:
        copy_file(files[path], path)
    for path in set((target / "figures").glob("figure_*")) - files.keys():
        path.unlink()
        changed.append(path)
    write_json(target / MACHINE, machine)
    for path, text in documents.items():
        if path.read_text(encoding="utf-8") != text:
            write_text(path, text)
            changed.append(path)
    return sorted(changed)
