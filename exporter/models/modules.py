"""Modules that somebody else wrote: `package.module:factory`, and what timm's models share with it.

PyTorch's random state is seeded around the factory, so that one that draws its own weights draws
the same ones twice.
"""

from __future__ import annotations

import importlib
import re
import sys
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from exporter.artifact import Model, ModelKind, Pixels, Preprocessing, Skipped, WeightsInfo
from exporter.errors import InputError, UsageError, unused_option
from exporter.models import weights
from exporter.models.describe import Loaded, describe, one_line
from exporter.models.initialise import initialise, statistics_images
from exporter.models.input_shapes import Shapes, given_shapes
from exporter.models.inputs import in_words, taken_shapes
from exporter.models.names import model_name
from exporter.models.usable_module import (
    copied_module,
    fold_parametrizations,
    program_module,
    settle,
    unwrapped,
)

DEFAULT_SIZE = 224
"""The image size of a module that comes without one: ImageNet's usual."""


def from_factory(
    source: str,
    weights_name: str,
    num_classes: int | None,
    image_size: Pixels | None,
    inputs: tuple[str, ...],
    seed: int,
) -> Model:
    """The module that `package.module:factory` makes; `inputs` are shapes as `--input` has them.

    Raises:
        UsageError: not in that form, or with an option that a factory decides for itself.
        InputError: it cannot be imported or called, or what it makes is no usable module.
    """
    if num_classes is not None:
        raise unused_option(
            "--num-classes", f"built-in and timm models, and {source} decides for itself"
        )
    size = DEFAULT_SIZE if image_size is None else image_size
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = unwrapped(_call_factory(source))
    notes = settle(module, source)
    contract = Skipped("a module does not say how images become its input")
    shapes = taken_shapes(module, source, size, given_shapes(inputs))
    loaded = with_weights(module, source, weights_name, contract, shapes, seed)
    loaded = replace(loaded, notes=(*notes, *loaded.notes))
    name = model_name(source)
    return describe(loaded, name=name, source=source, kind=ModelKind.MODULE, shapes=shapes)


def with_weights(
    module: nn.Module,
    source: str,
    weights_name: str,
    contract: Preprocessing | Skipped,
    shapes: Shapes,
    seed: int,
) -> Loaded:
    """The module with the weights it came with (`auto`), random ones, or a checkpoint's."""
    if weights_name == "random":
        fold_parametrizations(module)
        return randomised(module, source, contract, shapes, seed, why="as asked for")
    if weights_name != "auto":
        name, notes = weights.load_checkpoint(module, weights_name)
        fold_parametrizations(module)
        info = WeightsInfo(name, weights.state_sha256(module), trained=True)
        return Loaded(module, info, contract, notes)
    fold_parametrizations(module)
    info = WeightsInfo(f"as {source} made them", weights.state_sha256(module), trained=True)
    if _saw_data(module):
        return Loaded(module, info, contract)
    note = (
        f"{source} was NEVER TRAINED: its batch normalisations still have mean "
        "0 and variance 1. It is taken as it is, and packing for production will refuse it. Give a "
        "checkpoint with --weights FILE, or --weights random for well-scaled random ones."
    )
    return Loaded(module, replace(info, trained=False), contract, (note,))


def randomised(
    module: nn.Module,
    source: str,
    contract: Preprocessing | Skipped,
    shapes: Shapes,
    seed: int,
    why: str,
) -> Loaded:
    """The module with seeded random weights, and the note that says so."""
    try:
        initialise(module, statistics_images(shapes, seed), seed)
    except Exception as error:  # somebody else's forward may raise anything
        raise InputError(
            f"{source} does not run on {in_words(shapes)}: {one_line(error)}"
        ) from None
    info = WeightsInfo(f"random, seed {seed}", weights.state_sha256(module), trained=False)
    note = (
        f"{source} has RANDOM weights ({why}). Latency, size, fusion and numerical parity are as "
        "with trained weights; predictions mean nothing, and packing for production will refuse "
        "it. Give trained ones with --weights FILE."
    )
    return Loaded(module, info, contract, (note,))


def _saw_data(module: nn.Module) -> bool:
    """False where no BatchNorm's running statistics ever moved; true where there are none."""
    norms = [m for m in module.modules() if isinstance(m, nn.BatchNorm2d)]
    kept = [(m.running_mean, m.running_var) for m in norms]
    return not kept or any(
        mean is None or var is None or bool(mean.any()) or not bool((var == 1).all())
        for mean, var in kept
    )


def _call_factory(source: str) -> nn.Module:
    module_name, _, attribute = source.partition(":")
    if not re.fullmatch(r"[A-Za-z_][\w.]*", module_name) or not attribute.isidentifier():
        raise UsageError(f"model {source!r}: expected package.module:factory, timm:NAME or a name")
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        # Last: what this process imports later must not come from there.
        sys.path.append(str(Path.cwd()))
    try:
        imported = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:
        raise InputError(f"cannot import {module_name} for {source}: {one_line(error)}") from None
    factory: object = getattr(imported, attribute, None)
    if isinstance(factory, torch.export.ExportedProgram):
        return program_module(factory, source)
    if isinstance(factory, nn.Module):
        return copied_module(factory)  # whoever else uses it finds it as it was
    if not callable(factory):
        raise InputError(
            f"{module_name} has no callable {attribute!r}; expected a function or class"
        )
    try:
        made: object = factory()
    except (Exception, SystemExit) as error:
        raise InputError(f"{source}() failed: {one_line(error)}") from None
    if isinstance(made, torch.export.ExportedProgram):
        return program_module(made, f"what {source}() returned")
    if not isinstance(made, nn.Module):
        raise InputError(f"{source}() returned a {type(made).__name__}, expected a torch.nn.Module")
    return made
