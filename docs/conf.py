"""Settings of the documentation site: `python -m sphinx docs site`, with `pip install zenopt[docs]`."""

from __future__ import annotations

from zenopt._version import __version__

project = "zenopt"
author = "The zenopt authors"
release = version = __version__

extensions = ["myst_nb"]
source_suffix = {".md": "myst-nb", ".ipynb": "myst-nb"}
# Notebooks (docs/notebooks links to those of examples/) are shown as they are; tests/test_notebooks.py runs them.
nb_execution_mode = "off"
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
