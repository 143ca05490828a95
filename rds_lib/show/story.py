"""The project in one picture: a video, what held on its frames, the blocks that ran, quality and speed."""

from collections.abc import Iterator
from itertools import groupby

import numpy as np
from matplotlib.figure import Figure

from rds_lib.evaluation.names import RDS, SAM2
from rds_lib.show.paper_figures import painted, state_map
from rds_lib.show.study import Study, speed, spread_frames
from rds_lib.show.style import INK, MAP_LEGEND, bare, block_label, colour_legend, colour_of, plain

FRAMES = 5  # that are shown, at most
HELD, CLEAR = "#F5E1C8", "#FFFFFF"  # frames on which something held, and others


def story_picture(study: Study) -> Figure:
    """Frames with their masks, what held on each frame, the blocks that ran on it, and what RDS costs and saves."""
    recording, run = study.recordings[study.story], study.run(study.story)
    figure = Figure(figsize=(9.5, 6.0), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=(1, 2.3))
    _draw_frames(above, recording, run)
    main, right = below.subfigures(1, 2, width_ratios=(3, 1.15))
    if any(recording.conditions):
        strip, axis = main.subplots(2, 1, height_ratios=(1, 13), sharex=True)
        _draw_conditions(strip, recording.conditions)
    else:
        axis = strip = main.subplots()
    state_map(axis, study, run)
    axis.set_ylabel(block_label(study.shape))
    strip.set_title(f"the blocks that ran on each frame, budget {study.budget:g}", fontsize=9)
    quality, speeds = right.subplots(2, 1)
    _draw_quality(quality, study)
    _draw_speed(speeds, study)
    colour_legend(figure, MAP_LEGEND)
    return figure


def shown_frames(recording) -> list[int]:
    """The first frame and the last, and between them the middle of every stretch on which something held."""
    middles = [(start + stop) // 2 for name, start, stop in _stretches(recording.conditions) if name]
    last = len(recording) - 1
    return [0, *middles, last] if 0 < len(middles) <= FRAMES - 2 else spread_frames(0, last, FRAMES)


def _stretches(conditions) -> Iterator[tuple[str, int, int]]:
    """Every run of frames with one condition: its name, its first frame, and the first one after it."""
    stop = 0
    for name, frames in groupby(conditions):
        start, stop = stop, stop + len(list(frames))
        yield name, start, stop


def _draw_frames(figure, recording, run):
    shown = shown_frames(recording)
    for axis, t in zip(figure.subplots(1, len(shown)), shown):
        axis.imshow(painted(recording, run, t, 480))
        held = f", {recording.conditions[t]}" if recording.conditions and recording.conditions[t] else ""
        axis.set_title(f"frame {t}{held}\n{run.active[t].sum()} of {recording.depth} blocks", fontsize=9)
        bare(axis)


def _draw_conditions(axis, conditions):
    """Name every stretch of frames on which a condition held."""
    for name, start, stop in _stretches(conditions):
        axis.axvspan(start - 0.5, stop - 0.5, color=HELD if name else CLEAR, lw=0)
        axis.text((start + stop - 1) / 2, 0.5, name, ha="center", va="center", fontsize=8, color=INK, clip_on=True)
    axis.set(ylim=(0, 1), yticks=[])
    axis.tick_params(bottom=False, labelbottom=False)


def _arms(study):
    """Names and arms of the bars, from the top."""
    levels = study.evidence.budgets()[::-1]
    return {SAM2: (SAM2, 1.0)} | {f"{RDS} {level:g}": (RDS, level) for level in levels}


def _draw_quality(axis, study):
    scores = study.scores.set_index(["method", "level"])
    arms = _arms(study)
    for n, arm in enumerate(arms.values()):
        row, colour = scores.loc[arm], colour_of(arm[0])
        if np.isfinite(row["ci_low"]):
            axis.plot([row["ci_low"], row["ci_high"]], [n, n], color=colour, lw=2, solid_capstyle="butt")
        axis.plot(row["value"], n, "o", color=colour)
        axis.annotate(
            f"{row['value']:.1f}", (row["value"], n), (0, 5), textcoords="offset points", ha="center", fontsize=9
        )
    axis.set_yticks(range(len(arms)), arms)
    axis.set_ylim(len(arms) - 0.5, -0.7)
    axis.set_title(f"J&F of {study.length} videos, 95 %", fontsize=9)
    axis.tick_params(labelsize=9)
    plain(axis)


def _draw_speed(axis, study):
    timed = {label: fps for label, arm in _arms(study).items() if np.isfinite(fps := speed(study.evidence, *arm))}
    labels = [*timed][::-1]
    colours = [colour_of(label.partition(" ")[0]) for label in labels]
    bars = axis.barh(labels, [timed[label] for label in labels], color=colours, height=0.6)
    axis.bar_label(bars, fmt="%.1f", padding=3, fontsize=9)
    axis.set(xlim=(0, 1.3 * max(timed.values())), xticks=[])
    axis.set_title("frames a second", fontsize=9)
    axis.tick_params(labelsize=9)
    plain(axis)
    axis.spines["bottom"].set_visible(False)
