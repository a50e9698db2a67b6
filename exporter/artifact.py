"""What travels through the pipeline: plain frozen data, no behaviour worth testing alone.

    Model -> Graph -> (Ranges) -> Graph -> Engine + Receipt -> Parity -> Latency

`manifest.py` maps these to and from `manifest.json`; field names here are the manifest's.
A value that could not be obtained is a `Skipped` with its reason, never a bare None.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from exporter.errors import BuildError

if TYPE_CHECKING:
    import onnx_ir as ir
    import torch

    Graph = ir.Model
    """An ONNX graph in memory. Every node and every tensor is named by its module path."""


class Precision(StrEnum):
    """The arithmetic that an engine is asked for. It lives in the graph, not in builder flags."""

    FP32 = "fp32"
    FP16 = "fp16"
    INT8 = "int8"


class Dialect(StrEnum):
    """Which Q/DQ placement a graph carries; each INT8 dialect is what some runtimes fuse."""

    FLOAT = "float"
    """No Q/DQ at all: FP32 and FP16 graphs."""
    U8_ASYMMETRIC = "u8-asymmetric"
    """ONNX Runtime CPU, OpenVINO: U8 activations everywhere, both inputs of each residual Add."""
    S8_SYMMETRIC = "s8-symmetric"
    """TensorRT, TensorRT-RTX: S8, zero point 0, at a residual Add on the shortcut alone."""


class Verdict(StrEnum):
    """What a fusion receipt concludes."""

    UNVERIFIED = "unverified"
    PARTIAL = "partial"
    FUSED = "fused"


@dataclass(frozen=True)
class TensorSpec:
    """A graph input or output. A dimension is a size or the name of a dynamic one."""

    name: str
    dtype: str
    """numpy's name: "float32", "uint8"."""
    shape: tuple[int | str, ...]


@dataclass(frozen=True)
class Preprocessing:
    """How an 8-bit RGB image becomes the model's input: resize, centre crop, scale, normalise.

    `x = (pixel / 255 - mean) / std`, channel order RGB, laid out as the model's input is.
    """

    resize: int | None
    """Shorter side after resizing, in pixels; None: the image already has the input's size."""
    crop: int
    """Side of the centre crop, in pixels."""
    interpolation: str
    """"bilinear" or "bicubic", antialiased (Pillow's); "none" where nothing is resized."""
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    source: str
    """Where the contract comes from, for example a weights name."""


@dataclass(frozen=True)
class Skipped:
    """A value that was not obtained, and why."""

    skipped: str


@dataclass(frozen=True)
class WeightsInfo:
    """Where the parameters come from."""

    source: str
    sha256: str
    """Of the state dict (names, shapes, bytes) or of the given ONNX file."""
    trained: bool


@dataclass(frozen=True)
class ModelSpec:
    """Everything about a model that is not its weights or its graph."""

    name: str
    """A file-name-safe short name: `resnet50`."""
    source: str
    """As the user typed it: `resnet50`, `timm:resnet50d`, `pkg.mod:factory`, a file's base name."""
    kind: str
    """"builtin", "timm", "module" or "onnx"."""
    parameters: int
    macs: int
    """Multiply-accumulates of convolutions and linear layers for one image."""
    input: TensorSpec
    output: TensorSpec
    preprocessing: Preprocessing | Skipped
    weights: WeightsInfo
    residual_blocks: tuple[str, ...] = ()
    """Module paths in graph order; known once the graph is (`blocks.find_residual_blocks`)."""
    opset: int = 20

    @property
    def image_shape(self) -> tuple[int, ...]:
        """The input's shape without its batch dimension, (C, H, W) or (H, W, C)."""
        return tuple(int(d) for d in self.input.shape[1:])


@dataclass(frozen=True)
class Model:
    """What `define` yields: a PyTorch module in eval mode, or a graph that somebody else made."""

    spec: ModelSpec
    module: torch.nn.Module | None
    """None for an ONNX file."""
    graph: ir.Model | None = None
    """For an ONNX file: checked, converted to our opset, not yet optimized. Else None."""
    given: bytes | None = None
    """For an ONNX file: the file as given (external data inlined), the reference of parity."""
    notes: tuple[str, ...] = ()
    """Things the user must be told, a paragraph each (for example: untrained weights)."""


@dataclass(frozen=True)
class PassReport:
    """What one pass did to one graph."""

    name: str
    fired: int
    """How many times its rewrite was applied."""
    refused: tuple[tuple[str, str], ...] = ()
    """(node name, reason) for each place that looked right and was left alone."""
    counts: dict[str, int] = field(default_factory=dict)
    """Pass-specific figures, for example values that overflowed."""


@dataclass(frozen=True)
class Ranges:
    """What `calibrate` yields. Every range holds zero, so that zero is exact in 8 bits."""

    method: str
    samples: int
    data_sha256: str
    tensors: Mapping[str, tuple[float, float]]
    """Tensor name -> (minimum, maximum) for 256 asymmetric levels, minimum <= 0 <= maximum."""
    symmetric: Mapping[str, float] = field(default_factory=dict)
    """Tensor name -> the bound of a symmetric range, where it is not the larger of the two."""

    def of(self, tensor: str) -> tuple[float, float]:
        """The range of one tensor.

        Raises:
            BuildError: it was not measured: the ranges are those of another graph.
        """
        if tensor not in self.tensors:
            raise BuildError(
                f"calibration measured no tensor {tensor!r}; calibrate on the graph that is lowered"
            )
        return self.tensors[tensor]

    def largest(self, tensor: str) -> float:
        """The bound of one tensor's symmetric range.

        Raises:
            BuildError: as `of`.
        """
        minimum, maximum = self.of(tensor)
        return self.symmetric.get(tensor, max(-minimum, maximum))


@dataclass(frozen=True)
class Kernel:
    """One kernel that a runtime really made, as a target read it back from the built engine."""

    name: str
    op: str
    """The runtime's own word for it: "Conv (nchwc)", "QLinearAdd", "correlation"."""
    does: tuple[str, ...]
    """What it computes, of OPERATIONS; a fused convolution: ("conv", "add", "relu")."""
    dtype: str
    """What it computes in: "fp32", "fp16", "bf16", "int8"."""
    inputs: tuple[str, ...]
    """Tensor names as the runtime knows them (no initializers)."""
    outputs: tuple[str, ...]
    labels: tuple[str, ...] = ()
    """Every name that ties it to the graph: tensors, ONNX nodes, weights."""
    output_dtypes: tuple[str, ...] = ()
    """What it writes, as far as the runtime says; empty: not known."""


OPERATIONS = (
    "conv", "add", "relu", "batchnorm", "maxpool", "avgpool", "gemm", "softmax",
    "quantize", "dequantize", "cast", "reorder", "pointwise", "other",
)  # fmt: skip


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


@dataclass(frozen=True)
class Receipt:
    """The fusion receipt: what the runtime made of the graph, counted."""

    verdict: Verdict
    expected: Verdict
    """What this target and precision are known to reach; less than this fails the command."""
    source: str
    """What was read back, for example "optimized model written by the session"."""
    convs: int
    batchnorms_folded: int
    residual_adds: int
    residual_adds_fused: int
    float_ops: int
    """FP32, FP16: pointwise operators left as kernels of their own. INT8: float kernels between
    the first and the last quantized one."""
    extra_kernels: int
    """Kernels that do none of the network's arithmetic: casts, layout changes, Q/DQ."""
    convs_quantized: int = 0
    residual_adds_quantized: int = 0
    leftovers: tuple[tuple[str, str, str], ...] = ()
    """(kernel, block or "", reason) for each operator counted in `float_ops`."""
    reason: str | None = None
    """Why the verdict is not "fused"."""
    blocks: tuple[BlockReceipt, ...] = ()


@dataclass(frozen=True)
class EngineFile:
    path: str
    """Relative to the build folder, with forward slashes."""
    sha256: str
    bytes: int


@dataclass(frozen=True)
class Engine:
    """A built engine on disk."""

    id: str
    """target.precision: "ort-cpu.int8"."""
    target: str
    """As typed: "tensorrt-rtx:sm89"."""
    precision: Precision
    dialect: Dialect
    files: tuple[EngineFile, ...]
    """All of them; the first one is what the runtime is given."""
    trained: bool
    requires: dict[str, Any] = field(default_factory=dict)
    """cpu_flags, compute_capability, versions, session options."""
    graph: str = ""
    """The lowered ONNX file that it was built from, relative to the build folder."""

    @property
    def path(self) -> str:
        return self.files[0].path


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


@dataclass(frozen=True)
class Parity:
    """The parity certificate: how far an engine's numbers are from the reference."""

    scope: str
    """"engine", or "graph" where the engine cannot run here and its lowered graph was run."""
    reference: str
    samples: int
    max_abs: float
    rel_l2: float
    """||engine - reference|| / ||reference||, over all samples."""
    cosine: float
    sqnr_db: float
    """20 log10(||reference|| / ||error||)."""
    top1_agreement: float
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
    blocks: tuple[BlockDrift, ...] = ()


@dataclass(frozen=True)
class Accuracy:
    """Against labels, where the data has them."""

    dataset: str
    samples: int
    top1: float
    top1_reference: float
    flips: int
    """Samples on which engine and eager disagree."""


@dataclass(frozen=True)
class Speedup:
    """Paired ratio eager / engine: more than 1 is faster than eager."""

    median: float
    ci95: tuple[float, float]


@dataclass(frozen=True)
class Latency:
    """One engine against the baseline at one batch size, interleaved in one run."""

    batch: int
    threads: int
    warmup: int
    rounds: int
    p50_ms: float
    p90_ms: float
    p99_ms: float
    eager_p50_ms: float
    baseline: str
    """"torch-eager" or, for an ONNX input, "onnxruntime-as-given"."""
    speedup: Speedup
    stable: bool


@dataclass(frozen=True)
class BlockTime:
    """One residual block in the runtime's own profile."""

    name: str
    microseconds: float
    share: float
    """Of the time of all kernels."""


@dataclass(frozen=True)
class LayerTime:
    """One convolution or matrix product in the profile, everything fused into it included."""

    name: str
    block: str
    """"" outside the residual blocks."""
    op: str
    dtype: str
    microseconds: float
    macs: int
    """Of the whole batch."""
    bytes: int
    """Input, weights, output and a fused shortcut, each once, in the type that it computes in."""


@dataclass(frozen=True)
class Profile:
    """Where an engine's time goes (`profile_blocks.py`)."""

    source: str
    batch: int
    threads: int
    runs: int
    total_us: float
    """The sum over all kernels: not the latency, since the profiler costs time itself."""
    outside_us: float
    """Of kernels that belong to no residual block."""
    blocks: tuple[BlockTime, ...]
    layers: tuple[LayerTime, ...]


@dataclass(frozen=True)
class EngineRecord:
    """An engine and everything that was proved about it: one entry of the manifest."""

    engine: Engine
    receipt: Receipt
    parity: Parity | Skipped
    accuracy: Accuracy | None
    latency: Latency | Skipped
    """At the first batch size that was asked for."""
    latency_by_batch: tuple[Latency, ...] = ()
    notes: tuple[str, ...] = ()
    """What the user should know of this engine: a recommendation, a count of flushed values."""
    predicted: tuple[dict[str, Any], ...] = ()
    """Roofline estimates for named GPUs (`predict.py`); never mixed with measured figures."""
    profile: Profile | Skipped = Skipped("not profiled: it was not measured")
