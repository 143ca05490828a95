"""``reports/README.md``: the page of results that people land on, generated from products."""

import re
from pathlib import Path

import pandas as pd

from rds_lib.core.artifacts import atomic_write
from rds_lib.evaluation.controls import ADAPTERS
from rds_lib.report.table9 import measured_rows
from rds_lib.show.study import Study

CONTROLS = {  # what stands beside RDS at its own number of blocks, as the tables call it
    "RDS": "RDS, one training per budget", "RDS, one for all": "RDS, one training for all budgets", "random routes": "random routes, new on every frame",
    "static top-n": "most important blocks, fixed", "own mean w": "RDS's own mean route, fixed", "random static plans": "random fixed routes, their mean",
    "plan A": "the supplement's static plan A", "plan B": "the supplement's static plan B", **{label: label for label in ADAPTERS.values()}}
RIVALS = {
    "SAM2": "SAM2", "SAM2 + I-LoRA": "SAM2 + I-LoRA", "mini_half": "the model of half the depth", "PBD": "PBD", "DyT": "DyT", "AdaViT": "AdaViT",
    **{method: label for method, label in CONTROLS.items() if method != "RDS"}}
UNTIMED = ("SAM2 + I-LoRA",)  # shown without a speed of its own; it runs as SAM2 does
HEADS = ("method", "level", "J&F (95 % interval)", "active blocks", "GMACs", "frames a second")


def write(path: Path, study: Study, figures: pd.DataFrame) -> None:
    """Write the page; ``figures`` is the list that stage ``figures`` returns, and its files lie in ``figures/`` beside the page."""
    with atomic_write(path) as temporary:
        temporary.write_text(as_page(study, figures), encoding="utf-8")


def as_page(study: Study, figures: pd.DataFrame) -> str:
    """The page as Markdown: the story, a table of quality and speed, and every figure with its page."""
    rows = measured_rows(study.scores, study.evidence.speed, trained={}, profile=study.profile)
    machine, budgets = rows.iloc[0], study.evidence.budgets()[::-1]
    shown = rows[rows["fps"].notna() | rows["method"].isin(UNTIMED)]
    lines = [
        "# Results", "",
        "SAM2 tracks an object through a video with an image encoder of 48 blocks. RDS puts a small router before it, which looks at the last mask and at the new frame "
        "and lets only some of the blocks run, within a budget. The question is what that costs in quality, what it saves in time, and whether the choice follows the frame.", "",
        "![Frames of a clip with the tracked objects, the blocks that ran on each frame, and frames a second of SAM2 and RDS](figures/story.png)", "",
        f"*A clip with the masks of RDS at budget {study.budget:g}; the blocks that ran on each frame, where the first one, which has a prompt, runs all; and the speed.*", "",
        f"**Step through {len(study.inspected)} videos yourself:** [inspector.html](figures/inspector.html) shows masks, blocks and quality of two runs side by side, frame by "
        "frame. It is one file that needs no network: download it and open it.", "",
        f"Everything here comes from the pipeline (`dvc repro`, profile `{escaped(study.profile)}`) and is written anew by it; data set {escaped(study.dataset)}, {study.length} videos. "
        "The mini model is small and its clips are generated: compare methods within a table, not with the paper's levels.", "",
        "- [claims.md](claims.md): the paper's claims one by one, with what was measured and the verdict",
        "- [table9.md](table9.md): the paper's Table 9 beside ours, on all data sets",
        "- [notebooks](../notebooks): how each number comes about; the figures below are explained in [06_figures](../notebooks/06_figures.ipynb)", "",
        "## Quality and speed", "",
        f"Quality, active blocks and GMACs (of the encoder's blocks) on {escaped(study.dataset)}; frames a second on the benchmark's one clip ({machine['device']}, {machine['dtype']}), where "
        "methods that decide frame by frame may run another number of blocks.", "",
        "| " + " | ".join(HEADS) + " |", "|---" * len(HEADS) + "|", *(_row(row) for row in shown.to_dict("records")), "",
        "## Is it routing, or fine-tuning, or luck?", "",
        "J&F and active blocks of RDS and of what it is to be told apart from, at its own number of blocks. Random and fixed routes run with its own adapted weights.", "",
        *_by_level(study.scores.set_index(["level", "method"]), budgets, CONTROLS, "J&F (active blocks)", "{value:.1f} ({active_blocks:.1f})"), "",
        "RDS minus a rival, object by object, in points, with 95 % intervals over videos (one in twenty excludes 0 by chance):", "",
        *_by_level(study.comparisons.set_index(["level", "against"]), budgets, RIVALS, "RDS minus", "{effect:+.1f} ({ci_low:+.1f} to {ci_high:+.1f})"), "",
        "## The paper's figures", "",
        "Each has a page to explore, with names and numbers under the pointer. GitHub shows such a page as source: clone the repository, or download `figures/` whole, and open the file; "
        "it needs no network.", ""]
    for figure in figures.to_dict("records"):
        title, page = escaped(f"Figure {figure['number']}: {figure['title']}"), Path(figure["file"]).with_suffix(".html")
        lines += [f"### {title}", "", f"![{title}](figures/{figure['file']})", "",
                  f"{escaped(figure['caption'])} From {escaped(figure['stages'])}. [Interactive](figures/{page})", ""]
    return "\n".join(lines)


def _by_level(table: pd.DataFrame, levels: list[float], names: dict[str, str], head: str, form: str) -> list[str]:
    """Lines of a table with a row per name and a column per budget, empty where there is no such row; names without any are left out."""
    lines = [f"| {head} | " + " | ".join(f"{level:g}" for level in levels) + " |", "|---" * (len(levels) + 1) + "|"]
    for name, label in names.items():
        cells = [form.format(**table.loc[(level, name)]) if (level, name) in table.index else "" for level in levels]
        lines += [f"| {escaped(label)} | " + " | ".join(cells) + " |"] if any(cells) else []
    return lines


def escaped(text: str) -> str:
    """Text that Markdown shows as it stands."""
    return re.sub(r"([\\`*_\[\]<>|$#~])", r"\\\1", text)


def _row(row):
    cells = [escaped(row["method"]), row["level"], f"{row['value']:.1f} ({row['ci_low']:.1f} to {row['ci_high']:.1f})",
             *("" if pd.isna(row[name]) else f"{row[name]:.{digits}f}" for name, digits in (("active_blocks", 1), ("gmacs", 2), ("fps", 1)))]
    return "| " + " | ".join(cells) + " |"
