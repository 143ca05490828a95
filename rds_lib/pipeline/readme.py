"""The generated parts of the README: every score and speed in it, from the tables in ``reports/``."""

from collections.abc import Mapping
from pathlib import Path
from textwrap import fill

import pandas as pd

from rds_lib.core.artifacts import read_table
from rds_lib.core.paths import REPORTS
from rds_lib.evaluation.names import RDS, SAM2, VOS
from rds_lib.report.full_size import COMMANDS, TITLES
from rds_lib.report.markdown import table
from rds_lib.report.verdicts import CONTRADICTED, REPRODUCED, VERDICTS, shown

WIDTH = 120
BLOCKS = {"active_blocks": "blocks, all frames", "active_blocks_routed": "blocks, routed frames"}  # of ``budget.csv``
UNTIMED = {"random routes": "random routes, as many blocks as RDS", "static top-n": "the most important blocks, fixed"}
NAMES = {"SAM2": "SAM2 (mini)", "mini_half": "a SAM2 of half the depth, trained alike", "RDS": "**RDS**"} | UNTIMED


def blocks(report: Path, machine: Mapping[str, str]) -> dict[str, str]:
    """Return the generated parts by name, as Markdown.

    Parameters
    ----------
    report : Path
        Folder with ``table9.csv``, ``claims.csv`` and ``budget.csv``: a run's, or ``reports`` itself.
    machine : mapping
        Facts about the machine that computed them, with ``date``; empty where it is not known.
    """
    rows = read_table(report / "table9.csv", columns=["method", "level", "dataset", "value", "fps", "active_blocks"])
    claims = read_table(report / "claims.csv", columns=["claim", "verdict", "effect", "ci_low", "ci_high", "unit"])
    measured = rows[rows["source"] == "measured"]
    return {
        "measured": measured_on(measured, machine),
        "results": results(measured),
        "claims": verdicts(claims),
        "budget": budget_kept(report, measured),
        "gpu": "\n".join([*_measured_before(REPORTS / "gpu"), *map(at_full_size, COMMANDS)]),
    }


def measured_on(rows: pd.DataFrame, machine: Mapping[str, str]) -> str:
    """Return where the numbers come from."""
    first = rows.iloc[0]
    place = f" on {machine['processor']}, {machine['date']}" if machine else ""
    return f"Profile `{first['profile']}`, data set `{first['dataset']}`, {first['device']}, {first['dtype']}{place}."


def results(rows: pd.DataFrame) -> str:
    """Return quality and speed as a table: a row per method that was timed, and two controls."""
    rows = rows[rows["dataset"] == rows["dataset"].iloc[0]].astype({"level": str})
    timed = rows[rows["fps"].notna()]
    levels = list(dict.fromkeys(timed.loc[timed["method"] == "RDS", "level"]))
    heads = ["", "J&F, all blocks", *levels, "frames a second, all blocks", *levels]
    lines = []
    for method in [*dict.fromkeys(timed["method"]), *UNTIMED]:
        own = rows[rows["method"] == method].set_index("level")
        columns = ["1", *_columns(list(own.index), levels)]
        cells = ["" if level not in own.index else f"{own.at[level, 'value']:.1f}" for level in columns]
        cells += [
            "" if level not in own.index else "as RDS" if method in UNTIMED else f"{own.at[level, 'fps']:.1f}"
            for level in columns
        ]
        if any(cells):
            lines.append([NAMES.get(method, method), *cells])
    return table(heads, lines)


def _columns(own: list[str], levels: list[str]) -> list[str]:
    """A method's levels in the columns of RDS's; those it counts otherwise, as ninths, stand in their order."""
    others = [level for level in own if level not in ("0", "1", *levels)]
    return others[: len(levels)] if len(others) == len(own) else levels


def verdicts(claims: pd.DataFrame) -> str:
    """Return how many claims have each verdict, and which are decided."""
    counts = claims["verdict"].value_counts()
    count = [f"{counts[verdict]} {_is(counts[verdict])} {verdict}" for verdict in VERDICTS if verdict in counts]
    line = f"Of the {len(claims)} claims in [the ledger](reports/claims.md), at this scale {_listed(count)}."
    parts = [fill(line, WIDTH, break_on_hyphens=False)]
    for verdict in (REPRODUCED, CONTRADICTED):
        rows = claims[claims["verdict"] == verdict]
        lines = [f"- {row.claim}: {shown(row)}" for row in rows.itertuples()]
        parts += ["", f"{verdict.capitalize()}:", "", *lines] if lines else []
    return "\n".join(parts)


def _is(count: int) -> str:
    return "is" if count == 1 else "are"


def budget_kept(report: Path, rows: pd.DataFrame) -> str:
    """Return the mean number of blocks that RDS ran on the validation clips, by budget.

    From ``budget.csv``; results of before it was made have routed frames alone, in ``table9.csv``.
    """
    dataset = rows["dataset"].iloc[0]
    if not (report / "budget.csv").is_file():
        own = rows[(rows["method"] == "RDS") & (rows["dataset"] == dataset)]
        counts = {BLOCKS["active_blocks_routed"]: own["active_blocks"]}
    else:
        own = read_table(report / "budget.csv", columns=["dataset", "level", *BLOCKS])
        own = own[own["dataset"] == dataset].astype({"level": str})
        counts = {head: own[name] for name, head in BLOCKS.items()}
    lines = [[head, *(f"{n:.1f}" for n in numbers)] for head, numbers in counts.items()]
    return table(["budget", *own["level"]], lines)


def _measured_before(folder: Path) -> list[str]:
    return [on_a_gpu(read_table(file)) for file in sorted(folder.glob("hiera_l*.csv"))]


def at_full_size(device: str, reports: Path = REPORTS) -> str:
    """Return what was measured on "cuda" or "cpu" at full size as items of a list, or that it was not, and how to."""
    name = {"cuda": "gpu"}.get(device, device)
    folder, page = reports / name, f"[`reports/{name}`](reports/{name}/README.md)"
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
