"""PyTorch's export of a built-in network, which takes it seconds, made once for the same weights.

The graph depends on the network, on its weights and on what is asked for, and on nothing else:
`tests/graph/test_to_onnx.py` shows it, with another process, and asks PyTorch each time.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import pytest

from exporter.artifact import ModelSpec
from exporter.graph import to_onnx

if TYPE_CHECKING:
    import onnx_ir as ir
    import torch

Export = Callable[["torch.nn.Module", ModelSpec], "ir.Model"]
KEPT: Final = 8
"""Graphs that a process keeps, with their weights: a few hundred megabytes at most."""


def exported_once(export: Export) -> Export:
    """As `export`, which is asked only what it was not asked lately.

    Asked each time for a network of anybody else's: how that one is written is not in its weights.
    """
    kept: dict[str, ir.Model] = {}

    @functools.wraps(export)
    def exported(module: torch.nn.Module, spec: ModelSpec) -> ir.Model:
        if not type(module).__module__.startswith("exporter.models."):
            return export(module, spec)
        asked = f"{_structure(module)} {_weights(module)} {spec!r}"
        graph = kept.pop(asked, None) or export(module, spec)
        kept[asked] = graph
        while len(kept) > KEPT:
            kept.pop(next(iter(kept)))
        return graph.clone()

    return exported


@contextmanager
def exported_anew() -> Iterator[None]:
    """In the block PyTorch is asked for each export, as in a user's process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(to_onnx, "_torch_export", inspect.unwrap(to_onnx._torch_export))
        yield


def _structure(module: torch.nn.Module) -> list[object]:
    """Each part with what it has besides weights: options, hooks, a `forward` of its own."""
    held = ("_parameters", "_buffers", "_modules")
    return [
        (name, type(part), {key: own for key, own in vars(part).items() if key not in held})
        for name, part in module.named_modules()
    ]


def _weights(module: torch.nn.Module) -> str:
    import torch

    digest = hashlib.sha256()
    for name, tensor in module.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)} ".encode())
        digest.update(tensor.detach().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
