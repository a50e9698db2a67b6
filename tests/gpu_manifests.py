"""Manifests of a machine with a GPU, for tests of their views; the figures are made up."""

from __future__ import annotations

from dataclasses import replace

from exporter.artifact import ElementType, Precision
from exporter.builds.records import Manifest
from exporter.measure.timing import (
    ComputeTime,
    GpuCeilings,
    GpuUse,
    KernelBound,
    Latency,
    LowerBound,
)
from exporter.targets import MachineKind
from tests import manifests as built


def gpu_latency(p50_ms: float, speedup: float, *, batch: int = 1) -> Latency:
    one = built.latency(p50_ms, speedup, batch=batch, eager_p50_ms=p50_ms * speedup)
    compute = ComputeTime(
        p50_ms / 2, p50_ms / 2, p50_ms, p50_ms * speedup, one.speedup, stable=True, cuda_graph=True
    )
    return replace(one, device=MachineKind.GPU, baseline="torch-eager-cuda", compute=compute)


def both_devices() -> Manifest:
    """A CPU's engine, 5.55 times as fast as its baseline, and a GPU's, twice: 9.3 and 1 ms."""
    cpu = next(e for e in built.resnet50_records() if e.id == "ort-cpu.int8")
    gpu = built.record(
        "tensorrt", Precision.FP16, op="CaskConvolution", dtype="fp16", size=52_000_000,
        latencies=(gpu_latency(1.0, 2.0), gpu_latency(2.0, 3.0, batch=8)),
    )  # fmt: skip
    manifest = built.build([cpu, gpu])
    return replace(manifest, host=replace(manifest.host, gpu="NVIDIA L4", compute_capability="8.9"))


def a_gpus_build() -> Manifest:
    """What `both_devices` has of the GPU, with what only a GPU tells."""
    manifest = both_devices()
    engine = manifest.engines[1]
    use = GpuUse(
        samples=9, sm_clock_mhz=(1200, 1980), temperature_c=(50, 71), throttled=("power cap",),
        power_w=300.0, energy_per_image_j=0.151, memory_bytes=700_000_000,
    )  # fmt: skip
    latencies = tuple(replace(one, gpu=use, stable=False) for one in engine.latencies)
    kernel = KernelBound("conv", ElementType.FP16, 4_089_184_256, 60_000_000, 250.0, "arithmetic")
    trtexec = {"1": "trtexec --loadEngine=fp16.plan", "8": "trtexec --loadEngine=fp16.plan"}
    engine = replace(
        engine, latency=latencies[0], latency_by_batch=latencies, requires={"trtexec": trtexec},
        bound=LowerBound(1, 250.0, (kernel,)),
    )  # fmt: skip
    here = replace(manifest.host, gpu_ceilings=GpuCeilings({"fp16": 40_000.0}, 280.0))
    return replace(manifest, engines=(engine,), host=here)
