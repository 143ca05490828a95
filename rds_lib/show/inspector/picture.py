"""The inspector's view as a picture, for viewers that run no JavaScript."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from rds_lib.evaluation.recordings import Recording
from rds_lib.show.paint import overlay
from rds_lib.show.picture import Picture
from rds_lib.show.style import ACCENT, bare, block_map, plain

LINES = (("#222222", "-"), (ACCENT, "--"))  # of run A and run B, as in inspector.js


def routing_picture(
    recording: Recording, names: Sequence[str], frame: int, text: str = "", *, first: int = 0
) -> Picture:
    """One or two runs side by side: frames with masks, blocks by frame, then J and active blocks over time.

    Parameters
    ----------
    names : sequence of str
        One or two names of runs.
    frame : int
        Index from 0 of the frame to show; the first and the last one stand beside it.
    first : int
        Frames of the video before those of the recording, which are numbered from it.
    """
    runs, length = [recording.run(name) for name in names], len(recording)
    shown = sorted({0, frame, length - 1} | ({length // 2} if frame in (0, length - 1) else set()))
    figure = Figure(figsize=(10, 7), layout="constrained")
    top, middle, bottom = figure.subfigures(3, 1, height_ratios=(1.0 if len(runs) == 1 else 0.6, 1.5, 0.9))
    for run, panel in zip(runs, np.atleast_1d(top.subfigures(1, len(runs)))):
        _strip(panel, recording, run, shown, first)
    for run, axis in zip(runs, middle.subplots(1, len(runs), squeeze=False)[0]):
        block_map(axis, np.where(run.active, run.keep_prob, np.nan), recording.shape, limits=(-0.4, 1))
        axis.axvline(frame, color=ACCENT, lw=1)
        axis.set_title(f"{run.name}: blocks that ran, shaded by keep probability", fontsize=9)
    panels = [("active blocks", [run.active.sum(1) for run in runs], (0, recording.depth * 1.04))]
    if any(run.quality for run in runs):
        panels.insert(0, ("J, mean over objects", [run.mean_quality for run in runs], (0, 1.04)))
    for (label, values, limits), axis in zip(panels, bottom.subplots(1, len(panels), squeeze=False)[0]):
        _lines(axis, runs, values, frame)
        axis.set(xlabel="frame", ylabel=label, xlim=(-0.5, length - 0.5), ylim=limits)
    for axis in [*middle.axes, *bottom.axes] if first else ():
        axis.xaxis.set_major_formatter(lambda t, _: f"{first + t:g}")
    return Picture(figure, text or f"{recording.name}, frame {first + frame}: {' | '.join(names)}")


def _strip(panel, recording, run, shown, first):
    panel.suptitle(run.name, fontsize=10)
    for axis, t in zip(panel.subplots(1, len(shown), squeeze=False)[0], shown):
        axis.imshow(overlay(recording.frame(t), run.labels[t]))
        bare(axis)
        axis.set_title(f"frame {first + t}: {run.active[t].sum()} blocks", fontsize=8)


def _lines(axis, runs, values, frame):
    for run, line, (colour, style) in zip(runs, values, LINES):
        axis.plot(range(len(line)), line, style, color=colour, lw=1.6, label=run.name)
    axis.axvline(frame, color="#888888", lw=0.8)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.legend(frameon=False, fontsize=8, loc="lower right", ncols=2)
    plain(axis)
