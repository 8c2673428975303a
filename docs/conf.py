"""Sphinx settings."""

import sys
from pathlib import Path

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS))

from api_pages import write_pages  # noqa: E402

write_pages(DOCS / "api")

project = "scorefield"
author = "The scorefield authors"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
html_theme = "furo"
html_title = "scorefield"
html_static_path = []
myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_typehints = "description"
default_role = "code"
nitpicky = False

exclude_patterns = ["_build"]

suppress_warnings = ["ref.python"]
