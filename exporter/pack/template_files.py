"""The files that packages hold beside data: `templates/` to fill in, `shipped/` as they are."""

from __future__ import annotations

from importlib import resources
from typing import Any


def shipped(name: str) -> str:
    """The text of a file that ships as it is."""
    return resources.files("exporter.pack").joinpath("shipped", name).read_text(encoding="utf-8")


def render(name: str, /, **values: Any) -> str:
    """A template filled in; a value that is missing is an error.

    Nothing is escaped: these are Markdown and YAML, not HTML. The filter `cell` makes text safe for
    a cell of a Markdown table.
    """
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("exporter.pack", "templates"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701
    )
    environment.filters["cell"] = _cell
    return environment.get_template(name).render(**values)


def _cell(value: object) -> str:
    return " ".join(str(value).split()).replace("|", "\\|").replace("<", "&lt;")
