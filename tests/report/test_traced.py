"""Figures: how they are shown, and where in the file they say that they come from."""

from __future__ import annotations

import math

import pytest

from exporter.artifact import Skipped
from exporter.report import traced
from exporter.report.traced import Traced, scientific, significant
from tests import manifests


@pytest.mark.parametrize(
    ("value", "text"),
    [(9.2817, "9.28"), (51.6, "51.6"), (0.062134, "0.0621"), (1240.4, "1240"), (9.996, "10.0"),
     (99.96, "100"), (0, "0"), (-3.14159, "-3.14")],
)  # fmt: skip
def test_three_significant_digits_without_an_exponent(value: float, text: str) -> None:
    assert significant(value) == text


def test_errors_have_two_digits_and_an_exponent_where_it_is_not_0() -> None:
    assert [scientific(x) for x in (3.14e-7, 0.046, 0, 1.0)] == ["3.1e-7", "4.6e-2", "0", "1.0"]


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_what_is_not_finite_is_shown_as_the_file_has_it(value: float) -> None:
    for form in (traced.error, traced.decibels, traced.percent, traced.milliseconds, traced.times):
        figure = form(Traced(value, "here"))
        assert figure.text.startswith(str(value))
        assert f'value="{value}"' in figure.__html__()


@pytest.mark.parametrize("value", [5e-324, 1e308, -1e308])
def test_numbers_at_the_ends_of_their_type_are_shown(value: float) -> None:
    assert float(significant(value)) == pytest.approx(value, rel=0.01)
    assert float(scientific(value)) == pytest.approx(value, rel=0.1)


def test_a_figure_knows_its_place_in_the_file() -> None:
    manifest = Traced(manifests.resnet50())
    engine = manifest.engines[2]
    assert engine.latency.speedup.ci95[1].where == "engines[2].latency.speedup.ci95[1]"
    assert engine.bytes.where == "engines[2].bytes"
    assert engine.built_from.where == "engines[2].graph"
    assert manifest.host.versions["torch"].where == "host.versions.torch"
    assert Traced({"a b": 1})["a b"].where == '["a b"]'
    assert [block.name.where for block in engine.receipt.blocks][1] == (
        "engines[2].receipt.blocks[1].name"
    )


def test_a_name_that_no_record_has_is_an_error_in_the_page_itself() -> None:
    with pytest.raises(AttributeError):
        Traced(manifests.resnet50()).engnies  # noqa: B018


def test_what_was_skipped_is_told_apart() -> None:
    assert traced.is_skipped(Traced(Skipped("no GPU")))
    assert not traced.is_skipped(Traced(manifests.resnet50()).engines[0].latency)
