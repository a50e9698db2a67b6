"""The fusion receipt: what a runtime really made of the residual blocks. Only this file counts.

A target hands over its kernels in execution order, each with the tensors it reads and writes and
with labels that tie it to the graph; `kernel_graph.py` says which block each belongs to.

Verdict `unverified`: the kernels are no complete account of the graph. There is none, or the number
    of convolutions is not the graph's, or a block's sum is in none of its kernels, or a name that
    was to be kept is nowhere, or the kernels are not connected (more than one tensor that nothing
    writes), so that "between" has no meaning.
Verdict `fused`, for all precisions: every residual sum is inside a convolution kernel (8 bits: or
    in one 8-bit kernel with its requantization), no operator that the runtime may fuse is left, and
    FP32, FP16, BF16  every convolution computes in that type;
    INT8, FP8         every convolution computes in 8 bits of that type;
    and what was to be kept in float32 does not compute in the reduced precision;
    mixed             as INT8, and only what was kept is in float, in its type (`float_types.py`).
What is unfusable is counted as what it is, is named with the reason, and lowers nothing.
A sum that was itself to be kept in higher precision is counted as what it is, fused or not, and
leaves the verdict alone: ONNX Runtime cannot fuse it where its shortcut comes dequantized.
Verdict `partial`: anything else, with each reason.

Operators left over (`float_ops`):
    in float    pointwise kernels after the first convolution and before the head. The head is what
                follows the last pooling or Gemm with no convolution behind it.
    in 8 bits   kernels that compute in float between two that compute in 8 bits. The input's
                quantization and a float head are not between. What was to be kept does not count,
                nor, in the symmetric dialects, the average pool, which is float there by design.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Final

from exporter.artifact import (
    Dialect,
    ElementType,
    Kernel,
    Operation,
    Precision,
    Verdict,
)
from exporter.passes.blocks import GraphFacts, ResidualBlock, Shortcut
from exporter.passes.values import is_inside
from exporter.prove.certificate import BlockReceipt, Receipt
from exporter.prove.kernel_graph import NO_ARITHMETIC, KernelGraph, own_labels
from exporter.prove.unfusable import Unfusable

_POINTWISE: Final = frozenset(
    {Operation.ADD, Operation.RELU, Operation.BATCHNORM, Operation.POINTWISE}
)
"""Operations that should be inside the kernel of a convolution."""
_CAN_BE_KEPT: Final = frozenset({Operation.CONV, Operation.GEMM, Operation.ADD})
"""Operations that a user may keep in higher precision."""
_LAYERS: Final = frozenset({Operation.CONV, Operation.GEMM})
_EIGHT_BITS: Final = frozenset({ElementType.INT8, ElementType.FP8})
FLOAT_POOLS: Final = (Dialect.S8_SYMMETRIC, Dialect.E4M3_SYMMETRIC)
"""The dialects in which the average pool computes in float."""
Leftover = tuple[str, str, str]
"""(kernel, its blocks, why it is left over)."""


def make_receipt(
    kernels: Sequence[Kernel],
    source: str,
    *,
    graph_facts: GraphFacts,
    precision: Precision,
    dialect: Dialect,
    expected: Verdict,
    kept: tuple[str, ...] = (),
) -> Receipt:
    """Counts what `kernels`, read back from `source`, make of the graph's residual blocks.

    `kept` are the module paths that were to stay in higher precision.
    """
    account = _Account(kernels, graph_facts, kept)
    chosen = precision is Precision.MIXED
    precision = precision.base
    left_over = account.leftovers(precision, dialect)
    leftovers = tuple(left_over.values())
    excused = account.unfusable_among(left_over)
    not_kept = account.not_kept(precision)
    blocks = tuple(account.block_receipt(block) for block in graph_facts.blocks)
    unfused = [block for block in blocks if not block.add_fused]
    gaps = account.gaps()
    shortfalls = [
        *account.wrong_types(precision),
        *account.unfused_sums(blocks),
        *_first_of([left for index, left in left_over.items() if index not in excused]),
        *account.quantized_main_branches(),
        *(f"{name} {reason}" for name, _, reason in not_kept),
        *(account.float_products() if chosen else ()),
    ]
    batchnorms = sum(kernel.does.count(Operation.BATCHNORM) for kernel in kernels)
    batchnorms -= sum(node.op == "BatchNormalization" for node in graph_facts.nodes)
    return Receipt(
        verdict=Verdict.UNVERIFIED if gaps else Verdict.PARTIAL if shortfalls else Verdict.FUSED,
        expected=expected,
        source=source,
        convs=_convolutions(kernels),
        batchnorms_folded=max(0, graph_facts.batchnorms_folded - max(0, batchnorms)),
        residual_adds=len(blocks),
        residual_adds_fused=len(blocks) - len(unfused),
        float_ops=len(leftovers),
        extra_kernels=sum(NO_ARITHMETIC.issuperset(kernel.does) for kernel in kernels),
        convs_by_type=account.convolutions_by_type(),
        convs_quantized=_convolutions(
            [kernel for kernel in kernels if kernel.dtype is ElementType.INT8]
        ),
        residual_adds_quantized=sum(map(account.sum_is_quantized, graph_facts.blocks)),
        leftovers=tuple(
            (name, block, f"{reason}; {excused[index]}" if index in excused else reason)
            for index, (name, block, reason) in left_over.items()
        )
        + not_kept,
        float_ops_unfusable=len(excused),
        residual_adds_unfusable=sum(
            not block.add_fused and account.unfusable.why_sum(fact) is not None
            for block, fact in zip(blocks, graph_facts.blocks, strict=True)
        ),
        reason="; ".join([*gaps, *shortfalls]) or None,
        blocks=blocks,
    )


def unverified_receipt(
    reason: str, *, graph_facts: GraphFacts, expected: Verdict, source: str = "nothing"
) -> Receipt:
    """The receipt of an engine whose runtime does not tell its kernels; nothing counts as fused."""
    return Receipt(
        verdict=Verdict.UNVERIFIED,
        expected=expected,
        source=source,
        convs=0,
        batchnorms_folded=graph_facts.batchnorms_folded,
        residual_adds=len(graph_facts.blocks),
        residual_adds_fused=0,
        float_ops=0,
        extra_kernels=0,
        reason=reason,
        blocks=tuple(
            BlockReceipt(block.name, (), add_fused=False, reason=reason)
            for block in graph_facts.blocks
        ),
    )


class _Account:
    """The kernels against the facts of the graph that they were made from."""

    def __init__(self, kernels: Sequence[Kernel], facts: GraphFacts, kept: tuple[str, ...]) -> None:
        self.kernels = kernels
        self.facts = facts
        self.kept = kept
        self.graph = KernelGraph(kernels, [block.name for block in facts.blocks], facts.nodes)
        self.unfusable = Unfusable(facts)

    def gaps(self) -> list[str]:
        """Why the kernels cannot be a complete account of the graph."""
        if not self.kernels:
            return ["the runtime listed no kernels"]
        reasons = []
        convs = _convolutions(self.kernels)
        if convs != self.facts.convs:
            reasons.append(f"the graph has {self.facts.convs} convolutions, the kernels {convs}")
        without_sum = [
            block.name
            for block in self.facts.blocks
            if not self.graph.sums_of(block) and self.unfusable.why_sum(block) is None
        ]
        if without_sum:
            reasons.append(f"no kernel does the residual sum of {', '.join(without_sum)}")
        labels = {label for kernel in self.kernels for label in own_labels(kernel)}
        missing = [
            name for name in self.kept if not any(is_inside(label, name) for label in labels)
        ]
        if missing:
            reasons.append(f"no kernel carries the kept name {', '.join(missing)}")
        sources = sorted(n for n in self.graph.read_names() if not self.graph.writers_of(n))
        if len(sources) != self.facts.inputs:
            reasons.append(f"the kernels are not connected: nothing writes {', '.join(sources)}")
        return reasons

    def convolutions_by_type(self) -> dict[ElementType, int]:
        """How many convolutions compute in each type."""
        counted: Counter[ElementType] = Counter()
        for kernel in self.kernels:
            counted[kernel.dtype] += kernel.does.count(Operation.CONV)
        return {dtype: count for dtype, count in sorted(counted.items()) if count}

    def wrong_types(self, precision: Precision) -> list[str]:
        """The convolutions that compute in another type than the precision's, type by type."""
        wanted = ElementType(precision)
        wrong: dict[ElementType, int] = defaultdict(int)
        for kernel in self.kernels:
            if kernel.dtype is not wanted and not self._is_kept(kernel):
                wrong[kernel.dtype] += kernel.does.count(Operation.CONV)
        casts = sum(Operation.CAST in kernel.does for kernel in self.kernels)
        behind = f", behind {_count(casts, 'cast')}" if casts else ""
        total = _convolutions(self.kernels)
        return [
            f"{count} of {total} convolutions compute in {dtype}{behind}"
            for dtype, count in sorted(wrong.items())
            if count
        ]

    def float_products(self) -> list[str]:
        """The matrix products that compute in float and were not to be kept."""
        return [
            f"{kernel.name} computes in {kernel.dtype} and was not to be kept"
            for kernel in self.kernels
            if Operation.GEMM in kernel.does
            and kernel.dtype not in _EIGHT_BITS
            and not self._is_kept(kernel)
        ]

    def block_receipt(self, block: ResidualBlock) -> BlockReceipt:
        """What became of one block, with the reason where its sum is not fused."""
        kernels = self.graph.of_block(block.name)
        sums = self.graph.sums_of(block)
        if not kernels:
            reason = "none of the kernels carries a name of this block"
        elif not sums:
            reason = "none of its kernels does the residual sum"
        else:
            unfused = (kernel for kernel in sums if not _is_fused(kernel))
            reason = next((self._why_unfused(kernel, block) for kernel in unfused), "")
            excuse = self.unfusable.why_sum(block)
            if reason and excuse:
                reason += f"; {excuse}"
        return BlockReceipt(block.name, kernels, add_fused=not reason, reason=reason or None)

    def _why_unfused(self, kernel: Kernel, block: ResidualBlock) -> str:
        """Why a sum is a kernel of its own, as far as the readers of its inputs tell."""
        fact = f"{kernel.op} is a kernel of its own in {kernel.dtype}"
        if _quantizes_main_branch(kernel, block):
            return f"{fact}, and quantizes the main branch before the sum"
        readers = {
            name: len(self.graph.readers_of(name))
            for name in kernel.inputs
            if any(
                Operation.CONV in self.kernels[writer].does
                for writer in self.graph.writers_of(name)
            )
        }
        if readers and min(readers.values()) > 1:
            name, count = next(iter(readers.items()))
            return f"{fact}: the convolution's output {name} has {count} readers"
        return fact

    def unfused_sums(self, blocks: Sequence[BlockReceipt]) -> list[str]:
        """One sentence on the sums that should be fused, are not, and were not to be kept."""
        excused = {
            block.name
            for block in self.facts.blocks
            if self._sum_is_kept(block) or self.unfusable.why_sum(block) is not None
        }
        unfused = [block for block in blocks if not block.add_fused and block.name not in excused]
        if not unfused:
            return []
        first = f"{unfused[0].name}: {unfused[0].reason}"
        return [f"{len(unfused)} of {len(blocks)} residual adds are not fused ({first})"]

    def _sum_is_kept(self, block: ResidualBlock) -> bool:
        """Whether a block's sum was to be kept in higher precision, and is."""
        sums = self.graph.sums_of(block)
        return bool(sums) and all(self._is_kept(k) and k.dtype not in _EIGHT_BITS for k in sums)

    def unfusable_among(self, kernels: Iterable[int]) -> dict[int, str]:
        """Those of some kernels that do what the runtime is not known to fuse, each with why."""
        reasons = {
            index: self.unfusable.why(self.kernels[index], self.graph.blocks[index])
            for index in kernels
        }
        return {index: reason for index, reason in reasons.items() if reason is not None}

    def sum_is_quantized(self, block: ResidualBlock) -> bool:
        """Whether a block's sum is fused and computes in 8 bits."""
        sums = self.graph.sums_of(block)
        return bool(sums) and all(k.dtype in _EIGHT_BITS and _is_fused(k) for k in sums)

    def quantized_main_branches(self) -> list[str]:
        """One sentence on the blocks whose main branch has Q/DQ as well as the shortcut.

        Its last convolution's result is rounded for nothing there.
        """
        found = [
            block.name
            for block in self.facts.blocks
            if any(_quantizes_main_branch(k, block) for k in self.graph.sums_of(block))
        ]
        return [f"Q/DQ on the main branch before the sum of {', '.join(found)}"] if found else []

    def not_kept(self, precision: Precision) -> tuple[Leftover, ...]:
        """Each kernel that was to stay in float32 and computes in the engine's own precision."""
        if precision is Precision.FP32:
            return ()
        own = ElementType(precision)
        how = "is quantized" if precision.quantized else f"computes in {own}"
        reason = f"was to be kept in higher precision and {how}"
        return tuple(
            (kernel.name, ", ".join(self.graph.blocks[index]), reason)
            for index, kernel in enumerate(self.kernels)
            if kernel.dtype is own
            and not _CAN_BE_KEPT.isdisjoint(kernel.does)
            and self._is_kept(kernel)
            and not self._sums_in_float(index)
        )

    def _sums_in_float(self, index: int) -> bool:
        """Whether a kernel only sums, of a float convolution; it may write 8 bits all the same."""
        return _LAYERS.isdisjoint(self.kernels[index].does) and any(
            Operation.CONV in self.kernels[writer].does
            and self.kernels[writer].dtype not in _EIGHT_BITS
            for writer in self.graph.before(index)
        )

    def leftovers(self, precision: Precision, dialect: Dialect) -> dict[int, Leftover]:
        """Each operator that the precision's rule calls left over, by its kernel's index."""
        if precision.quantized:
            found = self._float_between_quantized(dialect)
        else:
            found = self._unfused_pointwise()
        return {
            index: (self.kernels[index].name, ", ".join(self.graph.blocks[index]), reason)
            for index, reason in sorted(found.items())
        }

    def _unfused_pointwise(self) -> dict[int, str]:
        convs = self.graph.select(lambda kernel: Operation.CONV in kernel.does)
        pools = self.graph.select(
            lambda kernel: not {Operation.AVGPOOL, Operation.GEMM}.isdisjoint(kernel.does)
        )
        head = self.graph.all_after(pools) - self.graph.all_before(convs)
        return {
            index: f"{self.kernels[index].op} is a kernel of its own"
            for index in self.graph.all_after(convs) - head
            if not _POINTWISE.isdisjoint(self.kernels[index].does)
            and _POINTWISE.union(NO_ARITHMETIC).issuperset(self.kernels[index].does)
        }

    def _float_between_quantized(self, dialect: Dialect) -> dict[int, str]:
        quantized = self.graph.select(
            lambda kernel: (
                kernel.dtype in _EIGHT_BITS
                and not NO_ARITHMETIC.union({Operation.OTHER}).issuperset(kernel.does)
            )
        )
        found = {}
        for index in self.graph.all_after(quantized) & self.graph.all_before(quantized):
            kernel = self.kernels[index]
            by_design = dialect in FLOAT_POOLS and Operation.AVGPOOL in kernel.does
            integer = kernel.dtype.startswith("int") or kernel.dtype in _EIGHT_BITS
            if self._is_kept(kernel) or by_design or integer:
                continue
            if not NO_ARITHMETIC.issuperset(kernel.does):
                found[index] = f"{kernel.op} computes in {kernel.dtype} between 8-bit kernels"
            elif Operation.DEQUANTIZE in kernel.does and self._is_only_requantized(index):
                found[index] = "dequantized only to be quantized again"
        return found

    def _is_only_requantized(self, index: int) -> bool:
        readers = [self.kernels[reader] for reader in self.graph.after(index)]
        return bool(readers) and all(set(reader.does) == {Operation.QUANTIZE} for reader in readers)

    def _is_kept(self, kernel: Kernel) -> bool:
        labels = own_labels(kernel)
        return any(is_inside(label, name) for name in self.kept for label in labels)


def _convolutions(kernels: Sequence[Kernel]) -> int:
    return sum(kernel.does.count(Operation.CONV) for kernel in kernels)


def _is_fused(kernel: Kernel) -> bool:
    """Whether a kernel that does a residual sum does it without a pass over memory in float."""
    return Operation.CONV in kernel.does or kernel.dtype in _EIGHT_BITS


def _quantizes_main_branch(kernel: Kernel, block: ResidualBlock) -> bool:
    """Whether the kernel that sums first quantizes more than a projection's output.

    A runtime that says in which order lists what it quantizes of the operands before the "add".
    """
    operands = kernel.does[: kernel.does.index(Operation.ADD)].count(Operation.QUANTIZE)
    return operands > (block.shortcut is Shortcut.PROJECTION)


def _first_of(leftovers: Sequence[Leftover]) -> list[str]:
    """One sentence on the operators left over: how many, and the first."""
    if not leftovers:
        return []
    name, block, reason = leftovers[0]
    where = f"{name} in {block}" if block else name
    return [f"{_count(len(leftovers), 'operator')} left over ({where}: {reason})"]


def _count(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
