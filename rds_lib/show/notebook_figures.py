"""Figures of the notebooks: each function returns a ``Picture``, never shows one. One colour per method everywhere."""

import io
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

# Okabe and Ito's colour-blind-safe palette
COLOURS = {
    "SAM2": "#000000", "SAM2 + I-LoRA": "#777777", "RDS": "#0072B2", "RDS, one for all": "#56B4E9",
    "random routes": "#D55E00", "static top-n": "#E69F00", "own mean w": "#009E73", "best fixed route": "#CC79A7",
    "oracle of fixed routes": "#8B5A9E", "random static plans": "#A6761D", "plan A": "#5D3A00", "plan B": "#B08A4A", "copy first mask": "#BBBBBB",
    "SlimSAM": "#117733", "PBD": "#882255", "DyT": "#DDAA33", "AdaViT": "#44AA99", "mini_half": "#AA4499",
}
RUNS = {  # trainings of RDS: one per budget, for any budget, and of the full encoder's adapters
    "0.9": "#999933", "0.8": "#0072B2", "0.7": "#E69F00", "0.6": "#D55E00", "0.5": "#56B4E9", "0.4": "#009E73", "any": "#CC79A7", "full": "#000000"}
OBJECTS = ((0, 114, 178), (230, 159, 0), (0, 158, 115), (204, 121, 167), (213, 94, 0), (86, 180, 233))
STAGES = (0, 2, 8, 44, 48)  # first block of each stage of a 48-block Hiera, and the end
QUIET = "#666666"


class Picture:
    """A figure with a line of text, so that it shows on any viewer and stores the same text every time.

    ``kind`` is ``png``, or ``jpeg`` for photographs, which take a tenth of the room that way.
    """

    def __init__(self, figure: Figure, text: str, kind: str = "png"):
        self.figure, self.text, self.kind = figure, text, kind

    def image(self, dpi: int = 80, kind: str = "") -> bytes:
        """The figure as the bytes of an image file, the same each time; ``kind`` may also be ``svg``."""
        buffer, kind = io.BytesIO(), kind or self.kind
        how = {"jpeg": {"pil_kwargs": {"quality": 80}}, "png": {"metadata": {"Software": None}}, "svg": {"metadata": {"Date": None, "Creator": None}}}
        with rc_context({"svg.hashsalt": "rds_lib"}):
            self.figure.savefig(buffer, format=kind, dpi=dpi, bbox_inches="tight", facecolor="white", **how[kind])
        return buffer.getvalue()

    def _repr_mimebundle_(self, include=None, exclude=None):
        return {f"image/{self.kind}": self.image(), "text/plain": self.text}

    def __repr__(self):
        return self.text


def contact_sheet(rows: Mapping[str, Sequence[np.ndarray]], *, columns: Sequence[str] = (), text: str = "", width: float = 6.4) -> Picture:
    """Rows of images of one size, a label left of each row and a title above each column; ``width`` in inches of all columns together."""
    n_rows, n_columns = len(rows), max(len(images) for images in rows.values())
    height, across = next(iter(rows.values()))[0].shape[:2]
    side, gap, left, top = min(max(1.5, width / n_columns), 3.2), 0.06, 1.1, 0.3  # inches
    step = side * height / across + gap
    size = left + n_columns * (side + gap), top + n_rows * step
    figure = Figure(figsize=size)
    for row, (label, images) in enumerate(rows.items()):
        for column, image in enumerate(images):
            axis = figure.add_axes((
                (left + column * (side + gap)) / size[0], 1 - (top + (row + 1) * step - gap) / size[1], side / size[0], (step - gap) / size[1]))
            axis.imshow(image, interpolation="nearest" if height < 64 else "auto", aspect="auto")
            axis.set_axis_off()
            if row == 0 and column < len(columns):
                axis.set_title(columns[column], fontsize=9)
        figure.text((left - 0.1) / size[0], 1 - (top + (row + 0.5) * step) / size[1], label.replace("_", "\n"), ha="right", va="center", fontsize=9)
    return Picture(figure, text or f"{n_rows} x {n_columns} frames: {', '.join(rows)}", "jpeg")


def importance_figure(table: pd.DataFrame) -> Picture:
    """Global importance, local importance and combined rank of every block, the selected ones dark (the paper's Fig. 11)."""
    figure = Figure(figsize=(9.5, 5.6), layout="constrained")
    axes = figure.subplots(3, 1, sharex=True)
    free = table[~table["always_on"]]
    rank = table["global_score"].rank(ascending=False) + table["local_score"].rank(ascending=False)
    panels = (("global: J&F lost\nwithout the block", table["global_score"]), ("local: relative change\nof the features", table["local_score"]),
              ("combined: -(rank + rank)\nhigher is better", -rank.where(~table["always_on"])))
    colours = np.where(table["always_on"], "#BBBBBB", np.where(table["selected"], COLOURS["RDS"], "#BFD7E5"))
    for axis, (label, values) in zip(axes, panels):
        low = np.nanmin(values) - 0.06 * np.ptp(values.dropna()) if label.startswith("combined") else 0
        axis.bar(table["block"], values.fillna(low) - low, bottom=low, color=colours, width=0.8)
        axis.set_ylabel(label, fontsize=9)
        _mark_stages(axis, len(table))
    for block in table.loc[table["always_on"], "block"]:
        axes[2].annotate("K", (block, axes[2].get_ylim()[0]), ha="center", va="bottom", fontsize=9, color=QUIET)
    axes[2].set_xlabel("block")
    figure.legend(handles=[Line2D([], [], marker="s", ls="", color=c, label=t) for c, t in (
        (COLOURS["RDS"], "adapted"), ("#BFD7E5", "not adapted"), ("#BBBBBB", "always on (K)"))], loc="outside upper right", ncols=3, frameon=False, fontsize=9)
    best = free.loc[free["global_score"].idxmax(), "block"]
    return Picture(figure, f"importance of {len(table)} blocks; largest global score outside K: block {best}")


def levels_figure(levels: pd.DataFrame, whole: Mapping[str, float]) -> Picture:
    """Work, size and active blocks of the encoder at every level of every baseline, as shares of the whole model's.

    ``levels`` has method, level, gmacs, encoder_params and active_blocks; ``whole`` the last three of the whole model.
    """
    figure = Figure(figsize=(9.5, 3.4), layout="constrained")
    panels = (("gmacs", "multiply-accumulates"), ("encoder_params", "parameters"), ("active_blocks", "active blocks"))
    for axis, (column, label) in zip(figure.subplots(1, 3, sharey=True), panels):
        for marker, (method, rows) in zip("osD^v", levels.groupby("method", sort=False)):
            x = rows["level"] / (9 if method == "SlimSAM" else 1)
            axis.plot(x, rows[column] / whole[column], marker=marker, ms=7, mfc="none", mew=1.5, color=COLOURS.get(method, QUIET), label=method)
        axis.set(title=label, xlabel="level (SlimSAM: ninths / 9)", ylim=(0, 1.12))
        axis.title.set_size(10)
        axis.axhline(1, color=QUIET, ls=":", lw=1)
        _plain(axis)
    figure.axes[0].set_ylabel("share of the whole encoder")
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=4, frameon=False, fontsize=9)
    return Picture(figure, f"work, size and active blocks of {levels['method'].nunique()} baselines at {len(levels)} levels in all")


def gates_figure(blocks: pd.DataFrame, depth: int) -> Picture:
    """What each block does under every method and level: white where it is gone or never runs, dark where all of it always runs.

    ``blocks`` has method, level, block, ran and kept; the shade is ``kept``, the share of tokens through the block's MLP.
    """
    rows = {(method, level): group.set_index("block")["kept"].reindex(range(depth), fill_value=0.0)
            for (method, level), group in blocks.groupby(["method", "level"], sort=False)}
    figure = Figure(figsize=(9.5, 0.28 * len(rows) + 1.2), layout="constrained")
    axis = figure.subplots()
    image = axis.imshow(np.array(list(rows.values())), aspect="auto", cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
    for start in STAGES[1:-1]:
        axis.axvline(start - 0.5, color="#E69F00", lw=1)
    axis.set_yticks(range(len(rows)), [f"{method} {level:g}" for method, level in rows], fontsize=9)
    axis.set_xticks([0, 2, 8, 16, 24, 32, 40, 44, 47])
    axis.set_xlabel("block (lines: stages)")
    figure.colorbar(image, label="share of tokens through the\nMLP (AdaViT: of frames)", shrink=0.9)
    return Picture(figure, f"what {depth} blocks do under {len(rows)} rows of Table 9")


def training_figure(log: pd.DataFrame, *, window: int = 10) -> Picture:
    """Loss, IoU, active blocks and spread of p against the step, one line per run, smoothed over ``window`` steps."""
    figure = Figure(figsize=(9.5, 5.2), layout="constrained")
    axes = figure.subplots(2, 2, sharex=True).ravel()
    names = {"loss": "loss", "iou": "IoU", "active": "active blocks", "spread": "spread of p over frames"}
    for run, rows in log.groupby("run", sort=False):
        smooth = rows[list(names)].rolling(window, min_periods=1).mean()
        for axis, column in zip(axes, names):
            axis.plot(rows["step"], smooth[column], color=RUNS.get(str(run), QUIET), lw=1.4, label=str(run))
    for axis, label in zip(axes, names.values()):
        axis.set_ylabel(label)
        _plain(axis)
    for axis in axes[2:]:
        axis.set_xlabel(f"step (each point: mean of the last {window})")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=8, frameon=False, fontsize=9, title="budget of the run", title_fontsize=9)
    return Picture(figure, f"training curves of {log['run'].nunique()} runs, {log['step'].max() + 1} steps each")


def threshold_figure(curves: Mapping[float, tuple[np.ndarray, np.ndarray]], chosen: Mapping[float, float], targets: Mapping[float, float]) -> Picture:
    """Mean active blocks against the threshold for every budget; the calibrated threshold and the 0.5 rule are marked."""
    figure = Figure(figsize=(7.5, 3.6), layout="constrained")
    axis = figure.subplots()
    for budget, (taus, active) in curves.items():
        colour = RUNS.get(str(budget), QUIET)
        axis.plot(taus, active, color=colour, label=f"budget {budget}")
        axis.plot([chosen[budget]], [targets[budget]], "o", color=colour, ms=6)
    axis.axvline(0.5, color=QUIET, ls=":", lw=1)
    axis.annotate("the 0.5 rule", (0.5, 1.0), xycoords=("data", "axes fraction"), xytext=(4, -4), textcoords="offset points", va="top", fontsize=9, color=QUIET)
    axis.set(xlabel="threshold on w", ylabel="mean active blocks", xlim=(0, 1))
    axis.legend(frameon=False, fontsize=9, loc="lower left")
    _plain(axis)
    return Picture(figure, "active blocks against the threshold for budgets " + ", ".join(map(str, curves)))


def route_map(routes: pd.DataFrame, *, title: str = "") -> Picture:
    """Keep probability of every block (rows) on every frame (columns) of one video; dots mark the blocks that ran."""
    prob = routes.pivot(index="block", columns="frame_idx", values="keep_prob")
    ran = routes.pivot(index="block", columns="frame_idx", values="active").astype(bool)
    figure = Figure(figsize=(min(3.0 + 0.22 * prob.shape[1], 11), 5.4), layout="constrained")
    axis = figure.subplots()
    image = axis.imshow(prob.to_numpy(), aspect="auto", cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
    rows, columns = np.nonzero(ran.to_numpy())
    axis.plot(columns, rows, ls="", marker="o", ms=3.2, mec="white", mew=0.4, color="#D55E00")
    for start in STAGES[1:-1]:
        axis.axhline(start - 0.5, color="black", lw=0.8, ls=":")
    step = max(1, prob.shape[1] // 12)
    axis.set_xticks(range(0, prob.shape[1], step), [str(t) for t in prob.columns[::step]])
    axis.set_yticks([0, 2, 8, 16, 24, 32, 40, 44, 47])
    axis.set(xlabel="frame", ylabel="block (dotted lines: stages)", title=title)
    figure.colorbar(image, label="keep probability", shrink=0.8)
    counts = routes[routes["reason"] == "routed"].groupby("frame_idx")["active"].sum()
    return Picture(figure, f"routes of {prob.shape[1]} frames, {counts.mean():.1f} blocks active on average where the router decided")


def quality_figure(table: pd.DataFrame, dataset: str, controls: Sequence[str] = ()) -> Picture:
    """Quality of one data set's arms: left the methods against their work, right RDS and its controls against active blocks.

    Bars are 95 % intervals over sequences, for SAM2 and RDS only.
    """
    rows = table[(table["dataset"] == dataset) & ~table["method"].str.startswith("RDS, adapters")]
    figure = Figure(figsize=(10.5, 4.6), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    panels = ((axes[0], "gmacs", ~rows["method"].isin(controls)), (axes[1], "active_blocks", rows["method"].isin([*controls, "RDS", "SAM2"])))
    for axis, x, shown in panels:
        for method, group in rows[shown].groupby("method", sort=False):
            colour, group = COLOURS.get(method, QUIET), group.sort_values(x)
            if group[x].isna().any():
                axis.axhline(group["value"].iloc[0], color=colour, ls=":", label=method)
                continue
            bars = np.abs(group[["ci_low", "ci_high"]].to_numpy().T - group["value"].to_numpy())
            axis.errorbar(group[x], group["value"], yerr=bars if method in ("RDS", "SAM2") else None, color=colour, marker="o",
                          ms=7 if method == "RDS" else 5, lw=1.8 if method == "RDS" else 1.0, capsize=3, label=method, zorder=3 if method == "RDS" else 2)
        _plain(axis)
        axis.legend(frameon=False, fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=3)
    axes[0].set(xlabel="GMACs of the encoder's blocks", ylabel=f"{rows['metric'].iloc[0].replace('JF', 'J&F')} (points)", title="methods")
    axes[1].set(xlabel="mean active blocks", title="RDS and fixed or random routes of its size")
    figure.suptitle(dataset, fontsize=10)
    return Picture(figure, f"{dataset}: quality of {rows['method'].nunique()} methods against work and active blocks")


def spread_figure(spread: pd.DataFrame, always_on: Sequence[int]) -> Picture:
    """Per block: mean keep probability with one standard deviation over frames, one panel per budget."""
    levels = sorted(spread["level"].unique(), reverse=True)
    figure = Figure(figsize=(9.5, 1.7 * len(levels) + 0.4), layout="constrained")
    axes = np.atleast_1d(figure.subplots(len(levels), 1, sharex=True))
    for axis, level in zip(axes, levels):
        rows = spread[spread["level"] == level].groupby("block").mean(numeric_only=True).reset_index()
        colours = ["#BBBBBB" if block in always_on else COLOURS["RDS"] for block in rows["block"]]
        axis.bar(rows["block"], rows["mean_keep_prob"], yerr=rows["std_keep_prob"], color=colours, width=0.8, error_kw={"lw": 1, "ecolor": "#333333"})
        axis.set(ylabel=f"budget {level}\nmean w ± std", ylim=(0, 1.08))
        _mark_stages(axis, len(rows))
    axes[-1].set_xlabel("block (grey: always on)")
    return Picture(figure, f"keep probability per block for budgets {', '.join(map(str, levels))}")


def comparison_figure(comparisons: pd.DataFrame, dataset: str) -> Picture:
    """RDS minus every rival, in points of J&F, paired per object, with 95 % intervals over sequences; a panel per budget."""
    rows = comparisons[comparisons["dataset"] == dataset]
    levels, rivals = sorted(rows["level"].unique(), reverse=True), list(dict.fromkeys(rows["against"]))[::-1]
    figure = Figure(figsize=(min(3.2 * len(levels) + 2.4, 12), 0.24 * len(rivals) + 1.2), layout="constrained")
    for axis, level in zip(figure.subplots(1, len(levels), sharey=True, sharex=True, squeeze=False)[0], levels):
        for row in rows[rows["level"] == level].itertuples():
            colour, y = COLOURS.get(row.against, QUIET), rivals.index(row.against)
            axis.plot([row.ci_low, row.ci_high], [y, y], color=colour, lw=2)
            axis.plot([row.effect], [y], "o", color=colour, ms=5)
        axis.axvline(0, color=QUIET, lw=1)
        axis.set_yticks(range(len(rivals)), rivals, fontsize=8)
        axis.set_title(f"budget {level}", fontsize=10)
        _plain(axis)
    figure.supxlabel("RDS minus the other, J&F points (right: RDS is better)", fontsize=9)
    figure.suptitle(dataset, fontsize=10)
    return Picture(figure, f"{dataset}: RDS against {len(rivals)} others at {len(levels)} budgets")


def _mark_stages(axis, depth):
    for start in STAGES[1:-1]:
        axis.axvline(start - 0.5, color=QUIET, ls=":", lw=0.8)
    axis.set_xlim(-0.8, depth - 0.2)
    _plain(axis)


def _plain(axis):
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(labelsize=9)
