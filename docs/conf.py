"""The site: built by `make site` from Markdown, from docstrings and from the commands."""

import os
import re
import sys
from pathlib import Path

import physgen

sys.path.append(str(Path(__file__).parents[1]))
from benchmarks.page import drawn

project = "physgen"
author = "The physgen authors"
copyright = "The physgen authors, MIT licence"
version = release = physgen.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_click",
    "sphinx_copybutton",
    "sphinx_design",
]
myst_enable_extensions = ["colon_fence", "dollarmath", "deflist"]
myst_heading_anchors = 3
nb_execution_mode = "cache"
nb_execution_in_temp = True
nb_execution_timeout = 600
nb_execution_raise_on_error = True
nb_merge_streams = True
if part := os.environ.get("PART"):  # k/n: run the k-th of n parts of the tutorials alone
    k, n = map(int, part.split("/"))
    tutorials = sorted(path.name for path in Path(__file__).parent.glob("tutorials/*.md"))
    nb_execution_excludepatterns = [
        f"tutorials/{name}" for i, name in enumerate(tutorials) if i % n != k - 1
    ]
exclude_patterns = ["_build", "README.md"]
suppress_warnings = ["mystnb.unknown_mime_type", "misc.highlighting_failure"]
if part:  # what is not run has no kernel that tells its language
    suppress_warnings.append("myst-nb.lexer")

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_default_options = {"members": True, "show-inheritance": True}
napoleon_use_ivar = True

html_theme = "furo"
html_title = "physgen"
html_static_path = ["static"]
html_css_files = ["wrap.css"]
smartquotes = False


def plain(app, what, name, obj, options, lines) -> None:
    """Docstrings are text of formulas: bars and stars in them are no markup."""
    for i, line in enumerate(lines):
        parts = re.split(r"(``[^`]*``|`[^`]*`|:\w+:`[^`]*`)", line)
        lines[i] = "".join(
            part if k % 2 else re.sub(r"(?<!\w)([|*])(?=\w)", r"\\\1", part)
            for k, part in enumerate(parts)
        )


def figures(app, exception) -> None:
    """The page of the benchmarks' figures, beside the others."""
    drawn(Path(app.outdir) / "figures.html")


def setup(app) -> None:
    """Register what this file adds."""
    app.connect("build-finished", figures)
    app.connect("autodoc-process-docstring", plain, priority=100)
