"""Stage `figures`: the paper's figures as pictures and pages, the inspector, and the page of results."""

from pathlib import Path

import pandas as pd
from plotly.offline import get_plotlyjs

from rds_lib.core.artifacts import read_table, write_bytes, write_table, write_text
from rds_lib.core.errors import RDSInputError
from rds_lib.data.sources import validation_sources
from rds_lib.evaluation.recordings import read_recordings, read_shape
from rds_lib.pipeline.stages import require
from rds_lib.report.evidence import Evidence
from rds_lib.show.figures import OF_COMPARED, OF_VIDEOS, check_count, the_figures
from rds_lib.show.inspector.page import write_inspector_page
from rds_lib.show.picture import Picture
from rds_lib.show.results_page import as_page
from rds_lib.show.story import story_picture
from rds_lib.show.study import Study


def run(params, workdir: Path, out: Path) -> pd.DataFrame:
    """Write every figure as picture and page, and ``figures.csv``, which lists them; return that list.

    Beside them: ``story.png``, the project in one picture, ``inspector.html`` with the videos of the section
    ``inspect``, and ``README.md``, the page of results. Its links hold where it lies beside ``claims.md``, with the
    other files in ``figures/``.
    """
    study = read_study(params, workdir)
    figures = the_figures(study).values()
    table = pd.DataFrame(
        [
            {
                "number": figure.number,
                "title": figure.title,
                "file": f"{figure.name}.{figure.kind}",
                "data": figure.data,
                "stages": ", ".join(figure.stages),
                "caption": figure.caption,
            }
            for figure in figures
        ]
    )
    for old in out.glob("figure_*"):
        old.unlink()
    for figure in figures:
        figure.write(out)
    write_bytes(out / "story.png", Picture(story_picture(study), "").image(dpi=120))
    write_inspector_page(
        out / "inspector.html",
        [study.recordings[name] for name in study.inspected],
        params.inspect.runs,
        title="Routing inspector",
        summary=f"Masks, blocks and quality, frame by frame; {study.dataset}, profile {study.profile}.",
    )
    write_text(out / "plotly.min.js", get_plotlyjs())
    write_table(out / "figures.csv", table)
    write_text(out / "README.md", as_page(study, table))
    return table


def read_study(params, workdir: Path) -> Study:
    """Read what the stages ``importance``, ``evaluation`` and ``benchmark`` made of a profile.

    Raises
    ------
    RDSInputError
        If a product is missing (outside smoke runs, which build it), no data set has the layout of DAVIS 2017, a video
        is not in it, or more videos are named than the paper has numbers for.
    """
    section = params.figures
    check_count("figures.videos", section.videos, OF_VIDEOS)
    check_count("figures.compared", section.compared, OF_COMPARED)
    folder = require("evaluation", params, workdir)
    importance = read_table(require("importance/importance.csv", params, workdir))
    timed, frames = (read_table(require(f"benchmark/{name}.csv", params, workdir)) for name in ("table", "frames"))
    source = _davis(params, workdir)
    names = ("table", "comparisons", "objects", "routes")
    scores, comparisons, objects, routes = (read_table(folder / f"{name}.csv", columns=("dataset",)) for name in names)
    shape = read_shape(folder)
    wanted = dict.fromkeys((*section.videos, *section.compared, *params.inspect.videos))
    recordings = read_recordings(folder, source, names=tuple(wanted), shape=shape)
    story = section.story or section.compared[0]
    if story not in wanted:
        recordings += read_recordings(folder, _source_of(story, params, workdir), names=(story,), shape=shape)
    return Study(
        profile=params.profile,
        dataset=source.name,
        shape=shape,
        budget=section.budget,
        recordings={recording.name: recording for recording in recordings},
        videos=section.videos,
        compared=section.compared,
        inspected=params.inspect.videos,
        story=story,
        scores=scores[scores["dataset"] == source.name],
        comparisons=comparisons[comparisons["dataset"] == source.name],
        evidence=Evidence.of_dataset(
            source.name,
            params.evaluation,
            scores=scores,
            objects=objects,
            routes=routes,
            importance=importance,
            speed=timed,
            frames=frames,
        ),
    )


def _source_of(video, params, workdir):
    """The DAVIS-shaped set of a profile that has a video; by default the one of the figures."""
    shaped = [source for source in validation_sources(params, workdir) if source.layout == "davis2017"]
    holds = (source for source in shaped if video in {sequence.name for sequence in source.sequences()})
    return next(holds, shaped[0])


def _davis(params, workdir):
    for source in validation_sources(params, workdir):
        if source.layout == "davis2017":
            return source
    raise RDSInputError(
        f"profile {params.profile}: evaluation.datasets = {list(params.evaluation.datasets)} has no "
        "davis; the figures are of a DAVIS-shaped set"
    )
