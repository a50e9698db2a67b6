"""The fusion receipt: what a runtime really made of the residual blocks. Only this file counts.

A target hands over its kernels in execution order, each with the tensors it reads and writes and
with labels that tie it to the graph. A kernel belongs to the residual block whose name is the
longest prefix (`layer1.1.`, never `layer1.10`) of one of its labels; what it merely reads does
not count, since that was named by the kernel before.

Verdict `unverified`: the account does not add up. There is no kernel, or the number of
    convolutions is not the graph's, or a block's sum is in none of its kernels, or a name that was
    to be kept is nowhere, or the kernels are not connected (more than one tensor that nothing
    writes), so that "between" has no meaning.
Verdict `fused`, for all precisions: every residual sum is inside a convolution kernel (INT8: or in
    one 8-bit kernel with its requantization), no operator is left over, and
    FP32  every convolution computes in FP32;
    FP16  every convolution computes in FP16;
    INT8  every convolution computes in 8 bits, except those that were to be kept, and those do not.
A sum that was itself to be kept in higher precision is counted as what it is, fused or not, and
leaves the verdict alone: ONNX Runtime cannot fuse it where its shortcut comes dequantized.
Verdict `partial`: anything else, with each reason.

Operators left over (`float_ops`):
    FP32, FP16  pointwise kernels after the first convolution and before the head. The head is what
                follows the last pooling or Gemm with no convolution behind it.
    INT8        kernels that compute in float between two that compute in 8 bits. The input's
                quantization and a float head are not between. What was to be kept does not count,
                nor, in the s8-symmetric dialect, the average pool, which is float there by design.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from exporter.artifact import Dialect, Kernel, Precision, Verdict
from exporter.prove.certificate import BlockReceipt, Receipt

if TYPE_CHECKING:
    from exporter.passes.blocks import GraphFacts, ResidualBlock

_NO_ARITHMETIC: Final = frozenset({"quantize", "dequantize", "cast", "reorder"})
_POINTWISE: Final = frozenset({"add", "relu", "batchnorm", "pointwise"})
_CAN_BE_KEPT: Final = frozenset({"conv", "gemm", "add"})
_COMPUTES_IN: Final[Mapping[Precision, str]] = {
    Precision.FP32: "fp32",
    Precision.FP16: "fp16",
    Precision.INT8: "int8",
}

Leftover = tuple[str, str, str]


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
    account = _Account(kernels, graph_facts.blocks, kept)
    blocks = tuple(account.block_receipt(block) for block in graph_facts.blocks)
    leftovers = account.leftovers(precision, dialect)
    not_kept = account.not_kept()
    convs = sum(kernel.does.count("conv") for kernel in kernels)
    quantized = sum(kernel.does.count("conv") for kernel in kernels if kernel.dtype == "int8")
    batchnorms = sum(kernel.does.count("batchnorm") for kernel in kernels)
    unclear = account.unclear(graph_facts, convs)
    unfused = [block for block in blocks if not block.add_fused]
    asked_for = account.sums_kept(graph_facts.blocks)
    amiss = [block for block in unfused if block.name not in asked_for]
    short = account.wrong_type(precision)
    if amiss:
        first = f"{amiss[0].name}: {amiss[0].reason}"
        short.append(f"{len(amiss)} of {len(blocks)} residual adds are not fused ({first})")
    if leftovers:
        name, block, why = leftovers[0]
        where = f"{name} in {block}" if block else name
        short.append(f"{_count(len(leftovers), 'operator')} left over ({where}: {why})")
    misplaced = account.quantized_main_branches()
    if misplaced:
        short.append(f"Q/DQ on the main branch before the sum of {', '.join(misplaced)}")
    short.extend(f"{name} {why}" for name, _, why in not_kept)
    verdict = Verdict.UNVERIFIED if unclear else Verdict.PARTIAL if short else Verdict.FUSED
    return Receipt(
        verdict=verdict,
        expected=expected,
        source=source,
        convs=convs,
        batchnorms_folded=max(0, graph_facts.batchnorms_folded - batchnorms),
        residual_adds=len(blocks),
        residual_adds_fused=len(blocks) - len(unfused),
        float_ops=len(leftovers),
        extra_kernels=sum(_NO_ARITHMETIC.issuperset(kernel.does) for kernel in kernels),
        convs_quantized=quantized,
        residual_adds_quantized=sum(account.sum_quantized(block) for block in graph_facts.blocks),
        leftovers=leftovers + not_kept,
        reason="; ".join([*unclear, *short]) or None,
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


def homes_of(kernel: Kernel, blocks: Iterable[str]) -> tuple[str, ...]:
    """The residual blocks that a kernel belongs to: one, none, or several fused into one kernel."""
    names = sorted(blocks, key=len, reverse=True)
    homes = {_home(label, names) for label in _own_labels(kernel)} - {""}
    if not homes:
        homes = {_home(name, names) for name in kernel.inputs} - {""}
    return tuple(sorted(homes))


def _home(label: str, names: Iterable[str]) -> str:
    return next((name for name in names if _within(label, name)), "")


class _Account:
    """The kernels, the blocks that they belong to, and what flows between them."""

    def __init__(
        self, kernels: Sequence[Kernel], blocks: Sequence[ResidualBlock], kept: tuple[str, ...]
    ) -> None:
        self.kernels = kernels
        self.blocks = blocks
        self.kept = kept
        names = [block.name for block in blocks]
        self._homes = [homes_of(kernel, names) for kernel in kernels]
        self._writers: dict[str, list[int]] = defaultdict(list)
        self._readers: dict[str, list[int]] = defaultdict(list)
        for index, kernel in enumerate(kernels):
            for name in kernel.outputs:
                self._writers[name].append(index)
            for name in kernel.inputs:
                self._readers[name].append(index)

    def _sum_kernels(self, block: ResidualBlock) -> list[Kernel]:
        """The kernels that do this block's residual sum: one, if all is well."""
        tensors = {block.add, block.output}
        found = []
        for kernel, homes in zip(self.kernels, self._homes, strict=True):
            named = not tensors.isdisjoint(_own_labels(kernel))
            if "add" in kernel.does and (homes == (block.name,) or named):
                found.append(kernel)
        return found

    def block_receipt(self, block: ResidualBlock) -> BlockReceipt:
        """What became of one block, with the reason where its sum is not fused."""
        members = tuple(
            kernel
            for kernel, homes in zip(self.kernels, self._homes, strict=True)
            if block.name in homes
        )
        sums = self._sum_kernels(block)
        if not members:
            reason = "none of the kernels carries a name of this block"
        elif not sums:
            reason = "none of its kernels does the residual sum"
        else:
            alone = (kernel for kernel in sums if not _fused(kernel))
            reason = next((self._why_alone(kernel, block) for kernel in alone), "")
        return BlockReceipt(block.name, members, add_fused=not reason, reason=reason or None)

    def _why_alone(self, kernel: Kernel, block: ResidualBlock) -> str:
        """Why a sum is a kernel of its own, as far as the readers of its inputs tell."""
        what = f"{kernel.op} is a kernel of its own in {kernel.dtype}"
        if _quantizes_main_branch(kernel, block):
            return f"{what}, and quantizes the main branch before the sum"
        convs = [
            (name, len(self._readers[name]))
            for name in kernel.inputs
            if any("conv" in self.kernels[writer].does for writer in self._writers[name])
        ]
        if convs and all(readers > 1 for _, readers in convs):
            name, readers = convs[0]
            return f"{what}: the convolution's output {name} has {readers} readers"
        return what

    def sums_kept(self, blocks: Sequence[ResidualBlock]) -> frozenset[str]:
        """The blocks whose sum was to be kept in higher precision, and is."""
        return frozenset(
            block.name
            for block in blocks
            if (sums := self._sum_kernels(block))
            and all(self._is_kept(kernel) and kernel.dtype != "int8" for kernel in sums)
        )

    def quantized_main_branches(self) -> list[str]:
        """Blocks with Q/DQ on the main branch as well as on the shortcut: rounded for nothing."""
        return [
            block.name
            for block in self.blocks
            if any(_quantizes_main_branch(kernel, block) for kernel in self._sum_kernels(block))
        ]

    def sum_quantized(self, block: ResidualBlock) -> bool:
        sums = self._sum_kernels(block)
        return bool(sums) and all(kernel.dtype == "int8" and _fused(kernel) for kernel in sums)

    def leftovers(self, precision: Precision, dialect: Dialect) -> tuple[Leftover, ...]:
        """(kernel, block, reason) for each operator that the precision's rule calls left over."""
        if precision is Precision.INT8:
            found = self._floats_between(dialect)
        else:
            found = self._pointwise_alone()
        return tuple(
            (self.kernels[index].name, ", ".join(self._homes[index]), reason)
            for index, reason in sorted(found.items())
        )

    def _pointwise_alone(self) -> dict[int, str]:
        body = self._reached(self._which(lambda kernel: "conv" in kernel.does), self._readers_of)
        before = self._reached(self._which(lambda kernel: "conv" in kernel.does), self._writers_of)
        ends = self._which(lambda kernel: not {"avgpool", "gemm"}.isdisjoint(kernel.does))
        head = self._reached(ends, self._readers_of) - before
        return {
            index: f"{kernel.op} is a kernel of its own"
            for index, kernel in enumerate(self.kernels)
            if index in body - head
            and not _POINTWISE.isdisjoint(kernel.does)
            and _POINTWISE.union(_NO_ARITHMETIC).issuperset(kernel.does)
        }

    def _floats_between(self, dialect: Dialect) -> dict[int, str]:
        arithmetic = self._which(
            lambda kernel: (
                kernel.dtype == "int8"
                and not _NO_ARITHMETIC.union({"other"}).issuperset(kernel.does)
            )
        )
        between = self._reached(arithmetic, self._readers_of) & self._reached(
            arithmetic, self._writers_of
        )
        found = {}
        for index in between:
            kernel = self.kernels[index]
            by_design = dialect is Dialect.S8_SYMMETRIC and "avgpool" in kernel.does
            if self._is_kept(kernel) or by_design or kernel.dtype.startswith("int"):
                continue
            if not _NO_ARITHMETIC.issuperset(kernel.does):
                found[index] = f"{kernel.op} computes in {kernel.dtype} between 8-bit kernels"
            elif "dequantize" in kernel.does and self._only_requantized(index):
                found[index] = "dequantized only to be quantized again"
        return found

    def _only_requantized(self, index: int) -> bool:
        readers = self._readers_of(index)
        return bool(readers) and all(
            set(self.kernels[reader].does) == {"quantize"} for reader in readers
        )

    def not_kept(self) -> tuple[Leftover, ...]:
        """Each kernel that was to stay in higher precision and computes in 8 bits."""
        return tuple(
            (kernel.name, ", ".join(homes), "was to be kept in higher precision and is quantized")
            for kernel, homes in zip(self.kernels, self._homes, strict=True)
            if kernel.dtype == "int8"
            and not _CAN_BE_KEPT.isdisjoint(kernel.does)
            and self._is_kept(kernel)
        )

    def wrong_type(self, precision: Precision) -> list[str]:
        """The convolutions that compute in another type than the precision's, in one sentence."""
        wanted = _COMPUTES_IN[precision]
        wrong: dict[str, int] = defaultdict(int)
        total = 0
        for kernel in self.kernels:
            total += kernel.does.count("conv")
            if "conv" in kernel.does and kernel.dtype != wanted and not self._is_kept(kernel):
                wrong[kernel.dtype] += kernel.does.count("conv")
        casts = sum("cast" in kernel.does for kernel in self.kernels)
        behind = f", behind {_count(casts, 'cast')}" if casts else ""
        return [
            f"{count} of {total} convolutions compute in {dtype}{behind}"
            for dtype, count in sorted(wrong.items())
        ]

    def unclear(self, facts: GraphFacts, convs: int) -> list[str]:
        """Why the kernels cannot be a complete account of the graph."""
        if not self.kernels:
            return ["the runtime listed no kernels"]
        reasons = []
        if convs != facts.convs:
            reasons.append(f"the graph has {facts.convs} convolutions, the kernels {convs}")
        silent = [block.name for block in facts.blocks if not self._sum_kernels(block)]
        if silent:
            reasons.append(f"no kernel does the residual sum of {', '.join(silent)}")
        missing = [
            name
            for name in self.kept
            if not any(_within(label, name) for k in self.kernels for label in _own_labels(k))
        ]
        if missing:
            reasons.append(f"no kernel carries the kept name {', '.join(missing)}")
        sources = sorted(name for name in self._readers if not self._writers.get(name))
        if len(sources) != 1:
            reasons.append(f"the kernels are not connected: nothing writes {', '.join(sources)}")
        return reasons

    def _is_kept(self, kernel: Kernel) -> bool:
        labels = _own_labels(kernel)
        return any(_within(label, name) for name in self.kept for label in labels)

    def _which(self, wanted: Callable[[Kernel], bool]) -> set[int]:
        return {index for index, kernel in enumerate(self.kernels) if wanted(kernel)}

    def _readers_of(self, index: int) -> list[int]:
        return [r for name in self.kernels[index].outputs for r in self._readers[name]]

    def _writers_of(self, index: int) -> list[int]:
        return [w for name in self.kernels[index].inputs for w in self._writers[name]]

    @staticmethod
    def _reached(seeds: Iterable[int], step: Callable[[int], list[int]]) -> set[int]:
        """The kernels at least one step away from a seed."""
        reached: set[int] = set()
        open_ends = list(seeds)
        while open_ends:
            for index in step(open_ends.pop()):
                if index not in reached:
                    reached.add(index)
                    open_ends.append(index)
        return reached


def _own_labels(kernel: Kernel) -> set[str]:
    """What names the kernel itself, and not the one before it."""
    return {*kernel.labels, *kernel.outputs} - set(kernel.inputs)


def _within(label: str, name: str) -> bool:
    return label == name or label.startswith(f"{name}.")


def _fused(kernel: Kernel) -> bool:
    return "conv" in kernel.does or kernel.dtype == "int8"


def _quantizes_main_branch(kernel: Kernel, block: ResidualBlock) -> bool:
    """Does the kernel that sums first quantize more than a projection's output?

    A runtime that tells the order lists what it quantizes of the operands before the "add".
    """
    operands = kernel.does[: kernel.does.index("add")].count("quantize")
    return operands > (block.shortcut == "projection")


def _count(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
