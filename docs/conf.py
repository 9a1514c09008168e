"""The site of `make docs`: Sphinx, with pages in Markdown by MyST."""

from __future__ import annotations

import itertools
import re
from typing import Any

from pygments.lexers.special import TextLexer

project = "Meterfold"
extensions = ["myst_parser", "sphinx.ext.autodoc"]
exclude_patterns = ["_build"]
default_role = "code"
myst_heading_anchors = 3
autodoc_member_order = "bysource"
html_theme = "furo"
html_title = "Meterfold"
html_show_copyright = False

_ALIGNED = re.compile(r"^\S.*\S {2,}\S")
"""A line of our docstrings that is a row of a small table: a name, and in a later column what it is."""


def setup(app: Any) -> None:
    app.add_lexer("mermaid", TextLexer)  # shown as text
    app.connect("autodoc-process-docstring", _literal_blocks)


def _literal_blocks(app: object, what: str, name: str, of: object, options: object, lines: list[str]) -> None:
    """Code and small tables in docstrings keep their lines; in reStructuredText they would become quotes."""
    shown = list[str]()
    for blank, group in itertools.groupby(lines, lambda line: not line.strip()):
        paragraph = list(group)
        if blank or not any(line.startswith("    ") or _ALIGNED.match(line) for line in paragraph):
            shown += paragraph
        else:
            shown += ["", "::", "", *(f"    {line}" for line in paragraph), ""]
    lines[:] = shown
