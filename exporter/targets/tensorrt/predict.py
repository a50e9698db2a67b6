"""What a TensorRT-RTX plan should cost on a GPU that is not here: predicted, not measured.

A roofline (Williams, Waterman and Patterson, CACM 52(4), 2009) over the builder's list of layers:

    time of a kernel = max(bytes it reads and writes / memory bandwidth,
                           2 * multiply-accumulates / peak rate of its type)
    time of the plan = sum over its kernels, one after the other

It exists to compare: FP16 with INT8 before anyone has the card, one card with another. So what
counts is that both sides are treated alike. The assumptions, and what the model cannot see:

* Bytes are inputs, weights and outputs, each moved once through device memory. A tensor that stays
  in the L2 cache (all of ResNet-50's at batch 1 on an RTX 4090) costs less than that: at small
  batches the model overstates bandwidth.
* Peaks are the vendor's dense figures at boost clock, FP16 with FP32 accumulation. Nothing reaches
  them; a kernel whose channels don't fill the tensor cores' tiles stays far below.
* No cost of a launch (a few microseconds a kernel without a CUDA graph), no transfers from the
  host, no overlap of kernels on several streams.
* The list is that of the ahead-of-time stage. The GPU that loads the plan compiles the kernels and
  may still merge or split them.
* FP32 products use FP32 cores, not TF32, unless the plan was built with TF32.

So read ratios, not milliseconds: "INT8 moves 2.3 times the bytes of FP16", not "INT8 takes 1.1 ms".
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from exporter.artifact import ElementType, Operation
from exporter.errors import UsageError
from exporter.targets.target import KernelTraffic, Prediction
from exporter.targets.tensorrt.operations import NO_KERNELS
from exporter.targets.tensorrt.records import LayerList, LayerRecord, LayerTensor

BASIS: Final = "predicted, not measured (roofline of the ahead-of-time layer list)"

_BYTES: Final[Mapping[ElementType, int]] = {
    ElementType.FP32: 4,
    ElementType.FP16: 2,
    ElementType.BF16: 2,
    ElementType.FP8: 1,
    ElementType.INT8: 1,
    ElementType.UINT8: 1,
    ElementType.BOOL: 1,
    ElementType.INT32: 4,
    ElementType.INT64: 8,
}


@dataclass(frozen=True)
class Gpu:
    """A GPU's peaks, dense, at boost clock, as its vendor states them."""

    name: str
    variant: str
    """The target's variant that builds for it: "sm89"."""
    bandwidth_gb_s: float
    fp32_tflops: float
    fp16_tflops: float
    """Tensor cores, FP32 accumulation."""
    int8_tops: float
    source: str

    def peak(self, dtype: ElementType) -> float:
        """Operations a second of a type's products; one multiply-accumulate is two."""
        tera = {ElementType.FP32: self.fp32_tflops, ElementType.INT8: self.int8_tops}
        return tera.get(dtype, self.fp16_tflops) * 1e12


_GA102: Final = "NVIDIA Ampere GA102 GPU Architecture whitepaper, appendix A"
_AD102: Final = "NVIDIA Ada GPU Architecture whitepaper, appendix A"
_GB202: Final = "NVIDIA RTX Blackwell GPU Architecture whitepaper, appendix A"

GPUS: Final[tuple[Gpu, ...]] = (
    Gpu("T4", "sm75", 320, 8.1, 65, 130, "NVIDIA T4 datasheet"),
    Gpu("A100 40GB", "sm80", 1555, 19.5, 312, 624, "NVIDIA A100 datasheet"),
    Gpu("RTX 3090", "sm86", 936, 35.6, 71, 284, _GA102),
    Gpu("A10", "sm86", 600, 31.2, 125, 250, "NVIDIA A10 datasheet"),
    Gpu("RTX 4090", "sm89", 1008, 82.6, 165.2, 660.6, _AD102),
    Gpu("L4", "sm89", 300, 30.3, 121, 242.5, "NVIDIA L4 datasheet (sparsity taken out)"),
    Gpu("RTX 5090", "sm120", 1792, 104.8, 209.5, 838, _GB202),
)  # fmt: skip


@dataclass(frozen=True)
class KernelCost:
    """One kernel's share."""

    name: str
    does: tuple[Operation, ...]
    macs: int
    bytes_moved: int
    time_ms: float
    bound: str
    """"memory" or "arithmetic"."""


def predictions(listed: LayerList, variant: str, batches: Iterable[int]) -> tuple[Prediction, ...]:
    """The cost of a plan on every GPU of `GPUS` that its variant builds for, at each batch size."""
    return tuple(
        predict(listed, gpu, batch)
        for gpu in GPUS
        if variant in {"portable", gpu.variant}
        for batch in batches
    )


def predict(listed: LayerList, gpu: Gpu, batch: int) -> Prediction:
    """The cost of a plan on one GPU, at a batch size that its profile holds."""
    costs = kernel_costs(listed, gpu, batch)
    return Prediction(
        gpu=gpu.name,
        batch=batch,
        time_ms=round(sum(cost.time_ms for cost in costs), 4),
        macs=sum(cost.macs for cost in costs),
        bytes_moved=sum(cost.bytes_moved for cost in costs),
        kernels=len(costs),
        memory_bound=sum(cost.bound == "memory" for cost in costs),
        basis=BASIS,
        source=gpu.source,
    )


def kernel_costs(listed: LayerList, gpu: Gpu, batch: int) -> tuple[KernelCost, ...]:
    """Each kernel's cost, in execution order.

    Raises:
        UsageError: the batch size is not positive.
    """
    if batch < 1:
        raise UsageError(f"batch {batch}: give a positive number of images")
    return tuple(
        _cost(layer, gpu, batch) for layer in listed.layers if layer.type not in NO_KERNELS
    )


def traffic(listed: LayerList, batch: int) -> tuple[KernelTraffic, ...]:
    """What each kernel computes and moves at a batch size, in execution order."""
    return tuple(
        KernelTraffic(
            layer.name, layer.dtype, multiply_accumulates(layer, batch), bytes_moved(layer, batch)
        )
        for layer in listed.layers
        if layer.type not in NO_KERNELS
    )


def _cost(layer: LayerRecord, gpu: Gpu, batch: int) -> KernelCost:
    macs = multiply_accumulates(layer, batch)
    moved = bytes_moved(layer, batch)
    memory_s = moved / (gpu.bandwidth_gb_s * 1e9)
    arithmetic_s = 2 * macs / gpu.peak(layer.dtype)
    return KernelCost(
        name=layer.name,
        does=layer.does,
        macs=macs,
        bytes_moved=moved,
        time_ms=max(memory_s, arithmetic_s) * 1e3,
        bound="memory" if memory_s >= arithmetic_s else "arithmetic",
    )


def bytes_moved(layer: LayerRecord, batch: int) -> int:
    """The size of everything that a kernel reads and writes."""
    tensors = (*layer.inputs, *layer.constants, *layer.outputs)
    listed = sum(tensor.elements(batch) * _BYTES[tensor.dtype] for tensor in tensors)
    return listed + layer.weights * _BYTES[layer.dtype]


def multiply_accumulates(layer: LayerRecord, batch: int) -> int:
    """Of its convolution or matrix product; what is pointwise counts as nothing.

    Convolution, weights (O, I/g, kH, kW), output (N, O, H, W): N * H * W * (all weights).
    Matrix product, (M, K) x (K, N): the square root of the product of the three sizes, whatever
    the order in which the library wrote the dimensions.
    """
    if {Operation.CONV, Operation.GEMM}.isdisjoint(layer.does):
        return 0
    if not layer.constants:
        # They are only counted. What a pooling inside the kernel leaves out is then not counted.
        return _positions(layer.outputs[0], batch) * layer.weights if layer.weights else 0
    weights = max(layer.constants, key=lambda tensor: tensor.elements(batch))
    output = layer.outputs[0]
    if len(weights.dims) == 4:
        return _positions(output, batch) * weights.elements(batch)
    sizes = layer.inputs[0].elements(batch), weights.elements(batch), output.elements(batch)
    return math.isqrt(math.prod(sizes))


def _positions(output: LayerTensor, batch: int) -> int:
    return output.elements(batch) // output.dims[1]
