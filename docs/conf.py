"""Settings of the documentation site: `python -m sphinx docs site`, with `pip install zenopt[docs]`."""

from __future__ import annotations

import os
import re
from typing import Any

from zenopt._version import __version__

project = "zenopt"
author = "The zenopt authors"
release = version = __version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "sphinx.ext.napoleon"]
autosummary_generate = False
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented_params"
napoleon_numpy_docstring = False
napoleon_use_ivar = True
source_suffix = {".md": "myst-nb", ".ipynb": "myst-nb"}
# Notebooks (docs/notebooks links to those of examples/) are kept without outputs; the site runs them, which takes a
# minute or two, and again only where they have changed.
nb_execution_mode = "cache"
nb_execution_timeout = 900
nb_execution_in_temp = True
nb_execution_raise_on_error = True
nb_output_stderr = "remove"
# Figures bring plotly.js along, so that the pages load nothing from elsewhere.
os.environ["PLOTLY_RENDERER"] = "notebook"
exclude_patterns = ["_build", "site"]
myst_heading_anchors = 3
myst_enable_extensions = ["dollarmath"]
# A language without colours is shown without.
suppress_warnings = ["misc.highlighting_failure"]

# Options begin with two hyphens, which must stay two hyphens.
smartquotes = False

html_theme = "furo"
html_title = f"zenopt {version}"
# Nothing is loaded from the network when a page is looked at: furo brings its own styles and uses the system's fonts.
html_show_sphinx = False
html_show_copyright = False
html_copy_source = False
html_show_sourcelink = False


def _without_network(app: Any, page: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    """Drop what plotly's figures would load from elsewhere: MathJax, for formulas that none of ours has."""
    if context.get("body"):
        context["body"] = re.sub(r'<script src="https?://[^"]*"></script>', "", context["body"])


def setup(app: Any) -> None:
    """Connect what Sphinx calls for every page."""
    app.connect("html-page-context", _without_network)
