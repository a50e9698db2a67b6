"""The report's table of least times: an engine's figures against the GPU's ceilings."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from exporter.artifact import Skipped
from exporter.report.engines import views
from exporter.report.gpu_bounds import bound_rows
from exporter.report.page import render
from exporter.report.traced import Traced
from tests import manifests
from tests.gpu_manifests import a_gpus_build


def test_an_engine_is_held_against_its_kernels_and_its_ceiling() -> None:
    traced = Traced(a_gpus_build())
    (row,) = bound_rows(traced, views(traced))
    # 250 of 500 microseconds; 2 * 4.089 GMAC in those 500 are 16.4 of 40 TOP/s.
    assert row.of_time.value == pytest.approx(0.5)
    assert row.of_ceiling is not None
    assert row.of_ceiling.value == pytest.approx(0.409, abs=1e-3)
    assert row.memory_bound == 0
    page = re.sub(r"<[^>]+>", " ", render(traced.raw))
    assert "Least time" not in page  # a label of the table for those who cannot see it
    assert re.search(r"On the GPU\s+What this GPU does at most.* GOP/s in fp16", page)
    assert "held down" in page
    assert "power cap" in page
    assert "NVIDIA's own figure for" in page
    assert "GPU Compute Time" in page


def test_without_ceilings_or_a_gpu_there_is_no_such_table() -> None:
    build = a_gpus_build()
    for manifest in (
        replace(build, host=replace(build.host, gpu_ceilings=Skipped("no GPU was measured"))),
        manifests.resnet50(),
    ):
        traced = Traced(manifest)
        assert bound_rows(traced, views(traced)) == ()
        assert "On the GPU</h3>" not in render(manifest)
