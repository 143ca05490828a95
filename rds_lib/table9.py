"""Table 9 of the supplement, beside what was measured here: one row per method, level and data set, and a readable page."""

import subprocess

import pandas as pd

from rds_lib.paths import ROOT

COLUMNS = ("method", "level", "dataset", "split", "metric", "value", "ci_low", "ci_high", "active_blocks", "gmacs", "encoder_ms", "fps",
           "params_trained", "source", "profile", "device", "dtype", "commit")
DATASETS = (("DAVIS 2017", "val", "JF"), ("SA-V", "not stated", "JF"), ("YouTube-VOS 2019", "val", "G"))
LEVELS = ("0.9", "0.8", "0.7", "0.6", "0.5", "0.4")
NINTHS = ("8/9", "7/9", "6/9", "5/9", "4/9")
PAPER = {  # supplement, Table 9: J&F on DAVIS 2017, J&F on SA-V, G on YouTube-VOS 2019, frames a second; Hiera-L
    "SAM2": (("1",), ((90.0, 78.5, 88.5, 29.8),)),
    "SlimSAM": (NINTHS, ((89.5, 74.5, 86.3, 31.1), (88.1, 70.1, 84.1, 32.3), (87.8, 67.9, 82.9, 33.4), (86.1, 64.1, 81.3, 34.4),
                         (82.6, 57.6, 78.8, 35.6))),
    "PBD": (LEVELS, ((90.2, 75.5, 86.7, 32.0), (88.7, 72.7, 85.5, 35.5), (87.4, 70.1, 84.4, 36.3), (85.6, 66.4, 83.6, 39.8),
                     (84.2, 62.9, 81.9, 42.9), (81.2, 58.1, 79.0, 46.9))),
    "DyT": (LEVELS, ((92.6, 77.8, 88.3, 27.8), (91.8, 77.1, 87.9, 25.8), (90.9, 76.0, 87.0, 24.0), (90.2, 74.9, 86.3, 22.4),
                     (88.8, 72.8, 85.1, 20.8), (87.5, 69.1, 83.3, 19.4))),
    "AdaViT": (LEVELS, ((91.2, 76.0, 87.3, 29.1), (90.6, 74.7, 86.3, 28.3), (89.1, 73.9, 85.8, 27.4), (88.3, 73.1, 85.1, 26.3),
                        (86.0, 70.4, 83.8, 25.0), (83.5, 64.5, 80.1, 23.1))),
    "RDS": (LEVELS, ((92.0, 77.6, 88.0, 31.4), (91.4, 76.3, 87.6, 33.7), (90.8, 75.6, 87.3, 35.1), (89.6, 74.2, 86.0, 38.2),
                     (87.6, 70.1, 85.2, 42.4), (84.8, 65.4, 81.2, 46.5))),
}


def paper_rows() -> pd.DataFrame:
    """The paper's thirty rows on three data sets, in the columns of ``COLUMNS``; what the paper does not give is empty."""
    rows = []
    for method, (levels, numbers) in PAPER.items():
        for level, (*values, fps) in zip(levels, numbers, strict=True):
            rows += [{"method": method, "level": level, "dataset": dataset, "split": split, "metric": metric, "value": value, "fps": fps,
                      "source": "paper"} for (dataset, split, metric), value in zip(DATASETS, values, strict=True)]
    return pd.DataFrame(rows).reindex(columns=COLUMNS)


def paper_fps(method: str) -> dict[str, float]:
    """The paper's frames a second by level."""
    levels, numbers = PAPER[method]
    return {level: row[-1] for level, row in zip(levels, numbers, strict=True)}


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
        rows = set(zip(ours["method"], ours["level"]))
        n = sum((method, level) in rows for method, (levels, _) in PAPER.items() for level in levels)
        lines += [f"## Measured: profile `{first['profile']}`, {first['device']}, {first['dtype']}", "",
                  f"{n} of the paper's thirty rows, and the rows that it lacks: {', '.join(m for m in ours['method'].unique() if m not in PAPER)}.",
                  "With 95 % intervals from resampling videos.", "", *_grid(ours, intervals=True), ""]
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
