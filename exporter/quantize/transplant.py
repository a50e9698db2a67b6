"""The corrections of an all-INT8 graph in one that keeps some blocks in float.

Each layer was corrected with its exact float inputs (`correct.py`), so what its neighbours compute
in makes no difference to its codes and its bias: they are taken over, and no data is run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from exporter.errors import BuildError
from exporter.passes.qdq.nodes import is_quantized
from exporter.passes.values import add_constant, constant, is_op, replace_constant

if TYPE_CHECKING:
    import onnx_ir as ir


def transplant(corrected: ir.Model, into: ir.Model) -> None:
    """Gives each 8-bit layer of `into` the codes and the bias of its namesake in `corrected`.

    Raises:
        BuildError: it has no namesake: the two were lowered from different graphs.
    """
    donors = {str(node.name): node for node in corrected.graph if is_op(node, "Conv", "Gemm")}
    for node in list(into.graph):
        if not is_op(node, "Conv", "Gemm") or not is_quantized(node.inputs[1]):
            continue
        donor = donors.get(str(node.name))
        if donor is None or not is_quantized(donor.inputs[1]):
            raise BuildError(f"the corrected graph has no 8-bit {node.op_type} {node.name}")
        _take_over(into.graph, node, donor, 1)
        if len(donor.inputs) > 2 and donor.inputs[2] is not None:
            _take_over(into.graph, node, donor, 2)


def _take_over(body: ir.Graph, node: ir.Node, donor: ir.Node, index: int) -> None:
    """One input of a layer: the codes where it is in 8 bits, else the numbers themselves."""
    given = donor.inputs[index]
    assert given is not None
    source = given.producer() if is_quantized(given) else None
    value = constant(given if source is None else source.inputs[0])
    assert value is not None
    if len(node.inputs) <= index or node.inputs[index] is None:
        node.resize_inputs(max(len(node.inputs), index + 1))
        node.replace_input_with(index, add_constant(body, f"{node.name}.bias", value))
        return
    own = node.inputs[index]
    assert own is not None
    if source is None:
        replace_constant(body, node, index, value)
    else:
        producer = own.producer()
        assert producer is not None
        replace_constant(body, producer, 0, value)
