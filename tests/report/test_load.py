"""What is drawn of throughput."""

from __future__ import annotations

import math
from dataclasses import replace

from exporter.artifact import Skipped
from exporter.builds.records import Manifest
from exporter.report.engines import views
from exporter.report.load import LoadChart, load_chart
from exporter.report.page import commands, render
from exporter.report.traced import Traced
from tests import manifests
from tests.richer_manifests import under_load


def chart_of(manifest: Manifest) -> LoadChart | None:
    traced = Traced(manifest)
    return load_chart(traced, views(traced))


def test_every_layout_is_a_mark_and_the_best_are_drawn_last() -> None:
    manifest = under_load()
    chart = chart_of(manifest)
    assert chart is not None
    assert len(chart.marks) == 12
    assert [mark.point.raw.best for mark in chart.marks] == [False] * 10 + [True] * 2
    assert {engine.id for engine in chart.engines} == {"ort-cpu.int8", "openvino.int8"}
    assert chart.limit is None
    most = max(chart.marks, key=lambda mark: mark.y)
    assert most.point.raw.images_per_s == max(mark.point.raw.images_per_s for mark in chart.marks)
    assert chart.marks[-1].words in render(manifest)


def test_a_limit_is_a_line_within_the_drawing() -> None:
    chart = chart_of(under_load(30.0))
    assert chart is not None
    assert chart.limit is not None
    assert 0 < chart.limit < 100
    best = [mark for mark in chart.marks if mark.point.raw.best]
    assert best
    assert all(mark.x <= chart.limit for mark in best)


def test_what_was_not_measured_or_is_not_finite_is_not_drawn() -> None:
    assert chart_of(manifests.resnet50()) is None
    measured = under_load()
    assert not isinstance(measured.throughput, Skipped)
    points = tuple(replace(p, p99_ms=math.inf) for p in measured.throughput.points)
    lost = replace(measured, throughput=replace(measured.throughput, points=points))
    assert chart_of(lost) is None
    assert "was not measured" in render(manifests.resnet50())


def test_the_command_measures_within_the_same_limit() -> None:
    assert commands(under_load(30.0))["throughput"].endswith("--throughput --max-p99 30.0")
    assert commands(manifests.resnet50())["throughput"].endswith("--throughput")
