"""A manifest in which somebody changed one thing: one clear line, or an answer; never a traceback.

Every field is taken away and given other values in turn, and every command that only reads the
manifest is run on what is left.
"""

from __future__ import annotations

import copy
import io
import json
import math
from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from exporter.builds import manifest
from exporter.builds.records import Manifest
from exporter.commands import compare, explain, tables
from exporter.commands.validate import render_drift
from exporter.errors import ExporterError
from exporter.report import flat, write_report
from tests import manifests

GONE = object()
VALUES: Final[tuple[Any, ...]] = (
    GONE, None, "", "\ud800", True, 0, -1, 2**63, 1e308, math.inf, math.nan,
    [], ["x"], {}, {"x": "x"}, {"skipped": "x"},
)  # fmt: skip
"""What JSON can hold, with the values that arithmetic stumbles over."""


def shortened(value: Any) -> Any:
    """The record with one entry in each list of records."""
    if isinstance(value, tuple):
        return tuple(map(shortened, value[:1] if value and is_dataclass(value[0]) else value))
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{f.name: shortened(getattr(value, f.name)) for f in fields(value)})
    return value


def small() -> Manifest:
    """A build with an entry of every kind: measured, built for elsewhere, not built."""
    whole, failed = manifests.resnet50(trained=True), manifests.failed()
    engines = (whole.engines[2], whole.engines[6])
    model = replace(whole.model, residual_blocks=whole.model.residual_blocks[:1])
    return replace(
        whole,
        model=model,
        engines=tuple(map(shortened, engines)),
        failures=failed.failures,
        failed_engines=failed.failed_engines,
    )


def places(value: Any, *path: str | int) -> Iterator[tuple[str | int, ...]]:
    """The path of everything inside a parsed JSON value."""
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield (*path, key)
            yield from places(value[key], *path, key)


def edited(content: Any, path: tuple[str | int, ...], value: Any) -> Any:
    """A copy with another value at one place; all else is shared."""
    key, *rest = path
    content = copy.copy(content)
    if rest:
        content[key] = edited(content[key], tuple(rest), value)
    elif value is GONE:
        del content[key]
    else:
        content[key] = value
    return content


def read_everywhere(content: Any, folder: Path, whole: Manifest) -> None:
    """Every command that only reads a manifest.

    Raises:
        ExporterError: what it should be, where the content is of no use.
    """
    console = Console(file=io.StringIO(), width=200, highlight=False)
    found = manifest.from_json(content, "manifest.json")
    write_report(folder, found)
    tables.engines(found, console)
    explain.render(explain.explain(found), console)
    render_drift(found, console)
    for old, new in ((whole, found), (found, whole)):
        comparison = compare.compare(
            flat(old), flat(new), max_slowdown=0.1, max_error_growth=0.1, allow_other_host=True
        )
    compare.render(comparison, console)


def outcome(content: Any, folder: Path, whole: Manifest) -> str:
    """What a person sees: nothing, one line, or a traceback."""
    try:
        read_everywhere(content, folder, whole)
    except ExporterError as error:
        return "one line" if "\n" not in str(error) else str(error)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "an answer"


def test_each_field_edited_in_turn_is_one_line_or_an_answer(tmp_path: Path) -> None:
    whole = small()
    content = json.loads(json.dumps(manifest.to_json(whole)))
    assert outcome(content, tmp_path, whole) == "an answer"
    seen = {"one line": 0, "an answer": 0}
    for number, path in enumerate(places(content)):
        # Every value at every place takes a minute; a third of them in turn meets each kind often.
        for value in VALUES[number % 3 :: 3]:
            found = outcome(edited(content, path, value), tmp_path, whole)
            assert found in seen, f"{path} = {value!r}: {found}"
            seen[found] += 1
    assert seen["one line"] > 1200
    assert seen["an answer"] > 200
