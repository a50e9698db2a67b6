"""`exporter capacity` from the command line down: the plan, its files, and what it refuses."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml

from exporter.builds import manifest as manifests
from exporter.builds.capacity_request import CapacityRequest
from exporter.builds.records import Manifest
from exporter.capacity import plan as planning
from exporter.capacity.record import Plan
from exporter.cli import main
from exporter.commands.capacity import capacity
from exporter.errors import ExporterError
from exporter.progress import Silent
from tests.manifests import resnet50
from tests.richer_manifests import under_load


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "SEARCH_REQUESTS", 150)
    monkeypatch.setattr(planning, "REQUESTS", 300)
    monkeypatch.setattr(planning, "REPEATS", 3)


def written(folder: Path, manifest: Manifest) -> Path:
    folder.mkdir(exist_ok=True)
    manifests.write(folder, manifest)
    return folder


def planned(build: Path, **options: Any) -> Plan:
    asked: dict[str, Any] = {"rate": 500.0, "slo_ms": 100.0, **options}
    return capacity(CapacityRequest(build, **asked), Silent()).plan


def test_a_plan_says_how_many_how_and_what_it_costs(tmp_path: Path) -> None:
    build = written(tmp_path / "b", under_load())
    plan = planned(build, availability="n-1", price=0.5)
    assert (plan.engine, plan.cores, plan.spare) == ("ort-cpu.int8", 2, 1)
    assert plan.needed * plan.most >= 500 > (plan.needed - 1) * plan.most
    assert plan.machines == plan.needed + 1
    assert plan.cost_an_hour == 0.5 * plan.machines
    assert plan.cost_a_million == pytest.approx(1e6 * plan.cost_an_hour / 3600 / 500)
    assert plan.p50_ms.value < plan.p99_ms.value <= 100
    assert plan.p99_ms.value <= plan.p999_ms.value
    assert 0 < plan.utilisation < 0.96
    assert [one.rate for one in plan.curve] == sorted(one.rate for one in plan.curve)
    assert planned(build, engine="openvino.int8").engine == "openvino.int8"
    assert any("does nothing else" in line for line in plan.assumptions)


@pytest.mark.parametrize("threads", [2, 3])
def test_a_server_without_a_core_of_its_own_is_told_of(tmp_path: Path, threads: int) -> None:
    """What was measured on two cores, of two or of three."""
    manifest = under_load()
    manifest = replace(manifest, host=replace(manifest.host, threads=threads))
    told = planned(written(tmp_path / "b", manifest)).assumptions
    assert any("though the engine has all 2" in line for line in told) == (threads == 2)


def test_what_breaks_first_is_named(tmp_path: Path) -> None:
    build = written(tmp_path / "b", under_load())
    assert planned(build, slo_ms=40).limit.startswith("p99: it passes 40 ms at ")
    assert planned(build, slo_ms=5000).limit.startswith("its cores: beyond 95%")


def test_the_files_of_a_plan(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    build, out = written(tmp_path / "b", under_load()), tmp_path / "plan"
    with pytest.raises(SystemExit, match="0"):
        main(["capacity", str(build), "--rate", "500", "--slo-ms", "100", "--out", str(out), "-q"])
    told = capsys.readouterr().out
    assert "what breaks first: " in told
    assert "assumed: every machine" in told
    plan = json.loads((out / "capacity.json").read_text())
    drawing = ElementTree.fromstring((out / "capacity.svg").read_text())
    assert len(drawing.findall(".//{http://www.w3.org/2000/svg}polyline")) == 2
    config = (out / "config.pbtxt").read_text()
    assert f"max_batch_size: {plan['serving']['max_batch']}\n" in config
    layout = plan["serving"]["layout"]
    assert f"count: {layout['processes'] * layout['streams']}\n" in config
    autoscaler = yaml.safe_load((out / "autoscaler.yaml").read_text())
    spec = autoscaler["spec"]
    target = spec["metrics"][0]["pods"]["target"]
    assert target["type"] == "AverageValue"
    # A tenth more a minute, and a minute until a new one answers.
    assert float(target["averageValue"][:-1]) == pytest.approx(1e3 * plan["most"] / 1.1, rel=1e-3)
    assert spec["minReplicas"] == plan["needed"]
    assert spec["scaleTargetRef"]["name"] == "resnet50-predictor"


def test_as_json_it_is_the_plan_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    build = written(tmp_path / "b", under_load())
    with pytest.raises(SystemExit, match="0"):
        main(["capacity", str(build), "--rate", "90", "--slo-ms", "100", "--json"])
    assert json.loads(capsys.readouterr().out)["rate"] == 90


def test_a_trace_is_a_way_to_come(tmp_path: Path) -> None:
    build = written(tmp_path / "b", under_load())
    trace = tmp_path / "monday.csv"
    trace.write_text("time_s\n" + "".join(f"{n / 20 + (n % 7) / 100}\n" for n in range(0, 4000, 7)))
    assert planned(build, arrivals=str(trace)).arrivals == "requests come as in monday.csv"


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"rate": 0.0}, "--rate is 0: give a number above 0"),
        ({"slo_ms": float("nan")}, "--slo-ms is nan: give a number above 0"),
        ({"price": -1.0}, "--price is -1"),
        ({"overhead_ms": -1.0}, "--overhead-ms is -1: give 0 or more"),
        ({"busy_overhead_ms": float("inf")}, "--busy-overhead-ms is inf: give 0 or more"),
        ({"availability": "99%"}, "--availability '99%': give N, or N-1"),
        ({"arrivals": "random"}, "--arrivals 'random': give poisson, bursts, or a trace"),
        ({"arrivals": "none.csv"}, "cannot read --arrivals none.csv"),
        ({"engine": "ort-cpu.int9"}, "unknown engine 'ort-cpu.int9'"),
        ({"engine": "ort-cpu.fp32"}, "ort-cpu.fp32 was not measured under load, only ort-cpu.int8"),
        ({"slo_ms": 3.0}, "--slo-ms 3: no set-up keeps it; the best, "),
        ({"growth": "80%"}, "is no budget: give a share"),
    ],
)
def test_what_cannot_be_planned_is_one_line(
    tmp_path: Path, options: dict[str, Any], problem: str
) -> None:
    build = written(tmp_path / "b", under_load())
    with pytest.raises(ExporterError, match=problem):
        planned(build, **options)


def test_a_build_without_throughput_says_how_to_measure(tmp_path: Path) -> None:
    build = written(tmp_path / "b", resnet50())
    with pytest.raises(ExporterError, match=r"throughput was not measured .*benchmark .*/b --thr"):
        planned(build)
