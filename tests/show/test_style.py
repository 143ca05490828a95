"""The look that figures share: colours of labels, marks on an axis over blocks, and the block map."""

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from rds_lib.model.shape import EncoderShape
from rds_lib.show.paper_pages import SYMBOLS
from rds_lib.show.style import (
    COLOURS,
    FORCED,
    MARKERS,
    OBJECTS,
    RAN,
    RUNS,
    SPARE,
    SPARE_MARKER,
    block_axis,
    block_label,
    block_map,
    block_ticks,
    colour_legend,
    colour_of,
    mark_always_on,
    marker_of,
    name_stages,
    object_colour,
    rgb,
    stages,
)

HIERA = EncoderShape(48, (0, 2, 8, 44), (0, 2, 8, 44, 47))
PLAIN = EncoderShape(12, (0,), (0,))  # a ViT: one stage, and K without the last block


def texts(axis):
    """Texts on an axis with where they stand, in the axis' own mix of units."""
    return [(text.get_text(), text.xy) for text in axis.texts]


def test_a_method_has_its_colour_and_an_unknown_one_a_spare_that_stays():
    assert colour_of("RDS") == "#0072B2" == COLOURS["RDS"] and colour_of("0.8", RUNS) == RUNS["0.8"]
    assert colour_of("a new baseline") == colour_of("a new baseline") and colour_of("0.35", RUNS) in SPARE
    assert {colour_of(f"baseline {n}") for n in range(40)} == set(SPARE)
    assert not {*SPARE} & {*COLOURS.values(), *OBJECTS}


def test_an_unknown_label_has_one_colour_in_every_process():
    assert colour_of("ToMe") == "#CC6677", "hash() would give another one each time"


def test_methods_of_one_plot_differ_by_marker_too():
    baselines = ["SlimSAM", "PBD", "DyT", "AdaViT", "mini_half"]
    controls = ["random routes", "static top-n", "own mean w", "best fixed route", "oracle of fixed routes"]
    plans = ["random static plans", "plan A", "plan B"]
    for names in (["SAM2", "SAM2 + I-LoRA", "RDS", "RDS, one for all", *baselines], ["SAM2", "RDS", *controls, *plans]):
        found = [marker_of(name) for name in names]
        assert len(set(found)) == len(found), names
        assert SPARE_MARKER not in found == [MARKERS[name] for name in names]
    assert marker_of("a new baseline") == SPARE_MARKER and not MARKERS.keys() - COLOURS.keys()


def test_every_marker_has_its_like_on_pages():
    symbols = [SYMBOLS[marker] for marker in {*MARKERS.values(), SPARE_MARKER}]
    assert len(symbols) == len(set(symbols))


def test_an_axis_over_blocks_names_its_dotted_lines_where_it_has_some():
    assert block_label(HIERA) == "block (dotted lines: stages)" and block_label(PLAIN) == "block"


def test_objects_take_the_colours_in_turn():
    assert [object_colour(n) for n in (1, 2, 6, 7)] == [OBJECTS[0], OBJECTS[1], OBJECTS[5], OBJECTS[0]]
    assert rgb(object_colour(1)) == (0, 114, 178) and rgb("white") == (255, 255, 255)


@pytest.mark.parametrize(
    ("shape", "ticks"),
    [
        (HIERA, [0, 2, 8, 16, 24, 32, 40, 44, 47]),
        (PLAIN, [0, 2, 4, 6, 8, 10, 11]),
        (EncoderShape(6, (0, 3), (0, 3)), [0, 1, 2, 3, 4, 5]),
        (EncoderShape(24, (0, 1, 4, 22), (0, 1, 4, 22, 23)), [0, 1, 4, 8, 12, 16, 20, 22, 23]),
    ],
)
def test_ticks_show_stages_the_last_block_and_a_grid_between(shape, ticks):
    assert block_ticks(shape) == ticks


def test_a_stage_is_named_in_full_where_it_has_room():
    assert stages(HIERA) == [("1", 0, 2), ("2", 2, 8), ("stage 3", 8, 44), ("4", 44, 48)]
    assert stages(PLAIN) == [("stage 1", 0, 12)]


def test_an_axis_over_blocks_shows_stages_and_the_blocks_that_always_run():
    axis = Figure().subplots()
    block_axis(axis, HIERA), name_stages(axis, HIERA), mark_always_on(axis, HIERA)
    assert [line.get_xdata()[0] for line in axis.lines] == [1.5, 7.5, 43.5]
    assert axis.get_xlim() == (-0.8, 47.8) and axis.get_xticks().tolist() == block_ticks(HIERA)
    names, marks = texts(axis)[:4], texts(axis)[4:]
    assert names == [("1", (0.5, 1.01)), ("2", (4.5, 1.01)), ("stage 3", (25.5, 1.01)), ("4", (45.5, 1.01))]
    assert marks == [("K", (block, 0)) for block in HIERA.always_on]


def test_a_block_map_has_a_row_per_block_and_a_column_per_frame():
    values = np.arange(36.0).reshape(3, 12) / 36
    values[1, 4] = np.nan
    axis = Figure().subplots()
    image = block_map(axis, values, PLAIN, limits=(-1, 2), first=10)
    assert np.array_equal(image.get_array().filled(np.nan), values.T, equal_nan=True)
    assert image.get_clim() == (-1, 2) and image.get_extent() == [9.5, 12.5, 11.5, -0.5]  # block 0 on top
    assert texts(axis) == [("K", (1.005, 0))] and not axis.lines, "one stage has no borders"
    assert (axis.get_xlabel(), axis.get_ylabel(), axis.get_yticks().tolist()) == ("frame", "block", block_ticks(PLAIN))


def test_a_block_map_marks_the_stages_and_names_them_at_its_side():
    axis = Figure().subplots()
    block_map(axis, np.zeros((5, 48)), HIERA)
    name_stages(axis, HIERA, side="right")
    assert [line.get_ydata()[0] for line in axis.lines] == [1.5, 7.5, 43.5]
    assert texts(axis)[:5] == [("K", (1.005, block)) for block in HIERA.always_on]
    middles = {"1": 0.5, "2": 4.5, "stage 3": 25.5, "4": 45.5}
    assert texts(axis)[5:] == [(label, (1.022, middle)) for label, middle in middles.items()]


def test_a_colour_legend_names_every_colour():
    figure = Figure()
    colour_legend(figure, (("chosen", RAN), ("had to run", FORCED)))
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["chosen", "had to run"]
    assert [to_hex(handle.get_markerfacecolor()) for handle in legend.legend_handles] == ["#0072b2", "#bbbbbb"]
