"""Whether the graph that PyTorch exported answers as the module does in eager PyTorch.

PyTorch's exporter writes some layers as operators that are not quite the same: an average pool with
a divisor of its own, windows that hang over the edge.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from exporter.errors import BuildError
from exporter.graph.equality import Array, Outputs, alike, answer, answers, difference
from exporter.models.difference import relative_difference
from exporter.models.module_calls import ModuleCall, module_calls
from exporter.models.outputs import outputs_of

if TYPE_CHECKING:
    import onnx_ir as ir
    import torch

LIMIT: Final = 1e-3
"""The relative difference that counts as another function. PyTorch and ONNX may compute one in
different ways (an interpolation's weights, an approximated activation): how near is near enough,
the certificates of the engines say."""


def eager_answer(module: torch.nn.Module, images: Array) -> Outputs:
    """What the module's outputs are for a batch of images, in order."""
    import torch

    from exporter.models.inputs import copied, tensors_of

    with torch.inference_mode():
        found = outputs_of(module(*copied(tensors_of(images))))
    return tuple(value.numpy() for value in found.values())


def check_exported(graph: ir.Model, module: torch.nn.Module, images: Array) -> None:
    """Compares the graph, its tensors named by module path, with the module.

    Raises:
        BuildError: it answers differently; the message names the first layer.
    """
    expected = eager_answer(module, images)
    found = answer(graph, images)
    off = difference(found, expected)
    if off <= LIMIT or alike(expected, found, graph, images):
        return
    raise BuildError(
        f"PyTorch's exporter changes the numbers of {type(module).__name__} (relative difference "
        f"{off:.2g} on random images), first in {_first_changed(graph, module, images)}; write "
        "that layer in another way"
    )


def _first_changed(graph: ir.Model, module: torch.nn.Module, images: Array) -> str:
    """The first module in order of the computation whose output is another one in the graph."""
    from exporter.models.inputs import tensors_of

    first: dict[str, ModuleCall] = {}
    for call in module_calls(module, tensors_of(images)):
        if call.path:
            first.setdefault(call.path, call)
    became = answers(graph, images, first.keys())
    for path, call in first.items():
        if path in became and relative_difference(became[path], call.output.numpy()) > LIMIT:
            return f"{path} ({type(call.part).__name__})"
    return "its own forward"
