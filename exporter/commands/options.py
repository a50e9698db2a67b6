"""The command line's options, and how their texts become values."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from exporter.artifact import Precision
from exporter.errors import UsageError, unknown_name

# The panels of `exporter export --help`.
INT8 = "INT8"
TARGETS = "Targets"
GATES = "Gates"
MEASUREMENT = "Measurement"

Folder = Annotated[Path, typer.Argument(help="A folder that `exporter export` wrote.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print the result only.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Weights = Annotated[
    str,
    typer.Option(
        metavar="NAME|FILE",
        help="auto (embedded, else published, else random, said so), a torchvision weights name "
        "(IMAGENET1K_V2), a .pth, .pt or .safetensors file, or random.",
    ),
]
Source = Annotated[
    str,
    typer.Argument(
        help="A built-in name (see `exporter models`), timm:NAME, package.module:factory, "
        "or the path of an .onnx file."
    ),
]
Seed = Annotated[int, typer.Option(metavar="N", help="Seeds random weights and synthetic images.")]
NumClasses = Annotated[
    int | None, typer.Option(metavar="N", min=2, help="Outputs of a built-in model.")
]
ImageSize = Annotated[int | None, typer.Option(metavar="PIXELS", min=1, help="Side of the input.")]
Threads = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        min=1,
        help="CPU threads (default: what this machine grants).",
        rich_help_panel=MEASUREMENT,
    ),
]
Batches = Annotated[
    str,
    typer.Option(
        metavar="LIST", help="Batch sizes to measure: 1 or 1,8,32.", rich_help_panel=MEASUREMENT
    ),
]
Rounds = Annotated[
    int,
    typer.Option(
        metavar="N", min=5, help="Interleaved rounds of measurement.", rich_help_panel=MEASUREMENT
    ),
]
Precisions = Annotated[
    str,
    typer.Option(metavar="LIST", help="fp32,fp16,int8 (default: what is useful on this machine)."),
]
Targets = Annotated[
    str,
    typer.Option(
        metavar="LIST",
        help="ort-cpu, openvino, tensorrt-rtx:sm89, ... (default: what this machine can build).",
    ),
]
DataPath = Annotated[
    Path | None,
    typer.Option(
        metavar="PATH",
        help="Images to calibrate and to evaluate on: a folder of pictures (run through the "
        "model's own preprocessing) or an .npz/.npy of ready tensors.",
    ),
]
Out = Annotated[Path | None, typer.Option(metavar="DIR", help="Default: build/MODEL.")]
Samples = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        min=8,
        help="Evaluation inputs (default: 64; of a labelled set at most 2000).",
    ),
]
CalibrationSamples = Annotated[
    int, typer.Option(metavar="N", min=1, help="Images that INT8 sees.", rich_help_panel=INT8)
]
Keep = Annotated[
    str,
    typer.Option(
        metavar="LIST",
        help="Module paths that INT8 leaves in float: layer1.0,fc.",
        rich_help_panel=INT8,
    ),
]
CalibrationMethod = Annotated[
    str,
    typer.Option(
        metavar="METHOD", help="Ranges: mse (least squared error) or minmax.", rich_help_panel=INT8
    ),
]
Correction = Annotated[
    str,
    typer.Option(
        metavar="WHAT",
        help="all: weights are rounded by what they meet, then biases corrected; biases; or none.",
        rich_help_panel=INT8,
    ),
]
ReduceRange = Annotated[
    bool,
    typer.Option(
        "--reduce-range",
        help="7-bit weights, for serving CPUs without VNNI; costs accuracy.",
        rich_help_panel=INT8,
    ),
]
Between = Annotated[
    str,
    typer.Option(
        metavar="TYPE",
        help="fp32 or fp16: what INT8 for TensorRT leaves unquantized.",
        rich_help_panel=INT8,
    ),
]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        metavar="TARGET.KEY=VALUE",
        help="A target's own setting (tensorrt.hardware_compatibility=ampere_plus); repeatable.",
        rich_help_panel=TARGETS,
    ),
]
Profile = Annotated[
    str | None,
    typer.Option(
        metavar="MIN:OPT:MAX",
        help="Batch sizes of TensorRT's optimization profile (1:8:32).",
        rich_help_panel=TARGETS,
    ),
]
AllowPartial = Annotated[
    bool,
    typer.Option(
        "--allow-partial",
        help="Accept a receipt below what the target is known to reach.",
        rich_help_panel=GATES,
    ),
]
AllowFallback = Annotated[
    bool,
    typer.Option(
        "--allow-fallback",
        help="Accept nodes that a GPU provider leaves on the CPU.",
        rich_help_panel=GATES,
    ),
]
Measure = Annotated[
    bool,
    typer.Option(help="Measure latency against the baseline.", rich_help_panel=MEASUREMENT),
]
BakePreprocess = Annotated[
    bool,
    typer.Option(
        "--bake-preprocess",
        help="Engines take uint8 images (N, H, W, 3) at the crop size; the graph normalises them.",
    ),
]


def words(text: str) -> tuple[str, ...]:
    """What stands between the commas."""
    return tuple(word.strip() for word in text.split(",") if word.strip())


def precisions(text: str) -> tuple[Precision, ...]:
    """Raises UsageError for a word that is none."""
    found = []
    for word in words(text):
        if word not in set(Precision):
            raise unknown_name("precision", word, list(Precision))
        found.append(Precision(word))
    return tuple(found)


def float_precision(text: str) -> Precision:
    """Raises UsageError for anything but fp32 or fp16."""
    chosen = precisions(text)
    if chosen not in ((Precision.FP32,), (Precision.FP16,)):
        raise UsageError(f"--between {text!r}: give fp32 or fp16")
    return chosen[0]


def sizes(text: str) -> tuple[int, ...]:
    """Batch sizes, each once. Raises UsageError for what is no positive number."""
    found = words(text)
    if not found or not all(word.isdigit() and int(word) > 0 for word in found):
        raise UsageError(f"--batches {text!r}: give positive numbers, as in 1,8,32")
    return tuple(dict.fromkeys(int(word) for word in found))


def settings(entries: list[str]) -> dict[str, dict[str, str]]:
    """TARGET.KEY=VALUE each -> target -> key -> value."""
    found: dict[str, dict[str, str]] = {}
    for entry in entries:
        path, equals, value = entry.partition("=")
        target, dot, key = path.partition(".")
        if not (equals and dot and target and key):
            raise UsageError(
                f"--setting {entry!r}: give TARGET.KEY=VALUE, as in tensorrt-rtx.memory_mb=4096"
            )
        found.setdefault(target, {})[key] = value
    return found
