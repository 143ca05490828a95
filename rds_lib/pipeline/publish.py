"""Copy a run's results into ``reports/``, its page among them, and into the README. Nothing else writes there."""

import datetime
from pathlib import Path

from rds_lib.core.artifacts import read_json, write_bytes, write_json
from rds_lib.core.errors import RDSInputError
from rds_lib.core.paths import PUBLISHED, ROOT, reports
from rds_lib.data.origin import FILE as MODEL
from rds_lib.pipeline.documents import blocks, page_parts
from rds_lib.pipeline.machine import FILE, machine_facts
from rds_lib.pipeline.stages import require
from rds_lib.report.markdown import replace_parts
from rds_lib.report.quoted import refill
from rds_lib.work.finished import LIST

PAGE = "README.md"  # the page of results: made in the stage's folder, with words by hand in ``reports``
README = ROOT / "README.md"
FINDINGS = "findings.md"  # beside it, by hand; its numbers are filled in


def publish(params, workdir: Path) -> list[Path]:
    """Publish a run: report, figures, the machine, and the generated parts of README and of the page of results.

    Beside the machine stands which weights the run had, with their hashes, as its stages noted it.

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
    target, machine = reports(params.profile), machine_facts() | {"date": datetime.date.today().isoformat()}
    report, figures, page = (require(product, params, workdir) for product in ("report", "figures", f"figures/{PAGE}"))
    own, second = (read_json(require(f"{stage}/{MODEL}", params, workdir)) for stage in ("evaluation", "dinov3"))
    machine |= own | {"dinov3": second["model"]}
    kept = {page, report / LIST, figures / LIST}
    contents = {target / file.name: file.read_bytes() for file in set(report.iterdir()) - kept}
    contents |= {target / "figures" / file.name: file.read_bytes() for file in set(figures.iterdir()) - kept}
    if params.profile == PUBLISHED:  # the page of results and the README tell of this one
        texts = blocks(report, machine) | page_parts(page.read_text(encoding="utf-8"))
        documents = {path: path.read_text(encoding="utf-8") for path in (README, target / PAGE)}
        contents |= {path: replace_parts(text, texts).encode() for path, text in documents.items()}
        if (findings := target / FINDINGS).is_file():
            contents[findings] = refill(findings.read_text(encoding="utf-8"), report, target).encode()
    stale = set((target / "figures").glob("figure_*")) - contents.keys()
    changed = [path for path, content in contents.items() if not path.is_file() or path.read_bytes() != content]
    for path in changed:
        write_bytes(path, contents[path])
    for path in stale:
        path.unlink()
    write_json(target / FILE, machine)
    return sorted([*changed, *stale])
