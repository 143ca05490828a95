"""The notebooks' figures: what stands in them, read back from the artists and held against the table that was given."""

import io

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from PIL import Image

from rds_lib.model.shape import EncoderShape
from rds_lib.show.notebook_figures import (
    comparison_figure,
    contact_sheet,
    gates_figure,
    importance_figure,
    levels_figure,
    quality_figure,
    route_map,
    spread_figure,
    threshold_figure,
    training_figure,
)
from rds_lib.show.picture import Picture, with_footer
from rds_lib.show.style import ACCENT, COLOURS, FORCED, RAN, RUNS, UNADAPTED, UNMEASURED, colour_of, marker_of

SHAPE = EncoderShape(6, (0, 2), (0, 2))  # two stages of 2 and 4 blocks
FREE = np.array([1, 3, 4, 5])


def colours(bars):
    return [to_hex(bar.get_facecolor()).upper() for bar in bars]


def lines_of(axis):
    """The lines of an axis that a legend names, by label: x, y and colour."""
    named = [line for line in axis.get_lines() if not line.get_label().startswith("_")]
    return {line.get_label(): (*points_of(line), line.get_color()) for line in named}


def points_of(line):
    return [list(map(float, values)) for values in line.get_data()]


def borders(axis):
    """Where dotted vertical lines stand."""
    dotted = [line.get_xdata() for line in axis.get_lines() if line.get_linestyle() == ":"]
    return [x[0] for x in dotted if len(x) == 2 and x[0] == x[1]]


def entries(legend):
    return [text.get_text() for text in legend.get_texts()]


# --- pictures ---


def test_a_picture_is_small_equal_each_time_and_readable_without_a_viewer():
    figures = [importance_figure(importance(), SHAPE) for _ in range(2)]
    for kind in ("png", "jpeg", "svg"):
        assert figures[0].image(kind=kind) == figures[1].image(kind=kind), kind
    opened = [Image.open(io.BytesIO(figures[0].image(kind=kind))) for kind in ("png", "jpeg")]
    assert [image.format for image in opened] == ["PNG", "JPEG"] and opened[0].mode == "P"
    assert opened[0].size == opened[1].size and b"<svg" in figures[0].image(kind="svg")[:500]
    assert repr(figures[0]) == figures[0].text and "\n" not in figures[0].text


def test_a_notebook_gets_lines_as_png_photographs_as_jpeg_and_a_plot_where_there_is_one():
    assert set(importance_figure(importance(), SHAPE)._repr_mimebundle_()) == {"text/plain", "image/png"}
    noise = np.random.default_rng(0).integers(0, 256, (200, 300, 3), np.uint8)
    assert set(contact_sheet({"noise": [noise]})._repr_mimebundle_()) == {"text/plain", "image/jpeg"}

    class Plot:
        def to_json(self):
            return '{"data": []}'

    live = Picture(importance_figure(importance(), SHAPE).figure, "text", Plot())._repr_mimebundle_()
    assert live["application/vnd.plotly.v1+json"] == {"data": []} and live["text/plain"] == "text"


def test_a_footer_is_wrapped_and_takes_no_formulas():
    figure = with_footer(importance_figure(importance(), SHAPE).figure, "a $bad$ name " + "word " * 60)
    text = figure._supxlabel.get_text()
    assert text.startswith(r"a \$bad\$ name word") and max(map(len, text.splitlines())) <= 14.5 * 9.5 + 2


# --- figures ---


def test_a_contact_sheet_shows_every_image_in_its_place():
    images = [[np.full((20, 40, 3), 10 * row + column, np.uint8) for column in range(3)] for row in range(2)]
    sheet = contact_sheet({"first": images[0], "second_row": images[1][:2]}, columns=("a", "b"))
    axes = sheet.figure.axes
    assert [int(axis.images[0].get_array()[0, 0, 0]) for axis in axes] == [0, 1, 2, 10, 11]
    assert [axis.get_title() for axis in axes] == ["a", "b", "", "", ""]
    assert [text.get_text() for text in sheet.figure.texts] == ["first", "second\nrow"]
    boxes = [axis.get_position() for axis in axes]
    assert boxes[0].x1 < boxes[1].x0 and boxes[0].y0 > boxes[3].y1 and boxes[0].x0 == boxes[3].x0
    width, height = sheet.figure.get_size_inches()
    assert boxes[0].width * width / (boxes[0].height * height) == pytest.approx(2)
    assert sheet.text == "2 x 3 frames: first, second_row" and contact_sheet({"x": images[0]}, text="y").text == "y"


def importance():
    """Scores by hand: block 4 is globally best, block 1 locally, block 5 worst in both."""
    score = [np.nan, 1.0, np.nan, 2.0, 4.0, 0.5]
    return pd.DataFrame(
        {
            "block": range(6),
            "global_score": score,
            "local_score": [np.nan, 0.9, np.nan, 0.2, 0.3, 0.1],
            "always_on": [True, False, True, False, False, False],
            "selected": [True, True, True, False, True, False],
        }
    )


def test_importance_shows_both_scores_and_the_ranks_added():
    picture = importance_figure(importance(), SHAPE)
    tall, local, combined = ([axis.patches[block].get_height() for block in FREE] for axis in picture.figure.axes)
    assert tall == [1.0, 2.0, 4.0, 0.5] and local == [0.9, 0.2, 0.3, 0.1]
    assert combined == [4, 3, 5, 0], "ranks 3 + 1, 2 + 3, 1 + 2, 4 + 4, so many less than 8"
    for axis in picture.figure.axes:
        bars, bands = axis.patches[:6], axis.patches[6:]
        assert colours(bars) == [FORCED, RAN, FORCED, UNADAPTED, RAN, UNADAPTED]
        assert [bars[block].get_height() for block in SHAPE.always_on] == [0, 0] and {bar.get_y() for bar in bars} == {
            0
        }
        assert [band.get_x() + 0.4 for band in bands] == pytest.approx([0, 2]), "nothing is measured on K"
        assert colours(bands) == [UNMEASURED] * 2
        assert [text.xy[0] for text in axis.texts] == [0, 2], "K"
        assert {0.0} in [set(line.get_ydata()) for line in axis.get_lines()], "where bars start"
    kinds = ["adapted", "not adapted", "K: always on, adapted", "K, but nothing to measure"]
    assert entries(picture.figure.legends[0]) == kinds
    assert [axis.get_ylabel().split(":")[0] for axis in picture.figure.axes] == ["global", "local", "combined"]
    assert borders(picture.figure.axes[0]) == [1.5]
    assert picture.text == "importance of 6 blocks; largest global score outside K: block 4"


def test_a_block_of_k_that_was_measured_has_its_bar_and_no_band():
    table = importance()
    table.loc[0, "local_score"] = 0.7
    local, combined = importance_figure(table, SHAPE).figure.axes[1:]
    assert local.patches[0].get_height() == 0.7 and [band.get_x() + 0.4 for band in local.patches[6:]] == [2.0]
    assert [bar.get_height() for bar in combined.patches[:6]] == [0, 4, 0, 3, 5, 0], (
        "K is not ranked, and shifts no rank"
    )


def test_levels_are_shares_of_the_whole_for_any_number_of_baselines():
    names = ["SlimSAM", "PBD", "DyT", "AdaViT", "fifth", "sixth"]
    table = pd.DataFrame(
        [
            {
                "method": name,
                "level": level * (9 if name == "SlimSAM" else 1),
                "gmacs": 2 * level,
                "encoder_params": 50 * level + n,
                "active_blocks": 24.0,
            }
            for n, name in enumerate(names)
            for level in (1 / 3, 2 / 3)
        ]
    )
    figure = levels_figure(table, {"gmacs": 4, "encoder_params": 100, "active_blocks": 48}).figure
    work, size, blocks = (lines_of(axis) for axis in figure.axes)
    assert list(work) == names == entries(figure.legends[0]), "none is cut off"
    for n, name in enumerate(names):
        assert work[name][0] == pytest.approx([1 / 3, 2 / 3]) and work[name][1] == pytest.approx([1 / 6, 1 / 3])
        assert size[name][1] == pytest.approx([1 / 6 + n / 100, 1 / 3 + n / 100]) and blocks[name][1] == [0.5, 0.5]
        assert work[name][2] == colour_of(name)
        assert {line.get_marker() for axis in figure.axes for line in axis.lines if line.get_label() == name} == {
            marker_of(name)
        }
    assert [axis.get_title() for axis in figure.axes] == ["multiply-accumulates", "parameters", "active blocks"]


def test_gates_are_white_where_a_block_is_gone():
    table = pd.DataFrame(
        [("PBD", 0.5, 0, 1.0, 1.0), ("PBD", 0.5, 3, 1.0, 0.25), ("DyT", 0.4, 5, 0.5, 0.75)],
        columns=["method", "level", "block", "ran", "kept"],
    )
    picture = gates_figure(table, SHAPE)
    axis, bar = picture.figure.axes
    assert axis.images[0].get_array().tolist() == [[1, 0, 0, 0.25, 0, 0], [0, 0, 0, 0, 0, 0.75]]
    assert axis.images[0].get_clim() == (0, 1) and axis.images[0].get_cmap().name == "Blues"
    assert [label.get_text() for label in axis.get_yticklabels()] == ["PBD 0.5", "DyT 0.4"]
    assert borders(axis) == [1.5] and bar.get_ylabel().startswith("share of tokens")
    assert picture.text == "what 6 blocks do under 2 rows of Table 9"


def test_training_curves_are_means_of_the_last_steps():
    steps = np.arange(4)
    rest = {"step": steps, "iou": 0.5, "active": 30.0, "spread": steps / 10}
    log = pd.concat(
        [
            pd.DataFrame({"run": run, "loss": loss} | rest)
            for run, loss in (("0.8", [4.0, 2.0, 1.0, 1.0]), ("0.35", 3.0))
        ]
    )
    picture = training_figure(log, window=2)
    panels = [lines_of(axis) for axis in picture.figure.axes]
    assert panels[0]["0.8"] == ([0, 1, 2, 3], [4.0, 3.0, 1.5, 1.0], RUNS["0.8"])
    assert panels[0]["0.35"] == ([0, 1, 2, 3], [3.0] * 4, colour_of("0.35", RUNS))
    assert panels[1]["0.8"][1] == [0.5] * 4 and panels[2]["0.8"][1] == [30.0] * 4
    assert panels[3]["0.8"][1] == pytest.approx([0, 0.05, 0.15, 0.25])
    labels = [axis.get_ylabel() for axis in picture.figure.axes]
    assert labels == ["loss", "IoU", "active blocks", "spread of p over frames"]
    assert entries(picture.figure.legends[0]) == ["0.8", "0.35"] and picture.text.endswith("of 2 runs, 4 steps each")
    assert picture.figure.axes[2].get_xlabel() == "step (each point: mean of the last 2)"


def test_thresholds_mark_the_calibrated_ones():
    curves = {0.8: (np.array([0.0, 0.5, 1.0]), np.array([48, 40, 5])), 0.4: (np.array([0.0, 1.0]), np.array([48, 5]))}
    (axis,) = threshold_figure(curves, {0.8: 0.45, 0.4: 0.7}, {0.8: 39.4, 0.4: 22.2}).figure.axes
    named = lines_of(axis)
    assert named["budget 0.8"] == ([0.0, 0.5, 1.0], [48, 40, 5], RUNS["0.8"])
    assert named["budget 0.4"] == ([0.0, 1.0], [48, 5], RUNS["0.4"])
    marks = {
        line.get_color(): points_of(line) for line in axis.lines if line.get_marker() == "o" and len(line.get_xdata())
    }
    assert marks == {RUNS["0.8"]: [[0.45], [39.4]], RUNS["0.4"]: [[0.7], [22.2]]} and borders(axis) == [0.5]
    assert entries(axis.get_legend()) == ["budget 0.8", "budget 0.4", "calibrated threshold"]
    assert axis.get_ylim()[0] == 0 and axis.texts[0].get_text() == "the 0.5 rule"


def test_a_route_map_shows_keep_probabilities_and_a_dot_where_a_block_ran():
    rng = np.random.default_rng(0)
    prob, ran = rng.random((3, 6)).round(3), rng.random((3, 6)) > 0.5
    frame, block = np.mgrid[4:7, :6]
    routes = pd.DataFrame(
        {
            "frame_idx": frame.ravel(),
            "block": block.ravel(),
            "keep_prob": prob.ravel(),
            "active": ran.ravel(),
            "reason": np.where(frame.ravel() == 4, "prompted", "routed"),
        }
    )
    picture = route_map(routes.sample(frac=1, random_state=0), SHAPE, title="budget 0.5")
    axis, bar = picture.figure.axes
    (image,), (dots,) = axis.images, [line for line in axis.lines if line.get_marker() == "o"]
    assert np.array_equal(image.get_array(), prob.T) and image.get_extent() == [3.5, 6.5, 5.5, -0.5]
    where = set(zip((dots.get_xdata() - 4).tolist(), dots.get_ydata().tolist()))
    assert where == set(zip(*(index.tolist() for index in np.nonzero(ran)))) and dots.get_color() == ACCENT
    assert entries(picture.figure.legends[0]) == ["ran", "always on"]
    assert axis.get_ylabel() == "block (dotted lines: stages)"
    assert axis.get_title() == "budget 0.5" and bar.get_ylabel() == "keep probability" and image.get_clim() == (0, 1)
    assert picture.text == f"routes of 3 frames, {ran[1:].sum() / 2:.1f} blocks active on average on routed frames"


def test_dotted_lines_are_named_only_where_there_are_some():
    routes = pd.DataFrame({"frame_idx": 0, "block": range(6), "keep_prob": 1.0, "active": True, "reason": "routed"})
    for shape, label in ((SHAPE, "block (dotted lines: stages)"), (EncoderShape(6, (0,), (0,)), "block")):
        axis = route_map(routes, shape).figure.axes[0]
        assert axis.get_ylabel() == label and bool([line for line in axis.lines if line.get_linestyle() == ":"]) == (
            "dotted" in label
        )


def scores():
    """RDS at two budgets, a baseline, a control, a method without work, adapters elsewhere, another data set."""
    rows = [
        ("SAM2", 1.0, 60, 48, 4.0),
        ("RDS", 0.8, 58, 39, 3.2),
        ("RDS", 0.4, 55, 22, 2.0),
        ("newcomer", 0.5, 50, 24, 2.1),
        ("static top-n", 0.4, 52, 22, 2.0),
        ("copy first mask", 0.0, 20, np.nan, np.nan),
        ("RDS, adapters nowhere", 0.4, 51, 22, 2.0),
    ]
    table = pd.DataFrame(rows, columns=["method", "level", "value", "active_blocks", "gmacs"])
    table = table.assign(ci_low=table["value"] - 4, ci_high=table["value"] + 2, dataset="davis", metric="JF")
    return pd.concat([table, table.assign(dataset="other", value=0)])


def test_quality_stands_against_work_and_against_blocks():
    picture = quality_figure(scores(), "davis", controls=["static top-n"])
    left, right = picture.figure.axes
    drawn = [{box.get_label(): points_of(box.lines[0]) for box in axis.containers} for axis in (left, right)]
    rds = [55, 58]
    assert drawn[0] == {"SAM2": [[4.0], [60]], "RDS": [[2.0, 3.2], rds], "newcomer": [[2.1], [50]]}
    assert drawn[1] == {"SAM2": [[48], [60]], "RDS": [[22, 39], rds], "static top-n": [[22], [52]]}
    assert {box.get_label() for box in left.containers if box.has_yerr} == {"SAM2", "RDS"}
    (interval,) = [box.lines[2][0].get_segments() for box in left.containers if box.get_label() == "RDS"]
    assert np.allclose([segment[:, 1] for segment in interval], [[51, 57], [54, 60]])
    assert entries(left.get_legend()) == ["copy first mask", "SAM2", "RDS", "newcomer"]
    assert entries(right.get_legend()) == ["SAM2", "RDS", "static top-n"]
    floor = [line for line in left.lines if line.get_linestyle() == ":"]
    assert [line.get_ydata()[0] for line in floor] == [20] and left.get_ylabel() == "J&F (points)"
    colour = {box.get_label(): box.lines[0].get_color() for box in left.containers}
    assert colour == {"SAM2": COLOURS["SAM2"], "RDS": COLOURS["RDS"], "newcomer": colour_of("newcomer")}


def test_spread_is_the_mean_over_videos_of_mean_and_deviation():
    table = pd.DataFrame(
        [
            {
                "sequence": name,
                "level": level,
                "block": block,
                "mean_keep_prob": block / 10 + level / 10 + extra,
                "std_keep_prob": 0.1 + extra,
            }
            for level in (0.4, 0.8)
            for name, extra in (("a", 0.0), ("b", 0.1))
            for block in range(6)
        ]
    )
    picture = spread_figure(table, SHAPE)
    for axis, level in zip(picture.figure.axes, (0.8, 0.4)):
        bars, errors = axis.containers[1], axis.containers[0]
        means = np.arange(6) / 10 + level / 10 + 0.05
        assert [bar.get_height() for bar in bars] == pytest.approx(means)
        assert axis.get_ylabel().startswith(f"budget {level}")
        segments = np.array([segment[:, 1] for segment in errors.lines[2][0].get_segments()])
        assert np.allclose(segments, np.stack([means - 0.15, means + 0.15], 1))
        assert colours(bars) == [FORCED, RAN, FORCED, RAN, RAN, RAN] and borders(axis) == [1.5]
    assert picture.text == "keep probability per block for budgets 0.8, 0.4"


def test_comparisons_are_intervals_with_the_first_rival_on_top():
    rows = [
        ("davis", 0.4, "SAM2", -3.0, -6.0, 1.0),
        ("davis", 0.4, "newcomer", 2.0, 1.0, 3.0),
        ("davis", 0.8, "SAM2", 0.5, 0.0, 1.0),
        ("other", 0.4, "PBD", 9.0, 9.0, 9.0),
    ]
    table = pd.DataFrame(rows, columns=["dataset", "level", "against", "effect", "ci_low", "ci_high"])
    picture = comparison_figure(table, "davis")
    high, low = picture.figure.axes
    assert [axis.get_title() for axis in (high, low)] == ["budget 0.8", "budget 0.4"]
    assert [label.get_text() for label in high.get_yticklabels()] == ["newcomer", "SAM2"]

    def drawn(axis):
        return [(points_of(line)[0], line.get_ydata()[0], line.get_color()) for line in axis.lines[:-1]]

    assert drawn(high) == [([0.0, 1.0], 1, "#000000"), ([0.5], 1, "#000000")]
    new = colour_of("newcomer")
    assert drawn(low) == [([-6.0, 1.0], 1, "#000000"), ([-3.0], 1, "#000000"), ([1.0, 3.0], 0, new), ([2.0], 0, new)]
    assert high.lines[-1].get_xdata()[0] == 0 and picture.text == "davis: RDS against 2 others at 2 budgets"
