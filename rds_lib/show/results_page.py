"""The page of results that people land on, as Markdown, made from products."""

import re
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from rds_lib.evaluation.names import ADAPTERS
from rds_lib.report.basis import trainings
from rds_lib.report.table9 import measured_rows
from rds_lib.show.study import Study

LABELS = {  # what the page says for a name in the tables; RDS and its controls, in this order
    "RDS": "RDS, one training per budget",
    "RDS, one for all": "RDS, one training for all budgets",
    "random routes": "random routes, new on every frame",
    "static top-n": "most important blocks, fixed",
    "own mean w": "RDS's own mean route, fixed",
    "random static plans": "random fixed routes, their mean",
    "plan A": "the supplement's static plan A",
    "plan B": "the supplement's static plan B",
}
HALF = {"mini_half": "the model of half the depth"}
LEFT_OUT = ("copy first mask", "best fixed route", "oracle of fixed routes")  # a floor, and routes chosen in hindsight
UNTIMED = ("SAM2 + I-LoRA",)  # shown without a speed of its own; it runs as SAM2 does
HEADS = ("method", "level", "J&F (95 % interval)", "active blocks (routed frames)", "GMACs", "frames a second")


def as_page(study: Study, figures: pd.DataFrame) -> str:
    """The page: the story, tables of quality and speed, and every figure of ``figures.csv``.

    Links hold where the page lies beside ``claims.md``, ``table9.md`` and the folder ``figures``.
    """
    return "\n".join([*_story(study), *_quality_and_speed(study), *_controls(study), *_gallery(figures)])


def _story(study):
    generated = "Model and clips are small and the clips generated: compare methods within a table, not with the paper."
    return [
        "# Results",
        "",
        f"SAM2 tracks an object through a video with an image encoder of {study.shape.depth} blocks. RDS puts a small "
        "router in front: from the last mask and the new frame it picks the blocks that run, within a budget. What "
        "does that cost in quality, what does it save in time, and does the choice follow the frame?",
        "",
        "![Frames of a clip with the tracked objects, the blocks that ran on each frame, and frames a second of SAM2 "
        "and RDS](figures/story.png)",
        "",
        f"*RDS at budget {study.budget:g} on one clip: its masks, and the blocks that ran on each frame (the first has "
        "a prompt and runs all). Right: speed at the blocks that RDS runs on these videos.*",
        "",
        f"**Step through {len(study.inspected)} videos:** [inspector.html](figures/inspector.html) shows masks, blocks "
        "and quality of two runs side by side, frame by frame. It is one file and needs no network: download and open "
        "it.",
        "",
        f"Made by the pipeline (`dvc repro`, profile `{escaped(study.profile)}`); data set {escaped(study.dataset)}, "
        f"{study.length} videos. " + (generated if study.dataset.startswith("generated") else ""),
        "",
        "- [claims.md](claims.md): the paper's claims one by one, with measurement and verdict",
        "- [table9.md](table9.md): the paper's Table 9 beside ours, on all data sets",
        "- [table8.md](table8.md): the same router on another backbone, DINOv3",
        "- [notebooks](../notebooks): where each number comes from; [06_figures](../notebooks/06_figures.ipynb) "
        "explains the figures below",
        "",
    ]


def _quality_and_speed(study):
    rows = measured_rows(study.scores, study.evidence.speed, profile=study.profile)
    machine = rows.iloc[0]
    rows = rows.assign(routed=study.scores["active_blocks_routed"].to_numpy())
    shown = rows[rows["fps"].notna() | rows["method"].isin(UNTIMED)]
    return [
        "## Quality and speed",
        "",
        f"Quality, active blocks and GMACs (of the encoder's blocks) are those on {escaped(study.dataset)}: means over "
        "all frames, and in brackets blocks over routed frames, without those that must run all. Frames a "
        f"second are those on the benchmark's clips ({machine['device']}, {machine['dtype']}), where methods that "
        "decide frame by frame may run other numbers of blocks.",
        "",
        "| " + " | ".join(HEADS) + " |",
        "|---" * len(HEADS) + "|",
        *(_row(row) for row in shown.to_dict("records")),
        "",
    ]


def _row(row):
    forms = (
        ("{value:.1f}", " ({ci_low:.1f} to {ci_high:.1f})"),
        ("{active_blocks:.1f}", " ({routed:.1f})"),
        ("{gmacs:.2f}",),
        ("{fps:.1f}",),
    )
    cells = [escaped(row["method"]), row["level"], *(_known(row, *form) for form in forms)]
    return "| " + " | ".join(cells) + " |"


def _known(row, *forms) -> str:
    """Numbers of a row as text; a part whose numbers are missing is left out."""
    return "".join(text for text in (form.format(**row) for form in forms) if "nan" not in text)


def _controls(study):
    budgets = study.evidence.budgets()[::-1]
    adapters = {name: name for name in study.scores["method"] if name in ADAPTERS.values()}
    known = {*LABELS, *LEFT_OUT, *adapters}
    told = trainings("RDS", budgets[-1], "SAM2", 1.0)(study.evidence)
    others = {name: HALF.get(name, name) for name in study.comparisons["against"] if name not in known}
    return [
        "## Is it routing, fine-tuning or luck?",
        "",
        "J&F (active blocks, mean over all frames) of RDS and its controls, all at RDS's block count. Random and fixed "
        "routes use RDS's adapted weights.",
        "",
        *_by_level(
            study.scores.set_index(["level", "method"]),
            budgets,
            LABELS | adapters,
            "J&F (active blocks)",
            "{value:.1f}",
            " ({active_blocks:.1f})",
        ),
        "",
        "RDS minus each rival, paired by object, in points, with 95 % intervals over videos (by chance, one in twenty "
        f"excludes 0); {told}:",
        "",
        *_by_level(
            study.comparisons.set_index(["level", "against"]),
            budgets,
            others | LABELS | adapters,
            "RDS minus",
            "{effect:+.1f}",
            " ({ci_low:+.1f} to {ci_high:+.1f})",
        ),
        "",
    ]


def _by_level(table: pd.DataFrame, levels: list[float], names: Mapping[str, str], head: str, *forms: str) -> list[str]:
    """Lines of a table: a row per name, a column per budget, blank where there is none; empty rows are left out."""
    lines = [f"| {head} | " + " | ".join(f"{level:g}" for level in levels) + " |", "|---" * (len(levels) + 1) + "|"]
    for name, label in names.items():
        at = [(level, name) for level in levels]
        cells = [_known(table.loc[key], *forms) if key in table.index else "" for key in at]
        lines += [f"| {escaped(label)} | " + " | ".join(cells) + " |"] if any(cells) else []
    return lines


def _gallery(figures):
    lines = [
        "## The paper's figures",
        "",
        "Each has an interactive page. GitHub shows such a page as source: clone the repository, or download the whole "
        "folder `figures/`, and open the file; it needs no network.",
        "",
    ]
    for figure in figures.to_dict("records"):
        title = escaped(f"Figure {figure['number']}: {figure['title']}")
        page = Path(figure["file"]).with_suffix(".html")
        lines += [f"### {title}", "", f"![{title}](figures/{figure['file']})", "", f"[Interactive](figures/{page})", ""]
    return lines


def escaped(text: str) -> str:
    """Text that Markdown shows as it stands."""
    return re.sub(r"([\\`*_\[\]<>|$#~])", r"\\\1", text)
