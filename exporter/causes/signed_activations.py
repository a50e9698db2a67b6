"""Signed or symmetric activations: what ONNX Runtime's kernels for x86 do not fuse, or not fast.

A Relu is part of a kernel where the zero point behind it is the smallest code. With symmetric codes
it is in the middle, so that the Relu stays, in float, and what is before it as well. With signed
asymmetric codes ONNX Runtime makes unsigned ones of those pairs that have one reader, and does not
fuse an operator that has both kinds. A QLinearConv that somebody wrote with signed codes is left as
it is, and has no kernel that uses VNNI.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

import numpy as np
import onnx_ir as ir

from exporter.artifact import ElementType, Kernel, Operation
from exporter.causes.case import (
    Case,
    computed_inputs,
    counted,
    is_dequantized,
    producer,
    readers,
    zero_point,
)
from exporter.causes.finding import Claim
from exporter.passes.values import is_op
from exporter.runtime.machine import on_x86


def find(case: Case, free: Collection[int]) -> Claim | None:
    """Float kernels of operators whose inputs and results all have Q/DQ, of the wrong kind."""
    seeds: set[int] = set()
    for index in free:
        nodes = [n for n in case.nodes_of(index) if not is_op(n, "Relu")]
        nodes += [n for n in case.nodes_of(index) if is_op(n, "Relu") and _is_stuck(n)]
        if any(_is_ready(n) and (_is_signed(n) or _is_stuck(n)) for n in nodes):
            seeds.add(index)
    layers = {*case.does(Operation.CONV, seeds), *case.does(Operation.ADD, seeds)}
    every = range(len(case.kernels))
    slow = [i for i in case.does(Operation.CONV, every) if on_x86() and _is_slow(case.kernels[i])]
    if not layers and not slow:
        return None
    seen = []
    if layers:
        seen.append(
            f"{len(layers)} convolutions and sums compute in float although all of them have Q/DQ "
            f"({_places(case, layers)}): their activations are signed or symmetric, which ONNX "
            "Runtime does not fuse on this CPU"
        )
    if slow:
        seen.append(
            f"{len(slow)} convolutions compute with signed activations ({_places(case, slow)}), "
            "for which ONNX Runtime has no fast kernel on this CPU"
        )
    return Claim(
        "; ".join(seen),
        "quantize activations to unsigned asymmetric codes (quantize_static: "
        "activation_type=QuantType.QUInt8 without ActivationSymmetric)",
        frozenset(seeds) | frozenset(slow),
    )


def _places(case: Case, kernels: Iterable[int]) -> str:
    return counted(case.place(n) for i in sorted(kernels) for n in case.nodes_of(i)[:1])


def _is_slow(kernel: Kernel) -> bool:
    """Whether a convolution takes and makes signed codes."""
    return kernel.op.startswith("QLinearConv") and ElementType.INT8 in kernel.output_dtypes


def _is_ready(node: ir.Node) -> bool:
    """Whether 8 bits come in: a Relu is as ready as what is before it."""
    if is_op(node, "Relu"):
        before = producer(node)
        return before is not None and _is_ready(before)
    return all(is_dequantized(node, index) for index in computed_inputs(node)) and (
        not is_op(node, "Conv") or is_dequantized(node, 1)
    )


def _is_signed(node: ir.Node) -> bool:
    """Whether one of the activations around a node is in signed codes."""
    pairs = [producer(node, index) for index in computed_inputs(node)]
    pairs += [reader for reader in _behind(node) if is_op(reader, "QuantizeLinear")]
    zeros = [zero_point(pair) for pair in pairs if pair is not None]
    return any(zero is not None and zero.dtype == np.int8 for zero in zeros)


def _is_stuck(node: ir.Node) -> bool:
    """Whether a Relu stands behind a node whose zero point is not the smallest code."""
    relus = [node] if is_op(node, "Relu") else [r for r in readers(node) if is_op(r, "Relu")]
    for relu in relus:
        for pair in readers(relu):
            zero = zero_point(pair) if is_op(pair, "QuantizeLinear") else None
            if zero is not None and zero.dtype.kind in "iu":
                return bool((zero != np.iinfo(zero.dtype).min).any())
    return False


def _behind(node: ir.Node) -> list[ir.Node]:
    """What reads a node, a Relu looked through."""
    found = list(readers(node))
    return [*found, *(r for relu in found if is_op(relu, "Relu") for r in readers(relu))]
