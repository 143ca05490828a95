"""The project in one picture: which frames it shows, and that conditions, quality and speed are on it."""

from dataclasses import replace

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from rds_lib.pipeline.figures import read_study
from rds_lib.show.story import shown_frames, story_picture


@pytest.fixture(scope="module")
def study(figure_products):
    return read_study(*figure_products)


def texts(figure):
    FigureCanvasAgg(figure).draw()
    return [text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text"))]


def changing(study, conditions):
    recording = study.recordings[study.story]
    conditions = tuple(conditions[: len(recording)]) + ("",) * (len(recording) - len(conditions))
    return replace(study, recordings=study.recordings | {study.story: replace(recording, conditions=conditions)})


def test_the_first_compared_video_tells_the_story_by_default(study):
    assert study.story == study.compared[0]


def test_a_named_video_tells_it_even_if_no_figure_shows_it(figure_products):
    params, workdir = figure_products
    names = [*read_study(params, workdir).recordings]
    section = {"videos": names[:1], "compared": names[:1], "story": names[-1]}
    assert len(names) > 1, "another one is there"
    params = params.with_section("figures", **section).with_section("inspect", videos=names[:1])
    study = read_study(params, workdir)
    assert study.story == names[-1] and {*study.recordings} == {names[0], names[-1]}


def test_the_middle_of_every_condition_is_shown(study):
    told = changing(study, ("", "fog", "fog", "dusk", "")).recordings[study.story]
    assert shown_frames(told) == [0, 2, 3, 4]
    plain = study.recordings[study.story]
    assert shown_frames(plain)[0] == 0 and shown_frames(plain)[-1] == len(plain) - 1


def test_conditions_are_named_where_they_held(study):
    plain, found = texts(story_picture(study)), texts(story_picture(changing(study, ("", "fog", "fog", "fog"))))
    assert "fog" in found and any(text.startswith("frame 2, fog\n") for text in found)
    assert not any("fog" in text for text in plain)


def test_quality_and_speed_are_those_of_the_tables(study):
    found = texts(story_picture(study))
    scores = study.scores.set_index(["method", "level"])["value"]
    for budget in study.evidence.budgets():
        assert f"RDS {budget:g}" in found and f"{scores['RDS', budget]:.1f}" in found
        assert f"{study.evidence.fps('RDS', budget):.1f}" in found
    assert f"{scores['SAM2', 1.0]:.1f}" in found and np.isfinite(scores["SAM2", 1.0])
