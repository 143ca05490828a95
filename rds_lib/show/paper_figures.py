"""The paper's figures as pictures: each function takes a ``Study`` and returns a matplotlib ``Figure``."""

import cv2
import numpy as np
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import ConnectionPatch, Rectangle

from rds_lib.show.labels import label_points
from rds_lib.show.notebook_figures import importance_figure
from rds_lib.show.paint import fitted, overlay
from rds_lib.show.picture import literal
from rds_lib.show.results_page import HALF
from rds_lib.show.study import (
    SOURCES,
    Study,
    VideoStudy,
    activation,
    block_states,
    error_map,
    even_frames,
    plan_name,
    points,
    quality_against_speed,
    quality_by_sequence,
    spread_frames,
    spread_of,
    video_activation,
)
from rds_lib.show.style import (
    CHOSEN,
    ERRORS,
    FORCED,
    GRID,
    HAD_TO_RUN,
    MAP_LEGEND,
    QUIET,
    RAN,
    SKIPPED,
    STATES,
    bare,
    block_axis,
    block_map,
    colour_legend,
    colour_of,
    mark_always_on,
    marker_of,
    name_stages,
    plain,
    rgb,
    stages,
)

BLOCKS = {
    CHOSEN: ("block chosen", RAN),
    HAD_TO_RUN: ("block that had to run", FORCED),
    SKIPPED: ("block skipped", "white"),
}
THUMBS, COLUMNS = 8, 6  # frames in a timeline and in a comparison at most
SIDE = 240  # px of a frame in a picture
SPECK = 4  # px of a colour in a picture, fewer of which nobody finds
BLOCKS_A_ROW = 12  # where a frame's blocks are laid out stage by stage


def quality_picture(study: Study) -> Figure:
    """Change of quality against speed-up, each over its own SAM2: a panel for ours and one for the paper's (Fig. 4)."""
    table, named = quality_against_speed(study), {}
    figure = Figure(figsize=(9.5, 5.4), layout="constrained")
    axes = figure.subplots(1, 2, sharex=True, sharey=True)
    for axis, (source, title) in zip(axes, SOURCES.items()):
        for method, rows in table[table["source"] == source].groupby("method", sort=False):
            line = _method_line(axis, method, rows)
            named.setdefault(HALF.get(method, method), line)
        axis.axhline(0, color=QUIET, ls=":", lw=0.8)
        axis.axvline(1, color=QUIET, ls=":", lw=0.8)
        axis.set_title(title, fontsize=9)
        axis.set_xlabel("speed as a multiple of SAM2's")
        plain(axis)
    axes[0].set_ylabel("J&F minus SAM2's (points)")
    figure.legend(named.values(), named, loc="outside upper left", ncols=7, frameon=False, fontsize=9)
    for axis, source in zip(axes, SOURCES):
        rows = table[(table["source"] == source) & (table["method"] == "RDS")]
        places = list(zip(rows["speedup"], rows["low"].fillna(rows["change"])))  # at the foot of an interval
        label_points(axis, places, rows["level"], color=colour_of("RDS"), fontsize=9)
    return figure


def _method_line(axis, method, rows):
    """A method's levels, with their intervals where there are any; the line, for a legend."""
    colour, is_rds = colour_of(method), method == "RDS"
    bars = np.clip([rows["change"] - rows["low"], rows["high"] - rows["change"]], 0, None)
    if np.isfinite(bars).any():
        axis.errorbar(rows["speedup"], rows["change"], yerr=bars, color=colour, ls="", capsize=3, lw=1.2, zorder=3)
    (line,) = axis.plot(
        rows["speedup"],
        rows["change"],
        color=colour,
        marker=marker_of(method),
        ms=7 if is_rds else 6,
        lw=1.8 if is_rds else 1.2,
        zorder=4 if is_rds else 2,
    )
    return line


def activation_picture(study: Study) -> Figure:
    """Share of the routed frames on which each block ran, a panel per budget (Fig. 10)."""
    return _shares(activation(study.evidence.routes), study.shape)


def video_picture(study: VideoStudy, name: str) -> Figure:
    """The same for one video at the budget of the figures (Fig. 14 to 22, even)."""
    return _shares(video_activation(study, name), study.shape)


def _shares(table, shape):
    levels = list(dict.fromkeys(table["level"]))
    figure = Figure(figsize=(9.5, (1.55 if len(levels) > 1 else 2.3) * len(levels) + 1.0), layout="constrained")
    axes = figure.subplots(len(levels), 1, sharex=True, squeeze=False)[:, 0]
    for axis, (level, rows) in zip(axes, table.groupby("level", sort=False)):
        colours = np.where(rows["block"].isin(shape.always_on), FORCED, RAN)
        axis.bar(rows["block"], 100 * rows["share"], color=colours, width=0.8)
        axis.set(ylim=(0, 104), yticks=[0, 50, 100])
        axis.set_ylabel(f"budget {level:g}\n% of frames", fontsize=9)
        block_axis(axis, shape)
    name_stages(axes[0], shape)
    mark_always_on(axes[-1], shape)
    axes[-1].set_xlabel("block")
    colour_legend(figure, (("chosen by the router", RAN), ("K: always on", FORCED)))
    return figure


def importance_picture(study: Study) -> Figure:
    """Global, local and combined importance of every block (Fig. 11)."""
    figure = importance_figure(study.importance, study.shape).figure
    figure.set_size_inches(9.5, 6.8)
    name_stages(figure.axes[0], study.shape)
    return figure


def sequences_picture(study: Study) -> Figure:
    """J&F of every sequence under the static plans, RDS and SAM2, and the difference to SAM2 beside it (Fig. 12)."""
    table, level = quality_by_sequence(study), study.evidence.budgets()[0]
    figure = Figure(figsize=(9.5, 0.23 * len(table) + 2.3), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    where = np.arange(len(table))
    for method in table:
        marks = {"color": colour_of(method), "marker": marker_of(method), "ms": 6, "ls": "", "alpha": 0.9}
        left.plot(table[method], where, label=f"{plan_name(method, level)}: {spread_of(table, method)}", **marks)
        if method != "SAM2":
            right.plot(table[method] - table["SAM2"], where, **marks)
    left.set_yticks(where, [literal(name) for name in table.index])
    left.set(ylim=(len(table) - 0.5, -0.5), xlabel="J&F (points)", ylabel="video")
    right.set_xlabel("J&F minus SAM2's (points)")
    right.axvline(0, color=colour_of("SAM2"), lw=1)
    for axis in (left, right):
        axis.grid(axis="y", color=GRID, lw=0.8), axis.set_axisbelow(True)
        plain(axis)
    figure.legend(*left.get_legend_handles_labels(), loc="outside upper center", ncols=2, frameon=False, fontsize=9)
    return figure


def timeline_picture(study: VideoStudy, name: str) -> Figure:
    """Frames of a video over the blocks that ran on each of its frames (Fig. 13 to 21, odd)."""
    recording, run = study.recordings[name], study.run(name)
    shown = even_frames(len(recording), THUMBS)
    figure = Figure(figsize=(9.5, 6.0), layout="constrained")
    grid = figure.add_gridspec(3, len(shown), height_ratios=(1.1, 4.4, 1.0))
    main = figure.add_subplot(grid[1, :])
    for n, t in enumerate(shown):
        axis = figure.add_subplot(grid[0, n])
        axis.imshow(painted(recording, run, t, SIDE))
        axis.set_title(f"frame {t}", fontsize=9)
        bare(axis)
        _join(figure, axis, main, t)
    state_map(main, study, run)
    name_stages(main, study.shape, side="right")
    count = figure.add_subplot(grid[2, :], sharex=main)
    count.step(np.arange(len(recording)), run.active.sum(1), where="mid", color=RAN, lw=1.5)
    count.set(xlabel="frame", ylabel="blocks\nthat ran", ylim=(0, recording.depth * 1.05), yticks=[0, recording.depth])
    count.set_xlim(-0.5, len(recording) - 0.5)
    main.set_xlabel(""), main.tick_params(labelbottom=False)
    plain(count)
    colour_legend(figure, MAP_LEGEND)
    return figure


def _join(figure, thumbnail, main, t):
    """A line from a frame's picture down to its column."""
    ends = {"xyA": (0.5, 0), "coordsA": "axes fraction", "xyB": (t, -0.5), "coordsB": "data"}
    line = ConnectionPatch(**ends, axesA=thumbnail, axesB=main, color=QUIET, lw=0.8)
    line.set_in_layout(False)
    figure.add_artist(line)


def comparison_picture(study: VideoStudy, name: str) -> Figure:
    """Frames, masks of SAM2 and of RDS, their errors and the blocks that ran, side by side (Fig. 23 to 25)."""
    recording, ours = study.recordings[name], study.run(name)
    runs = (recording.run("SAM2"), ours)
    shown, cells = spread_frames(1, len(recording) - 1, COLUMNS), block_cells(study.shape)
    states = block_states(ours, study.shape)[shown]
    heights = [recording.size[0] / recording.size[1]] * 5 + [(cells[-1][1] + 1) / BLOCKS_A_ROW + 0.12]
    figure = Figure(figsize=(9.5, 9.5 / COLUMNS * sum(heights) + 1.9), layout="constrained")
    axes = figure.subplots(6, len(shown), squeeze=False, height_ratios=heights)
    for column, t, ran in zip(axes.T, shown, states):
        column[0].imshow(fitted(recording.frame(t), SIDE))
        column[0].set_title(f"frame {t}", fontsize=9)
        for row, run in ((1, runs[0]), (3, runs[1])):
            column[row].imshow(painted(recording, run, t, SIDE))
            column[row].set_title(f"J {points(run.mean_quality[t])}", fontsize=9)
            column[row + 1].imshow(errors(recording, run, t, SIDE))
        _draw_cells(column[5], cells, ran)
    for axis in axes.flat:
        bare(axis)
    _number_stages(axes[5, 0], study.shape, cells)
    rds = f"RDS {study.budget:g}"
    labels = ("frame", "SAM2", "SAM2,\nerrors", rds, f"{rds},\nerrors", "blocks by\nstage")
    for axis, label in zip(axes[:, 0], labels):
        axis.set_ylabel(label, rotation=0, ha="right", va="center", fontsize=9)
    colour_legend(figure, _visible([*axes[2], *axes[4]], states), columns=4)
    return figure


def _visible(axes, states) -> list[tuple[str, str]]:
    """Entries of a legend for the colours that axes with error pictures, and cells of blocks, show; for no others."""
    pictures = [np.asarray(axis.images[0].get_array()) for axis in axes]
    most = {entry: max((picture == rgb(entry[1])).all(2).sum() for picture in pictures) for entry in ERRORS.values()}
    pixels = [entry for entry, count in most.items() if count >= SPECK]
    return pixels + [entry for state, entry in BLOCKS.items() if (states == state).any()]


def _number_stages(axis, shape, cells):
    """Number the rows of cells with which a stage starts."""
    starts = [cells[first][1] + 0.5 for _, first, _ in stages(shape)]
    axis.set_yticks(starts, range(1, len(starts) + 1), fontsize=9)
    axis.tick_params(length=0)


def _draw_cells(axis, cells, states):
    for cell, state in zip(cells, states):
        axis.add_patch(Rectangle(cell, 1, 1, fc=STATES[state], ec="#888888", lw=0.5))
    axis.set(xlim=(-0.1, BLOCKS_A_ROW + 0.1), ylim=(cells[-1][1] + 1.1, -0.1))
    axis.set_title(f"{np.count_nonzero(states)} of {len(states)} blocks", fontsize=9)


def state_map(axis, study, run):
    """Blocks by frame: chosen, had to run, or skipped."""
    block_map(axis, block_states(run, study.shape), study.shape, cmap=ListedColormap(STATES), limits=(0, 2))


def block_cells(shape) -> list[tuple[int, int]]:
    """Column and row of every block where a frame's blocks are laid out; every stage starts a row."""
    cells, row = [], 0
    for _, first, end in stages(shape):
        cells += [(i % BLOCKS_A_ROW, row + i // BLOCKS_A_ROW) for i in range(end - first)]
        row = cells[-1][1] + 1
    return cells


def painted(recording, run, t: int, side: int) -> np.ndarray:
    """Frame t with a run's masks on it, no longer than ``side`` px; painted last, so that outlines stay solid."""
    frame = fitted(recording.frame(t), side)
    return overlay(frame, cv2.resize(run.labels[t], frame.shape[1::-1], interpolation=cv2.INTER_NEAREST))


def errors(recording, run, t: int, side: int) -> np.ndarray:
    """Frame t, faint and grey, with the colours of ``ERRORS`` where masks or truth lie; plain without a truth."""
    grey = cv2.cvtColor(recording.frame(t), cv2.COLOR_RGB2GRAY)
    image = np.repeat((190 + 0.25 * grey).astype(np.uint8)[..., None], 3, axis=2)
    if recording.truth is not None:
        codes = error_map(run.labels[t], recording.truth[t])
        for code, (_, colour) in ERRORS.items():
            image[codes == code] = rgb(colour)
    return fitted(image, side)
