"""An engine is compared with a baseline on its own device, and with no other, wherever one looks.

Manifest, report, compare, packages, tables and the pages of this repository: a GPU engine beside a
CPU's baseline would look ten times as fast as it is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.suite import BASELINES as SUITE_BASELINES
from benchmarks.suite import ENTRIES, Role, Suite
from exporter.artifact import Skipped, TensorSpec
from exporter.builds import manifest as manifests
from exporter.builds.records import EngineRecord, Manifest, with_measurement
from exporter.commands.compare import compare
from exporter.errors import InputError, UsageError
from exporter.measure import interleaved
from exporter.measure.interleaved import EagerBaseline, EngineToMeasure, OnnxBaseline, measure
from exporter.measure.timing import BASELINES, Conditions, Latency, Measurement
from exporter.progress import Silent
from exporter.report.advice import advise
from exporter.report.charts import speed_charts
from exporter.report.engines import views
from exporter.report.flat import flat
from exporter.report.page import render
from exporter.report.traced import Traced
from exporter.targets import TARGETS, MachineKind, device_of
from tests import manifests as built
from tests.commands.test_tables import printed
from tests.gpu_manifests import both_devices, gpu_latency

CPU, GPU = MachineKind.CPU, MachineKind.GPU
ROOT = Path(__file__).parents[1]


def as_before(manifest: Manifest) -> dict[str, Any]:
    """Its JSON as versions wrote it that compared a GPU's engines with eager on the CPU."""
    content = manifests.to_json(manifest)
    for engine in content["engines"]:
        for latency in (engine["latency"], *engine["latency_by_batch"]):
            for key in ("device", "compute", "gpu"):
                latency.pop(key)
            latency["baseline"] = "torch-eager"
        engine.pop("bound")
    content["host"].pop("gpu_ceilings")
    parsed: dict[str, Any] = json.loads(json.dumps(content))
    return parsed


# --- the records ----------------------------------------------------------------------------------


@pytest.mark.parametrize("baseline", BASELINES)
@pytest.mark.parametrize("device", MachineKind)
def test_no_latency_holds_a_baseline_of_another_device(baseline: str, device: MachineKind) -> None:
    one = built.latency(1.0, 2.0)
    if BASELINES[baseline].device is device:
        assert replace(one, device=device, baseline=baseline).baseline == baseline
    else:
        with pytest.raises(ValueError, match=f"on the {device} cannot be compared with {baseline}"):
            replace(one, device=device, baseline=baseline)


@pytest.mark.parametrize("kind", [EagerBaseline, OnnxBaseline])
def test_each_kind_of_baseline_has_one_on_each_device(
    kind: type[EagerBaseline] | type[OnnxBaseline],
) -> None:
    assert {device: BASELINES[name].device for device, name in kind.names.items()} == {
        device: device for device in MachineKind
    }


def test_an_edited_manifest_with_the_wrong_baseline_is_refused() -> None:
    content = json.loads(json.dumps(manifests.to_json(both_devices())))
    content["engines"][1]["latency"]["baseline"] = "torch-eager"
    with pytest.raises(InputError, match="on the gpu cannot be compared with torch-eager"):
        manifests.from_json(content, "manifest.json")


def test_an_older_manifest_keeps_its_cpu_figures_and_loses_the_mixed_ones() -> None:
    read = manifests.from_json(as_before(both_devices()), "manifest.json")
    cpu, gpu = read.engines
    assert isinstance(cpu.latency, Latency)
    assert cpu.latency.device is CPU
    assert len(cpu.latency_by_batch) == 4
    assert isinstance(gpu.latency, Skipped)
    assert "compared with torch-eager on the cpu and runs on the gpu" in gpu.latency.skipped
    assert gpu.latency_by_batch == ()
    assert read.fastest is cpu


def test_what_was_measured_on_another_device_never_enters_a_record() -> None:
    engine = both_devices().engines[1]
    wrong = built.latency(1.0, 50.0)
    found = with_measurement(engine, Measurement(wrong, (wrong,), Skipped("no profile")))
    assert isinstance(found.latency, Skipped)


# --- measuring ------------------------------------------------------------------------------------


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_an_engine_on_the_gpu_waits_for_a_baseline_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a machine whose PyTorch reaches no GPU it has no latency, and no failure."""
    monkeypatch.setattr(interleaved, "why_not_here", lambda _target: None)
    engines = [EngineToMeasure("tensorrt.fp16", "tensorrt", tmp_path / "fp16.plan")]
    baseline = EagerBaseline(torch.nn.ReLU(), TensorSpec("x", "float32", ("N", 3, 8, 8)))
    found = measure(engines, baseline, Conditions(1, 5, 0, (1,)), Silent())
    reason = found.latencies["tensorrt.fp16"][1]
    assert isinstance(reason, Skipped)
    assert reason.skipped.startswith("torch-eager-cuda cannot be timed here: ")
    assert "reaches no NVIDIA GPU here" in reason.skipped
    assert found.failures == {}


# --- what is made of the records ------------------------------------------------------------------


def test_the_fastest_is_found_within_a_device_and_across_by_time_with_transfers() -> None:
    manifest = both_devices()
    cpu, gpu = manifest.engines
    assert manifest.devices == (CPU, GPU)
    assert manifest.fastest_on(CPU) is cpu
    assert manifest.fastest_on(GPU) is gpu
    assert speedup(cpu) > speedup(gpu)
    assert manifest.fastest is gpu  # 1 ms against 9.3
    slow = built.with_engine(manifest, gpu.id, latency=gpu_latency(20.0, 9.0))
    assert slow.fastest is slow.engines[0]


def speedup(engine: EngineRecord) -> float:
    assert isinstance(engine.latency, Latency)
    return engine.latency.speedup.median


def test_the_report_has_a_chart_and_a_baseline_for_each_device() -> None:
    manifest = both_devices()
    engines = views(Traced(manifest))
    charts = speed_charts(engines)
    assert [(chart.device, [row.engine.id for row in chart.rows]) for chart in charts] == [
        (CPU, ["ort-cpu.int8"]),
        (GPU, ["tensorrt.fp16"]),
    ]
    page = re.sub(r"<[^>]+>", "", render(manifest))
    assert "Speedup over eager PyTorch\n" in page
    assert "Speedup over eager PyTorch on the GPU (float32, TF32 off)" in page
    assert "2.00\N{MULTIPLICATION SIGN} as fast as eager PyTorch on the GPU" in page
    assert "5.55\N{MULTIPLICATION SIGN} as fast as eager PyTorch on the GPU" not in page
    reasons = " ".join("".join(map(str, parts)) for parts in advise(manifest, engines).reasons)
    assert "On another device ort-cpu.int8 takes 9.30\N{NO-BREAK SPACE}ms" in reasons
    assert "It is the only engine here" in reasons


def test_the_table_and_the_rows_name_each_device() -> None:
    manifest = both_devices()
    text = printed(manifest)
    assert "2.00x on the gpu (1.96 to 2.04)" in text
    assert "5.55x (5.44 to 5.66)" in text
    assert "eager PyTorch, batch 1: p50 51.60 ms" in text
    assert "eager PyTorch on the GPU (float32, TF32 off), batch 1: p50 2.00 ms" in text
    rows = {row.id: row.latencies for row in flat(manifest).engines}
    assert {one.device for one in rows["tensorrt.fp16"]} == {GPU}
    assert {one.device for one in rows["ort-cpu.int8"]} == {CPU}


def test_builds_are_compared_within_a_device() -> None:
    new = flat(both_devices())
    same = compare(new, new)
    assert {speed.engine for speed in same.speeds} == {"ort-cpu.int8", "tensorrt.fp16"}
    before = flat(manifests.from_json(as_before(both_devices()), "manifest.json"))
    found = compare(before, new)
    assert {speed.engine for speed in found.speeds} == {"ort-cpu.int8"}
    # A report.json of then says so itself, since no reader looked at its devices.
    mixed = replace(
        new,
        engines=tuple(
            replace(
                row,
                latencies=tuple(
                    replace(one, device=CPU, baseline="torch-eager") for one in row.latencies
                ),
            )
            for row in new.engines
        ),
    )
    found = compare(mixed, mixed)
    assert {speed.engine for speed in found.speeds} == {"ort-cpu.int8"}
    assert any("it runs on the gpu" in why for _, why in found.not_compared)


# --- the suite and the pages ----------------------------------------------------------------------


def test_the_entries_of_a_suite_share_a_device_and_its_baseline() -> None:
    for entry in ENTRIES:
        target = str(entry.options.get("target", ""))
        if target:
            assert device_of(target) is entry.device, entry.name
        if entry.role is Role.BASELINE:
            assert SUITE_BASELINES[entry.device] == entry.name
            assert BASELINES[entry.name].device is entry.device
    with pytest.raises(UsageError, match="one device"):
        Suite("mixed", ("resnet18",), (1,), ENTRIES, rounds=5, lives=1)


def tables(text: str) -> Iterator[list[list[str]]]:
    """Every table of a page, as rows of cells, the heading first."""
    for block in re.findall(r"(?:^\|.*\|\s*\n)+", text, re.MULTILINE):
        rows = [
            [cell.strip() for cell in line.strip("| ").split("|")] for line in block.splitlines()
        ]
        yield [row for row in rows if not set("".join(row)) <= set("-: ")]


def mixed_rows(text: str) -> list[str]:
    """Engines of a GPU with a speedup that is not said to be over a baseline on the GPU."""
    wrong = []
    for heading, *rows in tables(text):
        columns = [i for i, cell in enumerate(heading) if "speedup" in cell.lower()]
        for row in rows:
            engine = row[0].strip("`* ").removeprefix("ours/")
            for column in columns:
                cell = row[column] if column < len(row) else ""
                figure = re.search(r"\d", cell)
                on_gpu = "GPU" in heading[column] or "on the gpu" in cell.lower()
                device = device_of(engine.rpartition(".")[0] or engine)
                if figure and device is not None and on_gpu is not (device is GPU):
                    wrong.append(f"{row[0]}: {cell}")
    return wrong


def test_no_page_compares_a_gpu_with_a_cpu() -> None:
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    found = {page.name: mixed_rows(page.read_text(encoding="utf-8")) for page in pages}
    assert {name: rows for name, rows in found.items() if rows} == {}


def test_a_page_that_did_would_be_found() -> None:
    table = (
        "| engine | p50 | speedup over eager (95 %) |\n| --- | --- | --- |\n"
        "| ort-cpu.fp32 | 27.0 ms | 1.79 |\n| tensorrt.fp16 | 0.9 ms | 55.1 (54.0 to 56.2) |\n"
    )
    assert mixed_rows(table) == ["tensorrt.fp16: 55.1 (54.0 to 56.2)"]
    assert mixed_rows(table.replace("55.1", "4.2 on the GPU")) == []
    assert mixed_rows(table.replace("speedup over eager", "speedup over eager on the GPU")) == [
        "ort-cpu.fp32: 1.79"
    ]
    assert set(map(device_of, TARGETS)) == {CPU, GPU}
