"""A kept layer in another float type than was chosen lowers the receipt."""

from __future__ import annotations

from dataclasses import replace

import pytest

from exporter.artifact import ElementType, Kernel, Operation, Verdict
from exporter.passes.blocks import GraphFacts
from exporter.prove.certificate import Receipt
from exporter.prove.float_types import with_float_types
from exporter.prove.receipt import unverified_receipt

FP32, BF16 = ElementType.FP32, ElementType.BF16
FUSED = replace(
    unverified_receipt(
        "", graph_facts=GraphFacts(convs=0, batchnorms_folded=0, blocks=()), expected=Verdict.FUSED
    ),
    verdict=Verdict.FUSED,
    reason=None,
)


def kernel(name: str, dtype: ElementType, does: Operation = Operation.CONV) -> Kernel:
    return Kernel(name, "op", (does,), dtype, (), (), labels=(name,))


def judged(kernels: list[Kernel], types: dict[str, ElementType]) -> Receipt:
    return with_float_types(FUSED, kernels, types)


def test_the_type_that_was_chosen_changes_nothing() -> None:
    kernels = [kernel("a.conv", BF16), kernel("b.conv", ElementType.INT8)]
    assert judged(kernels, {"a": BF16}) is FUSED


@pytest.mark.parametrize(("wanted", "found"), [(BF16, FP32), (FP32, BF16)])
@pytest.mark.parametrize("does", [Operation.CONV, Operation.GEMM])
def test_another_type_is_a_shortfall(
    wanted: ElementType, found: ElementType, does: Operation
) -> None:
    receipt = judged([kernel("a.conv", found, does)], {"a": wanted})
    assert receipt.verdict is Verdict.PARTIAL
    assert receipt.reason == f"a.conv computes in {found} and was to be kept in {wanted}"


def test_what_the_user_keeps_inside_a_chosen_block_comes_first() -> None:
    types = {"a.conv": FP32, "a": BF16}
    assert judged([kernel("a.conv", FP32), kernel("a.other", BF16)], types) is FUSED
    assert judged([kernel("a.conv", BF16)], types).verdict is Verdict.PARTIAL


def test_pools_may_be_of_any_float_type() -> None:
    assert judged([kernel("a.pool", FP32, Operation.AVGPOOL)], {"a": BF16}) is FUSED


def test_an_incomplete_account_stays_unverified() -> None:
    unknown = replace(FUSED, verdict=Verdict.UNVERIFIED, reason="no kernels")
    found = with_float_types(unknown, [kernel("a.conv", FP32)], {"a": BF16})
    assert found.verdict is Verdict.UNVERIFIED
    assert str(found.reason).startswith("no kernels; a.conv computes in fp32")
