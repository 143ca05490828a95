"""The paper's figures: one entry each, with what is drawn, what is asked, and the page to explore it.

Numbers are the paper's. To add a figure, write its drawing functions in ``paper_figures`` and ``paper_pages`` and an
entry here; stage, results page and notebook find it.
"""

import html
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import plotly.graph_objects as go
from matplotlib.figure import Figure

from rds_lib.core.artifacts import write_bytes, write_text
from rds_lib.core.errors import RDSInputError
from rds_lib.evaluation.recordings import Recording
from rds_lib.show import paper_figures, paper_pages
from rds_lib.show.inspector.page import inspector_page
from rds_lib.show.picture import Picture, with_footer
from rds_lib.show.study import Study, VideoStudy

VIDEO_BYTES = 600_000  # of a page that steps through a video; it takes smaller frames where it must
OF_VIDEOS = (13, 15, 17, 19, 21)  # the paper's numbers; the one after each is of the same video
OF_COMPARED = (23, 24, 25)
_HINT = "Point at a mark to read it; click the legend to hide or show what it names."
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Figure {number}: {title}</title><style>
body {{ font: 15px/1.5 system-ui, sans-serif; color: #222; background: #fff }}
body {{ margin: 1.5rem auto; max-width: 72rem; padding: 0 1rem }} h1 {{ font-size: 1.4rem; margin: 0 }}
p {{ max-width: 60rem; margin: .4rem 0; overflow-wrap: anywhere }} .small {{ color: #555; font-size: .9rem }}
</style><script src="plotly.min.js"></script></head><body>
<h1>{question}</h1>
<p>Figure {number} of the paper: {title}. {hint}</p>
{plot}
<p>{caption}</p>
<p class="small">{origin}</p>
</body></html>
"""


@dataclass(frozen=True)
class PaperFigure:
    """One of the paper's figures, drawn when asked for; its page explores a plot, or steps through a video."""

    number: int
    title: str
    question: str
    caption: str
    data: str
    stages: tuple[str, ...]
    kind: str  # of the picture: svg, or png where it holds photographs
    draw: Callable[[], Figure]
    plot: Callable[[], go.Figure] | None = None
    recording: Recording | None = None  # without a plot: what the page steps through, and the runs it opens with
    runs: tuple[str, ...] = ()
    maker: str = "stage figures"  # or a command, whose ``stages`` are the files of the weights that tracked
    page_bytes: int | None = None  # by default ``VIDEO_BYTES``

    @property
    def name(self) -> str:
        """The files' name, without suffix."""
        return f"figure_{self.number:02d}"

    @property
    def origin(self) -> str:
        """Data and stages that the figure comes from."""
        return f"Data: {self.data}. Made by {self.maker} from {', '.join(self.stages)}."

    def picture(self, *, live: bool = False) -> Picture:
        """The static figure with its small print; ``live``: a notebook shows the plot in its place where it can."""
        figure = with_footer(self.draw(), f"Figure {self.number}. {self.caption} {self.origin}")
        return Picture(figure, f"Figure {self.number}: {self.title}", self.plot() if live and self.plot else None)

    def page(self) -> str:
        """A page that needs no network; one with a plot needs ``plotly.min.js`` beside it."""
        if self.plot is None:
            summary = f"Figure {self.number} of the paper. {self.caption} {self.origin}"
            limit = self.page_bytes or VIDEO_BYTES
            return inspector_page([self.recording], self.runs, title=self.question, summary=summary, limit=limit)
        plot = self.plot().to_html(
            full_html=False,
            include_plotlyjs=False,
            div_id=self.name,
            default_height="auto",
            config={"displaylogo": False, "responsive": True},
        )
        texts = {
            name: html.escape(text)
            for name, text in (
                ("title", self.title),
                ("question", self.question),
                ("caption", self.caption),
                ("origin", self.origin),
            )
        }
        return _PAGE.format(number=self.number, hint=_HINT, plot=plot, **texts)

    def write(self, folder: Path) -> None:
        """Write picture and page into a folder."""
        write_bytes(folder / f"{self.name}.{self.kind}", self.picture().image(dpi=120, kind=self.kind))
        write_text(folder / f"{self.name}.html", self.page())


def the_figures(study: Study) -> dict[int, PaperFigure]:
    """All figures by number; fewer than the paper's where the profile names fewer videos."""
    of_set = {entry.number: entry for entry in _of_the_set(study)}
    return of_set | video_figures(study, dict(zip(OF_VIDEOS, study.videos)), dict(zip(OF_COMPARED, study.compared)))


def video_figures(study: VideoStudy, videos: Mapping[int, str], compared: Mapping[int, str]) -> dict[int, PaperFigure]:
    """The figures of single videos by number.

    ``videos`` have two each and ``compared`` one; both are by the number of the first.
    """
    entries = [entry for number, video in videos.items() for entry in _of_a_video(study, video, number)]
    entries += [_of_a_comparison(study, video, number) for number, video in compared.items()]
    return {entry.number: entry for entry in entries}


def check_count(key: str, names: Sequence[str], numbers: Sequence[int]) -> None:
    """Raise for more videos than the paper's figures have numbers for; ``key`` is where they are named."""
    if len(names) > len(numbers):
        raise RDSInputError(
            f"{key} names {len(names)} videos; the paper's figures have numbers for {len(numbers)}: leave some out"
        )


def _of_the_set(study) -> Iterator[PaperFigure]:
    make = partial(PaperFigure, kind="svg", data=f"{study.dataset}, {study.length} videos, profile {study.profile}")
    yield make(
        4,
        "quality and speed",
        "What does each method give up for its speed?",
        "J&F and frames a second, each relative to its own SAM2, from level to level. The paper's are of another "
        "model, other videos and another machine. Numbers: RDS's budgets. Bars: 95 % interval of RDS minus SAM2 over "
        "videos. Our speeds are at the blocks that a method runs on these videos.",
        stages=("evaluation", "benchmark"),
        draw=partial(paper_figures.quality_picture, study),
        plot=partial(paper_pages.quality_page, study),
    )
    yield from _of_the_blocks(study, make)
    yield make(
        12,
        "static plans across videos",
        "Does one fixed set of blocks suit every video?",
        "J&F of every video, mean over objects, under SAM2 (which sorts the videos), the static plans A and B, and RDS "
        f"at budget {study.evidence.budgets()[0]:g}. A static plan runs the same blocks on every frame of every video: "
        "A and B are two choices of 24 blocks that the paper's supplement lists. Plans and RDS have RDS's adapters. "
        "std: standard deviation over videos.",
        stages=("evaluation",),
        draw=partial(paper_figures.sequences_picture, study),
        plot=partial(paper_pages.sequences_page, study),
    )


def _of_the_blocks(study, make) -> Iterator[PaperFigure]:
    yield make(
        10,
        "activation per block and budget",
        "Which blocks does the router drop first?",
        "Share of the routed frames of all videos on which each block ran, one panel per budget. K: blocks that always "
        "run.",
        stages=("evaluation",),
        draw=partial(paper_figures.activation_picture, study),
        plot=partial(paper_pages.activation_page, study),
    )
    yield make(
        11,
        "two measures of importance",
        "Which blocks matter, and by which measure?",
        "Importance of every block: J&F lost without it, relative change of the features in it, and how many blocks "
        "rank below it by either, which chooses the adapted ones. The blocks of K always run: they are never left out "
        "and not ranked, and those that change the features' shape have no relative change.",
        stages=("importance",),
        data=f"training videos, profile {study.profile}",
        draw=partial(paper_figures.importance_picture, study),
        plot=partial(paper_pages.importance_page, study),
    )


def _of_a_video(study, video, number) -> Iterator[PaperFigure]:
    make = _maker_of(study, video)
    yield make(
        number,
        f"blocks per frame, {video}",
        f"Which blocks ran on each frame of {video}?",
        f"{video} at budget {study.budget:g}: frames with RDS's masks, the blocks that ran on each, and how "
        "many. K: blocks that always run.",
        stages=("data", "evaluation"),
        kind="png",
        draw=partial(paper_figures.timeline_picture, study, video),
        recording=_of_two_runs(study, video),
        runs=(study.run(video).name,),
    )
    yield make(
        number + 1,
        f"activation per block, {video}",
        f"How often did each block run in {video}?",
        f"{video} at budget {study.budget:g}: share of its routed frames on which each block ran. K: blocks that "
        "always run.",
        stages=("evaluation",),
        kind="svg",
        draw=partial(paper_figures.video_picture, study, video),
        plot=partial(paper_pages.video_page, study, video),
    )


def _of_a_comparison(study, video, number) -> PaperFigure:
    return _maker_of(study, video)(
        number,
        f"frame by frame, {video}",
        f"What do skipped blocks cost on a frame of {video}?",
        f"{video}: masks of SAM2 and of RDS at budget {study.budget:g}, their pixels right and wrong, J per frame "
        "(intersection over union, mean over objects; 100 is perfect in the picture), and the blocks that ran, by "
        "stage.",
        stages=("data", "evaluation"),
        kind="png",
        draw=partial(paper_figures.comparison_picture, study, video),
        recording=_of_two_runs(study, video),
        runs=("SAM2", study.run(video).name),
    )


def _maker_of(study: VideoStudy, video: str) -> Callable[..., PaperFigure]:
    """What makes a video's entries: with the study's data, its caution, and the weights in place of stages."""

    def make(number, title, question, caption, *, stages, **how):
        caption = f"{caption} {study.cautions[video]}" if video in study.cautions else caption
        how |= {"data": f"{study.dataset}, profile {study.profile}", "page_bytes": study.page_bytes}
        how |= {"maker": "command figures", "stages": study.weights} if study.weights else {"stages": stages}
        return PaperFigure(number, title, question, caption, **how)

    return make


def _of_two_runs(study, video) -> Recording:
    """A video with SAM2 and RDS at the budget of the figures; pages with all runs would be half as large again."""
    recording = study.recordings[video]
    return replace(recording, runs=(recording.run("SAM2"), study.run(video)))
