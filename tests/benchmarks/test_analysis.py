"""Results from events that we know: marks, missing engines, fractions, residual overheads."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from benchmarks import results
from benchmarks.record import KIND, SCHEMA, Event
from benchmarks.residual_cost import ENGINES, NETWORKS
from benchmarks.running import until_quiet
from benchmarks.suite import CPU_ENTRIES, FP32_OF, Role
from exporter.progress import Silent

ROUNDS = 12
HEAD: Event = {
    "event": "header", "kind": KIND, "schema": SCHEMA, "suite": "quick", "date": "2026-01-01",
    "command": "python -m benchmarks run", "host": {"cpu": "a CPU"}, "versions": {"torch": "2"},
    "threads": 2, "cpus": [0, 1], "rounds": ROUNDS, "lives": 1, "seed": 0,
    "machine": {"load_average": [0, 0, 0], "cpu_mhz": None}, "energy": {"missing": "no meter"},
}  # fmt: skip


def engine(
    group: str, name: str, role: str, ms: float, *, precision: str = "fp32", **facts: Any
) -> list[Event]:
    """An engine's events, every round of the same length."""
    common = {"group": group, "name": name}
    loaded = {
        "event": "engine", "role": role, "precision": precision, "life": 0, "load_s": 0.5,
        "first_s": 0.1, "warmup": 9, "peak_rss_bytes": 10**8, "bytes": 10**7, **facts,
    }  # fmt: skip
    rounds = [
        {"event": "round", "life": 0, "round": i, "place": 0, "samples_s": [ms / 1e3] * 3,
         "inferences": 4, "energy_j": 0.4}
        for i in range(ROUNDS)
    ]  # fmt: skip
    return [{**event, **common} for event in (loaded, *rounds)]


def run(*, again_ms: float = 50.0, others: float = 0.0) -> list[Event]:
    """Eager at 50 ms, two FP32 peers, one of ours, a kernel of 500 GOP/s and a missing peer."""
    name = "net b1"
    return [
        HEAD,
        {"event": "group", "group": name, "kind": "model", "model": "net", "batch": 1,
         "threads": 2, "macs": 4_000_000_000, "weights_sha256": "00"},
        {"event": "missing", "group": name, "name": "openvino-nncf", "role": "peer",
         "precision": "int8", "why": "nncf is not installed", "broken": False},
        *engine(name, "torch-eager", "baseline", 50),
        *engine(name, "onnxruntime", "peer", 40),
        *engine(name, "openvino", "peer", 32),
        *engine(name, "ours/ort-cpu.fp32", "ours", 20),
        *engine(name, "ours/ort-cpu.int8", "ours", 8, precision="int8"),
        *engine(name, "torch-eager (again)", "again", again_ms),
        {"event": "footer", "group": name, "others": others, "load_average": [1, 1, 1],
         "cpu_mhz": None},
        {"event": "group", "group": "ceilings b1", "kind": "ceilings", "threads": 2},
        *engine("ceilings b1", "slow product", "ceiling", 10, amount=4e9),
        *engine("ceilings b1", "product", "ceiling", 8, amount=4e9),
        {"event": "footer", "group": "ceilings b1", "others": 0.0, "load_average": [1, 1, 1],
         "cpu_mhz": None},
        {"event": "seconds", "build": 1.0, "measure": 2.0},
    ]  # fmt: skip


def test_ratios_ceilings_and_energy() -> None:
    found = results.of(run())
    ours = next(row for row in found["engines"] if row["name"] == "ours/ort-cpu.fp32")
    (timing,) = ours["latencies"]
    assert timing["speedup"] == pytest.approx(2.5)
    assert (timing["best_peer"], timing["verdict"]) == ("openvino", "faster")
    assert timing["over_best_peer"] == pytest.approx(1.6)
    assert timing["images_per_s"] == pytest.approx(50)
    assert timing["gops"] == pytest.approx(400)  # 8e9 operations in 20 ms
    assert timing["fraction_of_ceiling"] == pytest.approx(0.8)
    assert timing["first_inference_s"] == pytest.approx(0.6)
    assert timing["energy_per_image_j"] == pytest.approx(0.1)
    assert found["ceilings"]["fp32"]["kernel"] == "product"
    assert found["marks"] == []
    assert found["seconds"] == {"build": 1.0, "measure": 2.0}


def test_an_engine_is_not_its_own_peer_and_our_engines_are_nobodys() -> None:
    by_name = {row["name"]: row for row in results.of(run())["engines"]}
    assert by_name["openvino"]["latencies"][0]["best_peer"] == "onnxruntime"
    assert by_name["openvino"]["latencies"][0]["over_best_peer"] == pytest.approx(1.25)


def test_an_engine_is_compared_with_the_same_runtimes_fp32() -> None:
    by_name = {row["name"]: row for row in results.of(run())["engines"]}
    assert by_name["ours/ort-cpu.int8"]["latencies"][0]["over_own_fp32"] == pytest.approx(2.5)
    assert "over_own_fp32" not in by_name["onnxruntime"]["latencies"][0]


def test_every_engine_of_another_precision_has_an_fp32_engine_in_the_table() -> None:
    roles = (Role.OURS, Role.PEER, Role.TRAP)
    for entry in CPU_ENTRIES:
        if entry.role in roles and entry.precision != "fp32":
            assert next(e for e in CPU_ENTRIES if e.name == FP32_OF[entry.name]).precision == "fp32"


def test_what_is_missing_is_in_the_result_and_on_the_screen() -> None:
    found = results.of(run())
    row = next(row for row in found["engines"] if row["name"] == "openvino-nncf")
    assert (row["latencies"], row["latency_skipped"]) == ([], "nncf is not installed")
    stream = io.StringIO()
    results.show(found, Console(file=stream, width=220))
    assert "missing: net/openvino-nncf: nncf is not installed" in stream.getvalue()
    assert "energy: missing: no meter" in stream.getvalue()


def test_an_engine_of_ours_that_breaks_is_a_failure_and_one_that_has_no_place_here_is_not() -> None:
    events = run()
    events[2] = events[2] | {"role": "ours", "name": "ours/openvino.int8", "why": "no such CPU"}
    assert results.of(events)["failures"] == []
    events[2] = events[2] | {"broken": True, "why": "it does not load"}
    assert results.of(events)["failures"] == ["net/ours/openvino.int8: it does not load"]


@pytest.mark.parametrize(("again_ms", "marked"), [(50.9, False), (49.1, False), (51.5, True)])
def test_a_run_in_which_an_engine_differs_from_itself_is_marked(
    again_ms: float, marked: bool
) -> None:
    found = results.of(run(again_ms=again_ms))
    assert [pair["same"] for pair in found["same_engine"]] == [not marked]
    assert any("torch-eager against itself" in mark for mark in found["marks"]) is marked


def test_a_run_on_a_busy_machine_is_marked() -> None:
    found = results.of(run(others=0.08))
    (mark,) = found["marks"]
    assert "others took 8.0% of the CPUs" in mark
    assert found["busy"]
    assert not results.of(run(again_ms=60))["busy"]
    assert results.of(run(others=0.02))["marks"] == []


@pytest.mark.parametrize(
    ("repeats", "busy", "measured"),
    [(0, [True], 1), (2, [False], 1), (2, [True, False], 2), (2, [True, True, True], 3)],
)
def test_a_run_is_repeated_while_the_machine_is_busy(
    repeats: int, busy: list[bool], measured: int
) -> None:
    left = [{"busy": one} for one in busy]
    found = until_quiet(lambda: left.pop(0), repeats, Silent())
    assert len(busy) - len(left) == measured
    assert found["busy"] is busy[measured - 1]


def test_residual_overheads_are_ratios_of_the_three_networks() -> None:
    times = {"plain34": 10.0, "projected34": 10.4, "resnet34": 10.92}
    events: list[Event] = [
        HEAD | {"suite": "residual"},
        {"event": "group", "group": "residual b1", "kind": "residual", "batch": 1,
         "macs": {"plain34": 1000, "projected34": 1020, "resnet34": 1020}},
        {"event": "footer", "group": "residual b1", "others": 0.0},
    ]  # fmt: skip
    for network in NETWORKS:
        events += engine("residual b1", f"{network} {ENGINES[1]}", "ours", times[network])
    found = results.of(events)
    (only,) = found["engines"]
    assert only["name"] == ENGINES[1]
    assert only["p50_ms"] == pytest.approx(times)
    assert only["identity_sums"]["percent"] == pytest.approx(5)
    assert only["projections"]["percent"] == pytest.approx(4)
    assert only["residual_path"]["percent"] == pytest.approx(9.2)
    assert found["projections_macs_percent"] == pytest.approx(2)
    stream = io.StringIO()
    results.show(found, Console(file=stream, width=220))
    assert "+5.0 (+5.0 to +5.0)" in stream.getvalue()


def test_the_projected_network_has_the_convolutions_of_one_and_three_sums() -> None:
    from torch import nn

    from benchmarks.networks import projected34
    from exporter.models.resnet import BasicBlock
    from exporter.models.variants import build_variant

    def convolutions(network: nn.Module) -> list[tuple[int, ...]]:
        return [tuple(m.weight.shape) for m in network.modules() if isinstance(m, nn.Conv2d)]

    network = projected34()
    assert convolutions(network) == convolutions(build_variant("resnet34"))
    blocks = [module for module in network.modules() if isinstance(module, BasicBlock)]
    assert [block.residual for block in blocks].count(True) == 3
