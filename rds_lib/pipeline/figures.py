"""Stage `figures`: every figure that the paper's supplement names, each as a picture and as a page, from the products of the stages before."""

import html
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pandas as pd
import plotly.graph_objects as go
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image
from plotly.offline import get_plotlyjs

from rds_lib.core.artifacts import atomic_write, require, write_table
from rds_lib.evaluation.benchmark import run_benchmark
from rds_lib.pipeline.evaluation import run_evaluation
from rds_lib.show import paper_figures, paper_pages, results_page
from rds_lib.show.inspector.page import write_inspector_page
from rds_lib.show.notebook_figures import Picture
from rds_lib.show.study import MOST_COMPARED, MOST_VIDEOS, Study, read_study

MEANINGFUL = (*paper_figures.STATES, *(colour for _, colour in paper_figures.ERRORS.values()))
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"><title>Figure {number}: {title}</title><style>
body {{ font: 15px/1.5 system-ui, sans-serif; margin: 1.5rem auto; max-width: 72rem; padding: 0 1rem; color: #222; background: #fff }}
h1 {{ font-size: 1.4rem; margin: 0 }} p {{ max-width: 60rem; margin: .4rem 0; overflow-wrap: anywhere }} .small {{ color: #555; font-size: .9rem }}
</style><script src="plotly.min.js"></script></head><body>
<h1>{question}</h1>
<p>Figure {number} of the paper: {title}. {hint}</p>
{plot}
<p>{drawn}</p>
<p class="small">{origin}</p>
</body></html>
"""


class PaperPicture(Picture):
    """A picture in little room; with a page, a notebook shows its plot where it can, and the picture elsewhere."""

    def __init__(self, figure: Figure, text: str, page: go.Figure | None = None):
        super().__init__(figure, text)
        self.page = page

    def image(self, dpi: int = 75, kind: str = "png") -> bytes:
        """The figure as ``svg``, or ``png`` of 256 colours: a third of the size, and even photographs look the same."""
        content = super().image(dpi, kind)
        return content if kind == "svg" else _packed(content, kind)

    def _repr_mimebundle_(self, include=None, exclude=None):
        content = super().image(75, "png")
        kind, image = min(((kind, _packed(content, kind)) for kind in ("png", "jpeg")), key=lambda pair: len(pair[1]))
        live = {"application/vnd.plotly.v1+json": json.loads(self.page.to_json())} if self.page else {}
        return {f"image/{kind}": image, "text/plain": self.text} | live


def _packed(png, kind):
    image, buffer = Image.open(io.BytesIO(png)).convert("RGB"), io.BytesIO()
    if kind == "png":  # colours with a meaning stay as they are, however few pixels they have
        exact = [round(255 * value) for colour in MEANINGFUL for value in to_rgb(colour)]
        found = image.quantize(256 - len(MEANINGFUL), method=Image.Quantize.MEDIANCUT).getpalette()
        palette = Image.new("P", (1, 1))
        palette.putpalette(exact + found[: 768 - len(exact)])
        image = image.quantize(palette=palette, dither=Image.Dither.NONE)
    image.save(buffer, kind, optimize=True)
    return buffer.getvalue()


@dataclass(frozen=True)
class PaperFigure:
    """One of the paper's figures, drawn when asked for: ``kind`` is ``svg``, or ``png`` where it holds photographs."""

    number: int
    title: str
    question: str
    drawn: str
    data: str
    stages: tuple[str, ...]
    kind: str
    draw: Callable[[], Figure]
    explore: Callable[[], go.Figure]
    hint: str = "Point at a mark to read it; a click on the legend hides or shows what it names."

    @property
    def name(self) -> str:
        """The files' name, without suffix."""
        return f"figure_{self.number:02d}"

    @property
    def origin(self) -> str:
        """The data and the stages that the figure comes from."""
        return f"{self.data}; made by the stage figures from {', '.join(self.stages)}."

    def picture(self, *, live: bool = False) -> PaperPicture:
        """The static figure with its small print; ``live``: a notebook shows the page's plot in its place where it can."""
        figure = paper_figures.with_footer(self.draw(), f"Figure {self.number}. {self.drawn} {self.origin}")
        return PaperPicture(figure, f"Figure {self.number}: {self.title}", self.explore() if live else None)

    def page(self) -> str:
        """The page, which needs ``plotly.min.js`` beside it and no network."""
        plot = self.explore().to_html(full_html=False, include_plotlyjs=False, div_id=self.name, auto_play=False, default_height="auto",
                                      config={"displaylogo": False, "responsive": True})
        texts = {name: html.escape(str(getattr(self, name))) for name in ("number", "title", "question", "drawn", "origin", "hint")}
        return _PAGE.format(plot=plot, **texts)

    def write(self, folder: Path) -> None:
        """Write picture and page into a folder."""
        for suffix, content in ((self.kind, self.picture().image(dpi=120, kind=self.kind)), ("html", self.page().encode())):
            with atomic_write(folder / f"{self.name}.{suffix}") as temporary:
                temporary.write_bytes(content)


def study_of(params, workdir: Path) -> Study:
    """Read a profile's products; a smoke run makes those that are missing."""
    require("evaluation", workdir, build=lambda path: run_evaluation(params, workdir, path), stage="evaluation")
    require("benchmark", workdir, stage="benchmark", build=lambda path: run_benchmark(
        params, path, weights=workdir / "train", baselines=workdir / "baselines"))
    return read_study(params, workdir)


def the_figures(study: Study) -> dict[int, PaperFigure]:
    """All figures by the paper's numbers; fewer than the paper's where the profile names fewer videos."""
    data = f"{study.dataset}, {study.length} videos, profile {study.profile}"
    make = partial(PaperFigure, data=data)
    entries = _of_the_set(study, make)
    for n, video in enumerate(study.videos[:MOST_VIDEOS]):
        entries += _of_a_video(study, video, 13 + 2 * n, make)
    for n, video in enumerate(study.compared[:MOST_COMPARED]):
        entries.append(make(
            23 + n, f"frame by frame, {video}", f"What do skipped blocks cost on a frame of {video}?",
            f"Video {video}: masks of SAM2 and of RDS at budget {study.budget:g}, where they differ from the truth, J per frame (mean over objects) and the "
            "blocks that ran, a row per stage.", stages=("data", "evaluation"), kind="png", draw=partial(paper_figures.comparison_picture, study, video),
            explore=partial(paper_pages.comparison_page, study, video), hint="The slider below the plot walks through all frames of the video."))
    return {entry.number: entry for entry in entries}


def _of_the_set(study, make):
    lowest = f"{study.evidence.budgets()[0]:g}"
    return [
        make(4, "quality and speed", "What does each method give up for its speed?",
             "Quality against frames a second, each relative to its own SAM2: ours filled, the paper's (another model, other videos, another machine) hollow; RDS's points are its "
             "budgets. Bars: 95 % interval of RDS minus SAM2 over videos. RDS's and AdaViT's speeds are those at the blocks they run on these videos.",
             stages=("evaluation", "benchmark"), kind="svg", draw=partial(paper_figures.quality_picture, study), explore=partial(paper_pages.quality_page, study)),
        make(10, "activation per block and budget", "Which blocks does the router give up first?",
             "Share of the routed frames of all videos on which each block ran, a panel per budget.", stages=("importance", "evaluation"), kind="svg",
             draw=partial(paper_figures.activation_picture, study), explore=partial(paper_pages.activation_page, study)),
        make(11, "two views of importance", "Which blocks matter, and by which measure?",
             "Importance of every block: J&F lost without it, relative change of the features in it, and the sum of both ranks, by which the adapted blocks "
             "are chosen.", stages=("importance",), kind="svg", draw=partial(paper_figures.importance_picture, study),
             explore=partial(paper_pages.importance_page, study), data=f"training videos, profile {study.profile}"),
        make(12, "static plans across sequences", "Does one fixed set of blocks suit every video?",
             f"J&F of every video, mean over objects, under the supplement's static plans of 24 blocks and RDS at budget {lowest}, all with RDS's adapters, and under SAM2, by "
             "which the videos are sorted. std: standard deviation over videos.", stages=("evaluation",), kind="svg",
             draw=partial(paper_figures.sequences_picture, study), explore=partial(paper_pages.sequences_page, study))]


def _of_a_video(study, video, number, make):
    return [
        make(number, f"blocks per frame, {video}", f"Which blocks ran on each frame of {video}?",
             f"Video {video} at budget {study.budget:g}: frames with RDS's masks, the blocks that ran on every frame, and their number.", stages=("data", "importance", "evaluation"),
             kind="png", draw=partial(paper_figures.timeline_picture, study, video), explore=partial(paper_pages.timeline_page, study, video),
             hint="Point at a cell for its frame, block and keep probability; drag to zoom, double-click to return."),
        make(number + 1, f"blocks over the video, {video}", f"How often did each block run in {video}?",
             f"Video {video} at budget {study.budget:g}: share of its routed frames on which each block ran.", stages=("importance", "evaluation"), kind="svg",
             draw=partial(paper_figures.video_picture, study, video), explore=partial(paper_pages.video_page, study, video))]


def run_figures(params, workdir: Path, out: Path) -> pd.DataFrame:
    """Write every figure as picture and page, and ``figures.csv``, which lists them; return that list.

    Beside them lie ``story.png``, the project in one picture, and ``inspector.html``, the routing inspector of the videos of
    the section ``inspect``. ``README.md`` is the page of results; `publish` puts it into ``reports``, with the figures beside it.
    """
    study = study_of(params, workdir)
    figures = the_figures(study)
    table = pd.DataFrame([{"number": f.number, "title": f.title, "file": f"{f.name}.{f.kind}", "data": f.data, "stages": ", ".join(f.stages), "caption": f.drawn}
                          for f in figures.values()])
    for old in out.glob("figure_*"):
        old.unlink()
    for figure in figures.values():
        figure.write(out)
    with atomic_write(out / "story.png") as temporary:
        temporary.write_bytes(PaperPicture(paper_figures.story_picture(study), "").image(dpi=120))
    write_inspector_page(out / "inspector.html", [study.recordings[name] for name in study.inspected], params.inspect.runs,
                         title="Routing inspector", summary=f"Masks, blocks and quality, frame by frame; {study.dataset}, profile {study.profile}.")
    with atomic_write(out / "plotly.min.js") as temporary:
        temporary.write_text(get_plotlyjs(), encoding="utf-8")
    write_table(out / "figures.csv", table)
    results_page.write(out / "README.md", study, table)
    return table
