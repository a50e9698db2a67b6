"""What a user with the extra `gpu` and no driver is told: a line each, and the rest is done."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.rehearsal import stand_ins
from tests.rehearsal.conftest import Ran, run

pytestmark = pytest.mark.rehearsal

GPU_TARGETS = ("tensorrt", "ort-cuda", "ort-tensorrt")
NO_DRIVER = "libcuda.so.1 is not here: it comes with NVIDIA's driver, not with a package"


def exporter(*arguments: str, **variables: str) -> Ran:
    return run("-m", "exporter", *arguments, **variables)


def export(out: Path, targets: str, **variables: str) -> Ran:
    words = ["--precision", "fp32", "--no-measure", "--samples", "8", "--threads", "1", "--quiet"]
    return exporter("export", "--target", targets, *words, "--out", str(out), **variables)


def errors(ran: Ran) -> list[str]:
    assert "Traceback" not in ran.err
    return [line for line in ran.err.splitlines() if line.startswith("error:")]


@pytest.mark.parametrize("target", GPU_TARGETS)
def test_a_gpu_target_alone_is_one_line(target: str, tmp_path: Path) -> None:
    ran = export(tmp_path / "build", target)
    assert ran.code == 2
    (line,) = errors(ran)
    assert f"target {target}" in line
    assert "no driver answers here; use" in line
    assert not (tmp_path / "build").exists()


def test_beside_others_they_fail_and_the_others_are_finished(tmp_path: Path) -> None:
    ran = export(tmp_path / "build", f"ort-cpu,openvino,{','.join(GPU_TARGETS)}")
    assert ran.code == 1, ran.err
    assert "Traceback" not in ran.err
    manifest = json.loads((tmp_path / "build" / "manifest.json").read_text(encoding="utf-8"))
    assert [engine["id"] for engine in manifest["engines"]] == ["ort-cpu.fp32", "openvino.fp32"]
    failed = {engine["id"]: engine["reason"] for engine in manifest["failed_engines"]}
    assert list(failed) == [f"{target}.fp32" for target in GPU_TARGETS]
    for name, reason in failed.items():
        assert "no driver answers here; use" in reason
        assert name in ran.out + ran.err


def test_a_driver_that_answers_for_no_gpu_is_told_by_its_libraries(
    tmp_path: Path, no_gpu: Mapping[str, str]
) -> None:
    """nvidia-smi names a GPU that this process may not use, as in a container without it."""
    ran = export(tmp_path / "build", "ort-cuda,ort-cpu", **no_gpu)
    assert ran.code == 1, ran.err
    manifest = json.loads((tmp_path / "build" / "manifest.json").read_text(encoding="utf-8"))
    assert [engine["id"] for engine in manifest["engines"]] == ["ort-cpu.fp32"]
    (failed,) = manifest["failed_engines"]
    assert failed["reason"] == (
        "target ort-cuda: NVIDIA's driver finds no GPU for this process (CUDA error 100)"
    )


def test_a_gpu_that_fails_at_the_first_call_costs_its_engines(
    tmp_path: Path, claimed_gpu: Mapping[str, str]
) -> None:
    targets = f"{','.join(GPU_TARGETS)},ort-cpu"
    ran = export(tmp_path / "build", targets, **claimed_gpu)
    assert ran.code == 1, ran.err
    manifest = json.loads((tmp_path / "build" / "manifest.json").read_text(encoding="utf-8"))
    assert [engine["id"] for engine in manifest["engines"]] == ["ort-cpu.fp32"]
    failed = {engine["target"]: engine["reason"] for engine in manifest["failed_engines"]}
    assert failed["tensorrt"].startswith("tensorrt fp32: it makes no builder here: ")
    assert "CUDA failure 35" in failed["ort-cuda"]
    assert "CUDA failure 35" in failed["ort-tensorrt"]
    assert all("\n" not in reason for reason in failed.values())


def doctor(**variables: str) -> dict[str, tuple[str, str]]:
    ran = exporter("doctor", "--json", **variables)
    assert ran.code == 0, ran.err
    told = json.loads(ran.out)["targets"]
    return {target["name"]: (target["status"], target["detail"]) for target in told}


def test_the_doctor_says_what_loads_and_what_is_in_the_way() -> None:
    found = doctor()
    assert found["ort-cpu"][0] == found["openvino"][0] == "available"
    assert found["ort-cuda"] == ("missing", f"onnxruntime 1.31.1: {NO_DRIVER}")
    assert found["ort-tensorrt"] == found["ort-cuda"]
    pinned = stand_ins.pinned("tensorrt-cu13")
    status, detail = found["tensorrt"]
    assert status == "missing"
    assert detail.startswith(f"tensorrt {pinned} imports; it makes no builder here: ")


def test_the_doctor_really_tries(claimed_gpu: Mapping[str, str]) -> None:
    """A provider that is compiled in and loads is not available where a session fails."""
    found = doctor(**claimed_gpu)
    for name in ("ort-cuda", "ort-tensorrt"):
        status, detail = found[name]
        assert status == "missing"
        assert "CUDA failure 35" in detail
        assert "\n" not in detail
