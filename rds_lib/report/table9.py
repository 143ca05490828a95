"""Table 9 of the supplement, beside what was measured here: one row per method, level and data set, and a readable page."""

import subprocess

import pandas as pd

from rds_lib.core.paths import ROOT
from rds_lib.report.paper import DATASETS, PAPER

COLUMNS = ("method", "level", "dataset", "split", "metric", "value", "ci_low", "ci_high", "active_blocks", "gmacs", "encoder_ms", "fps",
           "params_trained", "source", "profile", "device", "dtype", "commit")

def paper_rows() -> pd.DataFrame:
    """The paper's thirty rows on three data sets, in the columns of ``COLUMNS``; what the paper does not give is empty."""
    rows = []
    for method, (levels, numbers) in PAPER.items():
        for level, (*values, fps) in zip(levels, numbers, strict=True):
            rows += [{"method": method, "level": level, "dataset": dataset, "split": split, "metric": metric, "value": value, "fps": fps,
                      "source": "paper"} for (dataset, split, metric), value in zip(DATASETS, values, strict=True)]
    return pd.DataFrame(rows).reindex(columns=COLUMNS)


def measured_rows(scores: pd.DataFrame, speed: pd.DataFrame, *, trained: dict[tuple[str, float], int], profile: str) -> pd.DataFrame:
    """Our rows: the evaluation's scores, with speed, work and trained parameters where they were measured.

    Parameters
    ----------
    scores : DataFrame
        ``table.csv`` of the stage ``evaluation``. Active blocks and GMACs are those of its videos; they are means over
        the frames that a router decided, and over all frames for methods without one.
    speed : DataFrame
        ``table.csv`` of the stage ``benchmark``: one clip with one object, all arms in one run.
    trained : dict
        Trained parameters by method and level.
    """
    arms = speed.set_index("arm")
    rows = []
    for score in scores.to_dict("records"):
        method, level = score["method"], score["level"]
        named = [arm for arm in (f"{method}_{level}", method) if arm in arms.index]
        timed = arms.loc[named[0]] if named else {}
        rows.append({name: score[name] for name in ("method", "dataset", "metric", "value", "ci_low", "ci_high", "active_blocks", "gmacs")}
                    | {name: timed.get(name) for name in ("encoder_ms", "fps")}
                    | {"level": level_name(method, level), "split": "val", "params_trained": trained.get((method, level)), "source": "measured",
                       "profile": profile, "device": arms["device"].iloc[0], "dtype": arms["dtype"].iloc[0], "commit": commit()})
    return pd.DataFrame(rows).reindex(columns=COLUMNS)


def level_name(method: str, level: float) -> str:
    """A level as the paper writes it: SlimSAM's are ninths."""
    return f"{9 * level:.0f}/9" if method == "SlimSAM" else f"{level:g}"


def commit() -> str:
    """The commit that the code stands at, short; empty outside a git checkout."""
    done = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return done.stdout.strip()


def as_page(table: pd.DataFrame, boxes: pd.DataFrame | None = None) -> str:
    """Table 9 as Markdown: a row per method and level, first what was measured, then the paper's.

    Parameters
    ----------
    boxes : DataFrame, optional
        ``boxes.csv`` of the stage ``evaluation``, for a table of its own.
    """
    ours = table[table["source"] == "measured"]
    lines = ["# Table 9", "", "Measured here and, below, as the paper gives it. The two are not comparable in level: other weights, other videos, another machine.",
             "A generated set in the layout of YouTube-VOS is no YouTube-VOS, and its G a proxy. `reports/table9.csv` has every column.", ""]
    if len(ours):
        first = ours.iloc[0]
        keys = list(zip(ours["method"], ours["level"]))
        wanted = [(method, level) for method, (levels, _) in PAPER.items() for level in levels]
        in_paper = ours[[key in wanted for key in keys]].sort_values("method", key=lambda names: names.map(list(PAPER).index), kind="stable")
        lines += [f"## Measured: profile `{first['profile']}`, {first['device']}, {first['dtype']}", "",
                  f"{len(set(wanted) & set(keys))} of the paper's {len(wanted)} rows, with 95 % intervals from resampling videos. Encoder ms and fps are those of the benchmark's one clip; "
                  "methods that decide frame by frame may run other numbers of blocks there (its `table.csv` has them), AdaViT above all.", "",
                  *_grid(in_paper, intervals=True), "", "## Measured: rows that the paper's table lacks", "",
                  *_grid(ours[[key not in wanted for key in keys]], intervals=True), ""]
    if boxes is not None and len(boxes):
        lines += ["## Measured: boxes around the masks", "",
                  "LaSOT's scores as pytracking computes them (first frame counted; `norm precision` at 0.2, `norm precision area` its mean over 0 to 0.5), "
                  "every object a sequence; GOT-10k's AO and SR as its toolkit does for its validation set (first frame left out, all frames alike). "
                  "A lost object keeps its last box.", "", *_boxes(boxes), ""]
    lines += ["## The paper: SAM2 Hiera-L", "", *_grid(table[table["source"] == "paper"], intervals=False), ""]
    return "\n".join(lines)


def _boxes(boxes):
    names = [name for name in boxes.columns if name not in ("dataset", "method", "level")]
    lines = ["| method | level | " + " | ".join(name.replace("_", " ") for name in names) + " |", "|---" * (len(names) + 2) + "|"]
    first = boxes[boxes["dataset"] == boxes["dataset"].iloc[0]]
    for row in first.to_dict("records"):
        lines.append(f"| {row['method']} | {level_name(row['method'], row['level'])} | " + " | ".join(f"{row[name]:.1f}" for name in names) + " |")
    return lines


def _grid(rows, *, intervals):
    datasets = list(dict.fromkeys(zip(rows["dataset"], rows["metric"])))
    extra = ("active_blocks", "gmacs", "encoder_ms", "fps", "params_trained") if intervals else ("fps",)
    heads = ["method", "level", *(f"{dataset}, {'J&F' if metric == 'JF' else metric}" for dataset, metric in datasets),
             *(name.replace("_", " ") for name in extra)]
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for (method, level), group in rows.groupby(["method", "level"], sort=False):
        by_set = group.set_index("dataset")
        cells = [_score(by_set.loc[name], intervals) if name in by_set.index else "" for name, _ in datasets]
        cells += ["" if pd.isna(group[name].iloc[0]) else f"{group[name].iloc[0]:,.{0 if name == 'params_trained' else 1 if name != 'gmacs' else 3}f}"
                  for name in extra]
        lines.append("| " + " | ".join([method, level, *cells]) + " |")
    return lines


def _score(row, intervals):
    return f"{row['value']:.1f}" + (f" ({row['ci_low']:.1f} to {row['ci_high']:.1f})" if intervals else "")
