"""A Sphinx extension: links to our interactive pages open them, and links to a folder open its front page."""

import posixpath

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform

FIGURES = "reports/figures/"
LOAD = "const frame = this.querySelector('iframe'); frame.src ||= frame.dataset.page"  # not before it is asked for
FRONT_PAGES = ("index", "README")


class LocalPages(SphinxTransform):
    """Turn downloads of HTML pages into links, those that stand alone also into a frame, and resolve folders."""

    default_priority = 10

    def apply(self, **_) -> None:
        """Change the document in place."""
        for node in list(self.document.findall(addnodes.download_reference)):
            target = self._absolute(node["reftarget"])
            if target.startswith(FIGURES) and target.endswith(".html"):
                self._link_page(node)
        for node in list(self.document.findall(addnodes.pending_xref)):
            if node.get("reftype") == "myst" and not node.get("refdomain"):
                self._link_folder(node)

    def _absolute(self, target: str) -> str:
        return posixpath.normpath(posixpath.join(posixpath.dirname(self.env.docname), target))

    def _link_page(self, node: addnodes.download_reference) -> None:
        address, paragraph = node["reftarget"], node.parent
        link = nodes.reference("", "", *node.children, refuri=address, internal=True)
        node.replace_self(link)
        if isinstance(paragraph, nodes.paragraph) and len(paragraph) == 1:
            frame = f'<iframe data-page="{address}" title="{link.astext()}"></iframe>'
            block = f'<details class="page" ontoggle="{LOAD}"><summary>open it here</summary>{frame}</details>'
            paragraph.parent.insert(paragraph.parent.index(paragraph) + 1, nodes.raw("", block, format="html"))

    def _link_folder(self, node: addnodes.pending_xref) -> None:
        folder = self._absolute(node["reftarget"])
        for name in FRONT_PAGES:
            if f"{folder}/{name}" in self.env.found_docs:
                node.attributes.update(refdomain="doc", reftarget=f"{folder}/{name}", reftargetid=None)
                return


def setup(app: Sphinx) -> dict:
    """Register the transform."""
    app.add_transform(LocalPages)
    return {"parallel_read_safe": True}
