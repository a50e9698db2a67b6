"""The table of built-in models: one line each, and the one function that builds them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import resources
from typing import TYPE_CHECKING, Any

from exporter.artifact import Interpolation, Pixels, Preprocessing
from exporter.errors import UsageError, unknown_name
from exporter.images.embedded import EMBEDDED, EmbeddedData

if TYPE_CHECKING:
    from exporter.models.resnet import ResNet

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
"""Mean and deviation of ImageNet's red, green and blue pixels, in 0..1."""


@dataclass(frozen=True)
class PublishedWeights:
    """A checkpoint that torchvision publishes (`published.json`: torchvision 0.29)."""

    name: str
    url: str
    top1: float
    """ImageNet validation accuracy in percent, as published."""
    preprocessing: Preprocessing


@dataclass(frozen=True)
class Variant:
    """One line of the table."""

    family: str
    """"imagenet" or "cifar"."""
    depth: int
    block: str
    """"basic" or "bottleneck"."""
    layers: tuple[int, ...]
    groups: int = 1
    width: int = 64
    """Planes of a group at 64 planes a stage: torchvision's `width_per_group`."""
    residual: bool = True
    image_size: int = 224
    num_classes: int = 1000
    weights: tuple[PublishedWeights, ...] = ()
    """Best last."""
    embedded: EmbeddedData | None = None
    """What it was trained on, where the package has its weights."""

    @property
    def channels(self) -> int:
        """Of an image that it takes."""
        return 3 if self.embedded is None else self.embedded.image_shape[0]

    @property
    def weights_names(self) -> tuple[str, ...]:
        """What trained weights there are, in words; none: they will be random."""
        embedded = ("embedded",) if self.embedded else ()
        return (*embedded, *(one.name for one in self.weights))


def build_variant(name: str, num_classes: int | None = None) -> ResNet:
    """The named network with uninitialised weights, in training mode.

    Raises:
        UsageError: no such name (the message lists the nearest).
    """
    from exporter.models.resnet import BasicBlock, Bottleneck, ResNet

    variant = find_variant(name)
    return ResNet(
        BasicBlock if variant.block == "basic" else Bottleneck,
        variant.layers,
        num_classes=variant.num_classes if num_classes is None else num_classes,
        channels=variant.channels,
        groups=variant.groups,
        width=variant.width,
        cifar=variant.family != "imagenet",
        residual=variant.residual,
    )


def find_variant(name: str) -> Variant:
    """The line of the table.

    Raises:
        UsageError: no such name (the message lists the nearest).
    """
    if name not in VARIANTS:
        raise unknown_name("model", name, VARIANTS)
    return VARIANTS[name]


def default_preprocessing(variant: Variant, image_size: Pixels) -> Preprocessing:
    """What a variant's input means where no checkpoint says otherwise."""
    if variant.embedded is not None:
        return replace(variant.embedded.preprocessing, crop=image_size)
    resized = variant.family == "imagenet"
    return Preprocessing(
        resize=scaled_by(image_size, 256, 224) if resized else None,
        crop=image_size,
        interpolation=Interpolation.BILINEAR if resized else Interpolation.NONE,
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        source="ImageNet's usual mean and deviation",
    )


def scaled_by(size: Pixels, resized: int, cropped: int) -> Pixels:
    """What a picture is resized to, its shorter side or both, before `size` of it is cropped."""
    if isinstance(size, int):
        return round(resized * size / cropped)
    return round(resized * size[0] / cropped), round(resized * size[1] / cropped)


def published(name: str, weights: str) -> PublishedWeights:
    """A checkpoint by torchvision's name for it.

    Raises:
        UsageError: the model has no such checkpoint.
    """
    for candidate in find_variant(name).weights:
        if candidate.name == weights:
            return candidate
    known = [candidate.name for candidate in find_variant(name).weights]
    raise UsageError(
        f"{name} has no published weights {weights!r}; "
        f"known: {', '.join(known) or 'none'}, or give a file, auto or random"
    )


def _published() -> Mapping[str, tuple[PublishedWeights, ...]]:
    text = (resources.files(__package__) / "published.json").read_text(encoding="utf-8")
    return {
        model: tuple(
            PublishedWeights(
                name=name,
                url=entry["url"],
                top1=entry["acc1"],
                preprocessing=Preprocessing(
                    resize=entry["resize"],
                    crop=entry["crop"],
                    interpolation=Interpolation.BILINEAR,
                    mean=IMAGENET_MEAN,
                    std=IMAGENET_STD,
                    source=f"torchvision {name}",
                ),
            )
            for name, entry in sorted(checkpoints.items())
        )
        for model, checkpoints in json.loads(text).items()
    }


def _table() -> dict[str, Variant]:
    checkpoints = _published()

    def imagenet(name: str, depth: int, block: str, *layers: int, **options: Any) -> Variant:
        return Variant(
            "imagenet", depth, block, layers, weights=checkpoints.get(name, ()), **options
        )

    def cifar(depth: int, *, residual: bool = True) -> Variant:
        # 6n + 2 layers: n blocks of two convolutions in each of three stages.
        return Variant(
            "cifar", depth, "basic", ((depth - 2) // 6,) * 3, residual=residual,
            image_size=32, num_classes=10,
        )  # fmt: skip

    lines: dict[str, tuple[str, int, tuple[int, ...], dict[str, Any]]] = {
        "resnet18": ("basic", 18, (2, 2, 2, 2), {}),
        "resnet34": ("basic", 34, (3, 4, 6, 3), {}),
        "resnet50": ("bottleneck", 50, (3, 4, 6, 3), {}),
        "resnet101": ("bottleneck", 101, (3, 4, 23, 3), {}),
        "resnet152": ("bottleneck", 152, (3, 8, 36, 3), {}),
        "resnext50_32x4d": ("bottleneck", 50, (3, 4, 6, 3), {"groups": 32, "width": 4}),
        "resnext101_32x8d": ("bottleneck", 101, (3, 4, 23, 3), {"groups": 32, "width": 8}),
        "resnext101_64x4d": ("bottleneck", 101, (3, 4, 23, 3), {"groups": 64, "width": 4}),
        "wide_resnet50_2": ("bottleneck", 50, (3, 4, 6, 3), {"width": 128}),
        "wide_resnet101_2": ("bottleneck", 101, (3, 4, 23, 3), {"width": 128}),
        "plain18": ("basic", 18, (2, 2, 2, 2), {"residual": False}),
        "plain34": ("basic", 34, (3, 4, 6, 3), {"residual": False}),
    }
    table = {
        name: imagenet(name, depth, block, *layers, **options)
        for name, (block, depth, layers, options) in lines.items()
    }
    table.update({f"resnet{depth}": cifar(depth) for depth in (20, 32, 44, 56, 110)})
    table.update({f"plain{depth}": cifar(depth, residual=False) for depth in (20, 56)})
    for name, data in EMBEDDED.items():
        size = data.image_shape[-1]
        table[name] = replace(cifar(20), embedded=data, image_size=size)
    return table


VARIANTS: Mapping[str, Variant] = _table()
