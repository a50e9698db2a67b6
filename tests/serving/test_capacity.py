"""A plan's files, read by Kubernetes' published object model and by Triton's configuration."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from exporter.builds import manifest as manifests
from exporter.builds.capacity_request import CapacityRequest
from exporter.builds.records import Manifest
from exporter.commands.capacity import capacity
from exporter.measure.throughput import Throughput
from exporter.progress import Silent
from tests.richer_manifests import under_load
from tests.serving import kserve_schema
from tests.serving.environment import run_client

pytestmark = pytest.mark.serving


def batches_that_pay() -> Manifest:
    """A build whose batches of eight take as long as four images."""
    manifest = under_load()
    assert isinstance(manifest.throughput, Throughput)
    points = tuple(
        replace(
            point,
            calls_ms=tuple(ms / 2 for ms in point.calls_ms),
            alone_ms=tuple(ms / 2 for ms in point.alone_ms),
        )
        if point.batch == 8
        else point
        for point in manifest.throughput.points
    )
    return replace(manifest, throughput=replace(manifest.throughput, points=points))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    build = tmp_path_factory.mktemp("build")
    manifests.write(build, batches_that_pay())
    out = tmp_path_factory.mktemp("plan")
    capacity(CapacityRequest(build, rate=700, slo_ms=400, out=out), Silent())
    return out


@pytest.mark.skipif(
    not kserve_schema.installed(), reason="kubernetes is not installed; run make test-serving"
)
def test_the_autoscaler_is_kubernetes_own_object(files: Path) -> None:
    described: dict[str, Any] = yaml.safe_load((files / "autoscaler.yaml").read_text())
    assert list(kserve_schema.problems(described, "V2HorizontalPodAutoscaler")) == []
    described["spec"]["metrics"][0]["pods"]["target"].pop("type")
    (problem,) = kserve_schema.problems(described, "V2HorizontalPodAutoscaler")
    assert problem.endswith("target.type: missing")


def test_triton_reads_the_values(files: Path) -> None:
    described = run_client("config", files / "config.pbtxt")
    assert described["max_batch_size"] == 8
    assert described["instance_group"][0]["kind"] == "KIND_CPU"
    batching = described["dynamic_batching"]
    assert batching["preferred_batch_size"] == [8]
    assert batching["default_queue_policy"]["default_timeout_microseconds"] == "400000"
