"""Stage `check`: compare a run with the committed results, number by number."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from rds_lib.core.artifacts import read_json, read_table, write_table, write_text
from rds_lib.core.paths import reports, shown
from rds_lib.evaluation.names import DINO
from rds_lib.pipeline.machine import FILE, machine_facts
from rds_lib.pipeline.stages import require
from rds_lib.report.markdown import table

KEY = ["dataset", "method", "level"]
SCORES = ["value", "ci_low", "ci_high"]
COLUMNS = ["kind", *KEY, "quantity", "committed", "here", "identical"]
NOTHING = "There are no committed results of profile `{profile}` to compare with."
SAME_MACHINE = (
    "Processor and versions are those of the committed results: scores that differ come from code, parameters or data. "
    "Times, and verdicts that rest on them, differ from run to run."
)
OTHER_MACHINE = (
    "Processor or versions are not those of the committed results, so differing rows are not a failure. Processors add "
    "floating-point numbers in different orders, and training carries the last digit on to the scores. We have seen "
    "two machines agree to the last digit, and a third, with AVX2 in place of AVX-512, differ from them by less than "
    "0.01 points on the 18 clips of generated-davis and less than 0.2 on the sets of three clips."
)
UNKNOWN_MACHINE = "The machine that computed the committed results is not recorded."


@dataclass(frozen=True)
class Results:
    """What is compared: measured rows of Tables 9 and 8, the ledger, and the machine (empty: not recorded)."""

    rows: pd.DataFrame
    claims: pd.DataFrame
    machine: dict[str, str]

    @classmethod
    def read(cls, folder: Path, machine: dict[str, str]) -> "Results":
        """Read ``table9.csv``, ``table8.csv`` where there is one, and ``claims.csv`` of a folder."""
        rows = read_table(folder / "table9.csv", columns=[*KEY, *SCORES, "metric", "fps", "source"])
        rows = rows[rows["source"] == "measured"]
        if (folder / "table8.csv").is_file():
            second = read_table(folder / "table8.csv", columns=[*KEY, *SCORES])[[*KEY, *SCORES]]
            rows = pd.concat([rows, second.assign(dataset=second["dataset"] + f", {DINO}")], ignore_index=True)
        claims = read_table(folder / "claims.csv", columns=["key", "verdict"])
        return cls(rows.astype({"level": str}), claims, machine)


def run(params, workdir: Path, out: Path) -> list[str]:
    """Compare the products of stage ``report`` with those committed in ``reports``; differences are not an error.

    Writes ``reproduction.csv``, a row per compared number, and ``reproduction.md``; returns a summary in lines.
    """
    here = Results.read(require("report", params, workdir), machine_facts())
    folder = reports(params.profile)
    if not (folder / "table9.csv").is_file():
        lines = [NOTHING.format(profile=params.profile)]
        write_table(out / "reproduction.csv", pd.DataFrame(columns=COLUMNS))
        write_text(out / "reproduction.md", f"# Reproduction\n\n{lines[0]}\n")
        return lines
    machine = read_json(folder / FILE) if (folder / FILE).is_file() else {}
    committed = Results.read(folder, {name: machine[name] for name in here.machine if name in machine})
    compared = compare(committed, here)
    lines = summary(compared, committed.machine, here.machine)
    write_table(out / "reproduction.csv", compared)
    write_text(out / "reproduction.md", as_page(compared, lines, committed.machine, here.machine, shown(folder)))
    return lines


def compare(committed: Results, here: Results) -> pd.DataFrame:
    """Return one row per number of either side, in ``COLUMNS``; a side that lacks it is empty.

    Kinds: ``score`` (J&F or G, and the ends of its interval), ``speed`` (frame time over SAM2's) and ``verdict``.
    """
    return pd.concat(
        [
            _pair(_scores(committed.rows), _scores(here.rows), "score"),
            _pair(_speeds(committed.rows), _speeds(here.rows), "speed"),
            _pair(_verdicts(committed.claims), _verdicts(here.claims), "verdict"),
        ],
        ignore_index=True,
    )[COLUMNS]


def _scores(rows: pd.DataFrame) -> pd.DataFrame:
    long = rows[[*KEY, *SCORES]].melt(id_vars=KEY, var_name="quantity", value_name="number", ignore_index=False)
    return long.sort_index(kind="stable")


def _speeds(rows: pd.DataFrame) -> pd.DataFrame:
    timed = rows[rows["fps"].notna()].drop_duplicates(["method", "level"])
    reference = timed.loc[timed["method"] == "SAM2", "fps"]
    ratios = reference.iloc[0] / timed["fps"] if len(reference) else float("nan")
    return timed[["method", "level"]].assign(dataset="", quantity="frame time over SAM2's", number=ratios).round(3)


def _verdicts(claims: pd.DataFrame) -> pd.DataFrame:
    named = claims.rename(columns={"key": "quantity", "verdict": "number"})
    return named.assign(**dict.fromkeys(KEY, ""))


def _pair(committed: pd.DataFrame, here: pd.DataFrame, kind: str) -> pd.DataFrame:
    sides = [side.set_index([*KEY, "quantity"])["number"] for side in (committed, here)]
    rows = sides[0].index.append(sides[1].index).unique()  # in the tables' order
    both = pd.DataFrame({name: side.reindex(rows) for name, side in zip(("committed", "here"), sides, strict=True)})
    same = (both["committed"] == both["here"]) | (both["committed"].isna() & both["here"].isna())
    return both.assign(kind=kind, identical=same).reset_index()


def summary(compared: pd.DataFrame, committed: dict[str, str], here: dict[str, str]) -> list[str]:
    """Return the outcome in a line per kind, and one on the machine."""
    kinds = dict(list(compared.groupby("kind")))
    lines = [_scores_line(kinds["score"])] if "score" in kinds else []
    if "verdict" in kinds:
        verdicts = kinds["verdict"]
        lines.append(f"Verdicts: {verdicts['identical'].sum()} of {len(verdicts)} the same.")
    if "speed" in kinds:
        apart = (kinds["speed"]["here"] / kinds["speed"]["committed"]).astype(float)
        lines.append(f"Frame times over SAM2's: {apart.min():.2f} to {apart.max():.2f} of the committed ones.")
    return [*lines, SAME_MACHINE if committed == here else OTHER_MACHINE if committed else UNKNOWN_MACHINE]


def _scores_line(scores: pd.DataFrame) -> str:
    rows = scores.groupby(KEY, sort=False)["identical"].all()
    line = f"Scores: {rows.sum()} of {len(rows)} rows identical to the last digit."
    values = scores[scores["quantity"] == "value"]
    alone = values["here"].isna() | values["committed"].isna()
    apart = (values["here"] - values["committed"]).astype(float).abs()
    if apart.max() > 0:
        worst = values.loc[apart.idxmax()]
        line += (
            f" The largest difference is {apart.max():.4f} points, of {worst['method']} {worst['level']} on "
            f"{worst['dataset']}."
        )
    elif not rows.all() and not alone.any():
        line += " Only intervals differ."
    return line + (f" {alone.sum()} rows are on one side only." if alone.any() else "")


def as_page(compared: pd.DataFrame, lines: list[str], committed: dict, here: dict, folder: str) -> str:
    """Return the comparison as Markdown: the summary, both machines, speeds, and what differs."""
    heads = ("committed", "here")
    machines = table(["", *heads], [(name, committed.get(name, ""), here[name]) for name in here])
    speeds = compared[compared["kind"] == "speed"]
    timed = table(
        ["method", "level", *heads],
        [(row.method, row.level, _shown(row.committed), _shown(row.here)) for row in speeds.itertuples()],
    )
    apart = compared[~compared["identical"] & (compared["kind"] != "speed")]
    rows = [
        (row.dataset, row.method, row.level, row.quantity, _shown(row.committed), _shown(row.here))
        for row in apart.itertuples()
    ]
    differing = table(["data set", "method", "level", "quantity", *heads], rows) if rows else "Nothing."
    return (
        "\n\n".join(
            [
                "# Reproduction",
                f"This run beside the results committed in `{folder}`.",
                "\n".join(f"- {line}" for line in lines),
                "## Machine and versions",
                machines,
                "## Frame time over SAM2's",
                timed,
                "## What differs",
                differing,
            ]
        )
        + "\n"
    )


def _shown(value) -> str:
    return value if isinstance(value, str) else "" if pd.isna(value) else f"{value:g}"
