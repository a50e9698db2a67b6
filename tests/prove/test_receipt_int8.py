"""The receipt's rules for engines in 8 bits, one by one, on hand-written lists of kernels."""

from __future__ import annotations

from dataclasses import replace

import pytest

from exporter.artifact import Dialect, ElementType, Kernel, Precision, Verdict
from exporter.prove.certificate import Receipt
from tests.prove.kernel_lists import fused, judge, judge_int8, kernel, quantized, swap


def test_fp8_is_judged_as_int8_is() -> None:
    in_fp8 = [replace(k, dtype=ElementType.FP8) if k.dtype == "int8" else k for k in quantized()]
    found = judge(in_fp8, Precision.FP8, Dialect.E4M3_SYMMETRIC)
    assert found.verdict is Verdict.FUSED, found.reason
    assert found.convs_by_type == {ElementType.FP8: 5}
    assert (found.residual_adds_fused, found.residual_adds_quantized) == (2, 2)
    found = judge(quantized(), Precision.FP8, Dialect.E4M3_SYMMETRIC)
    assert found.verdict is Verdict.PARTIAL
    assert found.reason == "5 of 5 convolutions compute in int8"


def test_int8_with_integer_sums_and_a_float_head_is_fused() -> None:
    found = judge_int8(quantized())
    assert found.verdict is Verdict.FUSED, found.reason
    assert (found.convs, found.convs_quantized) == (5, 5)
    assert (found.residual_adds_fused, found.residual_adds_quantized) == (2, 2)
    assert (found.float_ops, found.extra_kernels) == (0, 3)


def test_int8_sums_inside_convolutions_count_as_quantized() -> None:
    found = judge_int8(fused("int8"))
    assert found.verdict is Verdict.FUSED
    assert found.residual_adds_quantized == 2


def test_int8_float_sum_between_is_left_over() -> None:
    """TensorRT-RTX's kernel: dequantize, add, relu and quantize in one, in float."""
    floats = kernel("dequantize add relu quantize", "layer1.1.add", "t2 t0", "t3", "fp32")
    found = judge_int8(swap(quantized(), 5, floats))
    assert found.verdict is Verdict.PARTIAL
    assert (found.residual_adds_fused, found.residual_adds_quantized) == (1, 1)
    assert [(name, block) for name, block, _ in found.leftovers] == [
        ("layer1.1.add_kernel", "layer1.1")
    ]


def test_int8_only_requantized_is_left_over() -> None:
    kernels = swap(
        quantized(),
        5,
        quantized()[5],
        kernel("dequantize", "a", "t3", "f"),
        kernel("quantize", "b", "f", "t3b"),
    )
    kernels[8] = replace(kernels[8], inputs=("t3b",))
    found = judge_int8(kernels)
    assert [reason for _, _, reason in found.leftovers] == [
        "dequantized only to be quantized again"
    ]
    assert found.float_ops == 1


def float_conv() -> list[Kernel]:
    return swap(
        quantized(),
        3,
        kernel("dequantize", "dq1", "t0", "f0"),
        kernel("conv relu", "layer1.1.conv1", "f0", "f1"),
        kernel("quantize", "q1", "f1", "t1"),
    )


def test_int8_float_convolution_is_partial_unless_kept() -> None:
    found = judge_int8(float_conv())
    assert found.verdict is Verdict.PARTIAL
    assert (found.convs_quantized, found.float_ops) == (4, 1)
    assert "1 of 5 convolutions compute in fp32" in str(found.reason)
    kept = judge_int8(float_conv(), kept=("layer1.1.conv1",))
    assert kept.verdict is Verdict.FUSED
    assert kept.float_ops == 0


def test_int8_a_kept_sum_leaves_the_verdict_alone_and_is_counted() -> None:
    kernels = swap(
        quantized(),
        5,
        kernel("dequantize", "dq2", "t2", "f2"),
        kernel("dequantize", "dq0", "t0", "f0"),
        kernel("add relu", "layer1.1.add", "f2 f0", "f3", op="Add"),
        kernel("quantize", "q3", "f3", "t3"),
    )
    assert judge_int8(kernels).verdict is Verdict.PARTIAL
    found = judge_int8(kernels, kept=("layer1.1.add",))
    assert found.verdict is Verdict.FUSED
    assert (found.residual_adds_fused, found.residual_adds) == (1, 2)
    assert found.blocks[0].add_fused is False
    assert "Add is a kernel of its own in fp32" in str(found.blocks[0].reason)
    # Only where it was asked for: the other block's name excuses nothing.
    assert judge_int8(kernels, kept=("layer1.10.add",)).verdict is Verdict.PARTIAL


def block_in_float() -> list[Kernel]:
    """As OpenVINO makes it: the sum takes a float and an 8-bit operand, and writes 8 bits."""
    kernels = swap(
        quantized(),
        3,
        kernel("dequantize", "dq1", "t0", "f0"),
        kernel("conv relu", "layer1.1.conv1", "f0", "t1"),
    )
    kernels[5] = kernel("conv", "layer1.1.conv2", "t1", "t2")
    kernels[6] = replace(kernels[6], op="Eltwise")
    return kernels


def test_int8_a_kept_sum_that_takes_float_may_write_8_bits() -> None:
    found = judge_int8(block_in_float(), kept=("layer1.1",))
    assert found.verdict is Verdict.FUSED, found.reason
    both = swap(block_in_float(), 5, kernel("conv", "layer1.1.conv2", "t1", "t2", "int8"))
    found = judge_int8(both, kept=("layer1.1",))
    assert "layer1.1.add_kernel was to be kept in higher precision and is quantized" in str(
        found.reason
    )


def test_mixed_is_int8_with_no_other_product_in_float() -> None:
    def judged(kept: tuple[str, ...]) -> Receipt:
        return judge(block_in_float(), Precision.MIXED, Dialect.U8_ASYMMETRIC, kept=kept)

    assert judge_int8(block_in_float(), kept=("layer1.1",)).verdict is Verdict.FUSED
    assert judged(("layer1.1", "fc")).verdict is Verdict.FUSED
    found = judged(("layer1.1",))
    assert found.verdict is Verdict.PARTIAL
    assert found.reason == "fc_kernel computes in fp32 and was not to be kept"


@pytest.mark.parametrize(
    ("kept", "block"),
    [
        ("layer1.1.conv1", "layer1.1"),
        ("layer1.1", "layer1.1"),
        ("layer1.10.conv2", "layer1.10"),
        ("conv1", ""),
    ],
)
def test_int8_what_was_to_be_kept_and_is_quantized_is_caught(kept: str, block: str) -> None:
    found = judge_int8(quantized(), kept=(kept,))
    assert found.verdict is Verdict.PARTIAL
    assert {home for _, home, _ in found.leftovers} == {block}
    assert "to be kept" in str(found.reason)
    assert found.float_ops == 0


def test_a_kept_name_that_no_kernel_carries_is_unverified() -> None:
    found = judge_int8(quantized(), kept=("layer7.conv1",))
    assert found.verdict is Verdict.UNVERIFIED
    assert "layer7.conv1" in str(found.reason)


def test_the_average_pool_is_float_by_design_in_the_symmetric_dialect_alone() -> None:
    kernels = [
        *quantized()[:9],
        kernel("dequantize", "dq", "t6", "f6"),
        kernel("avgpool", "avgpool", "f6", "f7"),
        kernel("quantize", "q", "f7", "t8"),
        kernel("gemm", "fc", "t8", "y", "int8"),
    ]
    assert judge(kernels, Precision.INT8, Dialect.S8_SYMMETRIC).verdict is Verdict.FUSED
    assert judge(kernels, Precision.INT8, Dialect.U8_ASYMMETRIC).float_ops == 1
