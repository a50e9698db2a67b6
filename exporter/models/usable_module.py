"""A module as it can be exported: what wraps it taken off, in eval mode, float32, folded.

What has no numbers, or none that are float32's, is refused with what to give instead.
"""

from __future__ import annotations

import copy
import sys
import warnings
from typing import Any, Final

import torch
from torch import nn
from torch.nn.utils import parametrize, prune
from torch.optim.swa_utils import AveragedModel

from exporter.errors import InputError

# `torch.nn.utils` has functions of the modules' names.
WeightNorm: Final[Any] = sys.modules["torch.nn.utils.weight_norm"].WeightNorm
SpectralNorm: Final[Any] = sys.modules["torch.nn.utils.spectral_norm"].SpectralNorm

_WRAPPERS: Final = (nn.DataParallel, nn.parallel.DistributedDataParallel, AveragedModel)
_FLOAT_SUMS: Final = ("FloatFunctional", "FXFloatFunctional")
"""In PyTorch's package of quantized layers: the sums of a network that is not quantized yet."""
_GIVE: Final = "give the float32 nn.Module that it was made of"


def unwrapped(module: nn.Module) -> nn.Module:
    """The network inside torch.compile, data parallelism, averaging, and what only holds it."""
    while not isinstance(module, torch.jit.ScriptModule):
        inner = getattr(module, "_orig_mod", None)
        hands_on = isinstance(module, _WRAPPERS) or type(module).forward is nn.Module.forward
        if inner is None and hands_on:
            inner = getattr(module, "module", None)
        if not isinstance(inner, nn.Module):
            break
        module = inner
    return module


def why_unusable(module: nn.Module) -> str | None:
    """What a module is that cannot be exported, and what to give instead; None: it can."""
    if isinstance(module, torch.jit.ScriptModule):
        return f"is a TorchScript program; {_GIVE}"
    for name, part in module.named_modules():
        where = f"{name} ({type(part).__name__})" if name else f"it ({type(part).__name__})"
        if isinstance(part, torch.jit.ScriptModule):
            return f"holds a TorchScript program, {where}; {_GIVE}"
        if _is_quantized(part):
            return f"is quantized: {where}; {_GIVE}, INT8 is made here"
        tensors = (*part._parameters.values(), *part._buffers.values())
        if any(map(nn.parameter.is_lazy, tensors)):
            return (
                f"has no weights yet: {where} is lazy; run it once on an example, and give it then"
            )
        if any(tensor is not None and tensor.is_meta for tensor in tensors):
            return (
                f"has no weights: those of {where} are on the meta device; make it on the CPU, or "
                "load it with to_empty and load_state_dict"
            )
    return None


def copied_module(module: nn.Module, memo: dict[int, object] | None = None) -> nn.Module:
    """A deep copy. PyTorch warns of calls of its own while it copies a program of torch.export."""
    with warnings.catch_warnings(action="ignore"):
        return copy.deepcopy(module, memo)


def program_module(program: torch.export.ExportedProgram, name: str) -> nn.Module:
    """The module of a program of torch.export.

    Raises:
        InputError: it takes one size of batch alone.
    """
    signature = program.graph_signature
    inputs = [node for node in program.graph.nodes if node.name in signature.user_inputs]
    for node in inputs:
        shape = tuple(getattr(node.meta.get("val"), "shape", ()))
        if shape and isinstance(shape[0], int):
            raise InputError(
                f"{name} was exported for a batch of {shape[0]} alone; export it with "
                'dynamic_shapes={"'
                + str(node.name)
                + '": {0: torch.export.Dim("batch")}}, or give '
                "the module that it was made of"
            )
    return program.module()


def settle(module: nn.Module, name: str) -> tuple[str, ...]:
    """Puts a module in eval mode and float32, in place; what is to be said of it.

    Raises:
        InputError: it cannot be exported.
    """
    why = why_unusable(module)
    if why is not None:
        raise InputError(f"{name} {why}")
    try:
        module.eval()
    except NotImplementedError:  # a program of torch.export, which is in one mode for good
        for part in module.modules():
            part.training = False
    kept = {str(p.dtype) for p in module.parameters() if p.is_floating_point()} - {"torch.float32"}
    module.float()  # buffers, too
    # With channels last PyTorch exports a global pooling as a gather whose indices are computed.
    module.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    if not kept:
        return ()
    return (
        f"{name} holds parameters in {', '.join(sorted(kept))}; it is taken in float32, and so is "
        "the eager PyTorch that engines are compared with",
    )


def fold_parametrizations(module: nn.Module) -> None:
    """Makes a plain parameter of what is computed from others: weight norms, spectral norms, masks.

    Of the older kinds of torch.nn.utils, which are hooks, as of parametrizations.
    """
    for part in list(module.modules()):
        if parametrize.is_parametrized(part):
            _fold(part)
        for hook in [hook for hook in part._forward_pre_hooks.values() if is_foldable(hook)]:
            if isinstance(hook, prune.BasePruningMethod):
                prune.remove(part, hook._tensor_name)  # type: ignore[no-untyped-call]
            elif isinstance(hook, WeightNorm):
                nn.utils.remove_weight_norm(part, hook.name)
            elif isinstance(hook, SpectralNorm):
                nn.utils.remove_spectral_norm(part, hook.name)


def _fold(part: nn.Module) -> None:
    """As `remove_parametrizations`, which changes the class that copies of a module share."""
    parametrizations = part.parametrizations
    assert isinstance(parametrizations, nn.ModuleDict)
    values = {name: getattr(part, name).detach().clone() for name in parametrizations}
    del part._modules["parametrizations"]
    part.__class__ = type(part).__bases__[0]
    for name, value in values.items():
        part.register_parameter(name, nn.Parameter(value, requires_grad=False))


def is_foldable(hook: object) -> bool:
    """Whether a hook computes a weight from others, whatever the input is."""
    return isinstance(hook, (prune.BasePruningMethod, WeightNorm, SpectralNorm))


def channels_of(module: nn.Module) -> int:
    """How many channels a module's images have: what its stem takes; 3 without a convolution.

    The stem need not be registered first: it is the first convolution that takes what no other one
    makes.
    """
    convolutions = [part for part in module.modules() if isinstance(part, nn.Conv2d)]
    made = {part.out_channels for part in convolutions}
    taken = [part.in_channels for part in convolutions]
    return next((count for count in taken if count not in made), (taken or [3])[0])


def _is_quantized(part: nn.Module) -> bool:
    """By its package: fused layers and those of quantization-aware training compute in float."""
    kind = type(part)
    package, *inner = kind.__module__.split(".")
    return package == "torch" and "quantized" in inner and kind.__name__ not in _FLOAT_SUMS
