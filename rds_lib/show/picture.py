"""A figure as notebooks and files take it: small, with the same bytes each time, and with a line of text."""

import io
import json
import textwrap

from matplotlib import rc_context
from matplotlib.figure import Figure
from PIL import Image

from rds_lib.show.paint import few_colours
from rds_lib.show.style import EXACT, QUIET, rgb


class Picture:
    """A figure with a line of text, which viewers without pictures show.

    Parameters
    ----------
    figure : matplotlib Figure
    text : str
        One line that says what is drawn.
    plot : plotly Figure, optional
        Stands in the picture's place in viewers that run it, such as JupyterLab.
    """

    def __init__(self, figure: Figure, text: str, plot=None):
        self.figure, self.text, self.plot = figure, text, plot

    def image(self, dpi: int = 80, kind: str = "png") -> bytes:
        """The figure as ``png`` of 256 colours, as ``jpeg`` or as ``svg``."""
        if kind == "svg":
            return self._drawn(dpi, "svg", {"Date": None, "Creator": None})
        return _encoded(self._drawn(dpi, "png", {"Software": None}), kind)

    def _drawn(self, dpi, kind, metadata):
        buffer = io.BytesIO()
        with rc_context({"svg.hashsalt": "rds_lib"}):
            self.figure.savefig(buffer, format=kind, dpi=dpi, bbox_inches="tight", facecolor="white", metadata=metadata)
        return buffer.getvalue()

    def _repr_mimebundle_(self, include=None, exclude=None):
        png = self._drawn(75, "png", {"Software": None})
        kind, image = min(((kind, _encoded(png, kind)) for kind in ("png", "jpeg")), key=lambda pair: len(pair[1]))
        live = {"application/vnd.plotly.v1+json": json.loads(self.plot.to_json())} if self.plot else {}
        return {f"image/{kind}": image, "text/plain": self.text} | live

    def __repr__(self):
        return self.text


def _encoded(png, kind):
    image, buffer = Image.open(io.BytesIO(png)).convert("RGB"), io.BytesIO()
    if kind == "png":
        few_colours(image, [rgb(colour) for colour in EXACT]).save(buffer, "png", optimize=True)
    else:
        image.save(buffer, "jpeg", quality=75, optimize=True)
    return buffer.getvalue()


def with_footer(figure: Figure, text: str) -> Figure:
    """Put small print below a figure: what is drawn, of which data, by which stages."""
    lines = textwrap.wrap(text, round(14.5 * figure.get_figwidth()))
    figure.supxlabel(literal("\n".join(lines)), x=0.01, ha="left", fontsize=9, color=QUIET)
    return figure


def literal(text: str) -> str:
    """Text that matplotlib does not read as a formula."""
    return text.replace("$", r"\$")
