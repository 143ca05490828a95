"""Table 9 of the supplement beside what was measured here: a row per method, level and data set, and a page."""

import shutil
import subprocess

import numpy as np
import pandas as pd

from rds_lib.core.paths import ROOT
from rds_lib.evaluation.names import RDS
from rds_lib.metrics.statistics import FEWEST
from rds_lib.report.markdown import table
from rds_lib.report.paper import DATASETS, PAPER

COLUMNS = tuple(
    "method level dataset split metric value ci_low ci_high active_blocks gmacs encoder_ms fps params_trained source "
    "profile device dtype commit".split()
)
OF_SCORES = ("method", "dataset", "metric", "value", "ci_low", "ci_high", "active_blocks", "gmacs", "params_trained")
DIGITS = {"active_blocks": 1, "gmacs": 3, "encoder_ms": 1, "fps": 1, "params_trained": 0}  # beside the scores
BOXES = (
    "LaSOT's scores as pytracking computes them: every object is a sequence, the first frame counts, `norm precision` "
    "is at 0.2 and `norm precision area` is its mean over 0 to 0.5.\n"
    "GOT-10k's AO and SR as its toolkit computes them for validation: the first frame does not count, all frames weigh "
    "the same. A lost object keeps its last box."
)


def paper_rows() -> pd.DataFrame:
    """The paper's thirty rows on three data sets, in the columns of ``COLUMNS``; what the paper lacks is empty."""
    rows = []
    for method, (levels, numbers) in PAPER.items():
        for level, (*values, fps) in zip(levels, numbers, strict=True):
            rows += [
                {
                    "method": method,
                    "level": level,
                    "dataset": dataset,
                    "split": split,
                    "metric": metric,
                    "value": value,
                    "fps": fps,
                    "source": "paper",
                }
                for (dataset, split, metric), value in zip(DATASETS, values, strict=True)
            ]
    return pd.DataFrame(rows).reindex(columns=COLUMNS)


def measured_rows(scores: pd.DataFrame, speed: pd.DataFrame, *, profile: str) -> pd.DataFrame:
    """Our rows: the evaluation's scores, with the speed of the arms that were timed.

    Parameters
    ----------
    scores : DataFrame
        ``table.csv`` of the stage ``evaluation``. Active blocks and GMACs are means over all frames of its videos.
    speed : DataFrame
        ``table.csv`` of the stage ``benchmark``: clips with one object, all arms in one run.
    """
    timed = {(row["method"], row["level"]): row for row in speed.to_dict("records")}
    common = {
        "split": "val",
        "source": "measured",
        "profile": profile,
        "device": speed["device"].iloc[0],
        "dtype": speed["dtype"].iloc[0],
        "commit": commit(),
    }
    rows = []
    for score in scores.to_dict("records"):
        method, level = score["method"], score["level"]
        own = timed.get((method, level), {})
        rows.append(
            {name: score.get(name) for name in OF_SCORES}
            | {"level": level_name(method, level)}
            | {name: own.get(name) for name in ("encoder_ms", "fps")}
            | common
        )
    return pd.DataFrame(rows).reindex(columns=COLUMNS)


def budget_rows(scores: pd.DataFrame) -> pd.DataFrame:
    """What RDS ran at every budget on every data set: ``dataset, level`` and, over all and over routed frames, work."""
    names = ["dataset", "level", "active_blocks", "active_blocks_routed", "gmacs", "gmacs_routed"]
    return scores.loc[scores["method"] == RDS, names]


def level_name(method: str, level: float) -> str:
    """A level as the paper writes this method's: ninths for SlimSAM."""
    written, _ = PAPER.get(method, ((), ()))
    return f"{9 * level:.0f}/9" if any("/" in each for each in written) else f"{level:g}"


def commit() -> str:
    """The commit that the code stands at, short; empty outside a git checkout of its own, and without git."""
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        return ""
    done = subprocess.run(
        ["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    return done.stdout.strip()


def as_page(rows: pd.DataFrame, boxes: pd.DataFrame | None = None) -> str:
    """Table 9 as Markdown: a row per method and level, first what was measured, then the paper's.

    Parameters
    ----------
    boxes : DataFrame, optional
        ``boxes.csv`` of the stage ``evaluation``, for a table of its own.
    """
    ours, paper = (rows[rows["source"] == source] for source in ("measured", "paper"))
    parts = [
        "# Table 9",
        "What we measured, then what the paper reports. Weights, videos and machine differ, so compare differences, "
        "not absolute values.\n"
        "The generated set in YouTube-VOS's layout is not YouTube-VOS; its G is a proxy. "
        "`reports/table9.csv` has every column.",
    ]
    if len(ours):
        parts += _measured(ours)
    if boxes is not None and len(boxes):
        parts += ["## Measured: boxes around the masks", BOXES, _boxes(boxes)]
    return "\n\n".join([*parts, "## The paper: SAM2 Hiera-L", _grid(paper, intervals=False)]) + "\n"


def _measured(ours):
    first, keys = ours.iloc[0], list(zip(ours["method"], ours["level"]))
    wanted = [(method, level) for method, (levels, _) in PAPER.items() for level in levels]
    is_in_paper = np.array([key in wanted for key in keys])
    order = list(PAPER).index
    in_paper = ours[is_in_paper].sort_values("method", key=lambda names: names.map(order), kind="stable")
    return [
        f"## Measured: profile `{first['profile']}`, {first['device']}, {first['dtype']}",
        f"{len(set(wanted) & set(keys))} of the paper's {len(wanted)} rows, with 95 % intervals over videos"
        f"{_without(ours)}.\n"
        "Active blocks and gmacs, of the encoder's blocks, are means over all frames, those that must run all blocks "
        "included; `budget.csv` has routed frames beside.\n"
        "Encoder ms and fps are of the benchmark's single clip, where methods that decide frame by frame, AdaViT above "
        "all, may run other numbers of blocks (see the benchmark's `table.csv`).",
        _grid(in_paper, intervals=True),
        "## Measured: rows that the paper's table lacks",
        _grid(ours[~is_in_paper], intervals=True),
    ]


def _without(ours):
    """Which data sets have no intervals, and why."""
    bare = ours.groupby("dataset", sort=False)["ci_low"].agg(lambda bounds: bounds.isna().all())
    names = " and ".join(bare.index[bare])
    if not names:
        return ""
    return f"; {names}: no interval, which of fewer than {FEWEST} videos would be the range of their numbers"


def _boxes(boxes):
    names = [name for name in boxes.columns if name not in ("dataset", "method", "level")]
    first = boxes[boxes["dataset"] == boxes["dataset"].iloc[0]].to_dict("records")
    rows = [
        [row["method"], level_name(row["method"], row["level"]), *(f"{row[name]:.1f}" for name in names)]
        for row in first
    ]
    return table(["method", "level", *(name.replace("_", " ") for name in names)], rows)


def _grid(rows, *, intervals):
    datasets = list(dict.fromkeys(zip(rows["dataset"], rows["metric"])))
    extra, lines = DIGITS if intervals else {"fps": 1}, []
    for (method, level), group in rows.groupby(["method", "level"], sort=False):
        by_set = group.set_index("dataset")
        cells = [_score(by_set.loc[name], intervals) if name in by_set.index else "" for name, _ in datasets]
        numbers = {name: group[name].iloc[0] for name in extra}
        cells += ["" if pd.isna(number) else f"{number:,.{extra[name]}f}" for name, number in numbers.items()]
        lines.append([method, level, *cells])
    scores = [f"{dataset}, {'J&F' if metric == 'JF' else metric}" for dataset, metric in datasets]
    return table(["method", "level", *scores, *(name.replace("_", " ") for name in extra)], lines)


def _score(row, intervals):
    is_shown = intervals and not pd.isna(row["ci_low"])
    return f"{row['value']:.1f}" + (f" ({row['ci_low']:.1f} to {row['ci_high']:.1f})" if is_shown else "")
