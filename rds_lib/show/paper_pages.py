"""The paper's figures as pages to explore: each function takes a ``Study`` and returns a plotly figure in the look of ``paper_figures``."""

import base64
import html

import cv2
import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from rds_lib.show.notebook_figures import COLOURS, QUIET, STAGES
from rds_lib.show.paper_figures import (
    FORCED,
    FRAME_ENTRIES,
    GRID,
    MAP_ENTRIES,
    RAN,
    STATES,
    THUMBS,
    TICKS,
    block_cell,
    errors,
    fitted,
    painted,
    stage_label,
)
from rds_lib.show.study import (
    Study,
    activation,
    block_states,
    even_frames,
    points,
    quality_against_speed,
    quality_by_sequence,
    stage_of,
    video_activation,
)

IMAGE_BYTES = 900_000  # of all the pictures of a page
_SIDES = (288, 224, 176, 128, 96, 64)  # px, tried in turn until the pictures fit
_STATE_NAMES = np.array(["skipped", "had to run", "chosen by the router"])


def quality_page(study: Study) -> go.Figure:
    """Change of quality against speed-up, ours and the paper's (Fig. 4)."""
    figure, table = go.Figure(), quality_against_speed(study)
    for (method, source), rows in table.groupby(["method", "source"], sort=False):
        is_ours, colour = source == "ours", COLOURS.get(method, QUIET)
        bars = {"symmetric": False, "array": (rows["high"] - rows["change"]).round(2), "arrayminus": (rows["change"] - rows["low"]).round(2)}
        figure.add_scatter(
            x=rows["speedup"].round(3), y=rows["change"].round(2), mode="lines+markers", name=method,
            legendgroup=source, opacity=1 if is_ours else 0.5, line={"color": colour, "dash": "solid" if is_ours else "dash", "width": 2 if is_ours else 1},
            marker={"size": 8, "color": colour if is_ours else "white", "line": {"color": colour, "width": 1.5}},
            error_y=bars if is_ours and method == "RDS" else None, customdata=np.stack([rows["level"], rows["quality"].round(1), rows["fps"].round(1)], 1),
            hovertemplate=f"{html.escape(method)} %{{customdata[0]}}, {source}<br>J&F %{{customdata[1]}} (%{{y:+.1f}} points)"
                          "<br>%{customdata[2]} frames a second (x %{x:.2f})<extra></extra>")
    figure.update_traces(legendgrouptitle_text="ours", selector={"legendgroup": "ours"})
    figure.update_traces(legendgrouptitle_text="the paper's", selector={"legendgroup": "paper"})
    figure.update_xaxes(title="frames a second, as a multiple of each one's own SAM2")
    figure.update_yaxes(title="J&F minus each one's own SAM2's (points)")
    figure.add_hline(0, line=_dotted()), figure.add_vline(1, line=_dotted())
    return _styled(figure, 560, legend={"orientation": "v", "x": 1.02, "y": 1, "yanchor": "top", "groupclick": "toggleitem"})


def activation_page(study: Study) -> go.Figure:
    """Share of the routed frames on which each block ran, a panel per budget (Fig. 10)."""
    return _shares(activation(study.evidence.routes), study.always_on)


def video_page(study: Study, name: str) -> go.Figure:
    """The same for one video (Fig. 14 to 22, even)."""
    return _shares(video_activation(study, name), study.always_on)


def _shares(table, always_on):
    levels = list(dict.fromkeys(table["level"]))
    figure = make_subplots(len(levels), 1, shared_xaxes=True, vertical_spacing=0.1 / len(levels))
    for n, (level, rows) in enumerate(table.groupby("level", sort=False), 1):
        for label, colour, part in (("chosen by the router", RAN, rows[~rows["block"].isin(always_on)]), ("K: always on", FORCED, rows[rows["block"].isin(always_on)])):
            figure.add_bar(
                x=part["block"], y=(100 * part["share"]).round(1), row=n, col=1, name=label, legendgroup=label, showlegend=n == 1, marker_color=colour,
                width=0.8, customdata=np.stack([part["block"].map(stage_of), part["ran"], part["frames"]], 1),
                hovertemplate=f"block %{{x}}, stage %{{customdata[0]}}, {label}<br>budget {level:g}: ran on %{{customdata[1]}} of %{{customdata[2]}} routed frames (%{{y}} %)<extra></extra>")
        figure.update_yaxes(title=f"budget {level:g}<br>% of frames", range=[0, 103], tickvals=[0, 50, 100], row=n, col=1)
    figure.update_xaxes(title="block", row=len(levels), col=1)
    return _styled(_marked(figure, always_on), 170 * len(levels) + 170, barmode="overlay")


def importance_page(study: Study) -> go.Figure:
    """Global, local and combined importance of every block (Fig. 11)."""
    table = study.importance
    always = table["always_on"].astype(bool)
    ranks = table[["global_score", "local_score"]].rank(ascending=False).where(~always)
    panels = (("global: J&F lost<br>without the block", table["global_score"]), ("local: relative change<br>of the features", table["local_score"]),
              ("combined:<br>-(rank + rank)", -ranks.sum(axis=1, skipna=False)))
    kinds = (("adapted", RAN, ~always & table["selected"]), ("not adapted", "#BFD7E5", ~always & ~table["selected"]), ("K: always on, adapted", FORCED, always))
    figure = make_subplots(3, 1, shared_xaxes=True, vertical_spacing=0.05)
    shown = np.stack([table["block"].map(stage_of), table["global_score"], table["local_score"], ranks["global_score"], ranks["local_score"]], 1).round(3)
    for n, (label, values) in enumerate(panels, 1):
        low = np.nanmin(values) * 1.02 if n == 3 else 0
        for kind, colour, mask in kinds:
            figure.add_bar(
                x=table.loc[mask, "block"], y=(values - low)[mask].round(4), base=low, row=n, col=1, name=kind, legendgroup=kind, showlegend=n == 1,
                marker_color=colour, width=0.8, customdata=shown[mask],
                hovertemplate=f"block %{{x}}, stage %{{customdata[0]}}, {kind}<br>global %{{customdata[1]:.3f}} (rank %{{customdata[3]}})"
                              "<br>local %{customdata[2]:.3f} (rank %{customdata[4]})<extra></extra>")
        figure.update_yaxes(title=label, row=n, col=1)
    figure.update_xaxes(title="block", row=3, col=1)
    return _styled(_marked(figure, study.always_on), 680, barmode="overlay")


def sequences_page(study: Study) -> go.Figure:
    """J&F of every sequence under the static plans, RDS and SAM2, and the difference to SAM2 below (Fig. 12)."""
    table = quality_by_sequence(study).round(2)
    names, figure = [html.escape(name) for name in table.index], make_subplots(2, 1, shared_xaxes=True, vertical_spacing=0.05)
    for label in table:
        loss = table[label] - table["SAM2"]
        colour, symbol = COLOURS[label.split(" 0")[0]], {"SAM2": "line-ew-open", "plan A": "triangle-up", "plan B": "triangle-down"}.get(label, "circle")
        for row, values in ((1, table[label]), (2, loss.round(2))):
            figure.add_scatter(
                x=names, y=values, row=row, col=1, mode="lines+markers", legendgroup=label, showlegend=row == 1, line={"color": colour, "width": 1},
                marker={"size": 9, "symbol": symbol, "color": colour}, name=f"{label}: std {table[label].std():.1f}" + (
                    f", of the difference {loss.std():.1f}" if label != "SAM2" else ""),
                customdata=np.stack([table[label], loss.round(2)], 1),
                hovertemplate=f"%{{x}}<br>{label}: J&F %{{customdata[0]:.1f}}, against SAM2 %{{customdata[1]:+.1f}}<extra></extra>")
    figure.update_yaxes(title="J&F (points)", row=1, col=1), figure.update_yaxes(title="J&F minus SAM2's (points)", row=2, col=1)
    figure.update_xaxes(tickangle=-45, showgrid=True, gridcolor="#EEEEEE")
    return _styled(figure, 700)


def timeline_page(study: Study, name: str) -> go.Figure:
    """Frames of a video over the blocks that ran on each of its frames (Fig. 13 to 21, odd)."""
    recording, run = study.recordings[name], study.run(name)
    length, states = len(recording), block_states(run, study.always_on)
    figure = make_subplots(3, 1, shared_xaxes=True, row_heights=[0.2, 0.62, 0.18], vertical_spacing=0.03)
    figure.add_trace(_route_heatmap(run, states), row=2, col=1)
    figure.add_scatter(x=np.arange(length), y=run.active.sum(1), mode="lines", line={"shape": "hvh", "color": RAN}, showlegend=False, row=3, col=1,
                       hovertemplate="frame %{x}: %{y} blocks ran<extra></extra>")
    shown = even_frames(length, THUMBS)
    gap = shown[1] - shown[0] if len(shown) > 1 else length
    for t in shown:
        figure.add_layout_image(source=data_uri(painted(recording, run, t, 200)), xref="x", yref="y domain", x=t, y=0.5, sizex=0.95 * gap, sizey=0.9,
                                xanchor="center", yanchor="middle")
    figure.add_scatter(x=shown, y=[0] * len(shown), mode="markers", marker={"symbol": "triangle-down", "color": QUIET, "size": 7}, hoverinfo="skip",
                       showlegend=False, row=1, col=1, cliponaxis=False)
    _name_colours(figure, MAP_ENTRIES, row=2)
    for start in STAGES[1:-1]:
        figure.add_hline(start - 0.5, line=_dotted("#222222"), row=2, col=1)
    for n, (first, last) in enumerate(zip(STAGES, STAGES[1:]), 1):
        _note(figure, stage_label(n), "x2 domain", 1.03, "y2", (first + last - 1) / 2, textangle=-90)
    for block in study.always_on:
        _note(figure, "K", "x2 domain", 1.003, "y2", block, xanchor="left")
    figure.update_xaxes(range=[-0.5 * gap, max(length - 0.5, shown[-1] + 0.5 * gap)], showgrid=False)
    figure.update_xaxes(title="frame", row=3, col=1)
    figure.update_yaxes(visible=False, range=[0, 1], row=1, col=1)
    figure.update_yaxes(title="block", tickvals=TICKS, range=[states.shape[1] - 0.5, -0.5], row=2, col=1)
    figure.update_yaxes(title="blocks", range=[0, states.shape[1] * 1.05], row=3, col=1)
    return _styled(figure, 720, legend_itemclick=False, legend_itemdoubleclick=False)


def _name_colours(figure, entries, row):
    """Squares in the legend for colours that no trace has a name for."""
    for label, colour in entries:
        figure.add_scatter(x=[None], y=[None], mode="markers", name=label, row=row, col=1,
                           marker={"symbol": "square", "size": 11, "color": colour, "line": {"color": "#777777", "width": 1}})


def _route_heatmap(run, states):
    kept = np.round(100 * run.keep_prob).astype(np.uint8)
    stages = np.broadcast_to([stage_of(block) for block in range(states.shape[1])], states.shape)
    return go.Heatmap(
        z=states.T, x0=0, y0=0, zmin=0, zmax=2, showscale=False, xgap=0.4, colorscale=_colorscale(STATES), text=_STATE_NAMES[states.T],
        customdata=np.stack([stages.T, kept.T], 2).astype(np.uint8),
        hovertemplate="frame %{x}, block %{y}, stage %{customdata[0]}<br>%{text}; keep probability %{customdata[1]} %<extra></extra>")


def comparison_page(study: Study, name: str) -> go.Figure:
    """Frames, masks of SAM2 and of RDS, their errors and the blocks that ran, with a slider over all frames (Fig. 23 to 25)."""
    recording, ours = study.recordings[name], study.run(name)
    runs, rds = (recording.run("SAM2"), ours), f"RDS {study.budget:g}"
    heads = ("frame", "SAM2", rds, "blocks, a row per stage (three for stage 3)", "SAM2, errors", f"{rds}, errors", "J per frame")
    figure = make_subplots(3, 3, specs=[[{}] * 3, [{}] * 3, [{"colspan": 3}, None, None]], row_heights=[0.4, 0.4, 0.2], horizontal_spacing=0.03,
                           vertical_spacing=0.08, subplot_titles=heads)
    steps = [_frame_traces(study, recording, runs, uris, t) for t, uris in enumerate(_pictures(recording, runs))]
    where = [(1, 1), (1, 2), (1, 3), (2, 2), (2, 3), (2, 1), (3, 1)]
    for trace, (row, col) in zip(steps[1], where):
        figure.add_trace(trace, row=row, col=col)
    for run, colour in zip(runs, (COLOURS["SAM2"], RAN)):
        figure.add_scatter(x=np.arange(len(recording)), y=(100 * run.mean_quality).round(1), mode="lines+markers", name=run.name, line={"color": colour},
                           marker_size=4, row=3, col=1, hovertemplate=f"frame %{{x}}: J of {run.name} %{{y}}<extra></extra>")
    _name_colours(figure, FRAME_ENTRIES, row=3)
    figure.frames = [go.Frame(name=str(t), data=traces, traces=list(range(len(traces)))) for t, traces in enumerate(steps)]
    figure.update_xaxes(visible=False), figure.update_yaxes(visible=False)
    figure.update_xaxes(visible=True, range=[-0.5, len(recording) - 0.5], row=3, col=1), figure.update_yaxes(visible=True, range=[0, 103], row=3, col=1)
    figure.update_yaxes(range=[GRID[0] - 0.4, -0.6], row=2, col=1), figure.update_xaxes(range=[-0.6, GRID[1] - 0.4], row=2, col=1)
    return _styled(figure, 800, sliders=[_slider(recording, runs)], margin={"b": 110, "t": 95})


def _pictures(recording, runs):
    """Per frame the data URIs of its five pictures, as large as a page has room for, judged by every tenth frame."""
    def draw(t, side):
        pictures = fitted(recording.frame(t), side), *(paint(recording, run, t, side) for paint in (painted, errors) for run in runs)
        return [data_uri(picture) for picture in pictures]

    sample = range(0, len(recording), 10)
    for side in _SIDES:
        if sum(len(uri) for t in sample for uri in draw(t, side)) * len(recording) <= IMAGE_BYTES * len(sample):
            break
    return [draw(t, side) for t in range(len(recording))]


def _frame_traces(study, recording, runs, uris, t):
    """What the slider changes: five pictures, the blocks of frame t, and a cursor."""
    states = block_states(runs[1], study.always_on)[t]
    cells = np.array([block_cell(block) for block in range(len(states))])
    text = [f"block {block}, stage {stage_of(block)}: {_STATE_NAMES[state]}" for block, state in enumerate(states)]
    squares = go.Scatter(x=cells[:, 0].astype(np.uint8), y=cells[:, 1].astype(np.uint8), mode="markers+text", hovertext=text, showlegend=False,
                         hovertemplate="%{hovertext}<extra></extra>", text=["K" if block in study.always_on else "" for block in range(len(states))],
                         marker={"symbol": "square", "size": 17, "color": [STATES[state] for state in states], "line": {"color": "#888888", "width": 1}})
    cursor = go.Scatter(x=[t, t], y=[0, 100], mode="lines", line={"color": "#D55E00", "width": 1.5}, hoverinfo="skip", showlegend=False)
    return [*(go.Image(source=uri, hoverinfo="skip") for uri in uris), squares, cursor]


def _slider(recording, runs):
    def label(t):
        return f"{t}: J of SAM2 {points(runs[0].mean_quality[t])}, of RDS {points(runs[1].mean_quality[t])}; {runs[1].active[t].sum()} of {recording.depth} blocks"

    how = {"mode": "immediate", "frame": {"duration": 0, "redraw": True}, "transition": {"duration": 0}}
    steps = [{"label": label(t), "method": "animate", "args": [[str(t)], how]} for t in range(len(recording))]
    return {"active": 1, "steps": steps, "currentvalue": {"prefix": "frame ", "font": {"size": 15, "color": "#222222"}}, "font": {"size": 1, "color": "rgba(0,0,0,0)"},
            "ticklen": 0, "pad": {"t": 20}, "transition": {"duration": 0}}


def data_uri(image: np.ndarray, quality: int = 70) -> str:
    """An RGB image (H, W, 3) uint8 as a JPEG that stands in a page."""
    return "data:image/jpeg;base64," + base64.b64encode(cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()).decode()


def _colorscale(colours):
    return [[(n + edge) / len(colours), colour] for n, colour in enumerate(colours) for edge in (0, 1)]


def _dotted(colour=QUIET):
    return {"color": colour, "dash": "dot", "width": 1}


def _note(figure, text, xref, x, yref, y, **more):
    figure.add_annotation(text=text, xref=xref, x=x, yref=yref, y=y, showarrow=False, font={"size": 12, "color": "#333333"}, **more)


def _marked(figure, always_on):
    """Lines between the stages in every panel, their names above the first, a K below the last where a block always runs."""
    for start in STAGES[1:-1]:
        figure.add_vline(start - 0.5, line=_dotted())
    for n, (first, last) in enumerate(zip(STAGES, STAGES[1:]), 1):
        _note(figure, stage_label(n), "x", (first + last - 1) / 2, "y domain", 1, yanchor="bottom")
    last = max((axis.plotly_name.removeprefix("yaxis") for axis in figure.select_yaxes()), key=lambda n: int(n or 1))
    for block in always_on:
        _note(figure, "K", f"x{last}", block, f"y{last} domain", 0, yanchor="bottom")
    figure.update_xaxes(tickvals=TICKS, range=[-0.8, STAGES[-1] - 0.2])
    return figure


def _styled(figure, height, **layout):
    layout = {"legend": {}, "margin": {}} | layout
    margin = {"l": 80, "r": 50, "t": 70, "b": 60} | layout.pop("margin")
    above = 1 + 24 / (height - margin["t"] - margin["b"])  # the stages' names stand between plot and legend
    legend = {"orientation": "h", "x": 0, "y": above, "yanchor": "bottom"} | layout.pop("legend")
    figure.update_layout(template="none", height=height, margin=margin, legend=legend, font={"size": 13, "family": "system-ui, sans-serif"}, **layout)
    figure.update_xaxes(zeroline=False, automargin=True, title_standoff=12), figure.update_yaxes(zeroline=False)
    return figure
