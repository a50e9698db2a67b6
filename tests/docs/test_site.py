"""The site is made without a warning, has what it promises, and loads nothing from elsewhere."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
import typer.main

import exporter
from exporter import runtime
from exporter.builds.json_schema import manifest_schema
from exporter.cli import app
from tests.docs.pages import ROOT, commands


class Loads(HTMLParser):
    """What a browser fetches by itself when it shows a page; links are for the reader."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            loads = name in {"src", "srcset", "poster", "data"} or (
                name == "href" and tag == "link"
            )
            if loads and value is not None:
                self.addresses.append(value)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    options = ["--fail-on-warning", "--keep-going", "--quiet", "-d", str(folder / "doctrees")]
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", *options, "docs", folder / "html"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return folder / "html"


def test_a_page_loads_nothing_from_elsewhere(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 40
    loaded = {path: Loads(path.read_text(encoding="utf-8")).addresses for path in pages}
    assert any("_static/" in address for address in loaded[site / "index.html"])
    outside = re.compile(r"\s*(\w+:)?//")
    assert not {
        path: found for path in pages if (found := list(filter(outside.match, loaded[path])))
    }
    for path in site.rglob("*.css"):
        assert not re.search(r"(url\(|@import)[\s'\"]*(\w+:)?//", path.read_text(encoding="utf-8"))


def test_no_page_names_the_machine_that_made_it(site: Path) -> None:
    for path in site.rglob("*.html"):
        assert str(ROOT) not in path.read_text(encoding="utf-8")


def test_every_public_name_has_its_place(site: Path) -> None:
    for page, module in (("python", exporter), ("runtime", runtime)):
        html = (site / "reference" / f"{page}.html").read_text(encoding="utf-8")
        for name in set(module.__all__) - {"__version__", "load"}:
            assert f'id="{module.__name__}.{name}"' in html, name
    # Once under one name: what serves imports it from there.
    assert 'id="exporter.runtime.load"' in html
    assert "{options}" not in (site / "reference" / "python.html").read_text(encoding="utf-8")


def test_every_command_and_option_is_there(site: Path) -> None:
    html = (site / "reference" / "command-line.html").read_text(encoding="utf-8")
    for command in app.registered_commands:
        assert command.callback is not None
        assert f'id="exporter-{command.callback.__name__}"' in html
    for option in ("--bake-preprocess", "--max-slowdown", "--storage-uri"):
        assert option in html


def test_the_schema_is_published(site: Path) -> None:
    text = (site / "manifest.schema.json").read_text(encoding="utf-8")
    assert json.loads(text) == manifest_schema()
    assert "manifest.schema.json" in (site / "reference" / "manifest.html").read_text("utf-8")


def test_every_command_that_a_page_types_is_understood() -> None:
    group = typer.main.get_command(app)
    typed = commands()
    assert len(typed) > 15
    for name, *arguments in typed:
        group.commands[name].make_context(name, arguments)  # type: ignore[attr-defined]


def test_pictures_are_small() -> None:
    for path in (ROOT / "docs" / "images").iterdir():
        assert path.stat().st_size < 200_000, path
