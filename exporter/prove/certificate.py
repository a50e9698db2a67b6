"""What is proved about an engine: its fusion receipt, its parity certificate, its accuracy."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from itertools import groupby

from exporter.artifact import ElementType, Kernel, Skipped, Verdict


@dataclass(frozen=True)
class BlockReceipt:
    """What became of one residual block."""

    name: str
    kernels: tuple[Kernel, ...]
    add_fused: bool
    """The residual sum costs no pass over memory in float of its own: it is inside a convolution
    kernel or, in INT8, in one integer kernel with its requantization."""
    reason: str | None = None
    """Why the add is not fused, where it is not."""

    @property
    def operators(self) -> str:
        """The runtime's words for the kernels, repeats in a row counted: "Conv x3, kgen"."""
        runs = [(op, len(list(same))) for op, same in groupby(kernel.op for kernel in self.kernels)]
        return ", ".join(op if count == 1 else f"{op} x{count}" for op, count in runs)

    @property
    def dtypes(self) -> str:
        """What the kernels compute in, each type once: "int8, fp32"."""
        return ", ".join(dict.fromkeys(kernel.dtype for kernel in self.kernels))


@dataclass(frozen=True)
class Receipt:
    """The fusion receipt: what the runtime made of the graph, counted."""

    verdict: Verdict
    expected: Verdict
    """What this target and precision are known to reach; less than this fails the command.

    What the network has that the runtime is not known to fuse lowers no verdict."""
    source: str
    """What was read back, for example "optimized model written by the session"."""
    convs: int
    batchnorms_folded: int
    residual_adds: int
    residual_adds_fused: int
    float_ops: int
    """INT8: float kernels between the first and the last quantized one. Other precisions: pointwise
    operators left as kernels of their own."""
    extra_kernels: int
    """Kernels that do none of the network's arithmetic: casts, layout changes, Q/DQ."""
    convs_by_type: dict[ElementType, int] = field(default_factory=dict)
    """How many convolutions compute in each type; empty in builds from before it was kept."""
    convs_quantized: int = 0
    residual_adds_quantized: int = 0
    float_ops_unfusable: int = 0
    """Of `float_ops`: those that the runtime is not known to fuse, a gate's Mul for example."""
    residual_adds_unfusable: int = 0
    """Of the sums that are not fused: those of which neither branch ends in a convolution."""
    leftovers: tuple[tuple[str, str, str], ...] = ()
    """(kernel, block or "", reason) for each operator counted in `float_ops`."""
    reason: str | None = None
    """Why the verdict is not "fused"."""
    blocks: tuple[BlockReceipt, ...] = ()

    @property
    def narrow_convs(self) -> tuple[tuple[ElementType, int], ...]:
        """How many convolutions compute in each type but FP32 and INT8, which say so elsewhere."""
        said = (ElementType.FP32, ElementType.INT8)
        return tuple((dtype, n) for dtype, n in self.convs_by_type.items() if dtype not in said)


@dataclass(frozen=True)
class BlockDrift:
    """The error of one residual block's output against FP32 eager."""

    name: str
    built_up_rel_l2: float
    """Of the engine's own value, all earlier blocks' errors included."""
    built_up_sqnr_db: float
    added_rel_l2: float
    """Of the block alone, fed with the exact input."""
    added_sqnr_db: float


class Scope(StrEnum):
    """What was run to obtain a parity certificate."""

    ENGINE = "engine"
    GRAPH = "graph"
    """The lowered graph, with ONNX Runtime's optimizations off: the engine cannot run here."""


@dataclass(frozen=True)
class Flip:
    """An input to which an engine answers another class than the reference."""

    input: int
    """Its place among the evaluation inputs, from 0."""
    reference: int
    """The class that the reference answers."""
    engine: int
    margin: float
    """By how much the reference prefers its own class to the engine's, in its outputs' units."""


@dataclass(frozen=True)
class OutputParity:
    """How far one of several outputs is from the reference; the figures are those of `Parity`."""

    name: str
    passed: bool
    max_abs: float
    rel_l2: float
    cosine: float
    sqnr_db: float
    batch_max_abs: float
    top1_agreement: float | Skipped
    rel_l2_float64: float | Skipped
    limits: dict[str, float]


@dataclass(frozen=True)
class Parity:
    """The parity certificate: how far an engine's numbers are from the reference.

    Of a network with several outputs, the errors are those of the output that comes nearest to its
    limit or is furthest beyond; top-1 is that of the scores.
    """

    scope: Scope
    reference: str
    samples: int
    max_abs: float
    rel_l2: float
    """||engine - reference|| / ||reference||, over all samples."""
    cosine: float
    sqnr_db: float
    """20 log10(||reference|| / ||error||)."""
    top1_agreement: float | Skipped
    flips: int
    """Samples whose top-1 differs from the reference's, float64 near-ties left out."""
    limits: dict[str, float]
    passed: bool
    failures: tuple[str, ...] = ()
    """Each limit that was missed: the figure, the limit, the worst input."""
    rel_l2_float64: float | Skipped = Skipped("not compared")
    """Against the float64 reference, on the few inputs that were run in float64."""
    reference_rel_l2_float64: float | Skipped = Skipped("not compared")
    """The error that the FP32 reference itself makes, on the same inputs."""
    near_ties: int = 0
    """Samples whose top-1 margin is within the reference's own error; they gate nothing."""
    batch_sizes: tuple[int, ...] = ()
    batch_max_abs: float = 0.0
    """Largest difference between the same inputs run one at a time and in batches."""
    agreement_at_most: float | Skipped = Skipped("not computed")
    """The exact 95 % upper bound of `top1_agreement`, which is what is held against its limit."""
    drop_at_least: float | Skipped = Skipped("not computed")
    """The exact 95 % lower bound of the accuracy lost, where the inputs have labels."""
    flipped: tuple[Flip, ...] = ()
    """The flips, the widest margin first; of many the first few."""
    median_margin: float | Skipped = Skipped("not computed")
    """By how much the reference prefers its first class to its second on half of the inputs."""
    blocks: tuple[BlockDrift, ...] = ()
    output: str = ""
    """Whose the errors are; "": there is one output."""
    outputs: tuple[OutputParity, ...] = ()
    """Each output's own, where there are several. Every one must keep its limits."""


@dataclass(frozen=True)
class Accuracy:
    """Against labels, where the data has them."""

    dataset: str
    samples: int
    top1: float
    top1_reference: float
    flips: int
    """Samples on which engine and eager disagree."""
