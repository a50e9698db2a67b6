"""A request becomes a command line and back: what the report says to type gives the same build."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, TypeVar

import pytest
import typer
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.artifact import Precision, TensorSpec
from exporter.builds.benchmark_request import BenchmarkRequest
from exporter.builds.option import Declaration, Option, command_line, declarations
from exporter.builds.request import ExportRequest
from exporter.cli import app
from exporter.commands.options import request_of
from exporter.errors import UsageError
from exporter.pack.request import PackRequest
from exporter.report.page import commands, render
from tests import manifests
from tests.requests import others, requests

Request = TypeVar("Request")
GROUP: Any = typer.main.get_command(app)


def typed(line: list[str], kind: type[Request], *before: str) -> Request:
    """The request that the command line's own parser reads from `exporter COMMAND ...`."""
    program, name, *words = line
    assert program == "exporter"
    context = GROUP.commands[name].make_context(name, [*before, *words])
    return request_of(kind, context.params)


def told(request: ExportRequest) -> dict[str, str]:
    """The command lines in the report of a build that was asked for so."""
    return commands(replace(manifests.resnet50(drift=False), request=request))


@pytest.mark.parametrize("name", [one.name for one in declarations(ExportRequest)])
@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_every_option_that_is_given_is_in_the_reproduce_line(
    name: str, data: st.DataObject
) -> None:
    (declared,) = (one for one in declarations(ExportRequest) if one.name == name)
    request = ExportRequest(**{name: data.draw(others(declared))})
    again = typed(shlex.split(told(request)["export"]), ExportRequest)
    if declared.option.not_recorded:
        assert again == ExportRequest()
    else:
        assert again == request


@settings(max_examples=50, deadline=None)
@given(requests(ExportRequest))
def test_options_together_are_in_the_reproduce_line(request: ExportRequest) -> None:
    words = ["exporter", "export", *command_line(request)]
    unrecorded = [one for one in declarations(ExportRequest) if one.option.not_recorded]
    given = [(one, getattr(request, one.name)) for one in unrecorded]
    more = [word for one, value in given if value is not None for word in one.words(value)]
    assert typed(shlex.split(shlex.join(words)), ExportRequest, *more) == request


@settings(max_examples=50, deadline=None)
@given(requests(PackRequest))
def test_a_packing_is_typed_as_it_is_requested(request: PackRequest) -> None:
    assert typed(["exporter", "pack", *command_line(request)], PackRequest) == request


def test_the_report_says_how_to_measure_again_as_it_was_measured() -> None:
    request = ExportRequest(weights="w.pth", batches=(1, 8), threads=3, rounds=50)
    line = shlex.split(told(request)["benchmark"])
    assert typed(line, BenchmarkRequest) == BenchmarkRequest(
        Path("DIR"), weights="w.pth", batches=(1, 8), threads=3, rounds=50
    )


def test_a_model_of_one_batch_size_is_not_told_to_scale() -> None:
    build = manifests.resnet50(drift=False)
    line = shlex.split(commands(build)["scaling"])
    assert typed(line, BenchmarkRequest).batches == (1, 2, 4, 8, 16)
    spec = replace(build.model, input=TensorSpec("input", "float32", (4, 3, 224, 224)))
    assert commands(replace(build, model=spec))["scaling"] == ""
    page = render(replace(manifests.build([]), model=spec))
    assert "The model takes one batch size only." in page


def test_only_what_differs_is_typed() -> None:
    assert command_line(ExportRequest()) == ["resnet20-digits"]
    assert command_line(ExportRequest(measure=False, reduce_range=True)) == [
        "resnet20-digits", "--reduce-range", "--no-measure",
    ]  # fmt: skip


def test_lists_name_each_thing_once() -> None:
    words = ["exporter", "export", "--precision", " int8,fp32,int8,", "--batches", "8,08,1"]
    request = typed(words, ExportRequest)
    assert request.precisions == (Precision.INT8, Precision.FP32)
    assert request.batches == (8, 1)
    with pytest.raises(UsageError, match="--target ',': give at least one, or leave it out"):
        typed(["exporter", "export", "--target", ","], ExportRequest)


def test_settings_are_kept_by_target() -> None:
    words = ["exporter", "export"]
    for entry in ("a.k=1", "a.l=x=y", "b.k="):
        words += ["--setting", entry]
    assert typed(words, ExportRequest).settings == {"a": {"k": "1", "l": "x=y"}, "b": {"k": ""}}


@pytest.mark.parametrize("annotation", [int, Annotated[int, "no option"]])
def test_a_field_without_a_declaration_is_an_error_of_ours(annotation: Any) -> None:
    with pytest.raises(TypeError, match="field: declare it as"):
        Declaration.of("field", annotation, 0)


def test_a_new_option_needs_no_more_than_its_declaration() -> None:
    declared = Declaration.of("new_thing", Annotated[tuple[str, ...], Option(help="New.")], ())
    assert declared.words(("a", "b")) == ["--new-thing", "a,b"]
    assert declared.read("a,b") == ("a", "b")
    path = Declaration.of("where", Annotated[Path | None, Option(help="Where.")], None)
    assert path.words(Path("x/y")) == ["--where", "x/y"]
