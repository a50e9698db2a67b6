"""What the drawings show, and that no letter of them covers another."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import pytest

from exporter.artifact import Precision
from exporter.report import charts
from exporter.report.engines import views
from exporter.report.traced import Traced
from tests import manifests
from tests.manifests import latency, parity_of, record, with_engine


def test_the_front_holds_the_engines_that_nothing_beats() -> None:
    chart = charts.scatter_chart(views(Traced(manifests.resnet50())))
    assert chart is not None
    # openvino.fp32 is as exact as ort-cpu.fp32 and slower; FP16 is slower and less exact.
    assert [p.engine.id for p in chart.points if p.best] == ["ort-cpu.fp32", "ort-cpu.int8"]
    assert len(chart.front) == 2
    exact = charts.scatter_chart(views(Traced(manifests.not_finite())))
    assert exact is not None
    assert "ort-cpu.fp32" in [p.engine.id for p in exact.points]


def test_letters_don_t_cover_each_other() -> None:
    same = [
        record(
            target, Precision.FP32, op="Conv", dtype="fp32", size=1, latencies=[latency(30, 1.7)]
        )
        for target in ("ort-cpu", "openvino", "tensorrt", "ort-cuda")
    ]
    chart = charts.scatter_chart(views(Traced(manifests.build(same))))
    assert chart is not None
    assert len({point.label for point in chart.points}) == 4
    scaling = charts.scaling_chart(views(Traced(manifests.resnet50())))
    assert scaling is not None
    ends = sorted(line.end for line in scaling.lines)
    assert min(b - a for a, b in itertools.pairwise(ends)) >= charts.LETTER_PX
    assert ends[-1] <= charts.SCATTER_HEIGHT_PX


def test_the_front_does_not_run_through_a_letter() -> None:
    chart = charts.scatter_chart(views(Traced(manifests.resnet50())))
    assert chart is not None
    (x0, y0), (x1, y1) = (
        (x * charts.NARROWEST_PX / 100, -y * charts.SCATTER_HEIGHT_PX / 100) for x, y in chart.front
    )
    for point in chart.points:
        x = point.x * charts.NARROWEST_PX / 100 + point.label[0] + 4
        y = -point.y * charts.SCATTER_HEIGHT_PX / 100 + point.label[1] - 4
        assert not (x0 - 5 < x < x1 + 5 and abs(y - y0) < 6), point.engine.id
        assert not (abs(x - x1) < 5 and min(y0, y1) - 6 < y < max(y0, y1) + 6), point.engine.id


def test_an_exact_engine_does_not_press_the_others_together() -> None:
    build = manifests.resnet50()
    exact = replace(parity_of(build, "openvino.fp32"), rel_l2=0.0, sqnr_db=300.0)
    chart = charts.scatter_chart(views(Traced(with_engine(build, "openvino.fp32", parity=exact))))
    assert chart is not None
    assert chart.y.high <= 200


def test_engines_without_a_finite_timing_are_listed_after_the_bars() -> None:
    (chart,) = charts.speed_charts(views(Traced(manifests.not_finite())))
    assert [row.engine.id for row in chart.rows if row.bar is None] == [
        "ort-cpu.fp16", "tensorrt-rtx:sm89.fp16", "tensorrt-rtx:sm89.int8",
    ]  # fmt: skip
    assert [row.bar is None for row in chart.rows] == sorted(row.bar is None for row in chart.rows)
    latencies = charts.latency_chart(views(Traced(manifests.not_finite())))
    assert latencies is not None
    assert "ort-cpu.fp16" not in [row.engine.id for row in latencies.rows]


@pytest.mark.parametrize("value", [math.nan, math.inf, 0.0, -1.0])
def test_every_drawing_can_be_made_where_no_timing_makes_sense(value: float) -> None:
    build = manifests.resnet50()
    for engine in build.engines:
        if engine.latency_by_batch:
            timings = tuple(
                replace(one, p50_ms=value, eager_p50_ms=value) for one in engine.latency_by_batch
            )
            build = with_engine(build, engine.id, latency=timings[0], latency_by_batch=timings)
    engines = views(Traced(build))
    assert charts.scaling_chart(engines) is None
    for chart in (charts.latency_chart, charts.scatter_chart):
        assert (chart(engines) is None) == (not math.isfinite(value))
