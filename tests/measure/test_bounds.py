"""The least time of an engine's kernels, on recordings of real engines and by hand."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from exporter.artifact import ElementType, Skipped
from exporter.measure.bounds import lower_bound
from exporter.measure.timing import GpuCeilings, LowerBound
from exporter.targets import KernelTraffic
from exporter.targets.tensorrt.inspector import parse_engine
from exporter.targets.tensorrt.predict import traffic

CEILINGS = GpuCeilings({"fp32": 10e3, "fp16": 100e3, "int8": 200e3}, copy_gb_s=1000.0)
"""10, 100 and 200 tera-operations a second, and a terabyte."""
RECORDED = Path(__file__).parents[1] / "reference" / "tensorrt"


def kernel(dtype: ElementType, macs: int, size: int) -> KernelTraffic:
    return KernelTraffic("k", dtype, macs, size)


@pytest.mark.parametrize(
    ("dtype", "macs", "size", "least_us", "bound"),
    [
        (ElementType.FP16, 50_000_000, 1_000, 1.0, "arithmetic"),
        (ElementType.INT8, 50_000_000, 1_000, 0.5, "arithmetic"),
        (ElementType.UINT8, 50_000_000, 1_000, 0.5, "arithmetic"),
        (ElementType.FP16, 50_000_000, 2_000_000, 2.0, "memory"),
        (ElementType.BOOL, 0, 1_000_000, 1.0, "memory"),
    ],
)
def test_a_kernel_takes_the_longer_of_its_two_times(
    dtype: ElementType, macs: int, size: int, least_us: float, bound: str
) -> None:
    found = lower_bound([kernel(dtype, macs, size)], 1, CEILINGS)
    assert isinstance(found, LowerBound)
    assert found.kernels[0].least_us == pytest.approx(least_us)
    assert found.kernels[0].bound == bound


def test_a_type_that_was_not_measured_has_no_bound() -> None:
    found = lower_bound([kernel(ElementType.BF16, 1, 1)], 1, CEILINGS)
    assert found == Skipped("no product in bf16 was measured on this GPU")


@pytest.mark.parametrize(
    ("name", "dtype"), [("fp16", ElementType.FP16), ("int8", ElementType.INT8)]
)
def test_the_bound_of_a_recorded_engine(name: str, dtype: ElementType) -> None:
    """ResNet-18 has 1.814 GMAC; INT8's first layer has a pooling inside, which hides most of it."""
    text = (RECORDED / f"inspector-resnet18-{name}.json").read_text(encoding="utf-8")
    listed = parse_engine(text, nodes_of(json.loads(text)), "TensorRT", "8.0")
    kernels = traffic(listed, 32)
    macs = sum(one.macs for one in kernels) / 32
    assert 1.814e9 - 0.75 * 118e6 <= macs <= 1.8145e9
    assert {one.dtype for one in kernels if one.macs} == {dtype}
    found = lower_bound(kernels, 32, CEILINGS)
    assert isinstance(found, LowerBound)
    assert found.least_us == pytest.approx(sum(one.least_us for one in found.kernels))
    assert {one.bound for one in found.kernels} == {"memory", "arithmetic"}
    arithmetic_us = 2 * 32 * macs / CEILINGS.gops[dtype] / 1e3
    assert arithmetic_us < found.least_us < 4 * arithmetic_us


def nodes_of(information: dict[str, Any]) -> dict[str, str]:
    """The ONNX nodes that the layers' names list, in the order of the graph."""
    kinds = "Conv|Add|Relu|Gemm|MaxPool|GlobalAveragePool|QuantizeLinear|DequantizeLinear|Flatten"
    names = " + ".join(layer["Name"] for layer in information["Layers"])
    found = re.findall(rf"(?<![\w:])(({kinds})_(\d+))\b", names)
    return {name: kind for name, kind, _ in sorted(set(found), key=lambda one: int(one[2]))}
