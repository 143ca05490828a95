"""Sphinx's configuration of the site. Nothing is executed and nothing comes from a network."""

import os
import re
import sys
import tomllib
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1])]
os.environ.setdefault("OMP_NUM_THREADS", "1")

_project = tomllib.loads((HERE.parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
project, release, copyright = "RDS companion", _project["version"], "2026, the RDS companion authors"
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "sphinx.ext.napoleon", "local_pages"]
exclude_patterns = ["reports/gpu/notes.md"]  # a part of the page beside it
suppress_warnings = ["mystnb.unknown_mime_type"]  # of plotly's figures the stored picture is shown

nb_execution_mode = "off"  # the stored outputs are tested
myst_enable_extensions = ["alert", "html_image", "substitution"]
myst_heading_anchors = 4
myst_substitutions = {"description": _project["description"]}

templates_path = [str(HERE / "templates")]  # autosummary would look beside the sources
autodoc_default_options = {
    "members": True,
    "member-order": "bysource",
    "inherited-members": "SAM2VideoPredictor, Module, AnyWidget, VBox, ValueError, tuple",  # up to classes of others
}
autodoc_inherit_docstrings = False
default_role = "py:obj"
napoleon_google_docstring = False
napoleon_use_param = napoleon_use_rtype = False  # a type is a sentence here, whose words are no names

html_theme = "furo"
html_title = project
html_static_path = ["static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_search_summary = False  # it is fetched, which a browser forbids in a page from disk


def keep_bars(app, what, name, thing, options, lines) -> None:
    """Let ``|`` in a docstring be a bar, as in |K|, where reStructuredText has it begin a substitution."""
    lines[:] = [re.sub(r"(``.*?``)|\|", lambda found: found[1] or r"\|", line) for line in lines]


def leave_out(app, what, name, thing, skip, options) -> bool | None:
    """Leave out the fields of named tuples: Python's docstring of each is its number."""
    return True if type(thing).__name__ == "_tuplegetter" else None


def setup(app) -> None:
    """Connect what is above to Sphinx's events."""
    app.connect("autodoc-process-docstring", keep_bars)
    app.connect("autodoc-skip-member", leave_out)
