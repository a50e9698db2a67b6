"""The kernels that a runtime listed, as a graph: which blocks they belong to, what flows where.

A kernel belongs to the residual block whose name is the longest prefix (`layer1.1.`, never
`layer1.10`) of one of its labels; what it merely reads does not count, since that was named by the
kernel before.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from exporter.artifact import Kernel, Operation
from exporter.passes.values import is_inside

if TYPE_CHECKING:
    from exporter.passes.blocks import GraphNode, ResidualBlock


NO_ARITHMETIC: Final = frozenset(
    {Operation.QUANTIZE, Operation.DEQUANTIZE, Operation.CAST, Operation.REORDER}
)
"""Operations that compute nothing of the network's own."""


def blocks_of_kernel(kernel: Kernel, blocks: Iterable[str]) -> tuple[str, ...]:
    """The residual blocks that a kernel belongs to: one, none, or several fused into one kernel."""
    innermost_first = sorted(blocks, key=len, reverse=True)
    for names in (own_labels(kernel), kernel.inputs):
        found = {_block_of(name, innermost_first) for name in names} - {None}
        if found:
            return tuple(sorted(str(name) for name in found))
    return ()


def _block_of(label: str, innermost_first: Iterable[str]) -> str | None:
    return next((block for block in innermost_first if is_inside(label, block)), None)


def own_labels(kernel: Kernel) -> set[str]:
    """What names the kernel itself, and not the one before it."""
    return {*kernel.labels, *kernel.outputs} - set(kernel.inputs)


class KernelGraph:
    """Kernels in execution order, the blocks of each, and who reads what they write."""

    def __init__(
        self, kernels: Sequence[Kernel], blocks: Iterable[str], nodes: Iterable[GraphNode] = ()
    ) -> None:
        self.kernels = kernels
        self._nodes = {node.name: node for node in nodes}
        names = tuple(blocks)
        self.blocks: Sequence[tuple[str, ...]] = [
            blocks_of_kernel(kernel, names) for kernel in kernels
        ]
        """For each kernel."""
        self._writers: Mapping[str, list[int]] = defaultdict(list)
        self._readers: Mapping[str, list[int]] = defaultdict(list)
        for index, kernel in enumerate(kernels):
            for name in kernel.outputs:
                self._writers[name].append(index)
            for name in kernel.inputs:
                self._readers[name].append(index)

    def of_block(self, block: str) -> tuple[Kernel, ...]:
        """The kernels that belong to a block, to others as well perhaps."""
        return tuple(
            kernel
            for kernel, blocks in zip(self.kernels, self.blocks, strict=True)
            if block in blocks
        )

    def sums_of(self, block: ResidualBlock) -> list[Kernel]:
        """The kernels that do this block's residual sum: one, if all is well.

        A sum behind the block or inside it, which is named after a node of its own, is none.
        """
        tensors = {block.add, block.output}
        return [
            kernel
            for kernel, blocks in zip(self.kernels, self.blocks, strict=True)
            if Operation.ADD in kernel.does
            and (
                not tensors.isdisjoint(own_labels(kernel))
                or (blocks == (block.name,) and not self._is_another(kernel, block))
            )
        ]

    def _is_another(self, kernel: Kernel, block: ResidualBlock) -> bool:
        """Whether a kernel that is not named after the sum is after a sum, or nodes outside."""
        named = [node for name, node in self._nodes.items() if name in own_labels(kernel)]
        is_sum = any(node.op == "Add" and len(node.operands) > 1 for node in named)
        return bool(named) and (is_sum or not any(node.name in block.nodes for node in named))

    def read_names(self) -> Iterable[str]:
        """Every tensor that a kernel reads."""
        return self._readers.keys()

    def writers_of(self, tensor: str) -> list[int]:
        """The kernels that write a tensor."""
        return self._writers.get(tensor, [])

    def readers_of(self, tensor: str) -> list[int]:
        """The kernels that read a tensor."""
        return self._readers.get(tensor, [])

    def after(self, index: int) -> list[int]:
        """The kernels that read what a kernel writes."""
        return [reader for name in self.kernels[index].outputs for reader in self.readers_of(name)]

    def before(self, index: int) -> list[int]:
        """The kernels that write what a kernel reads."""
        return [writer for name in self.kernels[index].inputs for writer in self.writers_of(name)]

    def select(self, wanted: Callable[[Kernel], bool]) -> set[int]:
        """The kernels of some kind."""
        return {index for index, kernel in enumerate(self.kernels) if wanted(kernel)}

    def all_after(self, kernels: Iterable[int]) -> set[int]:
        """Everything that depends on one of these kernels."""
        return _reachable(kernels, self.after)

    def all_before(self, kernels: Iterable[int]) -> set[int]:
        """Everything that one of these kernels depends on."""
        return _reachable(kernels, self.before)


def _reachable(starts: Iterable[int], step: Callable[[int], list[int]]) -> set[int]:
    """The kernels at least one step away from a start."""
    reached: set[int] = set()
    waiting = list(starts)
    while waiting:
        for index in step(waiting.pop()):
            if index not in reached:
                reached.add(index)
                waiting.append(index)
    return reached
