"""A model in our opset, its numbers as they were.

onnx's converter leaves out what newer definitions do by default in another way. Repaired here:

    Upsample-9, Resize-10   a pixel comes from x_out / scale, which is rounded down in a picture
                            that grows, up in one that shrinks; since opset 11 by half pixels
    Hardmax-11 and before   one maximum over all axes from `axis` on; since opset 13 over one axis
    Pad-2                   a `value` that its mode does not use stays, which newer ones have not

What else it changes, if anything, the comparison with the file as given finds (`onnx_trial.py`).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
from onnx import helper, numpy_helper

from exporter.models.onnx_format import OPSET

_HALF_PIXEL_SINCE = 11
_HARDMAX_OF_ONE_AXIS_SINCE = 13


def converted(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model, whose shapes are known, in our opset; one that is there is given back.

    Raises:
        RuntimeError: onnx cannot convert it (one of its own errors is a child of that).
    """
    version = model.opset_import[0].version
    if version == OPSET:
        return model
    if version < _HARDMAX_OF_ONE_AXIS_SINCE:
        model = _with_flat_hardmax(model)
    result: onnx.ModelProto = onnx.version_converter.convert_version(model, OPSET)
    for node in result.graph.node:
        if node.op_type == "Resize" and version < _HALF_PIXEL_SINCE:
            _take_pixels_as_before(result.graph, node)
        if node.op_type == "Pad":
            for unused in [a for a in node.attribute if a.name == "value"]:
                node.attribute.remove(unused)
    return result


def _take_pixels_as_before(graph: onnx.GraphProto, resize: onnx.NodeProto) -> None:
    kept = [a for a in resize.attribute if a.name == "mode"]
    del resize.attribute[:]
    resize.attribute.extend(kept)
    resize.attribute.append(helper.make_attribute("coordinate_transformation_mode", "asymmetric"))
    if not kept or helper.get_attribute_value(kept[0]) == b"nearest":
        scales = _constant(graph, resize.input[2])
        # Where a smaller picture takes every second or third pixel, either rule takes that.
        down = [] if scales is None else [s for s in scales.tolist() if s < 1 and (1 / s) % 1]
        rule = "ceil" if down else "floor"
        resize.attribute.append(helper.make_attribute("nearest_mode", rule))


def _constant(graph: onnx.GraphProto, name: str) -> np.ndarray | None:
    for tensor in graph.initializer:
        if tensor.name == name:
            return numpy_helper.to_array(tensor)
    for node in graph.node:
        if (
            node.op_type == "Constant"
            and node.output[0] == name
            and node.attribute[0].name == "value"
        ):
            return numpy_helper.to_array(node.attribute[0].t)
    return None


def _with_flat_hardmax(model: onnx.ModelProto) -> onnx.ModelProto:
    """Each Hardmax over several axes as one over the rows of a matrix; a copy, if there is any."""
    ranks = {
        value.name: len(value.type.tensor_type.shape.dim)
        for value in (*model.graph.value_info, *model.graph.input)
        if value.type.tensor_type.HasField("shape")
    }
    nodes = [flat for node in model.graph.node for flat in _flat_hardmax(node, ranks)]
    if len(nodes) == len(model.graph.node):
        return model
    changed: onnx.ModelProto = onnx.ModelProto.FromString(model.SerializeToString())
    del changed.graph.node[:]
    changed.graph.node.extend(nodes)
    return changed


def _flat_hardmax(node: onnx.NodeProto, ranks: dict[str, int]) -> Iterator[onnx.NodeProto]:
    axis = next((a.i for a in node.attribute if a.name == "axis"), 1)
    if node.op_type != "Hardmax" or axis in (-1, ranks.get(node.input[0], 0) - 1):
        yield node
        return
    (x,), (y,) = node.input, node.output
    yield helper.make_node("Shape", [x], [f"{y}.shape"], name=f"{y}.shape")
    yield helper.make_node("Flatten", [x], [f"{y}.rows"], name=f"{y}.rows", axis=axis)
    yield helper.make_node("Hardmax", [f"{y}.rows"], [f"{y}.flat"], name=node.name, axis=1)
    yield helper.make_node("Reshape", [f"{y}.flat", f"{y}.shape"], [y], name=f"{y}.reshape")
