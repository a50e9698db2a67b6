"""Lists of kernels as runtimes tell them, written by hand, and the receipt's judgement of them."""

from __future__ import annotations

from exporter.artifact import Dialect, ElementType, Kernel, Operation, Precision, Verdict
from exporter.passes.blocks import GraphFacts, ResidualBlock, Shortcut
from exporter.prove.certificate import Receipt
from exporter.prove.receipt import make_receipt


def kernel(
    does: str, label: str, inputs: str, output: str, dtype: str = "fp32", op: str = ""
) -> Kernel:
    """`does` and `inputs` are separated by blanks."""
    return Kernel(
        name=f"{label}_kernel",
        op=op or does,
        does=tuple(map(Operation, does.split())),
        dtype=ElementType(dtype),
        inputs=tuple(inputs.split()),
        outputs=(output,),
        labels=(label,),
    )


def facts(*names: str, convs: int = 5) -> GraphFacts:
    blocks = tuple(
        ResidualBlock(
            name=name,
            add=f"{name}.add",
            shortcut=Shortcut.IDENTITY,
            input="",
            output=f"{name}.relu_1",
            nodes=(),
        )
        for name in names
    )
    return GraphFacts(convs=convs, batchnorms_folded=convs, blocks=blocks)


def fused(dtype: str = "fp32") -> list[Kernel]:
    """A stem, the blocks layer1.1 and layer1.10, a head; everything inside convolutions."""
    return [
        kernel("conv relu", "conv1", "x", "t0", dtype),
        kernel("conv relu", "layer1.1.conv1", "t0", "t1", dtype),
        kernel("conv add relu", "layer1.1.conv2", "t1 t0", "layer1.1.relu_1", dtype),
        kernel("conv relu", "layer1.10.conv1", "layer1.1.relu_1", "t3", dtype),
        kernel("conv add relu", "layer1.10.conv2", "t3 layer1.1.relu_1", "t4", dtype),
        kernel("avgpool", "avgpool", "t4", "t5", dtype),
        kernel("gemm", "fc", "t5", "y", dtype),
    ]


def quantized() -> list[Kernel]:
    """The same in 8 bits, with sums of their own, the head's last part in float."""
    return [
        kernel("quantize", "x_q", "x", "xq"),
        kernel("reorder", "Transpose", "xq", "xt", "int8"),
        kernel("conv relu", "conv1", "xt", "t0", "int8"),
        kernel("conv relu", "layer1.1.conv1", "t0", "t1", "int8"),
        kernel("conv", "layer1.1.conv2", "t1", "t2", "int8"),
        kernel("add relu", "layer1.1.add", "t2 t0", "t3", "int8", op="QLinearAdd"),
        kernel("conv relu", "layer1.10.conv1", "t3", "t4", "int8"),
        kernel("conv", "layer1.10.conv2", "t4", "t5", "int8"),
        kernel("add relu", "layer1.10.add", "t5 t3", "t6", "int8", op="QLinearAdd"),
        kernel("avgpool", "avgpool", "t6", "t7", "int8"),
        kernel("dequantize", "dq", "t7", "t8"),
        kernel("gemm", "fc", "t8", "y"),
    ]


def judge(
    kernels: list[Kernel],
    precision: Precision = Precision.FP32,
    dialect: Dialect = Dialect.FLOAT,
    *,
    kept: tuple[str, ...] = (),
    blocks: tuple[str, ...] = ("layer1.1", "layer1.10"),
    convs: int = 5,
) -> Receipt:
    return make_receipt(
        kernels,
        "a list",
        graph_facts=facts(*blocks, convs=convs),
        precision=precision,
        dialect=dialect,
        expected=Verdict.FUSED,
        kept=kept,
    )


def judge_int8(kernels: list[Kernel], *, kept: tuple[str, ...] = ()) -> Receipt:
    return judge(kernels, Precision.INT8, Dialect.U8_ASYMMETRIC, kept=kept)


def swap(kernels: list[Kernel], index: int, *new: Kernel) -> list[Kernel]:
    return [*kernels[:index], *new, *kernels[index + 1 :]]
