"""Where the time goes: each residual block's share, by the runtime's own profiler.

A session of its own is profiled, never the one that was timed: the profiler itself costs time. So
the sum over the kernels is not the latency, and shares compare where milliseconds do not. A
kernel belongs to the block that its receipt puts it in; one that computes several blocks counts
for each in equal parts. What lies in no block (stem, head, conversions) is `outside_us`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

from exporter.artifact import ElementType, Engine, Kernel, ModelSpec, Operation, Skipped
from exporter.errors import BuildError
from exporter.measure.interleaved import inputs_of
from exporter.measure.layers import Layer, layers_of
from exporter.measure.timing import BlockTime, LayerTime, Profile
from exporter.measure.worker import make_batch
from exporter.prove.kernel_graph import blocks_of_kernel
from exporter.targets import Array, CanProfile, UnreadableKernels, get_target

BUDGET_S: Final = 0.5
"""How long the profiled inferences of one engine may take, after two to warm up."""
_BYTES: Final[Mapping[ElementType, int]] = {
    ElementType.FP32: 4,
    ElementType.FP16: 2,
    ElementType.BF16: 2,
    ElementType.INT8: 1,
    ElementType.UINT8: 1,
}
"""The size of one element in each type that a kernel computes in."""


def profile_engine(
    engine: Engine,
    root: Path,
    network: Network,
    threads: int,
) -> Profile | Skipped:
    """Where the time of one engine of the build in `root` goes, or why that is not known."""
    target = get_target(engine.target)
    if not isinstance(target, CanProfile):
        return Skipped(f"{engine.target} is not profiled by this tool")
    batch = network.batch
    try:
        runs, source = target.profile(root / engine.path, threads, batch, BUDGET_S)
    except (BuildError, UnreadableKernels) as error:
        return Skipped(f"its profiler gave nothing to read: {error}")
    return summarize(runs, source, network.layers, network.blocks, len(batch), threads)


@dataclass(frozen=True)
class Network:
    """What a profile needs to know of the network that was compiled."""

    layers: Mapping[str, Layer]
    """What each layer computes and moves, from the portable FP32 file."""
    blocks: tuple[str, ...]
    batch: Array
    """The seeded input that is profiled, (N, ...)."""

    @classmethod
    def of(cls, spec: ModelSpec, portable_path: Path, seed: int) -> Network:
        first = spec.input.shape[0]
        job = {
            "shape": spec.image_shape,
            "dtype": spec.input.dtype,
            "inputs": inputs_of(spec.input, spec.other_inputs),
            "seed": seed,
        }
        batch = make_batch(first if isinstance(first, int) else 1, job)
        return cls(layers_of(portable_path), spec.residual_blocks, batch)


def summarize(
    runs: Sequence[Sequence[tuple[Kernel, float]]],
    source: str,
    layers: Mapping[str, Layer],
    blocks: Sequence[str],
    batch: int,
    threads: int,
) -> Profile:
    """The median time of each kernel over the runs (microseconds), by block and by layer."""
    kernels = [kernel for kernel, _ in runs[0]]
    times = [median(run[i][1] for run in runs) for i in range(len(kernels))]
    total = sum(times)
    spent = dict.fromkeys(blocks, 0.0)
    timed: list[LayerTime] = []
    for kernel, time_us in zip(kernels, times, strict=True):
        own = blocks_of_kernel(kernel, blocks)
        for name in own:
            spent[name] += time_us / len(own)
        timed += _layer_times(kernel, time_us, own, layers, batch)
    return Profile(
        source=source,
        batch=batch,
        threads=threads,
        runs=len(runs),
        total_us=total,
        outside_us=max(0.0, total - sum(spent.values())),
        blocks=tuple(
            BlockTime(name, time_us, time_us / total if total else 0.0)
            for name, time_us in spent.items()
        ),
        layers=tuple(timed),
    )


def _layer_times(
    kernel: Kernel,
    time_us: float,
    blocks: Sequence[str],
    layers: Mapping[str, Layer],
    batch: int,
) -> Iterable[LayerTime]:
    """The convolution or product that a kernel computes; none where it computes none or several."""
    if {Operation.CONV, Operation.GEMM}.isdisjoint(kernel.does):
        return
    labels = {name for label in kernel.labels for name in (label, _owner(label))}
    computed = {layers[name] for name in labels if name in layers}
    if len(computed) != 1:
        return
    (layer,) = computed
    size = _BYTES.get(kernel.dtype, 4)
    yield LayerTime(
        name=layer.name,
        block=blocks[0] if blocks else "",
        op=kernel.op,
        dtype=kernel.dtype,
        microseconds=time_us,
        macs=layer.macs * batch,
        # A sum that is fused into it reads the shortcut, as large as what it writes.
        bytes=size
        * (
            layer.weights
            + batch * (layer.inputs + layer.outputs * (2 if Operation.ADD in kernel.does else 1))
        ),
    )


def _owner(label: str) -> str:
    """The layer of a weight or a bias, and OpenVINO's name of a convolution without its bias."""
    return label.removesuffix("/WithoutBiases").removesuffix(".bias").removesuffix(".weight")
