"""The generated parts of README and of the page of results, from a run's tables and from the page it made."""

from collections.abc import Mapping
from pathlib import Path
from textwrap import fill

import pandas as pd

from rds_lib.core.artifacts import read_table
from rds_lib.core.paths import REPORTS
from rds_lib.evaluation.names import RDS, SAM2, VOS
from rds_lib.report.full_size import COMMANDS, TITLES
from rds_lib.report.verdicts import CONTRADICTED, REPRODUCED, VERDICTS, shown

WIDTH = 120
BUDGET = "0.6"  # of the README's numbers
SPEED, QUALITY = "headline, speed", "quality"  # the claims on them


def blocks(report: Path, machine: Mapping[str, str]) -> dict[str, str]:
    """Return the parts that are made from tables, by name, as Markdown: the README's ``headline``, and others.

    Links hold where the page of results lies, in ``reports``.

    Parameters
    ----------
    report : Path
        Folder with ``table9.csv`` and ``claims.csv``: a run's, or ``reports`` itself.
    machine : mapping
        Facts about the machine that computed them, with ``date``; empty where it is not known.
    """
    rows = read_table(report / "table9.csv", columns=["method", "level", "dataset", "value", "fps"])
    claims = read_table(
        report / "claims.csv", columns=["key", "claim", "verdict", "effect", "ci_low", "ci_high", "unit"]
    )
    measured = rows[rows["source"] == "measured"]
    place = measured_on(measured, machine)
    return {
        "headline": f"{headline(measured, claims)}\n\n{place}",
        "measured": place,
        "claims": verdicts(claims),
        "gpu": "\n".join([*_measured_before(REPORTS / "gpu"), *map(at_full_size, COMMANDS)]),
    }


def page_parts(page: str) -> dict[str, str]:
    """Return the page that stage ``figures`` made in two parts: ``figures``, its last section, and ``tables``."""
    tables, _, figures = page.rpartition("\n## ")
    return {"tables": tables, "figures": f"## {figures}"}


def headline(rows: pd.DataFrame, claims: pd.DataFrame) -> str:
    """Return speed and quality of RDS at one budget beside SAM2's: what the paper claims, then what was measured."""
    own = rows[rows["dataset"] == rows["dataset"].iloc[0]].astype({"level": str}).set_index(["method", "level"])
    whole, routed, found = own.loc[(SAM2, "1")], own.loc[(RDS, BUDGET)], claims.set_index("key")
    numbers = {
        SPEED: f"{routed['fps']:.1f} frames a second against {whole['fps']:.1f}",
        QUALITY: f"J&F {routed['value']:.1f} against {whole['value']:.1f}",
    }
    return "\n".join(
        _item(f"*{found.at[key, 'claim']}*: {found.at[key, 'verdict']}. Here: {text}, {shown(found.loc[key])}.")
        for key, text in numbers.items()
    )


def measured_on(rows: pd.DataFrame, machine: Mapping[str, str]) -> str:
    """Return where the numbers come from."""
    first = rows.iloc[0]
    place = f" on {machine['processor']}, {machine['date']}" if machine else ""
    return f"Profile `{first['profile']}`, data set `{first['dataset']}`, {first['device']}, {first['dtype']}{place}."


def verdicts(claims: pd.DataFrame) -> str:
    """Return how many claims have each verdict, and which are decided."""
    counts = claims["verdict"].value_counts()
    count = [f"{counts[verdict]} {_is(counts[verdict])} {verdict}" for verdict in VERDICTS if verdict in counts]
    line = f"Of the {len(claims)} claims in [the ledger](claims.md), at this scale {_listed(count)}."
    parts = [fill(line, WIDTH, break_on_hyphens=False)]
    for verdict in (REPRODUCED, CONTRADICTED):
        rows = claims[claims["verdict"] == verdict]
        lines = [f"- {row.claim}: {shown(row)}" for row in rows.itertuples()]
        parts += ["", f"{verdict.capitalize()}:", "", *lines] if lines else []
    return "\n".join(parts)


def _is(count: int) -> str:
    return "is" if count == 1 else "are"


def _measured_before(folder: Path) -> list[str]:
    return [on_a_gpu(read_table(file)) for file in sorted(folder.glob("hiera_l*.csv"))]


def at_full_size(device: str, reports: Path = REPORTS) -> str:
    """Return what was measured on "cuda" or "cpu" at full size as items of a list, or that it was not, and how to."""
    name = {"cuda": "gpu"}.get(device, device)
    folder, page = reports / name, f"[{name}]({name}/README.md)"
    if not (folder / "speed.csv").is_file():
        what = f"SAM2.1 Hiera-L with one, two and five objects on {TITLES[device]}, beside SAM2.1-B+ and -S"
        return _item(f"{what}: not measured; `{COMMANDS[device]}` fills in {page}.")
    speed = read_table(folder / "speed.csv", columns=("run", "objects", "method", "level", "frame_ms", "dtype"))
    items = []
    for (run, objects), rows in speed.groupby(["run", "objects"], sort=False):
        first, routed = rows.iloc[0], rows[rows["method"] == RDS]
        place = f"{first['image_size']} px on {first['device']}, {first['dtype']}, {run}, objects: {objects}"
        ratios = [
            f"{_listed((whole / routed['frame_ms']).map('{:.2f}'.format))} times as fast as {one}"
            for one, whole in rows[rows["method"].isin((SAM2, VOS))].set_index("method")["frame_ms"].items()
        ]
        budgets = _listed(routed["level"].map("{:g}".format))
        items.append(_item(f"SAM2.1 Hiera-L at {place}: at budgets {budgets} {'; '.join(ratios)} ({page})."))
    return "\n".join(items)


def _item(text: str) -> str:
    return fill(f"- {text}", WIDTH, subsequent_indent="  ", break_on_hyphens=False, break_long_words=False)


def on_a_gpu(arms: pd.DataFrame) -> str:
    """Return the speed of Hiera-L on a GPU as an item of a list."""
    routed, first = arms[arms["method"] == "RDS"], arms.iloc[0]
    over_sam2 = "speedup_vs_stock" if "speedup_vs_stock" in arms else "speedup"  # as it was called once
    ratios, budgets = routed[over_sam2].map("{:.2f}".format), routed["level"].map("{:g}".format)
    place = f"{first['image_size']} px on one {first['device']}, {first['dtype']}, {first['engine']}"
    share = 100 * routed["router_share"].max()
    return fill(
        f"- SAM2.1 Hiera-L at {place}: {_listed(ratios)} times as fast as SAM2, at budgets {_listed(budgets)}; "
        f"router and copy take up to {share:.1f} % of a frame.",
        WIDTH,
        subsequent_indent="  ",
    )


def _listed(texts) -> str:
    *most, last = texts
    return f"{', '.join(most)} and {last}" if most else last
