"""One look for notebooks, paper figures, pages and inspector: colours, axes over blocks, the block map.

Blue is what the router chose, grey what had to run, white what was skipped. Dotted lines part the stages, K marks the
blocks that always run, and a method has one colour and one marker everywhere: to change them, change ``COLOURS`` and
``MARKERS``, keyed by the method's label. inspector.js and inspector.css have copies of blue and of the accent.
``shape`` is an ``EncoderShape`` in every function here.
"""

import math
import zlib
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

# Okabe and Ito's colour-blind-safe palette, then Tol's muted one
COLOURS = {
    "SAM2": "#000000",
    "SAM2 + I-LoRA": "#777777",
    "RDS": "#0072B2",
    "RDS, one for all": "#56B4E9",
    "random routes": "#D55E00",
    "static top-n": "#E69F00",
    "own mean w": "#009E73",
    "best fixed route": "#CC79A7",
    "oracle of fixed routes": "#8B5A9E",
    "random static plans": "#A6761D",
    "plan A": "#5D3A00",
    "plan B": "#B08A4A",
    "copy first mask": "#BBBBBB",
    "SlimSAM": "#117733",
    "PBD": "#882255",
    "DyT": "#DDAA33",
    "AdaViT": "#44AA99",
    "mini_half": "#AA4499",
}
SPARE = ("#332288", "#999933", "#CC6677", "#661100", "#6699CC")  # what is left of Tol's, for labels that are not above
MARKERS = {  # so that nobody has to tell methods apart by colour alone
    "SAM2": "X",
    "SAM2 + I-LoRA": "P",
    "RDS": "o",
    "RDS, one for all": "p",
    "random routes": "*",
    "static top-n": "s",
    "own mean w": "D",
    "best fixed route": "^",
    "oracle of fixed routes": "v",
    "random static plans": "P",
    "plan A": "<",
    "plan B": ">",
    "SlimSAM": "s",
    "PBD": "D",
    "DyT": "^",
    "AdaViT": "v",
    "mini_half": "<",
}
SPARE_MARKER = "h"
RUNS = {  # trainings of RDS: one per budget, for any budget, and of the full encoder's adapters
    "0.9": "#882255",
    "0.8": "#0072B2",
    "0.7": "#E69F00",
    "0.6": "#D55E00",
    "0.5": "#56B4E9",
    "0.4": "#009E73",
    "any": "#CC79A7",
    "full": "#000000",
}
OBJECTS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9")  # by object id, in turn
QUIET, INK, ACCENT = "#666666", "#333333", "#D55E00"

SKIPPED, HAD_TO_RUN, CHOSEN = 0, 1, 2  # what happened to a block on a frame
RAN, FORCED, UNADAPTED = "#0072B2", "#BBBBBB", "#BFD7E5"
GRID, UNMEASURED = "#EEEEEE", "#E8E8E8"
STATES = ("white", FORCED, RAN)  # colours by SKIPPED, HAD_TO_RUN, CHOSEN
MAP_LEGEND = (
    ("chosen by the router", RAN),
    ("had to run: always on (K), or the whole frame", FORCED),
    ("skipped", "white"),
)
RIGHT, ADDED, MISSED, SWAPPED = 1, 2, 3, 4  # what happened to a pixel; 0: background, and taken for it
ERRORS = {
    RIGHT: ("right", "#8F8F8F"),
    ADDED: ("false positive", "#D55E00"),
    MISSED: ("false negative", "#5D3A9B"),
    SWAPPED: ("another object's", "#F0E442"),
}
_WITH_MEANING = (
    "#FFFFFF",
    RAN,
    FORCED,
    UNADAPTED,
    UNMEASURED,
    QUIET,
    INK,
    *(colour for _, colour in ERRORS.values()),
    *COLOURS.values(),
    *SPARE,
    *RUNS.values(),
    *OBJECTS,
)
EXACT = tuple(dict.fromkeys(_WITH_MEANING))  # a palette of few colours keeps these as they are


def colour_of(label: str, known: Mapping[str, str] = COLOURS) -> str:
    """The colour of a method (or of a run, with ``RUNS``); a label without one gets a spare colour, always the same."""
    return known.get(label) or SPARE[zlib.crc32(label.encode()) % len(SPARE)]


def marker_of(label: str) -> str:
    """The marker of a method, as matplotlib writes it; labels without one share a spare marker."""
    return MARKERS.get(label, SPARE_MARKER)


def rgb(colour: str) -> tuple[int, int, int]:
    """Red, green and blue of a colour, 0 to 255."""
    return tuple(round(255 * value) for value in to_rgb(colour))


def object_colour(obj_id: int) -> str:
    """The colour of an object, from id 1 on."""
    return OBJECTS[(obj_id - 1) % len(OBJECTS)]


def stages(shape) -> list[tuple[str, int, int]]:
    """Label, first block and end of every stage; the label is the number, with the word where the stage has room."""
    bounds = list(zip(shape.stage_starts, (*shape.stage_starts[1:], shape.depth)))
    return [
        (f"stage {n}" if 6 * (end - first) >= shape.depth else str(n), first, end)
        for n, (first, end) in enumerate(bounds, start=1)
    ]


def block_ticks(shape) -> list[int]:
    """Blocks to number on an axis: those that start a stage, the last one, and a regular grid between them."""
    step = 2 ** max(0, round(math.log2(shape.depth / 6)))
    marks = {*shape.stage_starts, shape.depth - 1}
    return sorted(marks | {i for i in range(0, shape.depth, step) if min(abs(i - mark) for mark in marks) > step / 4})


def block_label(shape) -> str:
    """Title of an axis over blocks whose stages are not named; a plain encoder has one stage, and no lines."""
    return "block (dotted lines: stages)" if len(shape.stage_starts) > 1 else "block"


def plain(axis) -> None:
    """Take away the frame's upper and right line, and set the size of the numbers."""
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(labelsize=9)


def bare(axis) -> None:
    """Leave nothing but the picture."""
    axis.set_xticks([]), axis.set_yticks([])
    axis.spines[:].set_visible(False)


def block_axis(axis, shape) -> None:
    """Make x an axis over blocks: numbered, with dotted lines between the stages."""
    for start in shape.stage_starts[1:]:
        axis.axvline(start - 0.5, color=INK, gapcolor="white", ls=":", lw=1)  # shows on light and dark
    axis.set_xlim(-0.8, shape.depth - 0.2)
    axis.set_xticks(block_ticks(shape))
    plain(axis)


def name_stages(axis, shape, *, side: str = "top") -> None:
    """Write the stages above an axis over blocks, or right of a block map (``side="right"``)."""
    for label, first, end in stages(shape):
        middle, style = (first + end - 1) / 2, {"fontsize": 9, "color": QUIET, "annotation_clip": False}
        if side == "top":
            axis.annotate(label, (middle, 1.01), xycoords=("data", "axes fraction"), ha="center", va="bottom", **style)
        else:
            axis.annotate(
                label, (1.022, middle), xycoords=("axes fraction", "data"), ha="left", va="center", rotation=90, **style
            )


def mark_always_on(axis, shape) -> None:
    """Write a K at the foot of an axis over blocks where a block always runs."""
    for block in shape.always_on:
        axis.annotate(
            "K",
            (block, 0),
            xycoords=("data", "axes fraction"),
            xytext=(0, 2),
            textcoords="offset points",
            ha="center",
            va="bottom",
            fontsize=9,
            color=INK,
        )


def block_map(axis, values: np.ndarray, shape, *, cmap="Blues", limits=(0, 1), first: int = 0):
    """Draw a row per block, block 0 on top, and a column per frame; return the image, for a colour bar.

    Parameters
    ----------
    values : ndarray, shape (T, L)
        What the colour shows; NaN stays white.
    first : int
        Number of the first frame.
    """
    length, depth = values.shape
    image = axis.imshow(
        values.T,
        aspect="auto",
        cmap=cmap,
        vmin=limits[0],
        vmax=limits[1],
        interpolation="nearest",
        extent=(first - 0.5, first + length - 0.5, depth - 0.5, -0.5),
    )
    for start in shape.stage_starts[1:]:
        axis.axhline(start - 0.5, color="#222222", gapcolor="white", ls=":", lw=1)
    for block in shape.always_on:
        axis.annotate(
            "K",
            (1.005, block),
            xycoords=("axes fraction", "data"),
            ha="left",
            va="center",
            fontsize=9,
            color=INK,
            annotation_clip=False,
        )
    axis.set(xlabel="frame", ylabel="block", yticks=block_ticks(shape))
    axis.xaxis.set_major_locator(MaxNLocator(12, integer=True))
    axis.tick_params(labelsize=9)
    return image


def colour_legend(figure, entries: Sequence[tuple[str, str]], *, columns: int = 3) -> None:
    """Name colours above a figure, right."""
    handles = [Line2D([], [], marker="s", ls="", mfc=colour, mec="#777777", label=label) for label, colour in entries]
    figure.legend(handles=handles, loc="outside upper right", ncols=columns, frameon=False, fontsize=9)
