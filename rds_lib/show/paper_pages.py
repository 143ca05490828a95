"""Figures 4, 10 to 12 and the even ones of 14 to 22 as plotly figures to explore, in the look of ``paper_figures``."""

import html

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from rds_lib.show.study import (
    Study,
    activation,
    quality_against_speed,
    quality_by_sequence,
    spread_of,
    video_activation,
)
from rds_lib.show.style import FORCED, QUIET, RAN, UNADAPTED, block_ticks, colour_of, stages

SYMBOLS = {"SAM2": "line-ew-open", "plan A": "triangle-up", "plan B": "triangle-down"}


def quality_page(study: Study) -> go.Figure:
    """Change of quality against speed-up, ours and the paper's (Fig. 4)."""
    figure, table = go.Figure(), quality_against_speed(study)
    for (method, source), rows in table.groupby(["method", "source"], sort=False):
        is_ours, colour = source == "ours", colour_of(method)
        above, below = rows["high"] - rows["change"], rows["change"] - rows["low"]
        bars = {"symmetric": False, "array": above.round(2), "arrayminus": below.round(2)}
        figure.add_scatter(
            x=rows["speedup"].round(3),
            y=rows["change"].round(2),
            mode="lines+markers",
            name=html.escape(method),
            legendgroup=source,
            opacity=1 if is_ours else 0.5,
            line={"color": colour, "dash": "solid" if is_ours else "dash", "width": 2 if is_ours else 1},
            marker={"size": 8, "color": colour if is_ours else "white", "line": {"color": colour, "width": 1.5}},
            error_y=bars if is_ours and method == "RDS" else None,
            customdata=np.stack([rows["level"], rows["quality"].round(1), rows["fps"].round(1)], 1),
            hovertemplate=f"{html.escape(method)} %{{customdata[0]}}, {source}<br>J&F %{{customdata[1]}} "
            "(%{y:+.1f} points)<br>%{customdata[2]} frames a second (x %{x:.2f})<extra></extra>",
        )
    figure.update_traces(legendgrouptitle_text="ours", selector={"legendgroup": "ours"})
    figure.update_traces(legendgrouptitle_text="the paper's", selector={"legendgroup": "paper"})
    figure.update_xaxes(title="speed relative to SAM2 (frames a second)")
    figure.update_yaxes(title="J&F minus SAM2's (points)")
    figure.add_hline(0, line=_dotted()), figure.add_vline(1, line=_dotted())
    legend = {"orientation": "v", "x": 1.02, "y": 1, "yanchor": "top", "groupclick": "toggleitem"}
    return _styled(figure, 520, top=20, legend=legend)


def activation_page(study: Study) -> go.Figure:
    """Share of the routed frames on which each block ran, a panel per budget (Fig. 10)."""
    return _shares(activation(study.evidence.routes), study.shape)


def video_page(study: Study, name: str) -> go.Figure:
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
    panels = (
        ("global: J&F lost<br>without the block", table["global_score"]),
        ("local: relative change<br>of the features", table["local_score"]),
        ("combined:<br>-(rank + rank)", -ranks.sum(axis=1, skipna=False)),
    )
    kinds = (
        ("adapted", RAN, ~always & table["selected"]),
        ("not adapted", UNADAPTED, ~always & ~table["selected"]),
        ("K: always on, adapted", FORCED, always),
    )
    figure = make_subplots(3, 1, shared_xaxes=True, vertical_spacing=0.05)
    shown = np.column_stack([table["block"].map(study.shape.stage_of), table[["global_score", "local_score"]], ranks])
    for n, (label, values) in enumerate(panels, 1):
        low = np.nanmin(values) * 1.02 if n == 3 else 0
        for kind, colour, mask in kinds:
            figure.add_bar(
                x=table.loc[mask, "block"],
                y=(values - low)[mask].round(4),
                base=low,
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
        figure.update_yaxes(title=label, row=n, col=1)
    figure.update_xaxes(title="block", row=3, col=1)
    return _styled(_marked(figure, study.shape), 680, barmode="overlay")


def sequences_page(study: Study) -> go.Figure:
    """J&F of every sequence under the static plans, RDS and SAM2, and the difference to SAM2 below (Fig. 12)."""
    table, level = quality_by_sequence(study), study.evidence.budgets()[0]
    names = [html.escape(name) for name in table.index]
    figure = make_subplots(2, 1, shared_xaxes=True, vertical_spacing=0.05)
    for method in table:
        value, loss = table[method].round(2), (table[method] - table["SAM2"]).round(2)
        label, colour = f"RDS {level:g}" if method == "RDS" else method, colour_of(method)
        for row, values in ((1, value), (2, loss)):
            figure.add_scatter(
                x=names,
                y=values,
                row=row,
                col=1,
                mode="lines+markers",
                legendgroup=label,
                showlegend=row == 1,
                line={"color": colour, "width": 1},
                name=f"{label}: {spread_of(table, method)}",
                marker={"size": 9, "symbol": SYMBOLS.get(method, "circle"), "color": colour},
                customdata=np.stack([value, loss], 1),
                hovertemplate=f"%{{x}}<br>{label}: J&F %{{customdata[0]:.1f}}, against SAM2 %{{customdata[1]:+.1f}}"
                "<extra></extra>",
            )
    figure.update_yaxes(title="J&F (points)", row=1, col=1)
    figure.update_yaxes(title="J&F minus SAM2's (points)", row=2, col=1)
    figure.update_xaxes(tickangle=-45, showgrid=True, gridcolor="#EEEEEE")
    return _styled(figure, 700)


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
