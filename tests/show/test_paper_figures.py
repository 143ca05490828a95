"""The paper's figures: the tables they are drawn from, by hand, and what every picture and page must hold."""

import html
import json
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from drawn import covered

from rds_lib.core.errors import RDSInputError
from rds_lib.evaluation.recordings import make_run
from rds_lib.model.shape import EncoderShape
from rds_lib.pipeline.figures import read_study
from rds_lib.report.paper import PAPER
from rds_lib.show.figures import VIDEO_BYTES, the_figures
from rds_lib.show.paper_figures import block_cells, comparison_picture
from rds_lib.show.study import (
    activation,
    block_states,
    error_map,
    even_frames,
    quality_against_speed,
    quality_by_sequence,
    spread_frames,
    spread_of,
    video_activation,
)
from rds_lib.show.style import (
    ADDED,
    CHOSEN,
    HAD_TO_RUN,
    MISSED,
    RIGHT,
    SKIPPED,
    SWAPPED,
    UNMEASURED,
    colour_of,
    marker_of,
)

EVIL = r"</script><script>alert(1)</script> $\bad$ & <b>"


@pytest.fixture(scope="module")
def study(figure_products):
    return read_study(*figure_products)


@pytest.fixture(scope="module")
def figures(study):
    return the_figures(study)


def renamed(study, name):
    """The study with its first video called something else, shown and compared."""

    def swap(table):
        return table.assign(sequence=table["sequence"].replace(study.videos[0], name))

    evidence = replace(study.evidence, objects=swap(study.evidence.objects), routes=swap(study.evidence.routes))
    recordings = study.recordings | {name: replace(study.recordings[study.videos[0]], name=name)}
    return replace(study, videos=(name,), compared=(name,), evidence=evidence, recordings=recordings)


def embedded(page):
    """The data of an inspector page."""
    return json.loads(page.partition('id="data">')[2].partition("</script>")[0])


def test_activation_counts_routed_frames_alone():
    routes = pd.DataFrame(
        {
            "level": 0.5,
            "frame_idx": np.repeat([0, 1, 2], 2),
            "block": [0, 1] * 3,
            "active": [True, True, True, False, True, True],
            "reason": ["first_frame"] * 2 + ["routed"] * 4,
        }
    )
    table = activation(pd.concat([routes, routes.assign(level=0.9, active=True)]))
    assert table[["level", "block", "ran", "frames", "share"]].values.tolist() == [
        [0.9, 0, 2, 2, 1],
        [0.9, 1, 2, 2, 1],
        [0.5, 0, 2, 2, 1],
        [0.5, 1, 1, 2, 0.5],
    ]


def test_every_pixel_of_an_error_map_is_named_once():
    labels = np.array([[0, 1, 1, 0, 1, 1, 0]], np.uint8)
    truth = np.array([[0, 1, 0, 2, 2, 255, 255]], np.uint8)
    assert error_map(labels, truth).tolist() == [[0, RIGHT, ADDED, MISSED, SWAPPED, 0, 0]]


def test_states_tell_what_the_router_chose_from_what_had_to_run():
    routes = pd.DataFrame(
        {
            "frame_idx": np.repeat([0, 1], 3),
            "block": [0, 1, 2] * 2,
            "active": [1, 1, 1, 1, 0, 1],
            "keep_prob": 1.0,
            "reason": ["first_frame"] * 3 + ["routed"] * 3,
        }
    )
    run = make_run("RDS 0.5", np.zeros((2, 4, 4), np.uint8), routes, depth=3)
    assert block_states(run, EncoderShape(3, (0,), (0,))).tolist() == [[HAD_TO_RUN] * 3, [HAD_TO_RUN, SKIPPED, CHOSEN]]


def test_speed_and_quality_are_relative_to_each_ones_own_sam2(study):
    table = quality_against_speed(study).set_index(["source", "method", "level"])
    for source in ("ours", "paper"):
        assert table.loc[(source, "SAM2", "1"), ["speedup", "change"]].tolist() == [1, 0]
    rds = table.loc[("ours", "RDS", "0.4"), ["speedup", "change", "low", "high"]]
    assert rds.astype(float).tolist() == pytest.approx([2.0, -10.0, -13.0, -6.0])
    assert table.loc[("ours", "PBD", "0.4"), ["low", "high"]].isna().all()
    theirs = table.loc[("paper", "RDS", "0.4"), ["speedup", "change"]]
    assert theirs.astype(float).tolist() == pytest.approx([46.5 / 29.8, 84.8 - 90.0])
    assert len(table.loc["paper"]) == sum(len(levels) for levels, _ in PAPER.values())
    assert "plan A" not in table.loc["ours"].index.get_level_values("method"), "it was not timed"


def test_sequences_are_sorted_by_sam2_and_hold_the_lowest_budget(study):
    table = quality_by_sequence(study)
    assert list(table) == ["SAM2", "plan A", "plan B", "RDS"] and table["SAM2"].tolist() == pytest.approx([80, 70, 60])
    assert table["RDS"].tolist() == pytest.approx([70, 60, 50])
    assert spread_of(table, "SAM2") == "std 10.0" and spread_of(table, "RDS") == "std 10.0, of the difference 0.0"


def test_a_videos_share_is_of_its_own_frames_and_budget(study):
    table = video_activation(study, study.videos[0])
    assert set(table["level"]) == {0.4} and set(table["frames"]) == {4} and len(table) == 48
    assert table.set_index("block").loc[[0, 7, 4], "share"].tolist() == [1, 0.5, 0]


def test_a_video_without_a_routed_frame_has_no_shares_and_can_be_drawn(study):
    video = study.videos[0]
    run = study.run(video)
    recording = study.recordings[video].with_run(replace(run, reasons=("full",) * len(run.reasons)))
    bare = replace(study, recordings=study.recordings | {video: recording})
    assert video_activation(bare, video)[["ran", "frames", "share"]].to_numpy().tolist() == [[0, 0, 0]] * 48
    figure = the_figures(bare)[14]
    assert figure.picture().image(dpi=40, kind="svg") and figure.page()


def test_cells_cover_the_blocks_once_and_every_stage_starts_a_row():
    cells = block_cells(EncoderShape(48, (0, 2, 8, 44), (0, 2, 8, 44, 47)))
    assert len(set(cells)) == 48 and cells[8] == (0, 2) and cells[43] == (11, 4) and cells[47] == (3, 5)
    assert block_cells(EncoderShape(14, (0,), (0, 13))) == [*((i, 0) for i in range(12)), (0, 1), (1, 1)]


def test_frames_are_spread_evenly_and_never_too_many():
    assert spread_frames(1, 19, 6) == [1, 5, 8, 12, 15, 19] and spread_frames(1, 3, 6) == [1, 2, 3]
    assert even_frames(20, 8) == [0, 3, 6, 9, 12, 15, 18] and even_frames(3, 8) == [0, 1, 2]
    assert len(even_frames(101, 8)) <= 8


def test_the_numbers_are_the_papers_and_follow_the_videos(figures):
    assert list(figures) == [4, 10, 11, 12, 13, 14, 15, 16, 23]
    assert [figures[n].kind for n in (12, 13, 14, 23)] == ["svg", "png", "svg", "png"]


def test_every_figure_names_its_data_and_its_stages_in_picture_and_page(figures):
    for number, figure in figures.items():
        small_print = figure.picture().figure._supxlabel.get_text().replace("\n", " ")
        for text in (small_print, figure.page()):
            assert f"Data: {figure.data}. Made by stage figures from {', '.join(figure.stages)}." in text, number
        assert small_print.startswith(f"Figure {number}. ") and figure.question.endswith("?")
    of_the_set = "davis, 3 videos, profile smoke"
    data = [of_the_set, of_the_set, "training videos, profile smoke", of_the_set, *["davis, profile smoke"] * 5]
    assert [figure.data for figure in figures.values()] == data


def test_texts_of_a_picture_stay_inside_and_are_large_enough(figures):
    for number, figure in figures.items():
        drawn = figure.picture().figure
        drawn.canvas.draw()
        texts = [
            text
            for text in drawn.findobj(lambda item: hasattr(item, "get_fontsize"))
            if text.get_text() and text.get_visible()
        ]
        assert texts and min(text.get_fontsize() for text in texts) >= 9, number
        box = drawn._supxlabel.get_window_extent()
        assert box.x1 <= drawn.bbox.x1 and box.y0 >= -1, number


def markers(axis):
    """Colour and marker of an axis' lines with more than a line's two ends, or a marker."""
    return {(line.get_color(), line.get_marker()) for line in axis.lines if line.get_marker() not in ("None", "_")}


def test_ours_and_the_papers_speeds_stand_side_by_side_in_the_same_colours(figures, study):
    drawn = figures[4].picture().figure
    ours, paper = drawn.axes
    assert (ours.get_title(), paper.get_title()) == ("ours", "the paper's")
    assert ours.get_xlim() == paper.get_xlim() and ours.get_ylim() == paper.get_ylim()
    known = {(colour_of(name), marker_of(name)) for name in ("SAM2", "PBD", "RDS")}
    assert markers(ours) == known < markers(paper), "no paler copies"
    assert all(line.get_alpha() is None for axis in drawn.axes for line in axis.lines)
    legend = [text.get_text() for text in drawn.legends[0].get_texts()]
    assert legend == ["SAM2", "PBD", "RDS", "SlimSAM", "DyT", "AdaViT"]
    assert [text.get_text() for text in ours.texts] == ["0.8", "0.4"]
    assert [text.get_text() for text in paper.texts] == ["0.9", "0.8", "0.7", "0.6", "0.5", "0.4"]
    page = figures[4].plot()
    assert [note.text for note in page.layout.annotations] == ["ours", "the paper's"]
    shown = {trace.name: (trace.marker.symbol, trace.xaxis) for trace in page.data if trace.showlegend}
    assert shown["RDS"] == ("circle", "x") and shown["DyT"][1] == "x2", "named once, by the first that is drawn"


def test_the_budgets_in_figure_4_lie_on_nothing(figures):
    drawn = figures[4].picture().figure
    texts = [text for axis in drawn.axes for text in axis.texts]
    assert len(texts) == 8 and covered(drawn, texts) == []


def test_videos_are_rows_with_level_names_and_plans_are_explained(figures, study):
    drawn = figures[12].picture().figure
    left, right = drawn.axes
    names = left.get_yticklabels()
    assert [name.get_text() for name in names] == list(quality_by_sequence(study).index)
    assert {name.get_rotation() for name in names} == {0.0} and left.get_ylim() == (2.5, -0.5), "the best on top"
    values = {line.get_label().split(":")[0]: line.get_xdata().tolist() for line in left.lines}
    assert values["static plan A"] == pytest.approx([60, 50, 40]) and list(values) == [
        *("SAM2", "static plan A", "static plan B", "RDS 0.4")
    ]
    differences = [line.get_xdata() for line in right.lines if line.get_marker() != "None"]
    assert [list(line) for line in differences] == [pytest.approx([gap] * 3) for gap in (-20, -15, -10)]
    assert [line.get_xdata()[0] for line in right.lines if line.get_marker() == "None"] == [0], "SAM2"
    assert "A static plan runs the same blocks on every frame" in figures[12].caption


def legend_of(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_a_comparison_names_the_colours_that_it_shows_and_no_others(study):
    blocks = ["block chosen", "block that had to run", "block skipped"]
    video = study.compared[0]
    recording = study.recordings[video]
    assert legend_of(comparison_picture(study, video)) == ["right", "false positive", "false negative", *blocks]

    def with_truth(truth):
        return replace(study, recordings=study.recordings | {video: replace(recording, truth=truth)})

    other = np.where(recording.truth == 1, 2, recording.truth).astype(np.uint8)
    assert "another object's" in legend_of(comparison_picture(with_truth(other), video))
    speck = np.zeros_like(recording.truth)
    speck[:, 0, :2] = 1
    assert "right" not in legend_of(comparison_picture(with_truth(speck), video))
    assert legend_of(comparison_picture(with_truth(None), video)) == blocks


def test_stages_are_numbered_beside_the_cells_and_frames_joined_to_their_columns(figures):
    (cells,) = [axis for axis in figures[23].picture().figure.axes if axis.get_yticklabels()]
    assert [label.get_text() for label in cells.get_yticklabels()] == ["1", "2", "3", "4"]
    assert cells.get_yticks().tolist() == [0.5, 1.5, 2.5, 5.5]
    drawn = figures[13].picture().figure
    joined = [(patch.axesA.get_title(), patch.xy2) for patch in drawn.artists]
    assert joined == [(f"frame {t}", (t, -0.5)) for t in range(5)]


def test_the_page_of_importance_marks_what_was_not_measured(figures, study):
    page = figures[11].plot()
    missing = study.importance[["global_score", "local_score"]].isna()
    bands = [shape for shape in page.layout.shapes if shape.fillcolor == UNMEASURED]
    panels = [[band.x0 + 0.4 for band in bands if band.yref == f"{name} domain"] for name in ("y", "y2", "y3")]
    expected = (missing["global_score"], missing["local_score"], missing.any(axis=1))
    assert panels == [pytest.approx(np.flatnonzero(values)) for values in expected]
    assert all(axis.zeroline for axis in page.select_yaxes())
    combined = [trace for trace in page.data if trace.yaxis == "y3"]
    assert np.nanmin(np.concatenate([trace.y for trace in combined])) >= 0 and {trace.base for trace in combined} == {
        None
    }


def test_pages_with_a_plot_load_nothing_but_the_script_beside_them(figures):
    for number in (4, 10, 11, 12, 14, 16):
        page = figures[number].page()
        assert re.findall(r'(?:src|href)="([^"]*)"', page) == ["plotly.min.js"]
        assert not re.search(r"https?://", page), number
        assert f'id="{figures[number].name}"' in page and len(page) < 100_000
        assert f"<h1>{figures[number].question}</h1>" in page


def test_a_page_of_a_video_is_the_inspector_of_it_and_loads_nothing(figures, study):
    for number, video, runs in (
        (13, study.videos[0], ["RDS 0.4", ""]),
        (15, study.videos[1], ["RDS 0.4", ""]),
        (23, study.compared[0], ["SAM2", "RDS 0.4"]),
    ):
        page = figures[number].page()
        data = embedded(page)
        assert (data["menu"], data["shown"]) == ([video], runs), number
        assert [run["name"] for run in data["runs"][video]["runs"]] == ["SAM2", "RDS 0.4"]
        assert f"<h1>{figures[number].question}</h1>" in page and "src=" not in page and len(page) < VIDEO_BYTES


def test_a_long_video_gets_smaller_frames(figures, monkeypatch):
    before = embedded(figures[23].page())["videos"]
    monkeypatch.setattr("rds_lib.show.figures.VIDEO_BYTES", len(figures[23].page().encode()) - 1)
    after = embedded(figures[23].page())["videos"]
    assert [video["width"] for video in after.values()] == [96] < [video["width"] for video in before.values()]


def test_names_from_data_stay_text(study):
    figures = the_figures(renamed(study, EVIL))
    for number, figure in figures.items():
        page = figure.page()
        assert page.count("<script") == 2 == page.count("</script>") and "<b>" not in page, number
        assert figure.picture().image(dpi=40, kind=figure.kind)  # matplotlib refuses a formula that it cannot read
    assert [name for name in figures[12].plot().data[0].y if "script" in name] == [html.escape(EVIL)]  # and plotly tags
    assert f"{html.escape(EVIL)} at budget" in figures[13].page()


def test_a_plain_encoder_of_twelve_blocks_can_be_drawn(study):
    shape = EncoderShape(12, (0,), (0,))

    def first(table):
        return table[table["block"] < 12]

    def cut(recording):
        runs = [replace(run, active=run.active[:, :12], keep_prob=run.keep_prob[:, :12]) for run in recording.runs]
        return replace(recording, shape=shape, runs=tuple(runs))

    evidence = replace(study.evidence, routes=first(study.evidence.routes), importance=first(study.importance))
    recordings = {name: cut(recording) for name, recording in study.recordings.items()}
    figures = the_figures(replace(study, shape=shape, evidence=evidence, recordings=recordings))
    for number, figure in figures.items():
        assert figure.picture().image(dpi=40, kind=figure.kind) and figure.page(), number
    data = embedded(figures[13].page())["videos"][study.videos[0]]
    assert (data["depth"], data["starts"], data["always_on"]) == (12, [0], [0])
    bars = [bar for trace in figures[14].plot().data for bar in trace.x]
    assert sorted(bars) == list(range(12))


def test_the_same_products_give_the_same_bytes(study, figures):
    again = the_figures(study)
    for number in (4, 12, 13, 23):
        first, second = (group[number] for group in (figures, again))
        assert first.picture().image(kind=first.kind) == second.picture().image(kind=second.kind), number
        assert first.page() == second.page(), number
    svg = figures[4].picture().image(kind="svg")
    assert b"<svg" in svg and b"dc:date" not in svg


def test_a_video_that_is_not_there_is_named_with_those_that_are(figure_products):
    params, folder = figure_products
    with pytest.raises(RDSInputError, match="no video nowhere; it has: val-0000-plain"):
        read_study(params.with_section("figures", videos=["nowhere"]), folder)


def test_more_videos_than_the_paper_has_numbers_for_are_refused(figure_products):
    params, folder = figure_products
    with pytest.raises(RDSInputError, match="figures.compared names 4 videos; the paper's figures have numbers for 3"):
        read_study(params.with_section("figures", compared=["a", "b", "c", "d"]), folder)


def test_a_data_set_of_another_shape_is_refused(figure_products, tmp_path):
    params, folder = figure_products
    other = params.with_section("data", davis_root="", sav_root=str(tmp_path))
    other = other.with_section("evaluation", datasets=["sav"])
    with pytest.raises(RDSInputError, match="evaluation.datasets = .'sav'. has no davis"):
        read_study(other, folder)
