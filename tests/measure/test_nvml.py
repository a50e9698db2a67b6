"""NVML, through nvidia-ml-py, against a stand-in for the driver's library that is built here."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from exporter import host
from exporter.artifact import Skipped
from exporter.measure.nvml import GpuSample, GpuWatch, open_gpu, reasons

STAND_IN = r"""
typedef struct { unsigned long long total, free, used; } memory;
static int calls;
int nvmlInitWithFlags(unsigned flags) { return 0; }
int nvmlInit_v2(void) { return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device) {
    *device = &calls; return index == 1 ? 0 : 2; }
int nvmlDeviceGetHandleByUUID(const char *uuid, void **device) { *device = &calls; return 0; }
int nvmlDeviceGetClockInfo(void *device, unsigned kind, unsigned *mhz) {
    *mhz = kind == 1 ? 1980 - 10 * (calls++ % 3) : 2619; return 0; }
int nvmlDeviceGetTemperature(void *device, unsigned sensor, unsigned *celsius) {
    *celsius = 61; return 0; }
int nvmlDeviceGetPowerUsage(void *device, unsigned *milliwatts) { *milliwatts = 345678; return 0; }
int nvmlDeviceGetCurrentClocksEventReasons(void *device, unsigned long long *bits) {
    *bits = calls > 1 ? 0x44 : 0x1; return 0; }
int nvmlDeviceGetCurrentClocksThrottleReasons(void *device, unsigned long long *bits) {
    return nvmlDeviceGetCurrentClocksEventReasons(device, bits); }
int nvmlDeviceGetMemoryInfo(void *device, memory *info) { info->used = 123456789; return 0; }
int nvmlDeviceGetTotalEnergyConsumption(void *device, unsigned long long *millijoules) {
    *millijoules = 5000; return 0; }
const char *nvmlErrorString(int code) { return "said by the stand-in"; }
"""

PROGRAM = """
import json, time
from exporter.measure.nvml import GpuWatch, open_gpu
gpu = open_gpu()
with GpuWatch(gpu) as watch:
    time.sleep(0.35)
print(json.dumps([watch.failure, watch.rows(), gpu.energy_j(), str(open_gpu("1234"))]))
"""


def library(folder: Path) -> None:
    source = folder / "nvml.c"
    source.write_text(STAND_IN, encoding="utf-8")
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or sys.platform != "linux":
        pytest.skip("no C compiler, or not Linux")
    built = folder / "libnvidia-ml.so.1"
    subprocess.run([compiler, "-shared", "-fPIC", "-w", "-o", built, source], check=True)


def test_the_gpu_is_sampled_as_nvidia_ml_py_hands_it_on(tmp_path: Path) -> None:
    pytest.importorskip("pynvml")
    library(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        capture_output=True,
        text=True,
        check=True,
        env={"LD_LIBRARY_PATH": str(tmp_path), "CUDA_VISIBLE_DEVICES": "1,0", "PATH": "/usr/bin"},
        cwd=Path(__file__).parents[2],
    )
    failure, rows, energy_j, by_uuid = json.loads(done.stdout)
    assert failure is None
    assert "Gpu object" in by_uuid
    assert energy_j == 5.0
    assert len(rows) >= 2
    samples = [GpuSample(**row) for row in rows]
    assert {sample.sm_clock_mhz for sample in samples} <= {1980, 1970, 1960}
    assert {sample.memory_clock_mhz for sample in samples} == {2619}
    assert {sample.temperature_c for sample in samples} == {61}
    assert {sample.power_w for sample in samples} == {345.678}
    assert {sample.memory_used_bytes for sample in samples} == {123456789}
    assert reasons(samples[:1]) == ()  # idle is no throttling
    assert reasons(samples) == ("power cap", "too hot (hardware)")
    assert [sample.at_s for sample in samples] == sorted(sample.at_s for sample in samples)


def test_a_gpu_that_nvml_does_not_know_says_so(tmp_path: Path) -> None:
    pytest.importorskip("pynvml")
    library(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", "from exporter.measure.nvml import open_gpu; print(open_gpu())"],
        capture_output=True,
        text=True,
        check=True,
        env={"LD_LIBRARY_PATH": str(tmp_path), "CUDA_VISIBLE_DEVICES": "7", "PATH": "/usr/bin"},
        cwd=Path(__file__).parents[2],
    )
    assert "NVML does not answer: " in done.stdout


@pytest.mark.skipif(host.describe_host().gpu is not None, reason="there is a GPU here")
def test_without_a_driver_the_reason_is_told_and_nothing_is_sampled() -> None:
    gpu = open_gpu()
    assert isinstance(gpu, Skipped)
    with GpuWatch(gpu) as watch:
        pass
    assert watch.samples == ()
    assert watch.failure == gpu.skipped


def test_without_the_package_the_reason_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    gpu = open_gpu()
    assert isinstance(gpu, Skipped)
    assert "pip install nvidia-ml-py" in gpu.skipped
