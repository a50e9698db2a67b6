"""How Sphinx makes the site: `make docs`. It reads the code and writes no file beside the pages.

Whatever a page loads lies in the site itself, and the build asks no network.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from sphinx.ext.napoleon.docstring import GoogleDocstring

ROOT: Final = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # this tree, whatever is installed

import exporter  # noqa: E402
from exporter.builds.json_schema import manifest_schema  # noqa: E402

if TYPE_CHECKING:
    from sphinx.application import Sphinx

project = "resnet-exporter"
version = release = exporter.__version__
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx_copybutton",
]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"{project} {version}"
html_copy_source = False
html_use_index = False
html_show_copyright = False
html_static_path = ["_static"]
html_css_files = ["site.css"]
pygments_style = "friendly"
highlight_language = "none"
smartquotes = False  # they would make one dash of the two before an option

myst_heading_anchors = 3
myst_enable_extensions = ["deflist", "colon_fence"]
copybutton_prompt_text = "$ "

default_role = "code"  # what docstrings write between single backticks
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # docstrings give shapes and units, signatures the types
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
autodoc_class_signature = "separated"
autodoc_default_options = {"exclude-members": "__init__, __new__"}
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 80
SCHEMA_FILE: Final = "manifest.schema.json"


def fill_in(sphinx: Sphinx, page: str, source: list[str]) -> None:
    """The commands, as Typer writes them down."""
    if page == "reference/command-line":
        command = ["-m", "typer", "exporter.cli", "utils", "docs", "--name", "exporter"]
        done = subprocess.run(
            [sys.executable, *command], cwd=ROOT, capture_output=True, text=True, check=True
        )
        source[0] = source[0].replace("COMMANDS", done.stdout.partition("\n")[2])


def write_schema(sphinx: Sphinx, error: Exception | None) -> None:
    """The manifest's schema, as a file of the site."""
    if error is None and sphinx.builder.format == "html":
        text = json.dumps(manifest_schema(), indent=1, ensure_ascii=False)
        Path(sphinx.outdir, SCHEMA_FILE).write_text(text + "\n", encoding="utf-8")


def read_docstring(
    sphinx: Sphinx, what: Any, name: str, one: object, options: object, lines: list[str]
) -> None:
    """Google's sections; an asterisk is itself (*.tar.zst), an attribute's text has no type."""
    lines[:] = [line.replace("*", r"\*") for line in lines]
    if what != "attribute":
        lines[:] = GoogleDocstring(lines, what=what, name=name, obj=one).lines()


def set_dashes(
    sphinx: Sphinx, page: str, template: str, context: dict[str, Any], doctree: object
) -> None:
    """Between a parameter and its text; elsewhere two hyphens begin an option."""
    if "body" in context:
        context["body"] = re.sub(r"(?<=>) -- ", " \N{EN DASH} ", context["body"])


def setup(sphinx: Sphinx) -> None:
    """Called by Sphinx."""
    sphinx.connect("autodoc-process-docstring", read_docstring)
    sphinx.connect("html-page-context", set_dashes)
    sphinx.connect("source-read", fill_in)
    sphinx.connect("build-finished", write_schema)
