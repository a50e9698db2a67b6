"""Whether the graph that PyTorch exported answers as the module does in eager PyTorch.

PyTorch's exporter writes some layers as operators that are not quite the same: an average pool with
a divisor of its own, windows that hang over the edge.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from exporter.errors import BuildError
from exporter.graph.equality import Array, alike, answer, answers
from exporter.models.difference import relative_difference

if TYPE_CHECKING:
    import onnx_ir as ir
    import torch

LIMIT: Final = 1e-3
"""The relative difference that counts as another function. PyTorch and ONNX may compute one in
different ways (an interpolation's weights, an approximated activation): how near is near enough,
the certificates of the engines say."""


def eager_answer(module: torch.nn.Module, images: Array) -> Array:
    """What the module answers to the images (N, ...)."""
    import torch

    with torch.inference_mode():
        found: Array = module(torch.from_numpy(images.copy())).numpy()
    return found


def check_exported(graph: ir.Model, module: torch.nn.Module, images: Array) -> None:
    """Compares the graph, its tensors named by module path, with the module.

    Raises:
        BuildError: it answers differently; the message names the first layer.
    """
    expected = eager_answer(module, images)
    found = answer(graph, images)
    off = relative_difference(found, expected)
    if off <= LIMIT or alike(expected, found, graph, images):
        return
    raise BuildError(
        f"PyTorch's exporter changes the numbers of {type(module).__name__} (relative difference "
        f"{off:.2g} on random images), first in {_first_changed(graph, module, images)}; write "
        "that layer in another way"
    )


def _first_changed(graph: ir.Model, module: torch.nn.Module, images: Array) -> str:
    """The first module in order of the computation whose output is another one in the graph."""
    import torch

    outputs: dict[str, Array] = {}

    def keep(path: str, output: object) -> None:
        if isinstance(output, torch.Tensor):
            outputs.setdefault(path, output.numpy())

    parts = {path: part for path, part in module.named_modules() if path}
    hooks = [
        part.register_forward_hook(lambda _part, _inputs, output, path=path: keep(path, output))
        for path, part in parts.items()
    ]
    try:
        eager_answer(module, images)
    finally:
        for hook in hooks:
            hook.remove()
    became = answers(graph, images, outputs.keys())
    changed = [path for path in outputs if path in became]
    changed = [path for path in changed if relative_difference(became[path], outputs[path]) > LIMIT]
    return f"{changed[0]} ({type(parts[changed[0]]).__name__})" if changed else "its own forward"
