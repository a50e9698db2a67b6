"""What travels through the pipeline: plain frozen data, no behaviour worth testing alone.

    Model -> graph -> (Ranges) -> graph -> Engine + Receipt -> Parity -> Latency

What is proved of an engine is in `prove/certificate.py`, what is measured in `measure/timing.py`;
`builds/records.py` puts all of it together to what `manifest.json` holds, under the same names.
A value that could not be obtained is a `Skipped` with its reason, never a bare None.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import onnx_ir as ir
    import torch


class Precision(StrEnum):
    """The arithmetic that an engine is asked for. It lives in the graph, not in builder flags."""

    FP32 = "fp32"
    FP16 = "fp16"
    BF16 = "bf16"
    MIXED = "mixed"
    """INT8 but for the blocks that a search keeps in float (`exporter/search/`)."""
    INT8 = "int8"
    FP8 = "fp8"  # E4M3

    @property
    def quantized(self) -> bool:
        """Whether its graphs have Q/DQ, whose scales calibration finds."""
        return self in (Precision.MIXED, Precision.INT8, Precision.FP8)

    @property
    def base(self) -> Precision:
        """What targets build it as, and whose limits hold: INT8 for what is mixed, else itself."""
        return Precision.INT8 if self is Precision.MIXED else self


class Dialect(StrEnum):
    """Which form of a precision a graph is in: each is what some runtimes fuse."""

    FLOAT = "float"
    """No Q/DQ at all: FP32, FP16 and BF16 graphs, standard ONNX."""
    FLOAT_FUSED = "float-fused"
    """FP32 with each residual sum inside its convolution, as `com.microsoft.FusedConv`."""
    U8_ASYMMETRIC = "u8-asymmetric"
    """ONNX Runtime CPU, OpenVINO: U8 activations everywhere, both inputs of each residual Add."""
    S8_SYMMETRIC = "s8-symmetric"
    """TensorRT, TensorRT-RTX: S8, zero point 0, at a residual Add on the shortcut alone."""
    E4M3_SYMMETRIC = "e4m3-symmetric"
    """The same with codes in FP8."""


class ElementType(StrEnum):
    """What a kernel computes in, reads or writes."""

    FP64 = "fp64"
    FP32 = "fp32"
    FP16 = "fp16"
    BF16 = "bf16"
    FP8 = "fp8"
    INT8 = "int8"
    """Of what a kernel computes in: 8 bits, signed or not."""
    UINT8 = "uint8"
    INT32 = "int32"
    INT64 = "int64"
    BOOL = "bool"
    UNKNOWN = "unknown"
    """The runtime names no type, or one that its target does not know."""


class Operation(StrEnum):
    """What a kernel does, in words that are the same for every runtime."""

    CONV = "conv"
    ADD = "add"
    RELU = "relu"
    BATCHNORM = "batchnorm"
    MAXPOOL = "maxpool"
    AVGPOOL = "avgpool"
    GEMM = "gemm"
    SOFTMAX = "softmax"
    QUANTIZE = "quantize"
    DEQUANTIZE = "dequantize"
    CAST = "cast"
    REORDER = "reorder"
    """A change of layout or a move in memory; no arithmetic."""
    POINTWISE = "pointwise"
    OTHER = "other"


class Verdict(StrEnum):
    """What a fusion receipt concludes."""

    UNVERIFIED = "unverified"
    PARTIAL = "partial"
    FUSED = "fused"


class ModelKind(StrEnum):
    """What a model was given as."""

    BUILTIN = "builtin"
    TIMM = "timm"
    MODULE = "module"
    """Made by `package.module:factory`."""
    LIVE = "live"
    """Handed over by a program (`exporter.export`)."""
    ONNX = "onnx"


class CalibrationMethod(StrEnum):
    """Which range a tensor gets of all values that calibration saw."""

    MSE = "mse"
    """The one with the least mean squared error."""
    MINMAX = "minmax"
    """From the smallest to the largest value."""


class ClassNames(StrEnum):
    """A published set of classes, whose names are in the package (`models/class_names.py`)."""

    IMAGENET_1K = "imagenet-1k"
    DIGITS = "digits"
    FASHION = "fashion-mnist"


@dataclass(frozen=True)
class TensorSpec:
    """A graph input or output. A dimension is a size or the name of a dynamic one."""

    name: str
    dtype: str
    """numpy's name: "float32", "uint8"."""
    shape: tuple[int | str, ...]

    @property
    def sample(self) -> tuple[int, ...]:
        """Without its batch dimension, of a tensor whose other sizes are known."""
        return tuple(int(size) for size in self.shape[1:])


class Interpolation(StrEnum):
    """How a picture is resized: Pillow's filters, which are antialiased, all but `nearest`."""

    BILINEAR = "bilinear"
    BICUBIC = "bicubic"
    LANCZOS = "lanczos"
    BOX = "box"
    NEAREST = "nearest"
    NONE = "none"
    """Nothing is resized."""


class Channels(StrEnum):
    """What a picture's channels are, in the order that the model takes them."""

    RGB = "RGB"
    BGR = "BGR"
    """As OpenCV and Caffe have them."""
    GREY = "grey"
    """One: Rec. 601's luma of red, green and blue."""


Pixels = int | tuple[int, int]
"""A length, or (height, width)."""


@dataclass(frozen=True)
class Preprocessing:
    """How an 8-bit picture becomes the model's input: resize, centre crop, scale, normalise.

    `x = (pixel / 255 - mean) / std`, channel by channel, laid out as the model's input is.
    """

    resize: Pixels | None
    """The shorter side after resizing, or both; None: the picture already has the input's size."""
    crop: Pixels
    """The centre's side, or (height, width) where the two differ."""
    interpolation: Interpolation
    mean: tuple[float, ...]
    """Of each channel of the model's input, in its order; of pixels in 0..1."""
    std: tuple[float, ...]
    source: str
    """Where the contract comes from, for example a weights name."""
    channels: Channels = Channels.RGB
    exif_orientation: bool = True
    """Pictures are first turned upright, as EXIF says; else they stay as they are stored."""

    @property
    def crop_size(self) -> tuple[int, int]:
        """(height, width) of what is left of a picture."""
        return self.crop if isinstance(self.crop, tuple) else (self.crop, self.crop)

    @property
    def in_words(self) -> str:
        """What is done to a picture, for people."""
        height, width = self.crop_size
        picture = f"8-bit {'grey' if self.channels is Channels.GREY else 'RGB'} image"
        if not self.exif_orientation:
            picture += " as it is stored (its EXIF orientation ignored)"
        match self.resize:
            case None:
                steps = [f"{picture} of {height} x {width} pixels (height x width)"]
            case (high, wide):
                steps = [f"{picture}, resized to {high} x {wide} pixels ({self.interpolation})"]
            case side:
                steps = [f"{picture}, shorter side resized to {side} pixels ({self.interpolation})"]
        if self.resize not in (None, (height, width)):
            steps.append(f"centre {height} x {width} cropped")
        if self.channels is Channels.BGR:
            steps.append("channels reversed to BGR")
        mean, std = (", ".join(f"{value:.6g}" for value in v) for v in (self.mean, self.std))
        steps.append(f"(pixel / 255 - mean) / std with mean {mean} and std {std}")
        return ", ".join(steps)


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
    classes: ClassNames | None = None
    """What the outputs stand for, where the weights' own source says so; None: not known."""
    licence: str | None = None
    """Under what the weights were published, as far as their source says so."""


@dataclass(frozen=True)
class ModelSpec:
    """Everything about a model that is not its weights or its graph."""

    name: str
    """A file-name-safe short name: `resnet50`."""
    source: str
    """As the user typed it: `resnet50`, `timm:resnet50d`, `pkg.mod:factory`, a file's base name."""
    kind: ModelKind
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
    other_outputs: tuple[TensorSpec, ...] = ()
    """Those after the first, in the network's order."""
    scores: int | None = 0
    """Which output, counted from 0, holds a score for each class; None: none does."""
    other_inputs: tuple[TensorSpec, ...] = ()
    """Those after the first, in the network's order."""

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """All of them."""
        return (self.input, *self.other_inputs)

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """All of them."""
        return (self.output, *self.other_outputs)

    @property
    def classes(self) -> int | str:
        """How many the scores are of; 0: there are no scores."""
        return 0 if self.scores is None else self.outputs[self.scores].shape[1]

    @property
    def image_shape(self) -> tuple[int, ...]:
        """The first input's shape without its batch dimension, (C, H, W) or (H, W, C)."""
        return self.input.sample


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
class Kernel:
    """One kernel that a runtime really made, as a target read it back from the built engine."""

    name: str
    op: str
    """The runtime's own word for it: "Conv (nchwc)", "QLinearAdd", "correlation"."""
    does: tuple[Operation, ...]
    """What it computes; a fused convolution: conv, add, relu."""
    dtype: ElementType
    """What it computes in."""
    inputs: tuple[str, ...]
    """Tensor names as the runtime knows them (no initializers)."""
    outputs: tuple[str, ...]
    labels: tuple[str, ...] = ()
    """Every name that ties it to the graph: tensors, ONNX nodes, weights."""
    output_dtypes: tuple[ElementType, ...] = ()
    """What it writes, as far as the runtime says; empty: not known."""


REJECTED: Final = ".rejected"
"""What the names of a rejected engine's files end in."""


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
    built_from: str = ""
    """The lowered ONNX file that it was built from, relative to the build folder."""

    @property
    def path(self) -> str:
        return self.files[0].path

    @property
    def bytes(self) -> int:
        """The size of all its files."""
        return sum(file.bytes for file in self.files)

    @property
    def rejected(self) -> bool:
        """It failed a gate, so its files have names that no runtime will load."""
        return self.path.endswith(REJECTED)
