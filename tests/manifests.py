"""Manifests as builds leave them, for tests of their views.

The figures of `resnet50` are those measured on a 2-core machine; nothing is run here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from exporter.artifact import (
    Dialect,
    ElementType,
    EngineFile,
    Interpolation,
    Kernel,
    ModelKind,
    ModelSpec,
    Operation,
    Precision,
    Preprocessing,
    Skipped,
    TensorSpec,
    Verdict,
    WeightsInfo,
)
from exporter.builds.records import (
    DataRecord,
    EngineRecord,
    FailedEngine,
    HostRecord,
    Manifest,
    SamplesRecord,
)
from exporter.builds.request import ExportRequest
from exporter.measure.timing import BlockTime, Ceilings, Latency, LayerTime, Profile, Speedup
from exporter.prove.certificate import (
    Accuracy,
    BlockDrift,
    BlockReceipt,
    Flip,
    Parity,
    Receipt,
    Scope,
)
from exporter.targets import Prediction

BLOCKS = tuple(
    f"layer{stage}.{i}" for stage, count in enumerate((3, 4, 6, 3), 1) for i in range(count)
)
NO_GPU = "built, not run here: this machine has no NVIDIA GPU"
LIMITS = {
    Precision.FP32: {"rel_l2_float64": 2e-6, "rel_l2": 4e-6, "batch_max_abs": 2.2e-4},
    Precision.FP16: {"rel_l2": 5e-3, "batch_max_abs": 0.22},
    Precision.INT8: {"sqnr_db": 20.0, "batch_max_abs": 2.2},
}
ERRORS = {Precision.FP32: 4.9e-7, Precision.FP16: 7.8e-4, Precision.INT8: 4.6e-2}


def kernel(block: str, name: str, dtype: str, op: str, *does: str) -> Kernel:
    return Kernel(
        name=f"{block}.{name}", op=op, does=tuple(map(Operation, does)), dtype=ElementType(dtype),
        inputs=(), outputs=(), labels=(f"{block}.{name}",), output_dtypes=(ElementType(dtype),),
    )  # fmt: skip


def block(name: str, op: str, dtype: str, *, separate_add: str | None = None) -> BlockReceipt:
    """A bottleneck of three convolutions; with `separate_add`, one kernel more and the reason."""
    last = ("conv",) if separate_add else ("conv", "add", "relu")
    kernels = [
        kernel(name, "conv1", dtype, op, "conv", "relu"),
        kernel(name, "conv2", dtype, op, "conv", "relu"),
        kernel(name, "conv3", dtype, op, *last),
    ]
    if separate_add:
        kernels.append(kernel(name, "add", "fp32", "kgen", "dequantize", "add", "relu", "quantize"))
    return BlockReceipt(name, tuple(kernels), separate_add is None, separate_add)


def latency(
    p50_ms: float, speedup: float, *, batch: int = 1, eager_p50_ms: float = 51.6,
    spread: float = 0.02, stable: bool = True,
) -> Latency:  # fmt: skip
    return Latency(
        batch=batch, threads=2, warmup=40, rounds=30, p50_ms=p50_ms, p90_ms=1.06 * p50_ms,
        p99_ms=1.25 * p50_ms, eager_p50_ms=eager_p50_ms, baseline="torch-eager",
        speedup=Speedup(speedup, (speedup * (1 - spread), speedup * (1 + spread))), stable=stable,
    )  # fmt: skip


def record(
    target: str,
    precision: Precision,
    *,
    op: str,
    dtype: str,
    size: int,
    latencies: Sequence[Latency] = (),
    verdict: Verdict = Verdict.FUSED,
    reason: str | None = None,
    separate_add: str | None = None,
    blocks: Sequence[str] = BLOCKS,
    **more: Any,
) -> EngineRecord:
    """One engine; `separate_add` leaves every residual add in a kernel of its own."""
    folder = target.replace(":", "-")
    int8 = precision is Precision.INT8
    files = (EngineFile(f"engines/{folder}/{precision}.bin", f"{size:064x}", size),)
    error = ERRORS[precision]
    receipt = Receipt(
        verdict=verdict,
        expected=verdict,
        source=f"what {target} says of itself",
        convs=53,
        batchnorms_folded=53,
        residual_adds=len(blocks),
        residual_adds_fused=0 if separate_add else len(blocks),
        float_ops=len(blocks) if separate_add else 0,
        extra_kernels=2,
        convs_quantized=53 if int8 else 0,
        residual_adds_quantized=len(blocks) if int8 and not separate_add else 0,
        leftovers=tuple((f"__myl_{name}", name, separate_add) for name in blocks)
        if separate_add
        else (),
        reason=reason,
        blocks=tuple(block(name, op, dtype, separate_add=separate_add) for name in blocks),
    )
    parity = Parity(
        scope=Scope.ENGINE if latencies else Scope.GRAPH,
        reference="torch 2.13.0 eager float32, float64 on 8 inputs",
        samples=64, max_abs=8.8 * error, rel_l2=error, cosine=1 - error**2 / 2,
        sqnr_db={Precision.FP32: 126.2, Precision.FP16: 62.2, Precision.INT8: 26.7}[precision],
        top1_agreement=0.984 if int8 else 1.0, flips=1 if int8 else 0, limits=LIMITS[precision],
        passed=True, rel_l2_float64=0.8 * error, reference_rel_l2_float64=3.3e-7,
        batch_sizes=(1, 8), batch_max_abs=2 * error,
        agreement_at_most=0.99920 if int8 else 1.0, median_margin=5.1,
        flipped=(Flip(input=12, reference=3, engine=5, margin=0.021),) if int8 else (),
    )  # fmt: skip
    return EngineRecord(
        id=f"{target}.{precision}", target=target, precision=precision,
        dialect=Dialect.U8_ASYMMETRIC if int8 else Dialect.FLOAT, files=files, trained=False,
        requires={"cpu_flags": [], "versions": {"onnxruntime": "1.32.0"}},
        built_from=f"onnx/resnet50.{precision}.onnx",
        receipt=receipt,
        parity=more.pop("parity", parity),
        accuracy=more.pop("accuracy", None),
        latency=latencies[0] if latencies else Skipped(more.pop("skipped", NO_GPU)),
        latency_by_batch=tuple(latencies),
        **more,
    )  # fmt: skip


def with_drift(entry: EngineRecord) -> EngineRecord:
    """The record with drift figures: errors add up in squares along the network."""
    assert isinstance(entry.parity, Parity)
    error = ERRORS[entry.precision]
    drift = []
    for i, one in enumerate(entry.receipt.blocks):
        added = error * (0.3 + 0.12 * ((7 * i) % 5))
        built_up = error * (0.5 + i / 14) ** 0.5
        drift.append(BlockDrift(one.name, built_up, 26 + i, added, 30 - i / 2))
    return replace(entry, parity=replace(entry.parity, blocks=tuple(drift)))


def with_profile(entry: EngineRecord) -> EngineRecord:
    """The record with a profile: three layers a block, each as fast as it may be."""
    int8 = entry.precision is Precision.INT8
    layers = tuple(
        LayerTime(
            name=f"{name}.conv{i}", block=name, op="Conv",
            dtype=ElementType.INT8 if int8 else ElementType.FP32,
            microseconds=(120.0 if int8 else 600.0) + 40 * ((3 * i + j) % 7), macs=80_000_000,
            bytes=(1 if int8 else 4) * (400_000 + 90_000 * j),
        )
        for j, name in enumerate(BLOCKS)
        for i in (1, 2, 3)
    )  # fmt: skip
    total = 1.2 * sum(layer.microseconds for layer in layers)
    spent = {b: sum(x.microseconds for x in layers if x.block == b) for b in BLOCKS}
    blocks = tuple(BlockTime(name, time_us, time_us / total) for name, time_us in spent.items())
    profile = Profile("a profiler", 1, 2, 20, total, total / 6, blocks, layers)
    return replace(entry, profile=profile)


def prediction(gpu: str, batch: int, time_ms: float, moved: int) -> Prediction:
    return Prediction(
        gpu=gpu, batch=batch, time_ms=time_ms, macs=4_089_184_256 * batch,
        bytes_moved=moved * batch, kernels=57, memory_bound=41,
        basis="predicted, not measured (roofline of the ahead-of-time layer list)",
        source=f"NVIDIA {gpu} datasheet",
    )  # fmt: skip


def scaled(p50_ms: float, speedup: float, by_eight: float) -> tuple[Latency, ...]:
    """Batches 1, 2, 4 and 8, on a curve that ends at `by_eight` milliseconds."""
    step = (by_eight / p50_ms) ** (1 / 3)
    return tuple(
        latency(p50_ms * step**i, 51.6 * 1.967**i / (p50_ms * step**i) * speedup * p50_ms / 51.6,
                batch=2**i, eager_p50_ms=51.6 * 1.967**i)
        for i in range(4)
    )  # fmt: skip


def resnet50_records() -> list[EngineRecord]:
    fp32, fp16, int8 = Precision.FP32, Precision.FP16, Precision.INT8
    casts = "53 of 53 convolutions compute in fp32, behind 1 cast"
    kgen = "kgen is a kernel of its own in fp32"
    rtx = "tensorrt-rtx:sm89"
    return [
        record("ort-cpu", fp32, op="Conv (nchwc)", dtype="fp32", size=102_147_878,
               latencies=scaled(29.8, 1.73, 211), notes=("fuse_residual: 16 with a residual sum",)),
        record("ort-cpu", fp16, op="Conv (nchwc)", dtype="fp32", size=51_091_542,
               latencies=scaled(56.1, 0.92, 460), verdict=Verdict.PARTIAL, reason=casts,
               notes=("convert_fp16: 37 weights flushed to zero",)),
        record("ort-cpu", int8, op="QLinearConv", dtype="int8", size=25_871_204,
               latencies=scaled(9.3, 5.55, 67)),
        record("openvino", fp32, op="Convolution", dtype="fp32", size=102_310_004,
               latencies=scaled(30.0, 1.72, 227)),
        record("openvino", int8, op="Convolution", dtype="int8", size=26_110_812,
               latencies=scaled(10.2, 5.06, 55.7)),
        record(rtx, fp16, op="correlation", dtype="fp16", size=52_311_004, predicted=(
            prediction("RTX 4090", 1, 0.0936, 71_000_000), prediction("L4", 1, 0.31, 71_000_000))),
        record(rtx, int8, op="correlation", dtype="int8", size=33_120_004, verdict=Verdict.PARTIAL,
               reason=f"16 of 16 residual adds are not fused (layer1.0: {kgen})", separate_add=kgen,
               predicted=(prediction("RTX 4090", 1, 0.171, 163_000_000),
                          prediction("L4", 1, 0.552, 163_000_000))),
    ]  # fmt: skip


def resnet50(*, drift: bool = True, trained: bool = False, name: str = "resnet50") -> Manifest:
    """A whole build of ResNet-50: engines that win, lose, are partial and are not run here."""
    records = resnet50_records()
    if drift:
        records = [with_profile(with_drift(r)) if r.latency_by_batch else r for r in records]
    if trained:
        top1 = {Precision.FP32: 0.8034, Precision.FP16: 0.8034, Precision.INT8: 0.8012}
        records = [
            replace(r, accuracy=Accuracy("photos", 10000, top1[r.precision], 0.8034, 41))
            for r in records
        ]
    return build(records, trained=trained, name=name)


def build(
    records: Sequence[EngineRecord], *, trained: bool = False, name: str = "resnet50"
) -> Manifest:
    """The manifest of a build with these engines."""
    spec = ModelSpec(
        name=name,
        source=name,
        kind=ModelKind.BUILTIN,
        parameters=25_557_032,
        macs=4_089_184_256,
        input=TensorSpec("input", "float32", ("batch", 3, 224, 224)),
        output=TensorSpec("logits", "float32", ("batch", 1000)),
        preprocessing=Preprocessing(
            256,
            224,
            Interpolation.BILINEAR,
            (0.485, 0.456, 0.406),
            (0.229, 0.224, 0.225),
            "ImageNet's usual",
        ),
        weights=WeightsInfo("IMAGENET1K_V2" if trained else "random, seed 0", "c5e5" * 16, trained),
        residual_blocks=BLOCKS,
    )
    return Manifest(
        model=spec,
        request=ExportRequest(source=name, threads=2, samples=64, batches=(1, 2, 4, 8)),
        host=HostRecord(
            cpu="Intel(R) Xeon(R) Processor", system="Linux x86_64", logical_cpus=2, threads=2,
            cpu_flags=("avx2", "avx512f", "avx512_vnni"), gpu=None, driver=None,
            compute_capability=None,
            versions={"python": "3.11.7", "torch": "2.13.0+cpu", "onnxruntime": "1.32.0"},
            ceilings=Ceilings(2, 310.1, 1278.4, 26.4, {"fp32 matrix product": 310.1}),
        ),
        data=DataRecord(
            SamplesRecord("synthetic images, seed 0, calibration set", 128, "ab" * 32),
            SamplesRecord("synthetic images, seed 0, evaluation set", 64, "cd" * 32),
        ),
        engines=tuple(records),
        timings={"define": 4.66, "export": 4.77, "build": 12.4, "measure": 88.99},
    )  # fmt: skip


def with_engine(manifest: Manifest, name: str, **changes: Any) -> Manifest:
    """The build with some fields of one engine changed; a timing changes at both its places."""
    engines = []
    for engine in manifest.engines:
        if engine.id == name:
            if isinstance(changes.get("latency"), Latency) and "latency_by_batch" not in changes:
                changes["latency_by_batch"] = (changes["latency"], *engine.latency_by_batch[1:])
            engine = replace(engine, **changes)
        engines.append(engine)
    return replace(manifest, engines=tuple(engines))


def parity_of(manifest: Manifest, name: str) -> Parity:
    """The certificate of one engine."""
    engine = manifest.engine(name)
    assert engine is not None
    assert isinstance(engine.parity, Parity)
    return engine.parity


def without_blocks(manifest: Manifest) -> Manifest:
    """The same build of a network without residual blocks."""
    engines = []
    for engine in manifest.engines:
        receipt = replace(
            engine.receipt, residual_adds=0, residual_adds_fused=0, blocks=(), leftovers=()
        )
        parity = engine.parity
        if isinstance(parity, Parity):
            parity = replace(parity, blocks=())
        engines.append(replace(engine, receipt=receipt, parity=parity))
    model = replace(manifest.model, residual_blocks=())
    return replace(manifest, model=model, engines=tuple(engines))


def unmeasured() -> Manifest:
    """One engine that was neither measured nor checked."""
    return build(
        [record("ort-cpu", Precision.FP32, op="Conv", dtype="fp32", size=10,
                skipped="not asked for (--no-measure)", parity=Skipped("no reference"))]
    )  # fmt: skip


def not_finite() -> Manifest:
    """An engine that answers with infinities in no time at all, and one that is exact."""
    build = resnet50()
    name = "ort-cpu.fp16"
    spoilt = replace(
        parity_of(build, name), rel_l2=math.inf, sqnr_db=-math.inf, max_abs=math.nan,
        rel_l2_float64=math.nan, top1_agreement=math.nan, batch_max_abs=math.inf,
        passed=False, failures=("rel_l2 inf > limit 0.005 (worst input: 0 of 64)",),
        blocks=tuple(
            replace(block, built_up_rel_l2=math.inf, added_rel_l2=math.nan)
            for block in parity_of(build, name).blocks
        ),
    )  # fmt: skip
    timing = replace(
        latency(math.inf, 1.0), p99_ms=math.nan, eager_p50_ms=math.nan,
        speedup=Speedup(math.nan, (-math.inf, math.inf)), stable=False,
    )  # fmt: skip
    failures = tuple(f"parity: {failure}" for failure in spoilt.failures)
    build = with_engine(build, name, parity=spoilt, latency=timing, failures=failures)
    exact = replace(parity_of(build, "ort-cpu.fp32"), rel_l2=0.0, sqnr_db=math.inf, max_abs=0.0)
    return with_engine(build, "ort-cpu.fp32", parity=exact)


def failed() -> Manifest:
    """The fastest engine missed a parity limit, another died, a third could not be built."""
    build = resnet50()
    missed = "sqnr_db 11.2 < limit 20 (worst input: 3)"
    build = with_engine(
        build,
        "ort-cpu.int8",
        files=(EngineFile("engines/ort-cpu/int8.bin.rejected", "a" * 64, 25_871_204),),
        parity=replace(
            parity_of(build, "ort-cpu.int8"), passed=False, sqnr_db=11.2, failures=(missed,)
        ),
        latency=Skipped("rejected: it failed a gate"),
        latency_by_batch=(),
        profile=Skipped("rejected: it failed a gate"),
        failures=(f"parity: {missed}",),
    )
    died = "the process that measures openvino.fp32 died (SIGSEGV)"
    build = with_engine(
        build,
        "openvino.fp32",
        files=(EngineFile("engines/openvino/fp32.bin.rejected", "b" * 64, 102_310_004),),
        latency=Skipped(died),
        latency_by_batch=(),
        profile=Skipped(f"not profiled: {died}"),
        failures=(f"measure: {died}",),
    )
    lost = FailedEngine(
        "openvino.fp16", "openvino", Precision.FP16, "build", "the builder ran out of memory"
    )
    return replace(
        build,
        failures=(
            f"openvino.fp16: {lost.reason}",
            f"ort-cpu.int8: parity: {missed}",
            f"openvino.fp32: measure: {died}",
        ),
        failed_engines=(lost,),
    )
