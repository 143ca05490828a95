"""The inspector's view as a picture, for viewers that run no JavaScript."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from rds_lib.evaluation.recordings import Recording
from rds_lib.show.notebook_figures import Picture
from rds_lib.show.paint import overlay

LINES = (("#222222", "-"), ("#D55E00", "--"))  # of run A and run B, as in inspector.js


def routing_picture(recording: Recording, names: Sequence[str], frame: int, text: str = "") -> Picture:
    """One or two runs side by side: frames with masks, blocks by frame, then J and active blocks over time.

    Parameters
    ----------
    names : sequence of str
        One or two names of runs.
    frame : int
        Index from 0 of the frame to show; the first and the last one stand beside it.
    """
    runs, length = [recording.run(name) for name in names], len(recording)
    shown = sorted({0, frame, length - 1} | ({length // 2} if frame in (0, length - 1) else set()))
    figure = Figure(figsize=(10, 7), layout="constrained")
    top, middle, bottom = figure.subfigures(3, 1, height_ratios=(1.0 if len(runs) == 1 else 0.6, 1.5, 0.9))
    for run, panel in zip(runs, np.atleast_1d(top.subfigures(1, len(runs)))):
        _strip(panel, recording, run, shown)
    for run, axis in zip(runs, middle.subplots(1, len(runs), squeeze=False)[0]):
        _block_map(axis, recording, run, frame)
    panels = [("active blocks", [run.active.sum(1) for run in runs], (0, recording.depth * 1.04))]
    if any(run.quality for run in runs):
        panels.insert(0, ("J, mean over objects", [run.mean_quality for run in runs], (0, 1.04)))
    for (label, values, limits), axis in zip(panels, bottom.subplots(1, len(panels), squeeze=False)[0]):
        for run, line, (colour, style) in zip(runs, values, LINES):
            axis.plot(range(length), line, style, color=colour, lw=1.6, label=run.name)
        axis.axvline(frame, color="#888888", lw=0.8)
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.set(xlabel="frame", ylabel=label, xlim=(-0.5, length - 0.5), ylim=limits)
        axis.legend(frameon=False, fontsize=8, loc="lower right", ncols=2)
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(labelsize=8)
    return Picture(figure, text or f"{recording.name}, frame {frame}: {' | '.join(names)}")


def _strip(panel, recording, run, shown):
    panel.suptitle(run.name, fontsize=10)
    for axis, t in zip(panel.subplots(1, len(shown)), shown):
        axis.imshow(overlay(recording.frame(t), run.labels[t]))
        axis.set_xticks([]), axis.set_yticks([])
        axis.set_title(f"frame {t}: {run.active[t].sum()} blocks", fontsize=8)


def _block_map(axis, recording, run, frame):
    length, depth = run.active.shape
    axis.imshow(np.where(run.active, run.keep_prob, np.nan).T, aspect="auto", cmap="Blues", vmin=-0.4, vmax=1, interpolation="nearest")
    for start in recording.stage_starts[1:]:
        axis.axhline(start - 0.5, color="#999999", lw=0.8)
    axis.axvline(frame, color="#D55E00", lw=1)
    ticks = [block for block in range(depth) if block in recording.always_on or block % 8 == 0 and min(abs(block - k) for k in recording.always_on) > 2]
    axis.set_yticks(ticks, [f"K {block}" if block in recording.always_on else str(block) for block in ticks], fontsize=8)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.set(xlabel="frame", ylabel="block (lines: stages)", title=f"{run.name}: blocks that ran, shaded by keep probability")
    axis.tick_params(labelsize=8)
    axis.title.set_fontsize(9)
