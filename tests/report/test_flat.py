"""report.json: one flat row an engine."""

from __future__ import annotations

import json
from pathlib import Path

from exporter.builds.codec import plain, structure
from exporter.report import write_report
from exporter.report.flat import HOST_KEYS, FlatReport, flat
from tests import manifests


def test_the_flat_view_is_one_row_an_engine() -> None:
    manifest = manifests.resnet50(trained=True)
    view = flat(manifest)
    assert view.recommended == "ort-cpu.int8"
    assert [row.id for row in view.engines] == [engine.id for engine in manifest.engines]
    row = view.engines[2]
    assert (row.receipt_verdict, row.parity_passed, row.top1) == ("fused", True, 0.8012)
    assert [timing.batch for timing in row.latencies] == [1, 2, 4, 8]
    assert row.latencies[0].speedup_low < row.latencies[0].speedup
    away = view.engines[5]
    assert (away.latencies, away.latency_skipped) == ((), manifests.NO_GPU)
    nested = [key for row in plain(view)["engines"] for key in row if isinstance(row[key], dict)]
    assert nested == []


def test_what_failed_is_in_it() -> None:
    view = flat(manifests.failed())
    assert [engine.id for engine in view.failed_engines] == ["openvino.fp16"]
    failures = {row.id: row.failures for row in view.engines if row.failures}
    assert set(failures) == {"ort-cpu.int8", "openvino.fp32"}
    assert {row.id for row in view.engines if row.rejected} == set(failures)


def test_the_file_reads_back_as_the_same_view(tmp_path: Path) -> None:
    for manifest in (manifests.resnet50(), manifests.failed(), manifests.unmeasured()):
        _, path = write_report(tmp_path, manifest)
        content = json.loads(path.read_text())
        assert (content.pop("schema"), content.pop("kind")) == (1, "report")
        assert structure(content, FlatReport, path.name) == flat(manifest)


def test_the_host_is_what_timings_depend_on() -> None:
    assert HOST_KEYS == (
        "cpu", "system", "logical_cpus", "cpu_flags", "gpu", "compute_capability",
    )  # fmt: skip
