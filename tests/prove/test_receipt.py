"""The receipt's rules, one by one, on hand-written lists of kernels."""

from __future__ import annotations

from dataclasses import replace

import pytest

from exporter.artifact import ElementType, Kernel, Operation, Precision, Verdict
from exporter.prove.receipt import unverified_receipt
from tests.prove.kernel_lists import facts, fused, judge, kernel, swap


def test_everything_inside_convolutions_is_fused() -> None:
    found = judge(fused())
    assert found.verdict is Verdict.FUSED
    assert found.reason is None
    assert (found.convs, found.batchnorms_folded) == (5, 5)
    assert (found.residual_adds, found.residual_adds_fused) == (2, 2)
    assert (found.float_ops, found.extra_kernels, found.leftovers) == (0, 0, ())
    assert (found.convs_quantized, found.residual_adds_quantized) == (0, 0)


def test_the_longest_block_name_wins() -> None:
    """layer1.10 is not in layer1.1, and what a kernel reads does not place it."""
    found = judge(fused())
    assert [[k.labels[0] for k in block.kernels] for block in found.blocks] == [
        ["layer1.1.conv1", "layer1.1.conv2"],
        ["layer1.10.conv1", "layer1.10.conv2"],
    ]


def test_a_block_inside_another_block_has_its_own_kernels() -> None:
    kernels = [
        kernel("conv relu", "stage.conv", "x", "t0"),
        kernel("conv add relu", "stage.0.conv", "t0", "t1"),
        kernel("conv add", "stage.last", "t1 x", "y"),
    ]
    found = judge(kernels, blocks=("stage", "stage.0"), convs=3)
    assert [len(block.kernels) for block in found.blocks] == [2, 1]
    assert found.verdict is Verdict.FUSED


def test_a_kernel_without_a_name_belongs_where_it_reads() -> None:
    unnamed = kernel("reorder", "ReorderOutput", "layer1.1.relu_1", "r")
    found = judge([*fused()[:3], unnamed, *fused()[3:]])
    assert unnamed in found.blocks[0].kernels
    assert found.extra_kernels == 1
    assert found.verdict is Verdict.FUSED


def separate_sum() -> list[Kernel]:
    return swap(
        fused(),
        2,
        kernel("conv", "layer1.1.conv2", "t1", "t2"),
        kernel("add relu", "layer1.1.add", "t2 t0", "layer1.1.relu_1", op="Add"),
    )


def test_a_sum_of_its_own_is_partial_and_named() -> None:
    found = judge(separate_sum())
    assert found.verdict is Verdict.PARTIAL
    assert (found.residual_adds_fused, found.float_ops) == (1, 1)
    assert [block.add_fused for block in found.blocks] == [False, True]
    assert "kernel of its own" in str(found.blocks[0].reason)
    assert found.blocks[1].reason is None
    assert found.leftovers == (("layer1.1.add_kernel", "layer1.1", "Add is a kernel of its own"),)
    assert found.reason is not None
    assert "1 of 2 residual adds are not fused (layer1.1:" in found.reason


def test_the_reason_names_a_second_reader() -> None:
    spy = kernel("other", "debug", "t2", "z")
    found = judge([*separate_sum(), spy])
    assert "t2 has 2 readers" in str(found.blocks[0].reason)


@pytest.mark.parametrize("does", ["relu", "batchnorm", "pointwise"])
def test_a_pointwise_kernel_of_its_own_is_left_over(does: str) -> None:
    kernels = swap(
        fused(),
        3,
        kernel("conv", "layer1.10.conv1", "layer1.1.relu_1", "t2"),
        kernel(does, "layer1.10.relu", "t2", "t3"),
    )
    found = judge(kernels)
    assert found.verdict is Verdict.PARTIAL
    assert found.float_ops == 1
    assert found.leftovers[0][1] == "layer1.10"
    assert found.batchnorms_folded == (4 if does == "batchnorm" else 5)


def test_pointwise_kernels_before_the_stem_and_in_the_head_are_not_residual() -> None:
    kernels = [
        kernel("pointwise", "normalise", "image", "x"),
        *fused()[:-1],
        kernel("gemm", "fc", "t5", "t6"),
        kernel("pointwise", "scale", "t6", "t7"),
        kernel("softmax", "prob", "t7", "y"),
    ]
    assert judge(kernels).verdict is Verdict.FUSED


def test_a_gate_behind_a_pooling_inside_the_body_is_left_over() -> None:
    """Squeeze-and-excitation: the pooling is not the head, a convolution follows."""
    kernels = [
        *fused()[:2],
        kernel("avgpool", "layer1.1.se", "t1", "s0"),
        kernel("pointwise", "layer1.1.sigmoid", "s0", "s1"),
        kernel("pointwise", "layer1.1.gate", "t1 s1", "s2"),
        kernel("conv add relu", "layer1.1.conv2", "s2 t0", "layer1.1.relu_1"),
        *fused()[3:],
    ]
    assert [name for name, _, _ in judge(kernels).leftovers] == [
        "layer1.1.sigmoid_kernel",
        "layer1.1.gate_kernel",
    ]


def test_fp32_computed_in_another_type_is_partial() -> None:
    found = judge(fused("bf16"))
    assert found.verdict is Verdict.PARTIAL
    assert found.reason == "5 of 5 convolutions compute in bf16"


def test_fp16_must_compute_in_fp16() -> None:
    assert judge(fused("fp16"), Precision.FP16).verdict is Verdict.FUSED
    casts = [kernel("cast", "in", "image", "x"), *fused()]
    found = judge(casts, Precision.FP16)
    assert found.verdict is Verdict.PARTIAL
    assert found.reason == "5 of 5 convolutions compute in fp32, behind 1 cast"
    assert found.extra_kernels == 1


def test_bf16_must_compute_in_bf16_but_for_what_is_kept() -> None:
    found = judge(fused("bf16"), Precision.BF16)
    assert (found.verdict, found.convs_by_type) == (Verdict.FUSED, {ElementType.BF16: 5})
    one_float = [kernel("conv relu", "conv1", "x", "t0", "fp32"), *fused("bf16")[1:]]
    found = judge(one_float, Precision.BF16)
    assert found.convs_by_type == {ElementType.BF16: 4, ElementType.FP32: 1}
    assert found.reason == "1 of 5 convolutions compute in fp32"
    assert judge(one_float, Precision.BF16, kept=("conv1",)).verdict is Verdict.FUSED
    found = judge(fused("bf16"), Precision.BF16, kept=("conv1",))
    assert found.verdict is Verdict.PARTIAL
    assert found.reason == ("conv1_kernel was to be kept in higher precision and computes in bf16")
    assert judge(fused(), kept=("conv1",)).verdict is Verdict.FUSED


def test_missing_convolutions_are_unverified() -> None:
    found = judge(fused(), convs=6)
    assert found.verdict is Verdict.UNVERIFIED
    assert "the graph has 6 convolutions, the kernels 5" in str(found.reason)


def test_one_kernel_may_hold_several_convolutions_and_blocks() -> None:
    both = replace(
        kernel("conv add relu conv relu", "layer1.1.conv2", "t1 t0", "t3"),
        labels=("layer1.1.conv2", "layer1.1.add", "layer1.10.conv1"),
    )
    last = replace(fused()[4], inputs=("t3", "t0"))
    found = judge([*fused()[:2], both, last, *fused()[5:]])
    assert found.convs == 5
    assert both in found.blocks[0].kernels
    assert both in found.blocks[1].kernels
    assert found.verdict is Verdict.FUSED
    # Its sum is layer1.1's: it does not stand in for a missing one of layer1.10.
    without = replace(last, does=(Operation.CONV, Operation.RELU))
    found = judge([*fused()[:2], both, without, *fused()[5:]])
    assert found.verdict is Verdict.UNVERIFIED
    assert found.blocks[1].reason == "none of its kernels does the residual sum"


def test_a_block_without_kernels_is_unverified() -> None:
    hidden = [replace(k, labels=("reformat",), outputs=k.outputs) for k in fused()[3:5]]
    hidden[0] = replace(hidden[0], inputs=("t2b",))
    kernels = [*fused()[:2], replace(fused()[2], outputs=("t2b",)), *hidden, *fused()[5:]]
    found = judge(kernels)
    assert found.verdict is Verdict.UNVERIFIED
    assert found.blocks[1].kernels == ()
    assert found.blocks[1].reason == "none of the kernels carries a name of this block"
    assert found.residual_adds_fused == 1


def test_unconnected_kernels_are_unverified() -> None:
    """With a gap in the list, "between" means nothing, and a float operator could hide in it."""
    kernels = [*fused()[:5], replace(fused()[5], inputs=("elsewhere",)), fused()[6]]
    found = judge(kernels)
    assert found.verdict is Verdict.UNVERIFIED
    assert "nothing writes elsewhere, x" in str(found.reason)


def test_no_kernels_at_all_is_unverified() -> None:
    found = judge([])
    assert found.verdict is Verdict.UNVERIFIED
    assert "the runtime listed no kernels" in str(found.reason)
    assert found.residual_adds_fused == 0


def test_a_plain_network_is_fused_with_zero_of_zero() -> None:
    kernels = [
        kernel("conv relu", "conv1", "x", "t0"),
        kernel("conv relu", "conv2", "t0", "t1"),
        kernel("gemm", "fc", "t1", "y"),
    ]
    found = judge(kernels, blocks=(), convs=2)
    assert found.verdict is Verdict.FUSED
    assert (found.residual_adds, found.residual_adds_fused, found.blocks) == (0, 0, ())
    last_relu = [kernels[0], kernel("conv", "conv2", "t0", "u"), kernel("relu", "relu", "u", "t1")]
    found = judge([*last_relu, kernels[2]], blocks=(), convs=2)
    assert found.float_ops == 1


def test_an_unreadable_engine_claims_nothing() -> None:
    found = unverified_receipt(
        "the log has no layer list", graph_facts=facts("layer1.1"), expected=Verdict.FUSED
    )
    assert found.verdict is Verdict.UNVERIFIED
    assert found.reason == "the log has no layer list"
    assert (found.convs, found.residual_adds, found.residual_adds_fused) == (0, 1, 0)
    assert [(b.name, b.add_fused, b.reason) for b in found.blocks] == [
        ("layer1.1", False, "the log has no layer list")
    ]
