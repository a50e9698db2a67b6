"""Functions from requests: their arguments, their help, and what they say of a slip."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import attrs
import pytest

import exporter
from exporter.builds.benchmark_request import BenchmarkRequest
from exporter.builds.capacity_request import CapacityRequest
from exporter.builds.option import declarations
from exporter.builds.request import ExportRequest, ValidateRequest
from exporter.commands.calls import shown
from exporter.errors import UsageError
from exporter.pack.request import PackRequest
from exporter.progress import Silent

CALLS = [
    (exporter.export, ExportRequest),
    (exporter.Build.validate, ValidateRequest),
    (exporter.Build.benchmark, BenchmarkRequest),
    (exporter.Build.capacity, CapacityRequest),
    (exporter.Build.pack, PackRequest),
]


@pytest.mark.parametrize(("function", "request_"), CALLS)
def test_every_option_is_an_argument_and_in_the_help(
    function: Callable[..., Any], request_: type
) -> None:
    parameters = inspect.signature(function).parameters
    text = inspect.getdoc(function) or ""
    arguments = text.partition("Args:")[2].partition("Returns:")[0]
    for declared in declarations(request_):
        if declared.option.positional:
            continue
        assert parameters[declared.name].default == declared.default
        assert f"    {declared.name}: " in arguments
    for section in ("Returns:", "Raises:", ">>> import exporter"):
        assert section in text
    assert "{options}" not in text
    assert max(map(len, text.splitlines())) <= 100


def test_the_help_shows_what_may_be_given() -> None:
    shown_as = str(inspect.signature(exporter.export))
    accepted = "str | os.PathLike[str] | torch.nn.Module | torch.export.ExportedProgram"
    assert shown_as.startswith(f"(model: '{accepted}', /, *, ")
    assert "precisions: str | collections.abc.Iterable[str] = ()" in shown_as
    assert "correction: str = 'all'" in shown_as
    assert shown_as.endswith("-> 'Build'")


def test_a_slip_is_a_type_error_that_names_the_nearest() -> None:
    anything: Any = exporter
    with pytest.raises(
        TypeError, match=r"export\(\): unknown option 'precison'; did you mean prec"
    ):
        anything.export("resnet18", precison=["int8"])
    with pytest.raises(TypeError, match="did you mean targets"):
        anything.export("resnet18", target="ort-cpu")
    with pytest.raises(TypeError, match="too many positional"):
        anything.export("resnet18", "random")


def test_progress_is_shown_where_it_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    mine = Silent()
    everything: list[tuple[Any, Silent | None]] = [
        (mine, mine), (True, None), (False, None), ("auto", None)
    ]  # fmt: skip
    for given, kept in everything:
        progress = shown(given)
        progress.note("a note")
        with progress.stage("a stage"):
            progress.detail("at something")
        assert progress.notes == ["a note"]
        if kept is not None:
            assert kept.notes == ["a note"]
        # Standard error is no terminal here.
        assert ("a stage" in capsys.readouterr().err) == (given is True)
    with pytest.raises(UsageError, match="progress is 'on'"):
        shown("on")  # type: ignore[arg-type]


def test_requests_are_frozen() -> None:
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        ExportRequest().seed = 1  # type: ignore[misc]
