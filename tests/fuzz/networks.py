"""A whole random network: its interface, its operators, its head, and what no node reads."""

from __future__ import annotations

import random
from collections.abc import Mapping

import onnx
from onnx import TensorProto, helper

from tests.fuzz.operators import ON_IMAGES, ON_ROWS, Operator, dense, relu, rows
from tests.fuzz.writer import Tensor, Writer

_OPSETS = (*range(9, 27), 13, 17, 18, 20, 20)


def network(choices: random.Random) -> onnx.ModelProto:
    """A valid ONNX model of images -> one row of numbers for each image, or a map."""
    opset = choices.choice(_OPSETS)
    fixed = choices.choice([None, None, None, 1, 2, 3])
    channels = choices.choice([3, 3, 1, 4])
    size = choices.randint(5, 12), choices.randint(5, 12)
    channels_last = choices.randint(1, 6) == 1
    shape = (fixed or 2, *size, channels) if channels_last else (fixed or 2, channels, *size)
    is_image = choices.randint(1, 8) == 1
    kind = TensorProto.UINT8 if is_image else TensorProto.FLOAT
    w = Writer(choices, opset, Tensor(choices.choice(["x", "input.1", "images:0"]), shape, kind))
    last = w.tensors[0]
    if is_image:
        last = _added(w.op("Cast", [last], to=TensorProto.FLOAT))
        last = _added(w.op("Mul", [last, w.constant(1 / 64, "float32")]))
    if channels_last:
        last = _added(w.op("Transpose", [last], perm=[0, 3, 1, 2]))
    for _ in range(w.between(1, 9)):
        last = _one_more(w, last, ON_IMAGES)
    if not w.once_in(12):
        last = rows(w, last) or last
        for _ in range(w.between(0, 2) if len(last.shape) == 2 else 0):
            last = _one_more(w, last, ON_ROWS)
        if len(last.shape) == 2 and not w.once_in(4):
            last = dense(w, last) or last
    if last is w.tensors[0]:
        last = _added(relu(w, last))
    if w.once_in(6):  # what nobody reads
        _one_more(w, w.tensors[1], ON_IMAGES if len(w.tensors[1].shape) == 4 else ON_ROWS)
        w.normal(3)
    return _model(w, last, dynamic=fixed is None)


def _one_more(w: Writer, last: Tensor, operators: Mapping[Operator, int]) -> Tensor:
    """What one more operator makes of the last tensor, now and then of an earlier one."""
    rank = len(last.shape)
    earlier = [t for t in w.tensors if len(t.shape) == rank and t.kind == TensorProto.FLOAT]
    source = w.pick(earlier) if earlier and w.once_in(6) else last
    operator = w.random.choices(list(operators), list(operators.values()))[0]
    made = operator(w, source)
    return made if made is not None and len(made.shape) == rank else last


def _added(tensor: Tensor | None) -> Tensor:
    assert tensor is not None
    return tensor


def _model(w: Writer, last: Tensor, *, dynamic: bool) -> onnx.ModelProto:
    image = w.tensors[0]
    sizes: list[str | int] = ["N", "", -1] if dynamic else [image.shape[0]]
    batch = w.pick(sizes)
    result = w.pick(["y", "logits", f"{image.name}.fp16"])
    for node in w.nodes:
        node.output[:] = [result if name == last.name else name for name in node.output]
        node.input[:] = [result if name == last.name else name for name in node.input]
    inputs = [helper.make_tensor_value_info(image.name, image.kind, [batch, *image.shape[1:]])]
    output = helper.make_tensor_value_info(result, last.kind, [batch, *last.shape[1:]])
    weights = list(w.weights.values())
    if w.once_in(10):  # as before version 4 of the format: weights are inputs, too
        inputs += [helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in weights]
    graph = helper.make_graph(w.nodes, "g", inputs, [output], weights)
    opsets = [helper.make_opsetid("", w.opset)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10 if w.opset < 24 else 12)
