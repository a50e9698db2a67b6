"""Which engine this machine gets, and why the others are not for it."""

from __future__ import annotations

from typing import Any

import pytest

from exporter.runtime import InputError, NoEngineError, choice, gpu_libraries, load
from exporter.runtime.choice import choose
from exporter.runtime.description import EngineEntry, Requirements
from tests.packed import digits_bundle

VNNI = frozenset({"avx2", "avx512_vnni"})


@pytest.fixture(autouse=True)
def _machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """An x86 server with VNNI and the CPU runtimes, whatever runs the tests."""
    set_machine(monkeypatch, VNNI)


def set_machine(
    monkeypatch: pytest.MonkeyPatch, flags: frozenset[str], installed: tuple[str, ...] = ()
) -> None:
    libraries = installed or ("onnxruntime", "openvino")
    monkeypatch.setattr(choice, "cpu_flags", lambda: flags)
    monkeypatch.setattr("exporter.runtime.machine.platform.machine", lambda: "x86_64")
    monkeypatch.setattr(choice, "is_installed", lambda module: module in libraries)
    monkeypatch.setattr(choice, "_installed_version", lambda module: "1.32.0")


def entry(name: str, p50_ms: float | None = None, **requires: Any) -> EngineEntry:
    target, _, precision = name.rpartition(".")
    return EngineEntry(
        name,
        target,
        precision,
        (f"engines/{name}.onnx",),
        Requirements(**requires),
        p50_ms,
        1e-5,
        "engine",
    )


def order(*entries: EngineEntry, device: str = "auto") -> list[str]:
    return [chosen.id for chosen in choose(entries, device, None)[0]]


def test_a_variant_of_a_target_runs_where_its_cpu_feature_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    entries = (
        entry("ort-cpu.int8", 2.0),
        entry("ort-cpu:amx.int8", 1.0, cpu_flags=frozenset({"amx_int8"})),
    )
    monkeypatch.setattr(choice, "cpu_flags", lambda: frozenset({"avx512_vnni", "amx_int8"}))
    assert order(*entries) == ["ort-cpu:amx.int8", "ort-cpu.int8"]
    monkeypatch.setattr(choice, "cpu_flags", lambda: frozenset({"avx512_vnni"}))
    assert order(*entries) == ["ort-cpu.int8"]


def test_bf16_is_taken_where_the_cpu_has_it_and_it_is_the_fastest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    flags = frozenset({"avx512_bf16"})
    entries = (entry("ort-cpu.fp32", 4.0), entry("openvino.bf16", 2.0, cpu_flags=flags))
    assert order(*entries) == ["ort-cpu.fp32"]
    set_machine(monkeypatch, VNNI | {"avx512_bf16"})
    assert order(*entries) == ["openvino.bf16", "ort-cpu.fp32"]
    assert order(*entries, entry("ort-cpu.int8", 1.0))[0] == "ort-cpu.int8"
    bf16 = entry("openvino.bf16", cpu_flags=flags)
    assert order(entry("ort-cpu.fp32"), bf16, entry("ort-cpu.int8")) == [
        "ort-cpu.int8",
        "openvino.bf16",
        "ort-cpu.fp32",
    ]


def test_the_fastest_measured_engine_comes_first() -> None:
    entries = (entry("ort-cpu.fp32", 3.0), entry("openvino.int8", 1.5), entry("ort-cpu.int8", 1.0))
    assert order(*entries) == ["ort-cpu.int8", "openvino.int8", "ort-cpu.fp32"]


def test_without_measurements_the_precision_decides_and_measured_ones_go_first() -> None:
    entries = (entry("ort-cpu.fp16"), entry("ort-cpu.fp32"), entry("ort-cpu.int8"))
    assert order(*entries) == ["ort-cpu.int8", "ort-cpu.fp32", "ort-cpu.fp16"]
    assert order(*entries, entry("openvino.fp32", 9.0))[0] == "openvino.fp32"


def test_int8_comes_last_where_it_would_saturate(monkeypatch: pytest.MonkeyPatch) -> None:
    entries = (entry("ort-cpu.int8", 1.0), entry("ort-cpu.fp32", 3.0))
    set_machine(monkeypatch, frozenset({"avx2"}))
    assert order(*entries) == ["ort-cpu.fp32", "ort-cpu.int8"]
    monkeypatch.setattr("exporter.runtime.machine.platform.machine", lambda: "aarch64")
    assert order(*entries) == ["ort-cpu.int8", "ort-cpu.fp32"]


def test_what_cannot_run_says_why() -> None:
    entries = (
        entry("tensorrt-rtx:sm89.fp16"),
        entry("tensorrt.fp16"),
        entry("ort-cuda.fp32"),
        entry("ort-cpu.int8", cpu_flags=frozenset({"amx_int8", "avx2"})),
        entry("ort-cpu.fp16", versions={"onnxruntime": "1.33.1"}),
        entry("ort-cpu.fp32", versions={"onnxruntime": "1.32.5"}),
    )
    chosen, others = choose(entries, "auto", None)
    assert [e.id for e in chosen] == ["ort-cpu.fp32"]  # a patch release older is not older
    reasons = dict(others)
    assert reasons["tensorrt-rtx:sm89.fp16"].endswith("not run tensorrt-rtx:sm89 engines")
    assert "serve it with Triton" in reasons["tensorrt.fp16"]
    assert "ort-cuda.fp32" in reasons
    assert reasons["ort-cpu.int8"] == "this CPU lacks amx_int8"
    assert "1.32.0 is older than 1.33.1" in reasons["ort-cpu.fp16"]


def test_unreadable_cpu_flags_exclude_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    set_machine(monkeypatch, frozenset())
    assert order(entry("ort-cpu.fp32", cpu_flags=frozenset({"avx2"}))) == ["ort-cpu.fp32"]


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    set_machine(monkeypatch, VNNI, installed=("onnxruntime",))
    chosen, others = choose((entry("ort-cpu.fp32"), entry("openvino.fp32", 0.1)), "auto", None)
    assert [e.id for e in chosen] == ["ort-cpu.fp32"]
    assert "run `pip install 'openvino'`" in dict(others)["openvino.fp32"]


def test_no_candidate_is_an_error_with_every_reason() -> None:
    with pytest.raises(NoEngineError, match=r"ort-cpu.fp32: it runs on cpu.*tensorrt\.fp16: "):
        choose((entry("ort-cpu.fp32"), entry("tensorrt.fp16")), "cuda", None)


def test_cuda_engines_come_before_cpu_engines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_libraries, "why_not", lambda _: None)
    entries = (entry("ort-cpu.int8", 1.0), entry("ort-cuda.fp32", 2.0))
    assert order(*entries) == ["ort-cuda.fp32", "ort-cpu.int8"]
    assert order(*entries, device="cpu") == ["ort-cpu.int8"]
    assert order(*entries, device="cuda") == ["ort-cuda.fp32"]


def test_an_engine_asked_for_is_the_only_candidate() -> None:
    entries = (entry("ort-cpu.int8", 1.0), entry("ort-cpu.fp32", 3.0))
    chosen, others = choose(entries, "auto", "ort-cpu.fp32")
    assert [e.id for e in chosen] == ["ort-cpu.fp32"]
    assert others == [("ort-cpu.int8", "ort-cpu.fp32 was asked for")]
    with pytest.raises(InputError, match=r"no engine 'x'"):
        choose(entries, "auto", "x")


def test_cuda_on_a_machine_without_it_is_a_clear_error() -> None:
    with pytest.raises(NoEngineError, match=r"device='cuda' was asked for"):
        load(digits_bundle(), device="cuda")
