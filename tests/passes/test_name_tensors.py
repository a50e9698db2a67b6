"""Names: the module path where there is one, unique, readable, inside their block, stable."""

from __future__ import annotations

import re

import onnx_ir as ir
import pytest
from onnx_ir.passes import common

from exporter.artifact import CalibrationMethod, Dialect, Precision
from exporter.graph.files import serialize
from exporter.graph.lower import Lowering, lower
from exporter.passes.name_tensors import OURS, SCOPES, name_tensors
from exporter.passes.qdq.ranges import Ranges
from tests.graphs import graph, random, run

READABLE = re.compile(r"[A-Za-z_][\w.]*", re.ASCII)
BLOCK = """block (float[N,4,6,6] x) => (float[N,4,6,6] y) {
    c = Conv <pads=[1,1,1,1]> (x, w, b)
    n = BatchNormalization (c, g, h, m, v)
    r = Relu (n)
    d = Conv <pads=[1,1,1,1]> (r, k)
    s = Add (d, x)
    z = Relu (s)
    a = Mul (z, t)
    y = Add (a, z)
}"""
PATHS = {
    "c": "layer1.0.conv1",
    "n": "layer1.0.bn1",
    "r": "layer1.0.act",
    "d": "layer1.0.conv2",
    "s": "layer1.0",
    "z": "layer1.0.act",
    "a": "",
    "y": "",
}
EXPECTED = [
    "layer1.0.conv1",
    "layer1.0.bn1",
    "layer1.0.act",
    "layer1.0.conv2",
    "layer1.0.add",
    "layer1.0.act_1",
    "mul",
    "add",
]


def block() -> ir.Model:
    names = ("b", "g", "h", "m", "v")
    weights = {name: random(4, seed=i, low=0.5) for i, name in enumerate(names)}
    kernels = {"w": random(4, 4, 3, 3), "k": random(4, 4, 3, 3, seed=8)}
    return graph(BLOCK, **weights, **kernels, t=random(1))


def with_scopes(model: ir.Model) -> ir.Model:
    """As torch.onnx writes it: the modules from the outside in, then the operation."""
    for node in model.graph:
        path = PATHS[str(node.name)].split(".") if PATHS[str(node.name)] else []
        modules = ["", *(".".join(path[: n + 1]) for n in range(len(path)))]
        node.metadata_props[SCOPES] = str([*modules, f"op_{node.name}"])
        node.name = f"node_{node.name}"
    return model


def with_slashes(model: ir.Model) -> ir.Model:
    """As PyTorch's older exporter does: children of a Sequential repeat their parent."""
    for node in model.graph:
        path = PATHS[str(node.name)].replace("layer1.0", "layer1/layer1.0").replace("0.", "0/")
        node.name = f"/{path}/{node.op_type}" if path else f"/{node.op_type}"
    return model


def names(model: ir.Model) -> list[str | None]:
    return [node.name for node in model.graph]


def check_valid(model: ir.Model) -> None:
    """Unique, readable, equal numbers, and a second run changes nothing."""
    values = {*model.graph.inputs, *model.graph.initializers.values()}
    values.update(output for node in model.graph for output in node.outputs)
    labels = [str(value.name) for value in values]
    assert len(set(labels)) == len(labels)
    assert len(set(names(model))) == len(model.graph)
    assert all(READABLE.fullmatch(label) for label in labels)
    common.CheckerPass(full_check=True)(model)
    x = random(2, 4, 6, 6, seed=9)
    assert (run(model, x) == run(block(), x)).all()
    content = serialize(model)
    assert name_tensors(model).fired == 0
    assert serialize(model) == content


@pytest.mark.parametrize("style", [with_scopes, with_slashes])
def test_module_paths_become_names(style: object) -> None:
    assert callable(style)
    model = style(block())
    assert name_tensors(model).fired > 0
    assert names(model) == EXPECTED
    assert [node.outputs[0].name for node in model.graph] == [*EXPECTED[:-1], "y"]
    check_valid(model)


def test_weights_are_named_by_their_role() -> None:
    model = with_scopes(block())
    name_tensors(model)
    assert set(model.graph.initializers) == {
        "layer1.0.conv1.weight",
        "layer1.0.conv1.bias",
        "layer1.0.bn1.weight",
        "layer1.0.bn1.bias",
        "layer1.0.bn1.running_mean",
        "layer1.0.bn1.running_var",
        "layer1.0.conv2.weight",
        "mul.b",
    }


def test_a_parameter_that_pytorch_named_keeps_its_name() -> None:
    model = block()
    model.graph.initializers["t"].name = "head.gamma"
    for node in model.graph:
        node.name = f"head.{node.name}"
    name_tensors(model)
    assert "head.gamma" in model.graph.initializers


def test_a_weight_with_two_readers_has_the_name_of_the_first() -> None:
    model = graph(
        """shared (float[N,4,6,6] x) => (float[N,4,6,6] y) {
            c = Conv <pads=[1,1,1,1]> (x, w)
            y = Conv <pads=[1,1,1,1]> (c, w)
        }""",
        w=random(4, 4, 3, 3),
    )
    name_tensors(model)
    assert set(model.graph.initializers) == {"c.weight"}


def test_a_module_of_several_operations_adds_the_operator() -> None:
    model = with_scopes(block())
    for node in model.graph:
        if node.name in ("node_r", "node_n"):
            node.metadata_props[SCOPES] = "['', 'layer1', 'layer1.0', 'layer1.0.norm_act', 'x']"
    name_tensors(model)
    assert names(model)[1:3] == ["layer1.0.norm_act.batch_normalization", "layer1.0.norm_act.relu"]


def test_nameless_nodes_are_called_by_their_operator() -> None:
    model = block()
    for node in model.graph:
        node.name = None
    name_tensors(model)
    expected = ["conv", "batch_normalization", "relu", "conv_1", "add", "relu_1", "mul", "add_1"]
    assert names(model) == expected
    check_valid(model)


def test_strange_and_equal_names_are_made_readable_and_unique() -> None:
    model = block()
    strange = ["a b", "a b", "c:0", "x", "y", "é/ü", "w", "(fc)"]
    for node, name in zip(model.graph, strange, strict=True):
        node.name = name
    name_tensors(model)
    # x and y are the graph's own; the node that makes y may have the name.
    assert names(model) == ["a_b", "a_b_1", "c_0", "x_1", "y_1", "relu", "w", "fc"]
    check_valid(model)


def test_the_interface_keeps_its_names() -> None:
    model = block()
    model.graph.inputs[0].name = "images:0"
    model.graph.outputs[0].name = "Softmax/out"
    name_tensors(model)
    assert model.graph.inputs[0].name == "images:0"
    assert model.graph.outputs[0].name == "Softmax/out"


def test_nodes_in_a_block_are_named_inside_it() -> None:
    model = block()
    for node in model.graph:
        node.name = None
    name_tensors(model)
    inside = ["conv", "batch_normalization", "relu", "conv_1", "add", "relu_1"]
    owners = dict.fromkeys(inside, "block1")
    name_tensors(model, owners)
    assert names(model) == [
        "block1.conv",
        "block1.batch_normalization",
        "block1.relu",
        "block1.conv_1",
        "block1.add",
        "block1.relu_1",
        "mul",
        "add_1",
    ]
    assert "block1.conv_1.weight" in model.graph.initializers
    check_valid(model)
    again = {f"block1.{name}": "block1" for name in inside}
    assert name_tensors(model, again).fired == 0


@pytest.mark.parametrize(
    "text",
    [
        "", "[", "not a list", "3", "None", "['', 'layer1'", "['a', 3, 'b']", "[" * 100_000,
        "-" * 100_000 + "1", "['a\\x00', 'b']", "__import__('os').getcwd()", "{'a': 'b'}", "\0",
    ],
)  # fmt: skip
def test_text_under_pytorchs_key_that_is_no_list_is_ignored(text: str) -> None:
    model = with_slashes(block())
    for node in model.graph:
        node.metadata_props[SCOPES] = text
    name_tensors(model)
    assert names(model) == EXPECTED


def test_odd_names_of_modules_are_read() -> None:
    """add_module takes any name without a dot."""
    model = block()
    for node in model.graph:
        node.metadata_props[SCOPES] = str(["", "it's", f"it's.{node.name}, ", "op"])
    name_tensors(model)
    assert names(model) == [f"it_s.{name}" for name in PATHS]


ADDED = ("fp16", "quantize", "quantized", "dequantized", "scale", "zero_point")


@pytest.mark.parametrize("suffix", ADDED)
def test_a_name_that_a_later_pass_gives_is_left_to_it(suffix: str) -> None:
    model = graph("""main (float[N,3,8,8] x) => (float[N,3,8,8] y) {
        a = Relu (x)
        b = Relu (a)
        y = Relu (b)
    }""")
    for node, name in zip(model.graph, (f"x.{suffix}", "conv", f"conv.{suffix}"), strict=True):
        node.name = name
    name_tensors(model)
    assert names(model) == [f"x_{suffix}", "conv", f"conv_{suffix}"]


def test_what_the_lowerings_add_to_a_tensor_is_known() -> None:
    """Names of other passes than these would meet a stranger's unprepared."""
    model = graph(
        """main (float[N,3,8,8] x) => (float[N,4,8,8] y) {
            c = Conv <pads=[1,1,1,1]> (x, w)
            r = Relu (c)
            y = Sigmoid (r)
        }""",
        w=random(4, 3, 3, 3),
    )
    known = {str(v.name) for n in model.graph for v in (*n.inputs, *n.outputs) if v} | {"y", "c"}
    ranges = Ranges(CalibrationMethod.MINMAX, 1, "", {"x": (-1.0, 1.0), "r": (0.0, 1.0)})
    for to in (
        Lowering(Precision.FP16, Dialect.FLOAT),
        Lowering(Precision.INT8, Dialect.U8_ASYMMETRIC, ranges),
        Lowering(Precision.INT8, Dialect.S8_SYMMETRIC, ranges, float_type=Precision.FP16),
    ):
        lowered, _ = lower(model, to)
        made = {n.name for n in lowered.graph} | {v.name for n in lowered.graph for v in n.outputs}
        made |= set(lowered.graph.initializers)
        added = {str(name).rpartition(".")[2] for name in made - known if "." in str(name)}
        assert added <= OURS, to
