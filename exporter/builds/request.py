"""What `exporter export` and `validate` may be asked for (`benchmark`: `benchmark_request.py`).

Each option stands here once; see `option.py` for what is made from it. The constructor takes what a
program gives (a list, a text) and converts it; attrs tells type checkers so, and the functions of
the Python API are typed by a ParamSpec over the constructor (`commands/calls.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

from attrs import field, frozen

from exporter.artifact import CalibrationMethod, Channels, Interpolation, Precision
from exporter.builds import converters
from exporter.builds.converters import FloatPrecision
from exporter.builds.option import Option, Values
from exporter.quantize.method import Correction
from exporter.targets import TARGETS, MachineKind

DEFAULT_MODEL: Final = "resnet20-digits"


class Panel(StrEnum):
    """The parts of `exporter export --help`, after the first."""

    INT8 = "INT8"
    MIXED = "Mixed precision: INT8 with as many blocks in float as one of these needs"
    MEASUREMENT = "Measurement"
    THROUGHPUT = "Throughput"
    PREPROCESSING = "Preprocessing: how pictures become the input (default: as the model's own)"
    TARGETS = "Targets"
    GATES = "Gates"


class Concern(StrEnum):
    """What an option may be about, and that it is missing (`unused.py` decides when it is)."""

    INT8 = "INT8, which is not built"
    MIXED = "mixed precision, which no target that is built has"
    REDUCED = "precisions below FP32, which are not built"
    FLOAT_BETWEEN = "INT8 in the form that leaves tensors unquantized, which is not built"
    PROFILES = "targets with optimization profiles that no --setting gives, of which none is built"
    FALLBACK = "GPU providers of ONNX Runtime, of which none is built"
    MEASURING = "measuring, which --no-measure leaves out"
    THROUGHPUT = "throughput, which --throughput measures"
    BATCHES = "measuring, predicted costs and tuned profiles, of which there are none"


Folder = Annotated[
    Path,
    Option(
        positional=True,
        metavar="DIR|MODEL",
        help="A folder that `exporter export` wrote, or the MODEL that it compiled (build/MODEL).",
        values=Values.BUILDS,
    ),
]
Weights = Annotated[
    str,
    Option(
        metavar="NAME|FILE",
        help="auto (embedded, else published, else random, said so), a torchvision weights name "
        "(IMAGENET1K_V2), a .pth, .pt or .safetensors file, or random.",
    ),
]
NumClasses = Annotated[
    int | None, Option(metavar="N", minimum=2, help="Classes of a built-in or timm model.")
]
ImageSize = Annotated[
    int | tuple[int, int] | None,
    Option(metavar="PIXELS", help="Side of the input, or HEIGHTxWIDTH (480x640)."),
]
Batches = Annotated[
    tuple[int, ...],
    Option(
        metavar="LIST",
        help="Batch sizes to measure: 1 or 1,8,32.",
        panel=Panel.MEASUREMENT,
        concerns=Concern.BATCHES,
    ),
]
Threads = Annotated[
    int | None,
    Option(
        metavar="N",
        minimum=1,
        help="CPU threads (default: what this machine grants).",
        panel=Panel.MEASUREMENT,
    ),
]
Rounds = Annotated[
    int,
    Option(
        metavar="N",
        minimum=5,
        help="Interleaved rounds of measurement.",
        panel=Panel.MEASUREMENT,
        concerns=Concern.MEASURING,
    ),
]
Source = Annotated[
    str,
    Option(
        positional=True,
        metavar="MODEL",
        help="A built-in name (see `exporter models`), timm:NAME, package.module:factory, "
        "or the path of an .onnx file.",
        values=Values.MODELS,
    ),
]


@frozen(kw_only=True)
class ExportRequest:
    """What `exporter export` may be asked for; the defaults are those of the command line."""

    source: Source = field(default=DEFAULT_MODEL, kw_only=False)
    weights: Weights = "auto"
    targets: Annotated[
        tuple[str, ...],
        Option(
            flags=("--target",),
            metavar="LIST",
            help=f"{', '.join(TARGETS)}; some have variants, after a colon (default: what this "
            "machine can build).",
            values=Values.TARGETS,
        ),
    ] = field(default=(), converter=converters.words)
    precisions: Annotated[
        tuple[Precision, ...],
        Option(
            flags=("--precision",),
            metavar="LIST",
            help=f"{','.join(Precision)} (default: what is useful on this machine).",
        ),
    ] = field(default=(), converter=converters.precisions)
    data: Annotated[
        Path | None,
        Option(
            metavar="PATH",
            help="Images to calibrate and to evaluate on: a folder of pictures (run through the "
            "model's preprocessing, see below) or an .npz/.npy of ready tensors.",
        ),
    ] = field(default=None, converter=converters.optional_path)
    preprocessing: Annotated[
        Path | Mapping[str, object] | None,
        Option(
            metavar="FILE.json",
            help="What follows in a file (mean, std, resize, ...), a preprocessor_config.json of "
            "transformers, or a config.json of timm.",
            panel=Panel.PREPROCESSING,
            not_recorded="it is recorded as the options that it stands for",
        ),
    ] = field(default=None, converter=converters.contract_source)
    mean: Annotated[
        tuple[float, ...],
        Option(
            metavar="LIST",
            help="x = (pixel - mean) / std: 0.485,0.456,0.406, or one value for all channels.",
            panel=Panel.PREPROCESSING,
        ),
    ] = field(default=(), converter=converters.numbers)
    std: Annotated[
        tuple[float, ...],
        Option(metavar="LIST", help="As --mean.", panel=Panel.PREPROCESSING),
    ] = field(default=(), converter=converters.numbers)
    pixel_range: Annotated[
        int | None,
        Option(
            metavar="1|255",
            help="What a white pixel is before mean and std (default: 1).",
            panel=Panel.PREPROCESSING,
        ),
    ] = None
    resize: Annotated[
        tuple[int, ...],
        Option(
            metavar="PIXELS",
            help="The shorter side after resizing, or HEIGHT,WIDTH (default: the input's size).",
            panel=Panel.PREPROCESSING,
        ),
    ] = field(default=(), converter=converters.lengths)
    crop: Annotated[
        tuple[int, ...],
        Option(
            metavar="PIXELS",
            help="The centre that is cropped: the input's size, which is checked.",
            panel=Panel.PREPROCESSING,
        ),
    ] = field(default=(), converter=converters.lengths)
    interpolation: Annotated[
        Interpolation | None,
        Option(help="How pictures are resized.", panel=Panel.PREPROCESSING),
    ] = field(default=None, converter=converters.interpolation)
    channels: Annotated[
        Channels | None,
        Option(
            help="What the model takes (default: RGB, or grey where it takes one channel).",
            panel=Panel.PREPROCESSING,
        ),
    ] = field(default=None, converter=converters.channels)
    exif_orientation: Annotated[
        bool,
        Option(
            help="Pictures are first turned upright, as their EXIF orientation says.",
            panel=Panel.PREPROCESSING,
        ),
    ] = True
    out: Annotated[
        Path | None,
        Option(
            metavar="DIR",
            help="Default: build/MODEL.",
            not_recorded="it is where the record lies, and that is the reader's own machine",
        ),
    ] = field(default=None, converter=converters.optional_path)
    # Never without a use: a build that was not measured is measured later with the same seed.
    seed: Annotated[
        int,
        Option(
            metavar="N", minimum=0, help="Seeds random weights, synthetic images and measuring."
        ),
    ] = 0
    num_classes: NumClasses = None
    image_size: ImageSize = field(default=None, converter=converters.image_size)
    inputs: Annotated[
        tuple[str, ...],
        Option(
            flags=("--input",),
            metavar="LIST",
            help="Shapes of a module's inputs, as in rgb=3x64x64,depth=1x64x64,meta=12 (default: "
            "images of the image size, with the channels that its convolutions take).",
        ),
    ] = field(default=(), converter=converters.input_shapes)
    samples: Annotated[
        int | None,
        Option(
            metavar="N",
            minimum=8,
            help="Evaluation inputs (default: 64; of a labelled set at most 2000).",
        ),
    ] = None
    calibration_samples: Annotated[
        int,
        Option(
            metavar="N",
            minimum=1,
            help="Images that INT8 sees.",
            panel=Panel.INT8,
            concerns=Concern.INT8,
        ),
    ] = 128
    batches: Batches = field(default=(1,), converter=converters.batches)
    threads: Threads = None
    rounds: Rounds = 30
    keep: Annotated[
        tuple[str, ...],
        Option(
            metavar="LIST",
            help="Module paths that reduced precisions leave in FP32: layer1.0,fc.",
            panel=Panel.INT8,
            concerns=Concern.REDUCED,
        ),
    ] = field(default=(), converter=converters.words)
    calibration_method: Annotated[
        CalibrationMethod,
        Option(
            help="mse: ranges with the least squared error; minmax: of all that was seen.",
            panel=Panel.INT8,
            concerns=Concern.INT8,
        ),
    ] = field(default=CalibrationMethod.MSE, converter=converters.calibration_method)
    correction: Annotated[
        Correction,
        Option(
            help="all: weights are rounded by what they meet, then biases corrected; biases: "
            "those alone.",
            panel=Panel.INT8,
            concerns=Concern.INT8,
        ),
    ] = field(default=Correction.ALL, converter=converters.correction)
    reduce_range: Annotated[
        bool,
        Option(
            help="7-bit weights, for serving CPUs without VNNI; costs accuracy.",
            panel=Panel.INT8,
            concerns=Concern.INT8,
        ),
    ] = False
    between: Annotated[
        FloatPrecision,
        Option(
            help="What INT8 for TensorRT leaves unquantized.",
            panel=Panel.INT8,
            concerns=Concern.FLOAT_BETWEEN,
        ),
    ] = field(default=Precision.FP32, converter=converters.float_precision)
    max_drop: Annotated[
        str | None,
        Option(
            metavar="SHARE",
            help="The accuracy that `mixed` may lose on labelled images: 0.5%.",
            panel=Panel.MIXED,
            concerns=Concern.MIXED,
        ),
    ] = field(default=None, converter=converters.budgeted_drop)
    min_sqnr: Annotated[
        float | None,
        Option(
            metavar="DB",
            help="The least signal to quantization noise that `mixed` may have.",
            panel=Panel.MIXED,
            concerns=Concern.MIXED,
        ),
    ] = field(default=None, converter=converters.budgeted_decibels)
    min_agreement: Annotated[
        str | None,
        Option(
            metavar="SHARE",
            help="The share of images that `mixed` must give the reference's class: 99%.",
            panel=Panel.MIXED,
            concerns=Concern.MIXED,
        ),
    ] = field(default=None, converter=converters.budgeted_agreement)
    settings: Annotated[
        Mapping[str, Mapping[str, str]],
        Option(
            flags=("--setting",),
            metavar="TARGET.KEY=VALUE",
            help="A target's own setting, as in TARGET.memory_mb=4096; repeatable.",
            panel=Panel.TARGETS,
        ),
    ] = field(factory=dict, converter=converters.settings)
    """Target (without its variant) -> key -> value."""
    profile: Annotated[
        str | None,
        Option(
            metavar="MIN:OPT:MAX",
            help="Batch sizes of TensorRT's optimization profile (1:8:32).",
            panel=Panel.TARGETS,
            concerns=Concern.PROFILES,
        ),
    ] = None
    reference_device: Annotated[
        MachineKind,
        Option(
            help="Where eager PyTorch answers in float32, TF32 off; its float64 is the CPU's.",
            panel=Panel.GATES,
        ),
    ] = field(default=MachineKind.CPU, converter=converters.device)
    allow_partial: Annotated[
        bool,
        Option(help="Accept a receipt below what the target is known to reach.", panel=Panel.GATES),
    ] = False
    allow_fallback: Annotated[
        bool,
        Option(
            help="Accept nodes that a GPU provider leaves on the CPU.",
            panel=Panel.GATES,
            concerns=Concern.FALLBACK,
        ),
    ] = False
    bake_preprocess: Annotated[
        bool,
        Option(
            help="Engines take uint8 images (N, H, W, C) at the crop size; the graph normalises "
            "them.",
        ),
    ] = False
    measure: Annotated[
        bool, Option(help="Measure latency against the baseline.", panel=Panel.MEASUREMENT)
    ] = True


@frozen(kw_only=True)
class ValidateRequest:
    """What `exporter validate` may be asked for; the defaults are those of the command line."""

    build: Folder = field(converter=converters.path, kw_only=False)
    blocks: Annotated[
        bool, Option(help="Also the error at each residual block, built up and added.")
    ] = False
    threads: Threads = None
