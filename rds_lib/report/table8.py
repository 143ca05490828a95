"""Table 8 in small: what RDS does to DINOv3, from the tables of stage `dinov3`."""

import pandas as pd

from rds_lib.evaluation.names import DINO, DINO_RDS, RDS, run_name
from rds_lib.report.markdown import table

ROWS = "method level value ci_low ci_high trainings active_blocks gmacs timed_blocks encoder_ms fps speedup eta".split()
_PAGE = """# DINOv3 with RDS (Table 8 in small)

Profile `{profile}`. A plain ViT of {depth} blocks that propagates labels by the likeness of patches; RDS picks its
blocks from the labels of the frame before. The supplement names Table 8 and has none of its numbers, so none stand
here.

{tables}
J&F in points with its 95 % interval over {over}.
Blocks and GMACs are means over all frames. Times are of clips with one object in one run, in which `blocks, timed`
ran; `eta` is the share of the skipped blocks' time that is saved, 1 but for the clock where all of it is. Routes of
as many blocks as RDS runs: `random` ones on every frame; `static top-n`, the most important blocks on all frames;
`own mean w`, the blocks that this router keeps most often on the data set, on all its frames.
"""


def measured_rows(scores: pd.DataFrame, speed: pd.DataFrame) -> pd.DataFrame:
    """Scores by data set, method and level, with the speed of what was timed."""
    timed = speed.rename(columns={"active_blocks": "timed_blocks"})
    timed = timed[["method", "level", "timed_blocks", "encoder_ms", "fps", "speedup", "eta"]]
    rows = scores.merge(timed, on=["method", "level"], how="left")
    return rows[["dataset", *ROWS]]


def as_page(rows: pd.DataFrame, comparisons: pd.DataFrame, *, profile: str, depth: int) -> str:
    """The table as Markdown, a part per data set, and RDS minus its rivals."""
    parts = []
    for dataset, own in rows.groupby("dataset", sort=False):
        heads = ["", "J&F", "blocks", "GMACs", "blocks, timed", "encoder, ms", "frames a second", "speed-up", "eta"]
        parts += [f"## {dataset}", "", table(heads, [_row(row) for row in own.to_dict("records")]), ""]
        gaps = comparisons[comparisons["dataset"] == dataset].to_dict("records")
        lines = [
            [f"{DINO_RDS} {gap['level']:g} minus {run_name(gap['against'], gap['other_level'])}", _gap(gap)]
            for gap in (gap | {"other_level": 1.0 if gap["against"].startswith(DINO) else gap["level"]} for gap in gaps)
        ]
        parts += [table(["difference", "J&F points"], lines), ""]
    trainings = rows["trainings"].max()
    over = "videos; one training each"
    if trainings > 1:
        over = f"videos and trainings; RDS and its controls are means of {trainings}"
    return _PAGE.format(profile=profile, depth=depth, over=over, tables="\n".join(parts))


def _row(row) -> list[str]:
    name = run_name(DINO_RDS if row["method"] == RDS else row["method"], row["level"] or 1.0)
    score = f"{row['value']:.1f}"
    if pd.notna(row["ci_low"]):
        score += f" ({row['ci_low']:.1f} to {row['ci_high']:.1f})"
    digits = {"active_blocks": 1, "gmacs": 3, "timed_blocks": 1, "encoder_ms": 1, "fps": 1, "speedup": 2, "eta": 2}
    return [name, score, *("" if pd.isna(row[key]) else f"{row[key]:.{n}f}" for key, n in digits.items())]


def _gap(gap) -> str:
    interval = "" if pd.isna(gap["ci_low"]) else f" ({gap['ci_low']:+.1f} to {gap['ci_high']:+.1f})"
    return f"{gap['effect']:+.1f}{interval}"
