"""What `exporter trace` prints is what it found."""

from __future__ import annotations

import dataclasses
import json

import torch
from rich.console import Console

from exporter.artifact import Model
from exporter.commands.trace_table import render
from exporter.models.sources import define
from exporter.models.trace import trace
from exporter.progress import Silent


def test_json_and_table_tell_the_same() -> None:
    result = trace(define("plain20", "random", progress=Silent()))
    as_json = json.loads(result.to_json())
    assert len(as_json["rows"]) == len(result.rows)
    console = Console(width=140, record=True, file=None, quiet=False, stderr=True)
    with console.capture() as capture:
        render(result, console)
    text = capture.get()
    for row in result.rows:
        assert row.path in text
    assert "HxW halved" in text


def test_names_that_look_like_markup_are_shown_as_they_are() -> None:
    """add_module takes any name without a dot, a file any name at all."""
    model = define("resnet20", "random", progress=Silent())
    assert model.module is not None
    odd = torch.nn.Sequential()
    odd.add_module("[/x]:module:", model.module)
    spec = dataclasses.replace(model.spec, name="net[/v2]")
    console = Console(width=200, emoji=False, force_terminal=False)
    with console.capture() as capture:
        render(trace(Model(spec, odd)), console)
    assert "net[/v2], input 3x32x32" in capture.get()
    assert "[/x]:module:.layer1.0.conv1" in capture.get()
