"""The paper's figures as pictures: each function takes a ``Study`` and returns a matplotlib ``Figure``.

One language in all of them: blue is what the router chose, grey what had to run, white what was skipped; dotted lines part the
four stages, K marks the blocks that always run, and every method has its colour of ``viz.COLOURS``.
"""

import textwrap

import cv2
import numpy as np
from matplotlib.colors import ListedColormap, to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from rds_lib.core.errors import RDSInputError
from rds_lib.show import notebook_figures as viz
from rds_lib.show.notebook_figures import COLOURS, QUIET, STAGES
from rds_lib.show.paint import overlay
from rds_lib.show.study import (
    ADDED,
    MISSED,
    RIGHT,
    SWAPPED,
    Study,
    activation,
    block_states,
    error_map,
    even_frames,
    points,
    quality_against_speed,
    quality_by_sequence,
    spread_frames,
    video_activation,
)

RAN, FORCED = COLOURS["RDS"], COLOURS["copy first mask"]
STATES = ("white", FORCED, RAN)  # by SKIPPED, HAD_TO_RUN, CHOSEN
MAP_ENTRIES = (("chosen by the router", RAN), ("had to run: K, or a frame that is not routed", FORCED), ("skipped", "white"))
ERRORS = {RIGHT: ("right", "#8F8F8F"), ADDED: ("false positive", "#D55E00"), MISSED: ("false negative", "#5D3A9B"), SWAPPED: ("another object's", "#F0E442")}
FRAME_ENTRIES = (*ERRORS.values(), ("block chosen", RAN), ("had to run", FORCED), ("skipped", "white"))
TICKS = (0, 2, 8, 16, 24, 32, 40, 44, 47)
THUMBS, COLUMNS = 8, 6  # frames shown in a static figure at most
SIDE = 240  # px of a frame in one
GRID = (6, 12)  # rows and columns of a frame's blocks: a row per stage, three for the long one


def quality_picture(study: Study) -> Figure:
    """Change of quality against speed-up, both over each one's own SAM2: ours filled, the paper's pale and hollow behind (Fig. 4)."""
    table = quality_against_speed(study)
    figure = Figure(figsize=(9.5, 5.4), layout="constrained")
    axis = figure.subplots()
    for method, rows in table.groupby("method", sort=False):
        colour = COLOURS.get(method, QUIET)
        paper, ours = rows[rows["source"] == "paper"], rows[rows["source"] == "ours"]
        axis.plot(paper["speedup"], paper["change"], color=colour, alpha=0.45, marker="o", mfc="white", ms=6, lw=1, ls="--", zorder=1)
        if method == "RDS":
            bars = [ours["change"] - ours["low"], ours["high"] - ours["change"]]
            axis.errorbar(ours["speedup"], ours["change"], yerr=np.clip(bars, 0, None), color=colour, ls="", capsize=3, lw=1.2, zorder=3)
            for row in rows.itertuples():
                axis.annotate(row.level, (row.speedup, row.change), xytext=(-6, -14) if row.source == "ours" else (-2, 7), textcoords="offset points",
                              ha="right" if row.source == "ours" else "left", fontsize=9, color=colour, alpha=1 if row.source == "ours" else 0.7)
        axis.plot(ours["speedup"], ours["change"], color=colour, marker="o", ms=7 if method == "RDS" else 5, lw=1.8 if method == "RDS" else 1.2,
                  label=method, zorder=4 if method == "RDS" else 2)
    axis.axhline(0, color=QUIET, ls=":", lw=0.8), axis.axvline(1, color=QUIET, ls=":", lw=0.8)
    axis.set_xlabel("frames a second, as a multiple of each one's own SAM2"), axis.set_ylabel("J&F minus each one's own SAM2's (points)")
    _plain(axis)
    handles, labels = axis.get_legend_handles_labels()
    handles += [Line2D([], [], color=QUIET, marker="o", lw=1.2), Line2D([], [], color=QUIET, alpha=0.6, marker="o", mfc="white", ls="--", lw=1)]
    figure.legend(handles, [*labels, "filled: ours; RDS with 95 % interval", "hollow: the paper's"], loc="outside upper left", ncols=5, frameon=False, fontsize=9)
    return figure


def activation_picture(study: Study) -> Figure:
    """Share of the routed frames on which each block ran, a panel per budget (Fig. 10)."""
    return _shares(activation(study.evidence.routes), study.always_on)


def video_picture(study: Study, name: str) -> Figure:
    """The same for one video at the budget of the figures (Fig. 14 to 22, even)."""
    return _shares(video_activation(study, name), study.always_on)


def _shares(table, always_on):
    levels = list(dict.fromkeys(table["level"]))
    figure = Figure(figsize=(9.5, (1.55 if len(levels) > 1 else 2.3) * len(levels) + 1.0), layout="constrained")
    axes = figure.subplots(len(levels), 1, sharex=True, squeeze=False)[:, 0]
    for axis, (level, rows) in zip(axes, table.groupby("level", sort=False)):
        axis.bar(rows["block"], 100 * rows["share"], color=np.where(rows["block"].isin(always_on), FORCED, RAN), width=0.8)
        axis.set_ylabel(f"budget {level:g}\n% of frames", fontsize=9)
        axis.set_ylim(0, 104)
        axis.set_yticks([0, 50, 100])
        _mark_blocks(axis, len(rows))
    _name_stages(axes[0])
    _mark_always_on(axes[-1], always_on)
    axes[-1].set_xlabel("block")
    _legend(figure, (("chosen by the router", RAN), ("K: always on", FORCED)))
    return figure


def importance_picture(study: Study) -> Figure:
    """Global, local and combined importance of every block (Fig. 11)."""
    figure = viz.importance_figure(study.importance).figure
    figure.set_size_inches(9.5, 6.8)
    _name_stages(figure.axes[0])
    figure.axes[-1].set_xticks(TICKS)
    return figure


def sequences_picture(study: Study) -> Figure:
    """J&F of every sequence under the static plans, RDS and SAM2, and the difference to SAM2 below (Fig. 12)."""
    table = quality_by_sequence(study)
    figure = Figure(figsize=(9.5, 6.4), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True)
    where = np.arange(len(table))
    for label in table:
        loss = table[label] - table["SAM2"]
        colour, marker = COLOURS[label.split(" 0")[0]], {"SAM2": "_", "plan A": "^", "plan B": "v"}.get(label, "o")
        line = {"color": colour, "marker": marker, "ms": 10 if marker == "_" else 6, "lw": 1, "alpha": 0.9}
        spread = f"std {table[label].std():.1f}" + (f", of the difference {loss.std():.1f}" if label != "SAM2" else "")
        above.plot(where, table[label], label=f"{label}: {spread}", **line)
        below.plot(where, loss, **line)
    above.set_ylabel("J&F (points)"), below.set_ylabel("J&F minus SAM2's (points)")
    below.set_xticks(where, [_text(name) for name in table.index], rotation=45, ha="right", rotation_mode="anchor", fontsize=9)
    for axis in (above, below):
        axis.grid(axis="x", color="#EEEEEE", lw=0.8), axis.set_axisbelow(True)
        _plain(axis)
    figure.legend(*above.get_legend_handles_labels(), loc="outside upper center", ncols=2, frameon=False, fontsize=9)
    return figure


def timeline_picture(study: Study, name: str) -> Figure:
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
        _bare(axis)
        main.annotate("", (t, -0.7), xytext=(t, -2.4), arrowprops={"arrowstyle": "->", "color": QUIET}, annotation_clip=False)
    _block_map(main, run, study.always_on)
    for n, (first, last) in enumerate(zip(STAGES, STAGES[1:]), 1):
        main.annotate(stage_label(n), (1.022, (first + last - 1) / 2), xycoords=("axes fraction", "data"), ha="left",
                      va="center", rotation=90, fontsize=9, color=QUIET)
    count = figure.add_subplot(grid[2, :], sharex=main)
    count.step(np.arange(len(recording)), run.active.sum(1), where="mid", color=RAN, lw=1.5)
    count.set(xlabel="frame", ylabel="blocks", ylim=(0, run.active.shape[1] * 1.05), xlim=(-0.5, len(recording) - 0.5))
    main.tick_params(labelbottom=False)
    count.xaxis.set_major_locator(MaxNLocator(12, integer=True))
    _plain(count)
    _legend(figure, MAP_ENTRIES)
    return figure


def comparison_picture(study: Study, name: str) -> Figure:
    """Frames, masks of SAM2 and of RDS, their errors and the blocks that ran, side by side (Fig. 23 to 25)."""
    recording, ours = study.recordings[name], study.run(name)
    runs = (recording.run("SAM2"), ours)
    shown = spread_frames(1, len(recording) - 1, COLUMNS)
    height, width = recording.size
    figure = Figure(figsize=(9.5, 9.5 / COLUMNS * (5 * height / width + 0.62) + 1.9), layout="constrained")
    axes = figure.subplots(6, len(shown), squeeze=False, height_ratios=[height / width] * 5 + [0.62])
    for column, t in zip(axes.T, shown):
        column[0].imshow(fitted(recording.frame(t), SIDE))
        column[0].set_title(f"frame {t}", fontsize=9)
        for row, run in ((1, runs[0]), (3, runs[1])):
            column[row].imshow(painted(recording, run, t, SIDE))
            column[row].set_title(f"J {points(run.mean_quality[t])}", fontsize=9)
            column[row + 1].imshow(errors(recording, run, t, SIDE))
        for block, state in enumerate(block_states(ours, study.always_on)[t]):
            column[5].add_patch(Rectangle(block_cell(block), 1, 1, fc=STATES[state], ec="#888888", lw=0.5))
        column[5].set(xlim=(-0.1, GRID[1] + 0.1), ylim=(GRID[0] + 0.1, -0.1))
        column[5].set_title(f"{ours.active[t].sum()} of {ours.active.shape[1]} blocks", fontsize=9)
    for axis in axes.flat:
        _bare(axis)
    for axis, label in zip(axes[:, 0], ("frame", "SAM2", "SAM2,\nerrors", f"RDS {study.budget:g}", f"RDS {study.budget:g},\nerrors", "blocks by\nstage")):
        axis.set_ylabel(label, rotation=0, ha="right", va="center", fontsize=9)
    _legend(figure, FRAME_ENTRIES, columns=4)
    return figure


def story_picture(study: Study) -> Figure:
    """The project in one picture: a strip of frames, the blocks that ran on every frame, and the speed, of the first compared video."""
    recording, run = study.recordings[study.compared[0]], study.run(study.compared[0])
    shown = spread_frames(0, len(recording) - 1, 4)
    figure = Figure(figsize=(9.5, 5.6), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=(1, 2))
    for axis, t in zip(above.subplots(1, len(shown)), shown):
        axis.imshow(painted(recording, run, t, 480))
        axis.set_title(f"frame {t}: {run.active[t].sum()} of {run.active.shape[1]} blocks", fontsize=9)
        _bare(axis)
    main, axis = below.subplots(1, 2, width_ratios=(3, 1))
    _block_map(main, run, study.always_on)
    main.set_xlabel("frame"), main.set_title(f"blocks that ran, budget {study.budget:g}", fontsize=9)
    main.xaxis.set_major_locator(MaxNLocator(10, integer=True))
    speed = study.evidence.speed.set_index("arm")["fps"]
    arms = ["SAM2", *(f"RDS_{level:g}" for level in study.evidence.budgets()[::-1] if f"RDS_{level:g}" in speed)]
    bars = axis.barh([arm.replace("_", " ") for arm in arms[::-1]], speed[arms[::-1]], color=[COLOURS[arm.split("_")[0]] for arm in arms[::-1]], height=0.6)
    axis.bar_label(bars, fmt="%.0f", padding=3, fontsize=9)
    axis.set_xlim(0, 1.2 * speed[arms].max()), axis.set_xticks([]), axis.set_title("frames a second", fontsize=9)
    _plain(axis)
    axis.spines["bottom"].set_visible(False)
    _legend(below, MAP_ENTRIES)
    return figure


def block_cell(block: int) -> tuple[int, int]:
    """Column and row of a block where a frame's blocks are laid out as ``GRID``: stage 1, 2, three rows of stage 3, stage 4."""
    row = 0
    for first, last in zip(STAGES, STAGES[1:]):
        if block < last:
            return (block - first) % GRID[1], row + (block - first) // GRID[1]
        row += -(-(last - first) // GRID[1])
    raise RDSInputError(f"block {block}; the encoder has {STAGES[-1]} blocks")


def fitted(image: np.ndarray, side: int) -> np.ndarray:
    """An image no longer than ``side`` px."""
    scale = min(1.0, side / max(image.shape[:2]))
    return cv2.resize(image, (round(image.shape[1] * scale), round(image.shape[0] * scale)), interpolation=cv2.INTER_AREA)


def painted(recording, run, t: int, side: int) -> np.ndarray:
    """Frame t with a run's masks on it."""
    return fitted(overlay(recording.frame(t), run.labels[t]), side)


def errors(recording, run, t: int, side: int) -> np.ndarray:
    """Frame t, faint and grey, with the colours of ``ERRORS`` where a run's masks and the truth lie; plain where nothing is known."""
    grey = cv2.cvtColor(recording.frame(t), cv2.COLOR_RGB2GRAY)
    image = np.repeat((190 + 0.25 * grey).astype(np.uint8)[..., None], 3, axis=2)
    if recording.truth is not None:
        codes = error_map(run.labels[t], recording.truth[t])
        for code, (_, colour) in ERRORS.items():
            image[codes == code] = np.round(255 * np.array(to_rgb(colour))).astype(np.uint8)
    return fitted(image, side)


def with_footer(figure: Figure, text: str) -> Figure:
    """Put a line of small print below a figure: what is drawn, of which data, by which stages."""
    width = round(15 * figure.get_figwidth())
    figure.supxlabel(_text("\n".join(textwrap.wrap(text, width))), x=0.01, ha="left", fontsize=9, color=QUIET)
    return figure


def _text(name):
    """A name that matplotlib must not read as a formula."""
    return name.replace("$", r"\$")


def stage_label(n: int) -> str:
    """What stands beside stage n: its number, and the word where there is room for it."""
    return "stage 3" if n == 3 else str(n)


def _block_map(axis, run, always_on):
    """Blocks (rows, 0 on top) by frame: chosen, had to run, or skipped; dotted lines part the stages, K stands right of the blocks of K."""
    axis.imshow(block_states(run, always_on).T, aspect="auto", cmap=ListedColormap(STATES), vmin=0, vmax=2, interpolation="nearest")
    for start in STAGES[1:-1]:
        axis.axhline(start - 0.5, color="#222222", ls=":", lw=1)
    axis.set_yticks(TICKS), axis.set_ylabel("block")
    for block in always_on:
        axis.annotate("K", (1.005, block), xycoords=("axes fraction", "data"), ha="left", va="center", fontsize=9, color="#333333")
    axis.tick_params(labelsize=9)


def _mark_blocks(axis, depth):
    for start in STAGES[1:-1]:
        axis.axvline(start - 0.5, color=QUIET, ls=":", lw=0.8)
    axis.set_xlim(-0.8, depth - 0.2)
    axis.set_xticks(TICKS)
    _plain(axis)


def _name_stages(axis):
    for n, (first, last) in enumerate(zip(STAGES, STAGES[1:]), 1):
        axis.annotate(stage_label(n), ((first + last - 1) / 2, 1.01), xycoords=("data", "axes fraction"),
                      ha="center", va="bottom", fontsize=9, color=QUIET)


def _mark_always_on(axis, always_on):
    for block in always_on:
        axis.annotate("K", (block, 2), ha="center", va="bottom", fontsize=9, color="#333333")


def _legend(figure, entries, columns=3):
    handles = [Line2D([], [], marker="s", ls="", mfc=colour, mec="#777777", label=label) for label, colour in entries]
    figure.legend(handles=handles, loc="outside upper right", ncols=columns, frameon=False, fontsize=9)


def _plain(axis):
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(labelsize=9)


def _bare(axis):
    axis.set_xticks([]), axis.set_yticks([])
    axis.spines[:].set_visible(False)
