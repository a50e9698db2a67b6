"""What `MODEL` may be, and how each becomes a `Model` with its specification."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from exporter.artifact import Model, ModelSpec, Preprocessing, Skipped, TensorSpec, WeightsInfo
from exporter.data import synthetic_inputs
from exporter.errors import InputError, MissingDependencyError, UsageError
from exporter.models import digits, weights
from exporter.models.initialise import initialise
from exporter.models.variants import (
    Variant,
    build_variant,
    default_preprocessing,
    find_variant,
    published,
)
from exporter.progress import Progress

if TYPE_CHECKING:
    from exporter.models.variants import PublishedWeights

STATISTICS_IMAGES = 16
"""Images that the BatchNorm statistics of random weights are measured on."""


@dataclass(frozen=True)
class Loaded:
    """A module with its weights in place."""

    module: nn.Module
    info: WeightsInfo
    preprocessing: Preprocessing | Skipped
    notes: tuple[str, ...] = field(default=())


def define(
    source: str,
    weights: str = "auto",
    *,
    num_classes: int | None = None,
    image_size: int | None = None,
    seed: int = 0,
    progress: Progress,
) -> Model:
    """The model that `source` names: see the command line's help for what that may be.

    Raises:
        UsageError: no such model, or options that it does not take.
        InputError: a file that is missing, malformed or unsafe.
        MissingDependencyError: timm is asked for and not installed.
    """
    if source.endswith(".onnx"):
        from exporter.models.onnx_file import load_onnx

        _refuse_options("an ONNX file", weights, num_classes, image_size)
        return load_onnx(Path(source))
    if source.startswith("timm:"):
        return _from_timm(source, weights, num_classes, image_size, seed)
    if ":" in source:
        return _from_factory(source, weights, num_classes, image_size, seed)
    return _from_table(source, weights, num_classes, image_size, seed, progress)


def _from_table(
    name: str,
    weights_name: str,
    num_classes: int | None,
    image_size: int | None,
    seed: int,
    progress: Progress,
) -> Model:
    variant = find_variant(name)
    size = image_size or variant.image_size
    smallest = smallest_image(variant)
    if size < smallest:
        raise UsageError(
            f"--image-size {size} is too small for {name}: its strides divide by "
            f"{smallest}; give at least {smallest}"
        )
    loaded = _load_variant(name, variant, weights_name, num_classes, size, seed, progress)
    return describe(loaded, name=name, source=name, kind="builtin", size=size)


def smallest_image(variant: Variant) -> int:
    """The side below which the last stage would have no pixel of its own."""
    return 32 if variant.family == "imagenet" else 4


def _load_variant(
    name: str,
    variant: Variant,
    weights_name: str,
    num_classes: int | None,
    size: int,
    seed: int,
    progress: Progress,
) -> Loaded:
    default = default_preprocessing(variant, size)
    if weights_name == "random":
        return _random(name, num_classes, size, seed, default, why="as asked for")
    if weights_name.endswith((".pth", ".pt", ".safetensors")):
        state = weights.read_checkpoint(Path(weights_name))
        preprocessing = digits.PREPROCESSING if variant.family == "digits" else default
        return _with_state(name, state, Path(weights_name).name, num_classes, preprocessing)
    if variant.family == "digits":
        if weights_name != "auto":
            raise UsageError(f"{name} has weights auto, random or a file, not {weights_name!r}")
        if (num_classes or 10) != 10 or size != 32:
            raise UsageError(
                f"the embedded weights of {name} have 10 classes and 32x32 input; "
                "give --weights random for another shape"
            )
        return _with_state(
            name, digits.state(), "embedded (trained on scikit-learn's digits)", 10,
            digits.PREPROCESSING,
        )  # fmt: skip
    if weights_name != "auto":
        return _published(name, published(name, weights_name), num_classes, size, progress)
    if not variant.weights:
        return _random(name, num_classes, size, seed, default, why="nobody publishes weights")
    if num_classes not in (None, variant.num_classes):
        why = f"published weights have {variant.num_classes} classes, {num_classes} were asked for"
        return _random(name, num_classes, size, seed, default, why=why)
    try:
        return _published(name, variant.weights[-1], num_classes, size, progress)
    except InputError as error:
        return _random(name, num_classes, size, seed, default, why=str(error))


def _published(
    name: str,
    checkpoint: PublishedWeights,
    num_classes: int | None,
    size: int,
    progress: Progress,
) -> Loaded:
    state = weights.read_checkpoint(weights.fetch(checkpoint.url, progress))
    contract = checkpoint.preprocessing
    if size != contract.crop and contract.resize is not None:
        resize = round(contract.resize * size / contract.crop)
        contract = Preprocessing(
            resize, size, contract.interpolation, contract.mean, contract.std,
            f"{contract.source}, scaled to {size} px",
        )  # fmt: skip
    return _with_state(name, state, f"torchvision {checkpoint.name}", num_classes, contract)


def _with_state(
    name: str,
    state: weights.State,
    source: str,
    num_classes: int | None,
    preprocessing: Preprocessing,
) -> Loaded:
    head = state.get("fc.weight")
    classes = int(head.shape[0]) if head is not None and head.dim() == 2 else None
    if num_classes is not None and classes is not None and classes != num_classes:
        raise InputError(
            f"{source} has {classes} classes (fc.weight), --num-classes asks for {num_classes}; "
            "leave the option out"
        )
    module = build_variant(name, classes or num_classes)
    weights.load_state(module, state, source)
    module.eval()
    info = WeightsInfo(source, weights.state_sha256(module), trained=True)
    return Loaded(module, info, preprocessing)


def _random(
    name: str,
    num_classes: int | None,
    size: int,
    seed: int,
    preprocessing: Preprocessing,
    why: str,
) -> Loaded:
    module = build_variant(name, num_classes)
    initialise(module, synthetic_inputs((3, size, size), STATISTICS_IMAGES, seed), seed)
    info = WeightsInfo(f"random, seed {seed}", weights.state_sha256(module), trained=False)
    note = (
        f"{name} has RANDOM weights ({why}). Latency, size, fusion and numerical parity are as "
        "with trained weights; predictions mean nothing, and packing for production will refuse "
        "it. Give trained ones with --weights FILE."
    )
    return Loaded(module, info, preprocessing, (note,))


def _from_factory(
    source: str, weights_name: str, num_classes: int | None, image_size: int | None, seed: int
) -> Model:
    if num_classes is not None:
        raise UsageError(f"--num-classes is for built-in models; {source} decides for itself")
    module = _call_factory(source)
    return _own_module(module, source, "module", weights_name, image_size or 224, seed, None)


def _call_factory(source: str) -> nn.Module:
    module_name, _, attribute = source.partition(":")
    if not re.fullmatch(r"[A-Za-z_][\w.]*", module_name) or not attribute.isidentifier():
        raise UsageError(f"model {source!r}: expected package.module:factory, timm:NAME or a name")
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        imported = importlib.import_module(module_name)
    except Exception as error:
        raise InputError(f"cannot import {module_name} for {source}: {_line(error)}") from None
    factory: Callable[[], object] | None = getattr(imported, attribute, None)
    if isinstance(factory, nn.Module):
        return factory
    if not callable(factory):
        raise InputError(
            f"{module_name} has no callable {attribute!r}; expected a function or class"
        )
    try:
        made = factory()
    except Exception as error:
        raise InputError(f"{source}() failed: {_line(error)}") from None
    if not isinstance(made, nn.Module):
        raise InputError(f"{source}() returned a {type(made).__name__}, expected a torch.nn.Module")
    return made


def _from_timm(
    source: str,
    weights_name: str,
    num_classes: int | None,
    image_size: int | None,
    seed: int,
) -> Model:
    try:
        import timm
    except Exception as error:  # an incompatible torchvision raises anything
        raise MissingDependencyError(
            f"{source} needs timm, which cannot be imported here ({_line(error)}); "
            "pip install 'resnet-exporter[timm]' with a torchvision that fits this torch"
        ) from None
    name = source.removeprefix("timm:")
    if not timm.is_model(name):
        from exporter.errors import unknown_name

        raise unknown_name("timm model", name, timm.list_models())
    options = {} if num_classes is None else {"num_classes": num_classes}
    module = timm.create_model(name, pretrained=False, **options)
    config = timm.data.resolve_model_data_config(module)
    size = image_size or int(config["input_size"][-1])
    preprocessing = Preprocessing(
        resize=round(size / float(config["crop_pct"])),
        crop=size,
        interpolation=str(config["interpolation"]),
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        source=f"timm's configuration of {name}",
    )
    if weights_name == "auto":
        try:
            module = timm.create_model(name, pretrained=True, **options)
        except Exception as error:
            return _own_module(
                module, source, "timm", "random", size, seed, preprocessing,
                why=f"timm could not load pretrained weights: {_line(error)}",
            )  # fmt: skip
        module.eval()
        info = WeightsInfo(f"timm {name}", weights.state_sha256(module), trained=True)
        loaded = Loaded(module, info, preprocessing)
        return describe(loaded, name=file_name(name), source=source, kind="timm", size=size)
    return _own_module(module, source, "timm", weights_name, size, seed, preprocessing)


def _own_module(
    module: nn.Module,
    source: str,
    kind: str,
    weights_name: str,
    size: int,
    seed: int,
    preprocessing: Preprocessing | None,
    why: str = "as asked for",
) -> Model:
    """A module that someone else built: its own weights, a checkpoint, or random ones."""
    notes: tuple[str, ...] = ()
    if weights_name == "auto":
        info = WeightsInfo(f"as {source} made them", weights.state_sha256(module), trained=True)
    elif weights_name == "random":
        initialise(module, synthetic_inputs((3, size, size), STATISTICS_IMAGES, seed), seed)
        info = WeightsInfo(f"random, seed {seed}", weights.state_sha256(module), trained=False)
        notes = (f"{source} has RANDOM weights ({why}): its predictions mean nothing.",)
    else:
        state = weights.read_checkpoint(Path(weights_name))
        weights.load_state(module, state, Path(weights_name).name)
        info = WeightsInfo(Path(weights_name).name, weights.state_sha256(module), trained=True)
    module.eval()
    contract = preprocessing or Skipped("a module does not say how images become its input")
    loaded = Loaded(module, info, contract, notes)
    name = file_name(source.removeprefix("timm:").rpartition(":")[2])
    return describe(loaded, name=name, source=source, kind=kind, size=size)


def describe(loaded: Loaded, *, name: str, source: str, kind: str, size: int) -> Model:
    """The `Model` of a module: its parameters and MACs counted, its shapes tried out.

    Raises:
        InputError: the module does not take one (B, 3, size, size) input to one output.
    """
    module = loaded.module
    example = torch.zeros(1, 3, size, size)
    try:
        macs, output = count_macs(module, example)
    except Exception as error:
        raise InputError(
            f"{source} does not run on a (1, 3, {size}, {size}) input: {_line(error)}"
        ) from None
    if not isinstance(output, torch.Tensor):
        raise InputError(f"{source} answers with a {type(output).__name__}, expected one tensor")
    spec = ModelSpec(
        name=name,
        source=source,
        kind=kind,
        parameters=sum(parameter.numel() for parameter in module.parameters()),
        macs=macs,
        input=TensorSpec("input", "float32", ("batch", 3, size, size)),
        output=TensorSpec("logits", "float32", ("batch", *output.shape[1:])),
        preprocessing=loaded.preprocessing,
        weights=loaded.info,
    )
    return Model(spec, module, notes=loaded.notes)


def count_macs(module: nn.Module, example: torch.Tensor) -> tuple[int, object]:
    """Multiply-accumulates of convolutions and linear layers for `example`, and the output."""
    total = 0

    def count(part: nn.Module, _: object, output: torch.Tensor) -> None:
        nonlocal total
        if isinstance(part, nn.Conv2d):
            total += output.numel() * part.weight[0].numel()
        elif isinstance(part, nn.Linear):
            total += output.numel() * part.in_features

    layers = [part for part in module.modules() if isinstance(part, (nn.Conv2d, nn.Linear))]
    hooks = [part.register_forward_hook(count) for part in layers]
    try:
        with torch.inference_mode():
            output = module(example)
    finally:
        for hook in hooks:
            hook.remove()
    return total, output


def file_name(text: str) -> str:
    """A name that is safe in file names on every system."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-.") or "model"


def _refuse_options(
    what: str, weights_name: str, num_classes: int | None, image_size: int | None
) -> None:
    given = [
        option
        for option, value in (
            ("--weights", None if weights_name == "auto" else weights_name),
            ("--num-classes", num_classes),
            ("--image-size", image_size),
        )
        if value is not None
    ]
    if given:
        raise UsageError(f"{what} brings its own weights and shapes; leave out {', '.join(given)}")


def _line(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 200 else text[:197] + "..."
