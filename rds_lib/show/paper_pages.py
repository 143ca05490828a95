"""Figures 4, 10 to 12 and the even ones of 14 to 22 as plotly figures to explore, in the look of ``paper_figures``."""

import html

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from rds_lib.show.notebook_figures import NOT_MEASURED, importance_panels
from rds_lib.show.results_page import HALF
from rds_lib.show.study import (
    SOURCES,
    Study,
    VideoStudy,
    activation,
    plan_name,
    quality_against_speed,
    quality_by_sequence,
    spread_of,
    video_activation,
)
from rds_lib.show.style import (
    FORCED,
    GRID,
    INK,
    QUIET,
    RAN,
    UNADAPTED,
    UNMEASURED,
    block_ticks,
    colour_of,
    marker_of,
    stages,
)

SYMBOLS = {  # of matplotlib's markers
    "o": "circle",
    "X": "x",
    "P": "cross",
    "s": "square",
    "D": "diamond",
    "^": "triangle-up",
    "v": "triangle-down",
    "<": "triangle-left",
    ">": "triangle-right",
    "p": "pentagon",
    "*": "star",
    "h": "hexagon",
}


def quality_page(study: Study) -> go.Figure:
    """Change of quality against speed-up, a panel for ours and one for the paper's (Fig. 4)."""
    table, titles = quality_against_speed(study), list(SOURCES.values())
    figure = make_subplots(1, 2, shared_xaxes="all", shared_yaxes="all", horizontal_spacing=0.04, subplot_titles=titles)
    named = set()
    for (method, source), rows in table.groupby(["method", "source"], sort=False):
        colour, label = colour_of(method), html.escape(HALF.get(method, method))
        above, below = rows["high"] - rows["change"], rows["change"] - rows["low"]
        bars = {"symmetric": False, "array": above.round(2), "arrayminus": below.round(2)}
        figure.add_scatter(
            x=rows["speedup"].round(3),
            y=rows["change"].round(2),
            row=1,
            col=1 + list(SOURCES).index(source),
            mode="lines+markers",
            name=label,
            legendgroup=method,
            showlegend=method not in named,
            line={"color": colour, "width": 2},
            marker={"size": 9, "color": colour, "symbol": _symbol(method)},
            error_y=bars if np.isfinite(above).any() else None,
            customdata=np.stack([rows["level"], rows["quality"].round(1), rows["fps"].round(1)], 1),
            hovertemplate=f"{label} %{{customdata[0]}}, {source}<br>J&F %{{customdata[1]}} "
            "(%{y:+.1f} points)<br>%{customdata[2]} frames a second (x %{x:.2f})<extra></extra>",
        )
        named.add(method)
    figure.update_xaxes(title="speed as a multiple of SAM2's")
    figure.update_yaxes(title="J&F minus SAM2's (points)", col=1)
    figure.add_hline(0, line=_dotted()), figure.add_vline(1, line=_dotted())
    return _styled(figure, 560)


def _symbol(method):
    return SYMBOLS[marker_of(method)]


def activation_page(study: Study) -> go.Figure:
    """Share of the routed frames on which each block ran, a panel per budget (Fig. 10)."""
    return _shares(activation(study.evidence.routes), study.shape)


def video_page(study: VideoStudy, name: str) -> go.Figure:
    """The same for one video (Fig. 14 to 22, even)."""
    return _shares(video_activation(study, name), study.shape)


def _shares(table, shape):
    levels = list(dict.fromkeys(table["level"]))
    figure = make_subplots(len(levels), 1, shared_xaxes=True, vertical_spacing=0.1 / len(levels))
    for n, (level, rows) in enumerate(table.groupby("level", sort=False), 1):
        always = rows["block"].isin(shape.always_on)
        parts = (("chosen by the router", RAN, rows[~always]), ("K: always on", FORCED, rows[always]))
        for label, colour, part in parts:
            figure.add_bar(
                x=part["block"],
                y=(100 * part["share"]).round(1),
                row=n,
                col=1,
                name=label,
                legendgroup=label,
                showlegend=n == 1,
                marker_color=colour,
                width=0.8,
                customdata=np.stack([part["block"].map(shape.stage_of), part["ran"], part["frames"]], 1),
                hovertemplate=f"block %{{x}}, stage %{{customdata[0]}}, {label}<br>budget {level:g}: ran on "
                "%{customdata[1]} of %{customdata[2]} routed frames (%{y} %)<extra></extra>",
            )
        title = f"budget {level:g}<br>% of frames"
        figure.update_yaxes(title=title, range=[0, 103], tickvals=[0, 50, 100], row=n, col=1)
    figure.update_xaxes(title="block", row=len(levels), col=1)
    return _styled(_marked(figure, shape), 170 * len(levels) + 170, barmode="overlay")


def importance_page(study: Study) -> go.Figure:
    """Global, local and combined importance of every block (Fig. 11)."""
    table = study.importance
    always = table["always_on"].astype(bool)
    ranks = table[["global_score", "local_score"]].rank(ascending=False).where(~always)
    panels = [(label.replace("\n", "<br>"), values) for label, values in importance_panels(table)]
    kinds = (
        ("adapted", RAN, ~always & table["selected"]),
        ("not adapted", UNADAPTED, ~always & ~table["selected"]),
        ("K: always on, adapted", FORCED, always),
    )
    figure = make_subplots(3, 1, shared_xaxes=True, vertical_spacing=0.05)
    shown = np.column_stack([table["block"].map(study.shape.stage_of), table[["global_score", "local_score"]], ranks])
    for n, (label, values) in enumerate(panels, 1):
        for kind, colour, mask in kinds:
            figure.add_bar(
                x=table.loc[mask, "block"],
                y=values[mask].round(4),
                row=n,
                col=1,
                name=kind,
                legendgroup=kind,
                showlegend=n == 1,
                marker_color=colour,
                width=0.8,
                customdata=shown.round(3)[mask],
                hovertemplate=f"block %{{x}}, stage %{{customdata[0]}}, {kind}"
                "<br>global %{customdata[1]:.3f} (rank %{customdata[3]})"
                "<br>local %{customdata[2]:.3f} (rank %{customdata[4]})<extra></extra>",
            )
        for block in table.loc[values.isna(), "block"]:
            band = {"fillcolor": UNMEASURED, "line_width": 0, "layer": "below"}
            figure.add_vrect(block - 0.4, block + 0.4, row=n, col=1, **band)
        figure.update_yaxes(title=label, row=n, col=1)
    figure.add_bar(x=[None], y=[None], name=NOT_MEASURED, marker_color=UNMEASURED, row=1, col=1)
    figure.update_xaxes(title="block", row=3, col=1)
    figure = _styled(_marked(figure, study.shape), 680, barmode="overlay")
    return figure.update_yaxes(zeroline=True, zerolinecolor=INK, zerolinewidth=1)


def sequences_page(study: Study) -> go.Figure:
    """J&F of every sequence under the static plans, RDS and SAM2, and the difference to SAM2 beside it (Fig. 12)."""
    table, level = quality_by_sequence(study), study.evidence.budgets()[0]
    names = [html.escape(name) for name in table.index]
    figure = make_subplots(1, 2, shared_yaxes=True, horizontal_spacing=0.04)
    for method in table:
        value, loss = table[method].round(2), (table[method] - table["SAM2"]).round(2)
        label = plan_name(method, level)
        for col, values in ((1, value), (2, loss)) if method != "SAM2" else ((1, value),):
            figure.add_scatter(
                x=values,
                y=names,
                row=1,
                col=col,
                mode="markers",
                legendgroup=label,
                showlegend=col == 1,
                name=f"{label}: {spread_of(table, method)}",
                marker={"size": 9, "symbol": _symbol(method), "color": colour_of(method)},
                customdata=np.stack([value, loss], 1),
                hovertemplate=f"%{{y}}<br>{label}: J&F %{{customdata[0]:.1f}}, against SAM2 %{{customdata[1]:+.1f}}"
                "<extra></extra>",
            )
    figure.update_xaxes(title="J&F (points)", col=1)
    figure.update_xaxes(title="J&F minus SAM2's (points)", col=2)
    figure.update_yaxes(autorange="reversed", automargin=True, showgrid=True, gridcolor=GRID)
    figure.add_vline(0, line={"color": colour_of("SAM2"), "width": 1}, col=2)
    return _styled(figure, 24 * len(names) + 200)


def _marked(figure, shape):
    """Lines between the stages in every panel, their names above the first, a K at the foot of the last."""
    for start in shape.stage_starts[1:]:
        figure.add_vline(start - 0.5, line=_dotted())
    for label, first, end in stages(shape):
        _note(figure, label, "x", (first + end - 1) / 2, "y domain", 1)
    last = max((axis.plotly_name.removeprefix("yaxis") for axis in figure.select_yaxes()), key=lambda n: int(n or 1))
    for block in shape.always_on:
        _note(figure, "K", f"x{last}", block, f"y{last} domain", 0)
    figure.update_xaxes(tickvals=block_ticks(shape), range=[-0.8, shape.depth - 0.2])
    return figure


def _note(figure, text, xref, x, yref, y):
    figure.add_annotation(
        text=text,
        xref=xref,
        x=x,
        yref=yref,
        y=y,
        yanchor="bottom",
        showarrow=False,
        font={"size": 12, "color": "#333333"},
    )


def _dotted():
    return {"color": QUIET, "dash": "dot", "width": 1}


def _styled(figure, height, *, top=70, **layout):
    margin = {"l": 80, "r": 50, "t": top, "b": 60}
    above = 1 + 24 / (height - top - 60)  # the stages' names stand between plot and legend
    legend = {"orientation": "h", "x": 0, "y": above, "yanchor": "bottom"} | layout.pop("legend", {})
    figure.update_layout(
        template="none",
        height=height,
        margin=margin,
        legend=legend,
        font={"size": 13, "family": "system-ui, sans-serif"},
        **layout,
    )
    figure.update_xaxes(zeroline=False, automargin=True, title_standoff=12), figure.update_yaxes(zeroline=False)
    return figure
