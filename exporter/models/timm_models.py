"""`timm:NAME`: PyTorch Image Models, with the preprocessing that their weights came with."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from exporter.artifact import (
    ClassNames,
    Model,
    ModelKind,
    Pixels,
    Preprocessing,
    Skipped,
    WeightsInfo,
)
from exporter.errors import MissingDependencyError, install_command, unknown_name
from exporter.images.contract_file import timm_contract
from exporter.models import weights
from exporter.models.describe import Loaded, describe, one_line
from exporter.models.inputs import only
from exporter.models.modules import randomised, with_weights
from exporter.models.names import height_width, model_name


def from_timm(
    source: str, weights_name: str, num_classes: int | None, image_size: Pixels | None, seed: int
) -> Model:
    """The timm model that `source` names; `auto` is its pretrained weights where they can be had.

    Raises:
        MissingDependencyError: timm cannot be imported.
        UsageError: timm has no such model.
        InputError: a checkpoint that was given does not fit.
    """
    try:
        import timm
    except Exception as error:  # a torchvision that does not fit this torch raises RuntimeError
        raise MissingDependencyError(
            f"{source} needs timm with a torchvision that fits this torch, which cannot be "
            f"imported here ({one_line(error)}); run: {install_command('timm')}"
        ) from None
    name = source.removeprefix("timm:")
    if not timm.is_model(name):
        raise unknown_name("timm model", name, timm.list_models())
    options = {} if num_classes is None else {"num_classes": num_classes}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = timm.create_model(name, pretrained=False, **options)
    config = timm.data.resolve_model_data_config(module)
    size = int(config["input_size"][-1]) if image_size is None else image_size
    contract = _preprocessing(name, config, size)
    shapes = only((3, *height_width(size)))
    if weights_name == "auto":
        published = module.pretrained_cfg.get("num_classes")
        if num_classes not in (None, published):
            why = f"published weights have {published} classes, {num_classes} were asked for"
            loaded = randomised(module.eval(), source, contract, shapes, seed, why)
        else:
            loaded = _pretrained(name, source, contract, size, seed)
    else:
        loaded = with_weights(module.eval(), source, weights_name, contract, shapes, seed)
    named = model_name(source)
    return describe(loaded, name=named, source=source, kind=ModelKind.TIMM, shapes=shapes)


def _pretrained(
    name: str, source: str, contract: Preprocessing | Skipped, size: Pixels, seed: int
) -> Loaded:
    import timm

    try:
        with _impatient_hub():
            module = timm.create_model(name, pretrained=True).eval()
    except Exception as error:  # no network, no such weights, no huggingface_hub: timm's own errors
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            module = timm.create_model(name, pretrained=False).eval()
        why = f"timm could not load pretrained ones: {one_line(error)}"
        return randomised(module, source, contract, only((3, *height_width(size))), seed, why)
    config = module.pretrained_cfg
    # A tag ends with what the weights were trained on last: "a1_in1k", "fb_swsl_ig1b_ft_in1k".
    on_imagenet = config.get("num_classes") == 1000 and str(config.get("tag")).endswith("in1k")
    info = WeightsInfo(
        f"timm {name}",
        weights.state_sha256(module),
        trained=True,
        classes=ClassNames.IMAGENET_1K if on_imagenet else None,
        licence=config.get("license"),
    )
    return Loaded(module, info, contract)


@contextmanager
def _impatient_hub() -> Iterator[None]:
    """Without a network, huggingface_hub looks into its cache alone; else it retries for a minute.

    It says nothing meanwhile: what could not be had is in our note.
    """
    try:
        from huggingface_hub import constants
    except ImportError:  # then timm says that it needs it
        yield
        return
    logger = logging.getLogger("huggingface_hub")
    level, offline = logger.level, constants.HF_HUB_OFFLINE
    logger.setLevel(logging.CRITICAL)
    constants.HF_HUB_OFFLINE = offline or not weights.answers(constants.ENDPOINT)
    try:
        yield
    finally:
        logger.setLevel(level)
        constants.HF_HUB_OFFLINE = offline


def _preprocessing(name: str, config: Mapping[str, Any], size: Pixels) -> Preprocessing | Skipped:
    """The evaluation transform of timm, in our terms where we have them."""
    if not isinstance(size, int):
        return Skipped("timm's transforms are for squares; say how images become such an input")
    given = timm_contract(config, size)
    if isinstance(given, str):
        return Skipped(f"timm prepares images for {name} by {given}")
    assert given.interpolation is not None
    shorter = given.resize[0]
    return Preprocessing(
        resize=shorter if len(given.resize) == 1 else (shorter, shorter),
        crop=size,
        interpolation=given.interpolation,
        mean=given.mean,
        std=given.std,
        source=f"timm's configuration of {name}",
    )
