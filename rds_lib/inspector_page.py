"""A page about one tracked video that needs no server and no network: frames, masks and the blocks that ran."""

import base64
import html
import json
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from rds_lib.artifacts import atomic_write
from rds_lib.frames import overlay, read_frame

PAGE_BYTES = 4_500_000
_SIDES = (640, 480, 360, 240, 160)  # px, tried in turn until a frame fits into its share of the page
_CELL = 8  # px a block, and at most a frame, in the heat map

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>
body {{ font: 14px/1.4 system-ui, sans-serif; margin: 1.5rem auto; max-width: 60rem; padding: 0 1rem; color: #222 }}
img {{ width: 100%; max-width: 40rem; display: block }}
input {{ width: 100%; max-width: 40rem }}
svg {{ width: 100%; height: 24rem; background: #eee }}
.on {{ fill: #2a6f97 }} .full {{ fill: #a9b4bc }} #cursor {{ fill: none; stroke: #c1121f; stroke-width: 1.5 }}
</style></head><body>
<h1>{title}</h1>
<p>{summary}</p>
<img id="frame" alt="the frame with its masks">
<input id="slider" type="range" min="0" max="{last}" value="0" aria-label="frame">
<p id="caption"></p>
<h2>Blocks that ran</h2>
<p>One row per block of the image encoder, block 0 on top; one column per frame. Blue: chosen by the router. Grey: a
frame that runs every block. Empty: skipped.</p>
<svg viewBox="0 0 {width} {height}" preserveAspectRatio="none" role="img" aria-label="active blocks per frame">
{rows}<rect id="cursor" y="0" width="{cell}" height="{height}"/></svg>
<script>
const frames = {frames};
const slider = document.getElementById("slider");
function show() {{
  const t = Number(slider.value), frame = frames[t];
  document.getElementById("frame").src = "data:image/jpeg;base64," + frame.jpeg;
  document.getElementById("caption").textContent = "frame " + t + " (" + frame.name + "): " + frame.note;
  document.getElementById("cursor").setAttribute("x", t * {cell});
}}
slider.addEventListener("input", show);
show();
</script></body></html>
"""


def write_inspector_page(
    path: str | Path, frame_paths: Sequence[Path], labels: Sequence[np.ndarray], routes: pd.DataFrame, *, title: str,
    summary: str = "",
) -> None:
    """Write one self-contained HTML file; names are escaped, and 80 frames stay below 5 MB.

    Parameters
    ----------
    frame_paths : sequence of Path
    labels : sequence of (H, W) uint8
        One label map per frame.
    routes : DataFrame
        ``frame_idx``, ``block``, ``active``, ``reason``, as from ``RDSVideoPredictor.route_table``.
    title, summary : str
        Plain text.
    """
    share = PAGE_BYTES * 3 // 4 // len(frame_paths)
    by_frame = {t: (int(group["active"].sum()), group["reason"].iloc[0]) for t, group in routes.groupby("frame_idx")}
    frames = []
    for t, (file, label_map) in enumerate(zip(frame_paths, labels, strict=True)):
        n_active, reason = by_frame.get(t, (0, "not tracked"))
        jpeg = base64.b64encode(_jpeg(overlay(read_frame(file), label_map), share)).decode()
        frames.append({"jpeg": jpeg, "name": file.name, "note": f"{n_active} blocks, {reason}"})
    depth = int(routes["block"].max()) + 1 if len(routes) else 1
    page = _PAGE.format(
        title=html.escape(title), summary=html.escape(summary), last=len(frames) - 1, width=len(frames) * _CELL,
        height=depth * _CELL, cell=_CELL, rows=_heat_map(routes), frames=_script_safe(frames))
    with atomic_write(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def _jpeg(picture, limit):
    """JPEG bytes, as large as ``limit`` allows."""
    height, width = picture.shape[:2]
    for side in _SIDES:
        scale = min(1.0, side / max(height, width))
        size = max(1, round(width * scale)), max(1, round(height * scale))
        small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
        data = cv2.imencode(".jpg", small[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 75])[1].tobytes()
        if len(data) <= limit:
            break
    return data


def _heat_map(routes):
    """One SVG path per kind of frame: a square for every block that ran."""
    paths = {"on": [], "full": []}
    for t, block, active, reason in routes[["frame_idx", "block", "active", "reason"]].itertuples(index=False):
        if active:
            paths["on" if reason == "routed" else "full"].append(f"M{t * _CELL} {block * _CELL}h{_CELL}v{_CELL}h-{_CELL}z")
    return "".join(f'<path class="{kind}" d="{"".join(cells)}"/>\n' for kind, cells in paths.items())


def _script_safe(content):
    """JSON that cannot end the script element it stands in."""
    return json.dumps(content).replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
