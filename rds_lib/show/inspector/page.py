"""The inspector as one HTML file that needs no kernel, no server and no network."""

import base64
import html
import json
from collections.abc import Sequence
from pathlib import Path

from rds_lib.core.artifacts import write_text
from rds_lib.core.errors import RDSInputError
from rds_lib.evaluation.recordings import Recording
from rds_lib.show.inspector.data import SIDES, jpeg, runs_data, scaled, video_data

PAGE_BYTES = 4_900_000
QUALITY = 75  # of JPEG
SAMPLE = 24  # frames that tell how large all of a long video would be
FRONT = Path(__file__).parent / "inspector.js"
STYLE = Path(__file__).parent / "inspector.css"

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{title}</title><style>
body {{ max-width: 1400px; margin: 0 auto; padding: 16px; color: #222; background: #fff }}
body {{ font: 14px/1.4 system-ui, sans-serif }} p {{ margin: 0 0 12px }}
h1 {{ margin: 0 0 4px; font-size: 20px }} h1, p {{ max-width: 60rem; overflow-wrap: anywhere }}
{style}</style></head><body>
<h1>{title}</h1>
<p>{summary}</p>
<p>Space plays, the arrow keys step, Home and End jump; click or drag in a map or chart to go to that frame.</p>
<main id="inspector"></main>
<script type="application/json" id="data">{data}</script>
<script type="module">
{front}
openPage(JSON.parse(document.getElementById("data").textContent), document.getElementById("inspector"));
</script></body></html>
"""


def write_inspector_page(
    path: str | Path, recordings: Sequence[Recording], shown: Sequence[str], *, title: str, summary: str = ""
) -> None:
    """Write the page, its frames as large as ``PAGE_BYTES`` allow; arguments as for ``inspector_page``.

    Raises
    ------
    RDSInputError
        If it does not fit into that size even with the smallest frames.
    """
    page = inspector_page(recordings, shown, title=title, summary=summary, limit=PAGE_BYTES)
    if len(page.encode()) > PAGE_BYTES:
        raise RDSInputError(
            f"{path}: with the smallest frames the page has {len(page.encode()):,} bytes, {PAGE_BYTES:,} are allowed; "
            "give fewer or shorter recordings"
        )
    write_text(path, page)


def inspector_page(
    recordings: Sequence[Recording], shown: Sequence[str], *, title: str, summary: str = "", limit: int = PAGE_BYTES
) -> str:
    """The page as text, its frames as large as ``limit`` allows.

    Parameters
    ----------
    recordings : sequence of Recording
        Videos to choose from; the first one opens.
    shown : sequence of str
        One or two names of runs, A and B.
    title, summary : str
        Plain text.
    limit : int
        Bytes. With frames of the smallest size the page may still be larger: look at its length where that matters.
    """
    shell = {
        "style": STYLE.read_text(encoding="utf-8"),
        "front": FRONT.read_text(encoding="utf-8"),
        "title": html.escape(title),
        "summary": html.escape(summary),
    }
    state = {"menu": [one.name for one in recordings], "shown": [*shown, ""][:2], "frame": 0, "routing": {}}
    for side in SIDES:
        if side > SIDES[-1] and _is_too_large(recordings, side, limit):
            continue
        videos = {one.name: video_data(one, side, quality=QUALITY) for one in recordings}
        pictures = sum(len(jpeg) for video in videos.values() for jpeg in video["frames"])
        if side > SIDES[-1] and 4 / 3 * pictures > limit:
            continue
        data = state | {"videos": videos, "runs": {one.name: runs_data(one, side) for one in recordings}}
        page = _PAGE.format(**shell, data=_script_safe(data))
        if len(page.encode()) <= limit:
            break
    return page


def _is_too_large(recordings, side, limit) -> bool:
    """Whether a few frames of long recordings show that all of them, this large, would be well above the limit."""
    total = sum(map(len, recordings))
    if total < 10 * SAMPLE:
        return False
    few = [(one, t) for one in recordings for t in range(0, len(one), total // SAMPLE)]
    taken = sum(len(jpeg(one.frame(t), scaled(one.size, side), QUALITY)) for one, t in few)
    return 4 / 3 * taken * total / len(few) > 1.25 * limit


def _script_safe(content) -> str:
    """JSON that cannot end the script element it stands in; bytes become base64."""
    text = json.dumps(content, default=lambda data: base64.b64encode(data).decode(), separators=(",", ":"))
    return text.replace("<", "\\u003c")
