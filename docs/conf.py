"""Sphinx settings."""

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
nitpicky = False

exclude_patterns = ["_build"]

suppress_warnings = ["ref.python"]
