"""The inspector's front end as a widget: what it is told, and the picture for viewers that do not run it."""

import anywidget
from traitlets import Dict, Int, List, Unicode

from rds_lib.show.inspector.page import FRONT, STYLE
from rds_lib.show.picture import Picture


class InspectorWidget(anywidget.AnyWidget):
    """The traits that ``inspector.js`` reads, which lists their keys; whoever fills them also draws `picture`."""

    _esm, _css = FRONT, STYLE
    menu = List().tag(sync=True)
    sequence = Unicode().tag(sync=True)
    video = Dict().tag(sync=True)
    runs = Dict().tag(sync=True)
    shown = List().tag(sync=True)
    frame = Int().tag(sync=True)
    routing = Dict().tag(sync=True)

    def picture(self) -> Picture | None:
        """The current view as a figure, None if there is nothing to see."""
        return None

    def _repr_mimebundle_(self, **kwargs):
        data, metadata = super()._repr_mimebundle_(**kwargs)
        picture = self.picture()
        return data | (picture._repr_mimebundle_() if picture else {}), metadata
