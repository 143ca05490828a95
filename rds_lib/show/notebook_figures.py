"""Figures of the notebooks: each function returns a ``Picture`` and shows nothing. Labels without a colour get one."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from rds_lib.evaluation.names import ADAPTERS
from rds_lib.show.picture import Picture
from rds_lib.show.style import (
    ACCENT,
    FORCED,
    GRID,
    INK,
    QUIET,
    RAN,
    RUNS,
    UNADAPTED,
    UNMEASURED,
    block_axis,
    block_label,
    block_map,
    colour_legend,
    colour_of,
    mark_always_on,
    marker_of,
    plain,
)

NOT_MEASURED = "K, but nothing to measure"


def contact_sheet(
    rows: Mapping[str, Sequence[np.ndarray]], *, columns: Sequence[str] = (), text: str = "", width: float = 6.4
) -> Picture:
    """Rows of images of one size, each with its label left, and a title above every column.

    ``width`` is that of all columns together, in inches. An underscore in a label breaks its line.
    """
    n_rows, n_columns = len(rows), max(len(images) for images in rows.values())
    height, across = next(iter(rows.values()))[0].shape[:2]
    side, gap, left, top = min(max(1.5, width / n_columns), 3.2), 0.06, 1.1, 0.3  # inches
    step = side * height / across + gap
    size = left + n_columns * (side + gap), top + n_rows * step
    figure = Figure(figsize=size)
    for row, (label, images) in enumerate(rows.items()):
        for column, image in enumerate(images):
            corner = (left + column * (side + gap)) / size[0], 1 - (top + (row + 1) * step - gap) / size[1]
            axis = figure.add_axes((*corner, side / size[0], (step - gap) / size[1]))
            axis.imshow(image, interpolation="nearest" if height < 64 else "auto", aspect="auto")
            axis.set_axis_off()
            if row == 0 and column < len(columns):
                axis.set_title(columns[column], fontsize=9)
        middle = 1 - (top + (row + 0.5) * step) / size[1]
        figure.text((left - 0.1) / size[0], middle, label.replace("_", "\n"), ha="right", va="center", fontsize=9)
    return Picture(figure, text or f"{n_rows} x {n_columns} frames: {', '.join(rows)}")


def importance_figure(table: pd.DataFrame, shape) -> Picture:
    """Global importance, local importance and both ranks of every block; adapted blocks dark (the paper's Fig. 11).

    ``table`` is ``importance.csv``; ``shape`` the ``EncoderShape`` of the model. A pale band stands where a block has
    no value.
    """
    figure = Figure(figsize=(9.5, 5.6), layout="constrained")
    axes = figure.subplots(3, 1, sharex=True)
    always = table["always_on"].astype(bool)
    colours = np.where(always, FORCED, np.where(table["selected"], RAN, UNADAPTED))
    for axis, (label, values) in zip(axes, importance_panels(table)):
        axis.bar(table["block"], values.fillna(0), color=colours, width=0.8)
        for block in table.loc[values.isna(), "block"]:
            axis.axvspan(block - 0.4, block + 0.4, color=UNMEASURED, lw=0, zorder=0)
        axis.axhline(0, color=INK, lw=0.8)
        axis.set_ylabel(label, fontsize=9)
        block_axis(axis, shape)
        mark_always_on(axis, shape)
    axes[2].set_xlabel("block")
    kinds = (("adapted", RAN), ("not adapted", UNADAPTED), ("K: always on, adapted", FORCED))
    colour_legend(figure, (*kinds, (NOT_MEASURED, UNMEASURED)), columns=4)
    best = table.loc[table["global_score"].where(~always).idxmax(), "block"]
    return Picture(figure, f"importance of {len(table)} blocks; largest global score outside K: block {best}")


def importance_panels(table: pd.DataFrame) -> list[tuple[str, pd.Series]]:
    """Label and values, a number per block or NaN, of the three panels of ``importance_figure``.

    The last one is -(rank + rank), which chooses the adapted blocks, counted from the lowest sum that there can be: how
    many blocks outside K rank below a block, in both lists together.
    """
    always = table["always_on"].astype(bool)
    free = table[["global_score", "local_score"]].where(~always, axis=0)
    below = 2 * (~always).sum() - free.rank(ascending=False).sum(axis=1, skipna=False)
    return [
        ("global: J&F lost\nwithout it (points)", table["global_score"]),
        ("local: relative change\nof the features", table["local_score"]),
        ("combined: blocks below\nit, both rankings added", below),
    ]


def levels_figure(levels: pd.DataFrame, whole: Mapping[str, float]) -> Picture:
    """Work, size and active blocks of the encoder at every level of every baseline, as shares of the whole model's.

    ``levels`` has method, level (a share, or SlimSAM's ninths), gmacs, encoder_params and active_blocks; ``whole`` the
    last three of the whole model.
    """
    figure = Figure(figsize=(9.5, 3.4), layout="constrained")
    panels = (("gmacs", "multiply-accumulates"), ("encoder_params", "parameters"), ("active_blocks", "active blocks"))
    for axis, (column, label) in zip(figure.subplots(1, 3, sharey=True), panels):
        for method, rows in levels.groupby("method", sort=False):
            x = rows["level"].where(rows["level"] <= 1, rows["level"] / 9)
            axis.plot(
                x,
                rows[column] / whole[column],
                marker=marker_of(method),
                ms=7,
                mfc="none",
                mew=1.5,
                color=colour_of(method),
                label=method,
            )
        axis.set(title=label, xlabel="level (SlimSAM: ninths / 9)", ylim=(0, 1.12))
        axis.title.set_size(10)
        axis.axhline(1, color=QUIET, ls=":", lw=1)
        plain(axis)
    figure.axes[0].set_ylabel("share of the whole encoder")
    figure.legend(
        *figure.axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=5, frameon=False, fontsize=9
    )
    n = levels["method"].nunique()
    return Picture(figure, f"work, size and active blocks of {n} baselines at {len(levels)} levels in all")


def gates_figure(blocks: pd.DataFrame, shape) -> Picture:
    """What each block does under every method and level: white where it never runs, dark where it always runs whole.

    ``blocks`` has method, level, block, ran and kept; the shade is ``kept``, the share of tokens through the block's
    MLP. A block without a row is gone.
    """
    rows = {
        (method, level): group.set_index("block")["kept"].reindex(range(shape.depth), fill_value=0.0)
        for (method, level), group in blocks.groupby(["method", "level"], sort=False)
    }
    figure = Figure(figsize=(9.5, 0.28 * len(rows) + 1.2), layout="constrained")
    axis = figure.subplots()
    image = axis.imshow(
        np.array(list(rows.values())), aspect="auto", cmap="Blues", vmin=0, vmax=1, interpolation="nearest"
    )
    block_axis(axis, shape)
    axis.set_yticks(range(len(rows)), [f"{method} {level:g}" for method, level in rows], fontsize=9)
    axis.set_xlabel(block_label(shape))
    figure.colorbar(image, label="share of tokens through the\nMLP (AdaViT: of frames)", shrink=0.9)
    return Picture(figure, f"what {shape.depth} blocks do under {len(rows)} rows of Table 9")


def training_figure(log: pd.DataFrame, *, window: int = 10) -> Picture:
    """Loss, IoU, active blocks and spread of p against the step, a line per run, smoothed over ``window`` steps."""
    figure = Figure(figsize=(9.5, 5.2), layout="constrained")
    axes = figure.subplots(2, 2, sharex=True).ravel()
    names = {"loss": "loss", "iou": "IoU", "active": "active blocks", "spread": "spread of p over frames"}
    for run, rows in log.groupby("run", sort=False):
        smooth = rows[list(names)].rolling(window, min_periods=1).mean()
        for axis, column in zip(axes, names):
            axis.plot(rows["step"], smooth[column], color=colour_of(str(run), RUNS), lw=1.4, label=str(run))
    for axis, label in zip(axes, names.values()):
        axis.set_ylabel(label)
        plain(axis)
    for axis in axes[2:]:
        axis.set_xlabel(f"step (each point: mean of the last {window})")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.legend(
        *axes[0].get_legend_handles_labels(),
        loc="outside upper center",
        ncols=8,
        frameon=False,
        fontsize=9,
        title="budget of the run",
        title_fontsize=9,
    )
    return Picture(figure, f"training curves of {log['run'].nunique()} runs, {log['step'].max() + 1} steps each")


def threshold_figure(
    curves: Mapping[float, tuple[np.ndarray, np.ndarray]], chosen: Mapping[float, float], targets: Mapping[float, float]
) -> Picture:
    """Mean active blocks against the threshold for every budget, the calibrated threshold, and the 0.5 rule.

    ``curves`` has thresholds and active blocks, ``chosen`` the calibrated threshold and ``targets`` the blocks that it
    was calibrated for, all by budget.
    """
    figure = Figure(figsize=(7.5, 3.6), layout="constrained")
    axis = figure.subplots()
    for budget, (taus, active) in curves.items():
        colour = colour_of(str(budget), RUNS)
        axis.plot(taus, active, color=colour, label=f"budget {budget}")
        axis.plot([chosen[budget]], [targets[budget]], "o", color=colour, ms=6)
    axis.axvline(0.5, color=QUIET, ls=":", lw=1)
    axis.annotate(
        "the 0.5 rule",
        (0.5, 1.0),
        xycoords=("data", "axes fraction"),
        xytext=(4, -4),
        va="top",
        textcoords="offset points",
        fontsize=9,
        color=QUIET,
    )
    axis.plot([], [], "o", color=QUIET, ms=6, label="calibrated threshold")
    axis.set(xlabel="threshold on the keep probability w", ylabel="mean active blocks", xlim=(0, 1))
    axis.set_ylim(bottom=0)
    axis.legend(frameon=False, fontsize=9, loc="lower left")
    plain(axis)
    return Picture(figure, "active blocks against the threshold for budgets " + ", ".join(map(str, curves)))


def route_map(routes: pd.DataFrame, shape, *, title: str = "") -> Picture:
    """Keep probability of every block (rows) on every frame (columns) of one video; dots mark the blocks that ran."""
    prob, ran = (routes.pivot(index="frame_idx", columns="block", values=name) for name in ("keep_prob", "active"))
    figure = Figure(figsize=(min(3.0 + 0.22 * len(prob), 11), 5.4), layout="constrained")
    axis = figure.subplots()
    image = block_map(axis, prob.to_numpy(), shape, first=prob.index[0])
    frames, blocks = np.nonzero(ran.to_numpy(bool))
    axis.plot(
        prob.index[0] + frames, blocks, ls="", marker="o", ms=3.2, mec="white", mew=0.4, color=ACCENT, label="ran"
    )
    axis.plot([], [], ls="", marker=r"$\mathrm{K}$", ms=7, color=INK, label="always on")
    axis.set(ylabel=block_label(shape), title=title)
    figure.legend(loc="outside upper right", ncols=2, frameon=False, fontsize=9)
    figure.colorbar(image, label="keep probability", shrink=0.8, pad=0.03)
    active = routes[routes["reason"] == "routed"].groupby("frame_idx")["active"].sum().mean()
    return Picture(figure, f"routes of {len(prob)} frames, {active:.1f} blocks active on average on routed frames")


def quality_figure(table: pd.DataFrame, dataset: str, controls: Sequence[str] = ()) -> Picture:
    """Quality on one data set: left the methods against their work, right RDS and its controls against active blocks.

    Bars are 95 % intervals over sequences, for SAM2 and RDS only. A method without work is a dotted line.
    """
    rows = table[(table["dataset"] == dataset) & ~table["method"].isin(ADAPTERS.values())]
    figure = Figure(figsize=(10.5, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    for axis, x, shown in (
        (left, "gmacs", ~rows["method"].isin(controls)),
        (right, "active_blocks", rows["method"].isin([*controls, "RDS", "SAM2"])),
    ):
        for method, group in rows[shown].groupby("method", sort=False):
            _quality_line(axis, method, group.sort_values(x), x)
        plain(axis)
        axis.legend(frameon=False, fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=3)
    metric = rows["metric"].iloc[0].replace("JF", "J&F")
    left.set(xlabel="GMACs of the encoder's blocks", ylabel=f"{metric} (points)", title="methods")
    right.set(xlabel="mean active blocks", title="RDS and fixed or random routes of its size")
    figure.suptitle(dataset, fontsize=10)
    return Picture(figure, f"{dataset}: quality of {rows['method'].nunique()} methods against work and active blocks")


def _quality_line(axis, method, rows, x):
    colour, is_ours = colour_of(method), method == "RDS"
    if rows[x].isna().any():
        axis.axhline(rows["value"].iloc[0], color=colour, ls=":", label=method)
        return
    bars = np.abs(rows[["ci_low", "ci_high"]].to_numpy().T - rows["value"].to_numpy())
    axis.errorbar(
        rows[x],
        rows["value"],
        yerr=bars if method in ("RDS", "SAM2") else None,
        color=colour,
        marker=marker_of(method),
        ms=7 if is_ours else 5,
        lw=1.8 if is_ours else 1.0,
        capsize=3,
        label=method,
        zorder=3 if is_ours else 2,
    )


def spread_figure(spread: pd.DataFrame, shape) -> Picture:
    """Per block: mean keep probability with one standard deviation over frames, one panel per budget.

    ``spread`` has level, block, mean_keep_prob and std_keep_prob, a row per video; videos are averaged.
    """
    levels = sorted(spread["level"].unique(), reverse=True)
    figure = Figure(figsize=(9.5, 1.7 * len(levels) + 0.4), layout="constrained")
    axes = figure.subplots(len(levels), 1, sharex=True, squeeze=False)[:, 0]
    for axis, level in zip(axes, levels):
        rows = spread[spread["level"] == level].groupby("block", as_index=False).mean(numeric_only=True)
        axis.bar(
            rows["block"],
            rows["mean_keep_prob"],
            yerr=rows["std_keep_prob"],
            width=0.8,
            color=np.where(rows["block"].isin(shape.always_on), FORCED, RAN),
            error_kw={"lw": 1, "ecolor": INK},
        )
        axis.set(ylabel=f"budget {level}\nkeep probability", ylim=(0, 1.08))
        block_axis(axis, shape)
    axes[-1].set_xlabel("block (grey: always on; whiskers: one standard deviation)")
    return Picture(figure, f"keep probability per block for budgets {', '.join(map(str, levels))}")


def comparison_figure(comparisons: pd.DataFrame, dataset: str) -> Picture:
    """RDS minus every rival, in points of J&F, with 95 % intervals over sequences; a panel per budget."""
    rows = comparisons[comparisons["dataset"] == dataset]
    levels, rivals = sorted(rows["level"].unique(), reverse=True), list(dict.fromkeys(rows["against"]))[::-1]
    figure = Figure(figsize=(min(3.2 * len(levels) + 2.4, 12), 0.24 * len(rivals) + 1.2), layout="constrained")
    for axis, level in zip(figure.subplots(1, len(levels), sharey=True, sharex=True, squeeze=False)[0], levels):
        for row in rows[rows["level"] == level].itertuples():
            colour, y = colour_of(row.against), rivals.index(row.against)
            axis.plot([row.ci_low, row.ci_high], [y, y], color=colour, lw=2)
            axis.plot([row.effect], [y], "o", color=colour, ms=5)
        axis.axvline(0, color=QUIET, lw=1)
        axis.grid(axis="y", color=GRID, lw=0.8), axis.set_axisbelow(True)
        axis.set_yticks(range(len(rivals)), rivals, fontsize=8)
        axis.set_title(f"budget {level}", fontsize=10)
        plain(axis)
    figure.supxlabel("RDS minus the other, J&F points (right: RDS is better)", fontsize=9)
    figure.suptitle(dataset, fontsize=10)
    return Picture(figure, f"{dataset}: RDS against {len(rivals)} others at {len(levels)} budgets")
