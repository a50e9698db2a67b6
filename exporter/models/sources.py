"""What `MODEL` may be, and how each becomes a `Model` with its specification."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import torch

from exporter.artifact import ClassNames, Model, ModelKind, Pixels, Preprocessing, WeightsInfo
from exporter.errors import InputError, UsageError, unused_option
from exporter.models import embedded, weights
from exporter.models.checkpoint_file import WeightsFile, is_checkpoint, read_checkpoint
from exporter.models.checkpoint_fit import find_weights
from exporter.models.describe import Loaded, describe
from exporter.models.inputs import only
from exporter.models.modules import from_factory, randomised
from exporter.models.names import height_width, is_onnx
from exporter.models.variants import (
    VARIANTS,
    Variant,
    build_variant,
    default_preprocessing,
    find_variant,
    published,
    scaled_by,
)
from exporter.progress import Progress

CHECKPOINTS: Final = (".pth", ".pt", ".ckpt", ".safetensors")
"""How a name ends that can only be meant as a checkpoint's, whether it is there or not."""

if TYPE_CHECKING:
    from collections.abc import Mapping

    from exporter.models.variants import PublishedWeights

_TORCHVISIONS_LICENCE = "BSD-3-Clause (torchvision); ImageNet's terms may apply to the weights"
"""Its README: weights may have terms of their own, derived from the data they were trained on."""


def define(
    source: str,
    weights: str = "auto",
    *,
    num_classes: int | None = None,
    image_size: Pixels | None = None,
    inputs: tuple[str, ...] = (),
    seed: int = 0,
    progress: Progress,
) -> Model:
    """The model that `source` names: see the command line's help for what that may be.

    Raises:
        UsageError: no such model, or options that it does not take.
        InputError: a file that is missing, malformed or unsafe.
        MissingDependencyError: timm is asked for and not installed.
    """
    if num_classes is not None and num_classes < 1:
        raise UsageError(f"--num-classes {num_classes}: expected at least 1")
    if image_size is not None and min(height_width(image_size)) < 1:
        raise UsageError(f"--image-size {image_size}: expected at least 1")
    # Modules draw their first weights from PyTorch's random state, which is the program's.
    if inputs and (is_onnx(source) or source.startswith("timm:") or ":" not in source):
        raise unused_option("--input", f"modules of your own, and {source} has its own shapes")
    with torch.random.fork_rng(devices=[]):
        if is_onnx(source):
            from exporter.models.onnx_file import load_onnx

            _refuse_options("an ONNX file", weights, num_classes, image_size)
            return load_onnx(Path(source))
        if source.startswith("timm:"):
            from exporter.models.timm_models import from_timm

            return from_timm(source, weights, num_classes, image_size, seed)
        _refuse_files(source)
        if ":" in source:
            return from_factory(source, weights, num_classes, image_size, inputs, seed)
        return _from_table(source, weights, num_classes, image_size, seed, progress)


def _refuse_files(source: str) -> None:
    """Says what to type instead of a file that names no model.

    Raises:
        UsageError: a checkpoint, a Python file, or whatever else lies there.
    """
    file, colon, attribute = source.partition(":")
    path = Path(file)
    if not colon and (path.suffix in CHECKPOINTS or is_checkpoint(path)):
        raise UsageError(
            f"{source} holds weights and does not say of which network; name that, as in: "
            f"exporter export resnet50 --weights {shlex.quote(source)}"
        )
    if path.suffix == ".pt2":
        raise UsageError(
            f"{source}: torch.export.load may run code that the file holds, so it is not loaded "
            "here; where you trust it, load it in Python: "
            f"exporter.export(torch.export.load({source!r}), example=...)"
        )
    if path.suffix == ".py":
        folder = "" if path.parent == Path() else f" in {path.parent}"
        raise UsageError(
            f"{source}: a module is named as Python imports it; run{folder}: "
            f"exporter export {path.stem}:{attribute or 'FACTORY'}"
        )
    if not colon and source not in VARIANTS and path.exists():
        kind = "folder" if path.is_dir() else "file"
        raise UsageError(
            f"{source} is a {kind}, and no model; give a built-in name (exporter models), "
            "timm:NAME, package.module:factory or an .onnx file"
        )


def _from_table(
    name: str,
    weights_name: str,
    num_classes: int | None,
    image_size: Pixels | None,
    seed: int,
    progress: Progress,
) -> Model:
    variant = find_variant(name)
    size = variant.image_size if image_size is None else image_size
    smallest = smallest_image(variant)
    sides = height_width(size)
    if min(sides) < smallest:
        raise UsageError(
            f"--image-size {min(sides)} is too small for {name}: its strides divide by "
            f"{smallest}; give at least {smallest}"
        )
    loaded = _load_variant(name, variant, weights_name, num_classes, size, seed, progress)
    shapes = only((variant.channels, *sides))
    return describe(loaded, name=name, source=name, kind=ModelKind.BUILTIN, shapes=shapes)


def smallest_image(variant: Variant) -> int:
    """The side below which the last stage would have no pixel of its own."""
    return 32 if variant.family == "imagenet" else 4


def _load_variant(
    name: str,
    variant: Variant,
    weights_name: str,
    num_classes: int | None,
    size: Pixels,
    seed: int,
    progress: Progress,
) -> Loaded:
    if weights_name == "random":
        return _random(name, num_classes, size, seed, "as asked for")
    if _names_file(variant, weights_name):
        file = WeightsFile.of(weights_name)
        content = read_checkpoint(file.path)
        contract = default_preprocessing(variant, size)
        return _with_weights(name, content, file.label, num_classes, contract, file.place)
    if variant.embedded is not None:
        if weights_name != "auto":
            raise UsageError(f"{name} has weights auto, random or a file, not {weights_name!r}")
        data, classes, side = variant.embedded, variant.num_classes, variant.image_size
        if num_classes not in (None, classes) or size != side:
            raise UsageError(
                f"the embedded weights of {name} have {classes} classes and {side}x{side} input; "
                "give --weights random for another shape"
            )
        source = f"embedded (trained on {data.name})"
        loaded = _with_weights(name, embedded.state(name), source, classes, data.preprocessing)
        return _known(loaded, data.classes, "Apache-2.0, as this package")
    if weights_name != "auto":
        return _published(name, published(name, weights_name), num_classes, size, progress)
    if not variant.weights:
        return _random(name, num_classes, size, seed, "nobody publishes weights")
    if num_classes not in (None, variant.num_classes):
        why = f"published weights have {variant.num_classes} classes, {num_classes} were asked for"
        return _random(name, num_classes, size, seed, why)
    try:
        return _published(name, variant.weights[-1], num_classes, size, progress)
    except weights.DownloadError as error:
        return _random(name, num_classes, size, seed, str(error))


def _names_file(variant: Variant, given: str) -> bool:
    """Whether `--weights` is a file's name, there or not, and not that of published weights."""
    if given == "auto" or given in {one.name for one in variant.weights}:
        return False
    path = WeightsFile.of(given).path
    return path.exists() or bool(path.suffix) or path.name != given


def _published(
    name: str,
    checkpoint: PublishedWeights,
    num_classes: int | None,
    size: Pixels,
    progress: Progress,
) -> Loaded:
    with weights.fetched(checkpoint.url, progress) as file:
        content = read_checkpoint(file)
    contract = checkpoint.preprocessing
    if size != contract.crop and isinstance(contract.resize, int):
        resize = scaled_by(size, contract.resize, contract.crop_size[0])
        sides = size if isinstance(size, int) else f"{size[0]} x {size[1]}"
        scaled = f"{contract.source}, scaled to {sides} px"
        contract = replace(contract, resize=resize, crop=size, source=scaled)
    source = f"torchvision {checkpoint.name}"
    loaded = _with_weights(name, content, source, num_classes, contract)
    return _known(loaded, ClassNames.IMAGENET_1K, _TORCHVISIONS_LICENCE)


def _known(loaded: Loaded, classes: ClassNames, licence: str) -> Loaded:
    """With what the weights' publisher says about them."""
    return replace(loaded, info=replace(loaded.info, classes=classes, licence=licence))


def _with_weights(
    name: str,
    content: Mapping[str, object],
    source: str,
    num_classes: int | None,
    preprocessing: Preprocessing,
    place: str = "",
) -> Loaded:
    with torch.device("meta"):  # names and shapes
        own = build_variant(name, num_classes).state_dict()
    fit = find_weights(content, own, source, place)
    head = fit.state.get("fc.weight")
    classes = int(head.shape[0]) if head is not None and head.dim() == 2 else None
    if num_classes is not None and classes is not None and classes != num_classes:
        raise InputError(
            f"{source} has {classes} classes (fc.weight), --num-classes asks for {num_classes}; "
            "leave the option out"
        )
    module = build_variant(name, classes or num_classes)
    weights.load_state(module, fit.state, source)
    module.eval()
    info = WeightsInfo(source, weights.state_sha256(module), trained=True)
    return Loaded(module, info, preprocessing, fit.notes)


def _random(name: str, num_classes: int | None, size: Pixels, seed: int, why: str) -> Loaded:
    module, variant = build_variant(name, num_classes), find_variant(name)
    contract = default_preprocessing(variant, size)
    shapes = only((variant.channels, *height_width(size)))
    return randomised(module, name, contract, shapes, seed, why)


def _refuse_options(
    what: str, weights_name: str, num_classes: int | None, image_size: Pixels | None
) -> None:
    given = {
        "--weights": weights_name != "auto",
        "--num-classes": num_classes is not None,
        "--image-size": image_size is not None,
    }
    for option, is_given in given.items():
        if is_given:
            raise unused_option(option, f"models without their own, and {what} has its own")
