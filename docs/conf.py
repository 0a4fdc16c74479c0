"""How the documentation is built: `nox -s docs`."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

import taskq

if TYPE_CHECKING:
    from sphinx.application import Sphinx

project = "taskq"
author = "The taskq authors"
project_copyright = author
version = release = taskq.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "generated",
]
exclude_patterns = ["_ext"]
suppress_warnings = ["toc.empty_glob", "ref.python"]

html_theme = "furo"
html_title = "taskq"
html_static_path = ["_static"]
html_css_files = ["tables.css"]
html_copy_source = False
html_show_sourcelink = False

myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3

default_role = "literal"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_class_signature = "separated"
autodoc_preserve_defaults = True
autodoc_default_options = {"members": True, "undoc-members": False}
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88
napoleon_google_docstring = True
napoleon_numpy_docstring = False


def part_words(*event: Any) -> None:
    """Let a letter follow a backtick, as in Markdown and not in reStructuredText."""
    lines: list[str] = event[-1]
    lines[:] = [re.sub(r"(`[^`]+`)(?=\w)", r"\1\\ ", line) for line in lines]


def setup(app: Sphinx) -> None:
    app.connect("autodoc-process-docstring", part_words)
