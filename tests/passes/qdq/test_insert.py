"""The dialect u8-asymmetric: where the pairs stand, and that ONNX Runtime fuses all of it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest

from exporter.artifact import CalibrationMethod, Dialect, Precision, Verdict
from exporter.errors import BuildError, UsageError
from exporter.graph.files import save, serialize
from exporter.graph.lower import Lowering, lower
from exporter.graph.optimize import optimize
from exporter.graph.to_onnx import export
from exporter.passes.blocks import GraphFacts, find_residual_blocks
from exporter.passes.qdq.insert import insert_qdq
from exporter.passes.qdq.ranges import Ranges
from exporter.passes.values import constant
from exporter.progress import Silent
from exporter.prove.certificate import Receipt
from exporter.prove.receipt import make_receipt
from exporter.quantize.calibrate import calibrate
from exporter.targets.ort.cpu import OrtCpu
from exporter.targets.ort.kernels import kernels_of
from exporter.targets.ort.session import session_options
from tests.graphs import Array, graph, operators, random, relative_error, run
from tests.modules import resnet
from tests.samples import samples_of

U8 = Dialect.U8_ASYMMETRIC
IMAGES = random(8, 3, 64, 64, seed=11, low=-2.0, high=2.0)


class Network:
    """An optimized network with its ranges."""

    def __init__(self, name: str) -> None:
        self.graph, self.reports = optimize(export(resnet(name, size=64)))
        self.ranges = calibrate(self.graph, samples_of(IMAGES), progress=Silent())
        self.expected = run(self.graph, IMAGES)

    def lowered(self, keep: tuple[str, ...] = ()) -> ir.Model:
        return lower(self.graph, Lowering(Precision.INT8, U8, ranges=self.ranges, keep=keep))[0]

    def receipt(self, lowered: ir.Model, folder: Path, keep: tuple[str, ...] = ()) -> Receipt:
        path = folder / "int8.onnx"
        save(lowered, path)
        kernels, source = OrtCpu().kernels(path)
        facts = GraphFacts.of(self.graph, self.reports, find_residual_blocks(self.graph))
        return make_receipt(
            kernels,
            source,
            graph_facts=facts,
            precision=Precision.INT8,
            dialect=U8,
            expected=Verdict.FUSED,
            kept=keep,
        )


@pytest.fixture(scope="module")
def resnet18() -> Network:
    return Network("resnet18")


def node_named(model: ir.Model, name: str) -> ir.Node:
    return next(node for node in model.graph if node.name == name)


def array_of(node: ir.Node, index: int) -> Array:
    array = constant(node.inputs[index])
    assert array is not None
    return array


def ranges_of(**tensors: tuple[float, float]) -> Ranges:
    return Ranges(CalibrationMethod.MINMAX, 1, "", tensors)


@pytest.mark.parametrize(
    ("name", "convs", "adds"),
    [("resnet50", 53, 16), ("resnext50_32x4d", 53, 16), ("plain18", 17, 0)],
)
def test_everything_is_fused(name: str, convs: int, adds: int, tmp_path: Path) -> None:
    network = Network(name)
    receipt = network.receipt(network.lowered(), tmp_path)
    assert receipt.verdict is Verdict.FUSED, receipt.reason
    assert (receipt.convs_quantized, receipt.residual_adds_quantized) == (convs, adds)
    assert receipt.float_ops == 0


def test_a_basic_block_network_is_fused_and_near(resnet18: Network, tmp_path: Path) -> None:
    lowered = resnet18.lowered()
    assert relative_error(run(lowered, IMAGES), resnet18.expected) < 0.05
    receipt = resnet18.receipt(lowered, tmp_path)
    assert receipt.verdict is Verdict.FUSED, receipt.reason
    assert (receipt.convs_quantized, receipt.residual_adds_quantized) == (20, 8)


def test_placement_and_numbers_of_every_pair(resnet18: Network) -> None:
    model = resnet18.lowered()
    for node in model.graph:
        if node.op_type == "Conv":
            x, weight, bias = (value.producer() for value in node.inputs if value is not None)
            assert x is not None
            assert weight is not None
            assert bias is not None
            assert {x.op_type, weight.op_type, bias.op_type} == {"DequantizeLinear"}
            assert weight.attributes["axis"].value == bias.attributes["axis"].value == 0
            assert array_of(weight, 0).dtype == np.int8
            assert array_of(bias, 0).dtype == np.int32
            assert not array_of(weight, 2).any()
            product = np.float32(array_of(x, 1)) * array_of(weight, 1)
            assert array_of(bias, 1).tobytes() == product.tobytes()
        if node.op_type == "Add":
            assert all(
                value is not None and value.producer().op_type == "DequantizeLinear"  # type: ignore[union-attr]
                for value in node.inputs
            )
        if node.op_type == "QuantizeLinear":
            assert array_of(node, 2).dtype == np.uint8
            source = node.inputs[0]
            assert source is not None
            if source.producer() is not None and source.producer().op_type == "Relu":  # type: ignore[union-attr]
                assert array_of(node, 2) == 0
    head = node_named(model, "fc")
    assert head.outputs[0].is_graph_output()
    assert [str(output.name) for output in model.graph.outputs] == ["logits"]


def test_max_pooling_keeps_the_scale_and_the_relu_has_no_pair_before_it(
    resnet18: Network,
) -> None:
    model = resnet18.lowered()
    pool = next(node for node in model.graph if node.op_type == "MaxPool")
    (after,) = pool.outputs[0].consumers()
    before = pool.inputs[0].producer() if pool.inputs[0] is not None else None
    assert before is not None
    assert (after.inputs[1], after.inputs[2]) == (before.inputs[1], before.inputs[2])
    for node in model.graph:
        if node.op_type == "Relu":
            value = node.inputs[0]
            assert value is not None
            assert value.producer().op_type in {"Conv", "Add"}  # type: ignore[union-attr]


def test_a_second_run_changes_nothing(resnet18: Network) -> None:
    model = resnet18.lowered()
    content = serialize(model)
    report = insert_qdq(model, resnet18.ranges, U8)
    assert report.fired == 0
    assert report.refused == (("graph", "it has Q/DQ already"),)
    assert serialize(model) == content


def test_what_is_kept_computes_in_float_and_is_named(resnet18: Network, tmp_path: Path) -> None:
    keep = ("layer1.0", "layer3.1.conv2", "fc")
    model, (report,) = lower(
        resnet18.graph, Lowering(Precision.INT8, U8, ranges=resnet18.ranges, keep=keep)
    )
    reasons = dict(report.refused)
    for name in ("layer1.0.conv1", "layer1.0.add", "layer3.1.conv2", "fc"):
        assert reasons[name] == "kept in float as asked"
    assert report.counts["convs"] == 20 - 3
    assert report.counts["adds"] == 8 - 1
    assert "layer1.10.conv1" not in reasons
    receipt = resnet18.receipt(model, tmp_path, keep)
    assert receipt.verdict is Verdict.FUSED, receipt.reason
    assert receipt.convs_quantized == 17
    plain = relative_error(run(resnet18.lowered(), IMAGES), resnet18.expected)
    assert relative_error(run(model, IMAGES), resnet18.expected) < plain


def test_a_kept_convolution_quantized_by_the_runtime_is_caught(
    resnet18: Network, tmp_path: Path
) -> None:
    keep = ("layer2.1.conv1",)
    model = resnet18.lowered(keep)
    assert resnet18.receipt(model, tmp_path, keep).verdict is Verdict.FUSED
    options = session_options(1)
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    # As anybody would load it: WeightBiasQuantization stays on.
    onnxruntime.InferenceSession(serialize(model), options, providers=["CPUExecutionProvider"])
    import onnx

    kernels = kernels_of(onnx.load(tmp_path / "optimized.onnx"))
    facts = GraphFacts.of(resnet18.graph, resnet18.reports, find_residual_blocks(resnet18.graph))
    receipt = make_receipt(
        kernels,
        "test",
        graph_facts=facts,
        precision=Precision.INT8,
        dialect=U8,
        expected=Verdict.FUSED,
        kept=keep,
    )
    assert receipt.convs_quantized == 20
    assert receipt.verdict is Verdict.PARTIAL
    assert any("kept" in reason for _, _, reason in receipt.leftovers)


def test_a_near_dead_channel_is_fused_and_harms_nothing(tmp_path: Path) -> None:
    network = Network("resnet18")
    for name in ("layer1.0.conv2", "layer4.1.conv1"):
        weight = node_named(network.graph, name).inputs[1]
        assert weight is not None
        array = constant(weight)
        assert array is not None
        changed = array.copy()
        changed[3] = 1e-9
        weight.const_value = ir.tensor(changed, name=weight.name)
    network.expected = run(network.graph, IMAGES)
    network.ranges = calibrate(network.graph, samples_of(IMAGES), progress=Silent())
    model, (report,) = lower(network.graph, Lowering(Precision.INT8, U8, ranges=network.ranges))
    assert report.counts["raised channels"] == 2
    receipt = network.receipt(model, tmp_path)
    assert receipt.verdict is Verdict.FUSED, receipt.reason
    assert relative_error(run(model, IMAGES), network.expected) < 0.05


def test_an_operator_without_an_int8_form_stays_float_and_is_named() -> None:
    model = graph(
        """net (float[N,3,8,8] x) => (float[N,3,8,8] y) {
            c = Conv <pads=[1,1,1,1]> (x, w)
            e = Erf (c)
            d = Conv <pads=[1,1,1,1]> (e, w)
            z = Add (d, k)
            y = Relu (z)
        }""",
        w=random(3, 3, 3, 3),
        k=random(1),
    )
    x = random(4, 3, 8, 8, seed=3)
    expected = run(model, x)
    report = insert_qdq(
        model,
        calibrate(model, samples_of(x), method=CalibrationMethod.MINMAX, progress=Silent()),
        U8,
    )
    assert dict(report.refused) == {
        "e": "Erf has no INT8 form",
        "z": "adds a constant, which no 8-bit kernel does",
        "y": "Relu has no INT8 form",
    }
    assert report.counts["convs"] == 2
    assert operators(model).count("Erf") == 1
    assert relative_error(run(model, x), expected) < 0.05


@pytest.mark.parametrize("dialect", [U8, Dialect.S8_SYMMETRIC])
def test_a_gemm_whose_bias_is_a_column_is_not_quantized(dialect: Dialect) -> None:
    model = graph(
        "net (float[5,8] x) => (float[5,5] y) { y = Gemm (x, w, b) }",
        w=random(8, 5),
        b=random(5, 1),
    )
    with pytest.raises(BuildError, match="to quantize: y: its bias has not one number a channel;"):
        insert_qdq(model, ranges_of(x=(-1.0, 1.0), y=(-3.0, 3.0)), dialect)


def test_a_quantized_graph_output_keeps_its_name() -> None:
    model = graph(
        """net (float[N,3,8,8] x) => (float[N,4,8,8] y) {
            c = Conv <pads=[1,1,1,1]> (x, w)
            y = Relu (c)
        }""",
        w=random(4, 3, 3, 3),
    )
    insert_qdq(model, ranges_of(x=(-1.0, 1.0), y=(0.0, 3.0)), U8)
    (output,) = model.graph.outputs
    assert output.name == "y"
    assert output.producer().op_type == "DequantizeLinear"  # type: ignore[union-attr]


def test_a_convolution_read_by_a_relu_and_by_others_has_its_own_pair() -> None:
    model = graph(
        """net (float[N,4,8,8] x) => (float[N,4,8,8] y) {
            c = Conv <pads=[1,1,1,1]> (x, w)
            r = Relu (c)
            d = Conv <pads=[1,1,1,1]> (r, w)
            y = Add (c, d)
        }""",
        w=random(4, 4, 3, 3),
    )
    x = random(4, 4, 8, 8, seed=3)
    expected = run(model, x)
    ranges = calibrate(model, samples_of(x), method=CalibrationMethod.MINMAX, progress=Silent())
    report = insert_qdq(model, ranges, U8)
    assert dict(report.refused) == {"r": "Relu has no INT8 form"}
    assert Counter(operators(model))["QuantizeLinear"] == 5  # x, c, r, d, y
    assert relative_error(run(model, x), expected) < 0.05


def test_float_has_no_pairs_and_ranges_must_be_the_graphs_own(resnet18: Network) -> None:
    with pytest.raises(UsageError, match="dialect float has no Q/DQ"):
        insert_qdq(resnet18.graph.clone(), resnet18.ranges, Dialect.FLOAT)
    with pytest.raises(BuildError, match="no tensor 'input'"):
        insert_qdq(resnet18.graph.clone(), ranges_of(other=(0.0, 1.0)), U8)


def int8_error(model: ir.Model, keep: tuple[str, ...] = ()) -> float:
    """How far the lowered graph is from a graph of (N, 3, 8, 8) images, calibrated on the same."""
    x = random(8, 3, 8, 8, seed=3)
    ranges = calibrate(model, samples_of(x), progress=Silent())
    lowered, _ = lower(model, Lowering(Precision.INT8, U8, ranges=ranges, keep=keep))
    return relative_error(run(lowered, x), run(model, x))


@pytest.mark.parametrize("operator", ["Relu", "GlobalAveragePool"])
def test_a_relu_behind_what_absorbs_none_is_quantized(operator: str) -> None:
    """The tensor between the two is an 8-bit result with the Relu's own range."""
    model = graph(
        f"""net (float[N,3,8,8] x) => (float[N,5,8,8] y) {{
            c = Conv <pads=[1,1,1,1]> (x, w)
            p = {operator} (c)
            r = Relu (p)
            y = Conv (r, v)
        }}""".replace(
            "float[N,5,8,8]", "float[N,5,8,8]" if operator == "Relu" else "float[N,5,1,1]"
        ),
        w=random(4, 3, 3, 3),
        v=random(5, 4, 1, 1, seed=1),
    )
    assert int8_error(model) < 0.1


def test_a_relu_that_is_kept_leaves_its_convolution_quantized() -> None:
    model = graph(
        """net (float[N,3,8,8] x) => (float[N,4,8,8] y) {
            c = Conv <pads=[1,1,1,1]> (x, w)
            r = Relu (c)
            y = Conv <pads=[1,1,1,1]> (r, v)
        }""",
        w=random(4, 3, 3, 3),
        v=random(4, 4, 3, 3, seed=1),
    )
    assert int8_error(model, keep=("r",)) < 0.1


@pytest.mark.parametrize("dialect", [U8, Dialect.S8_SYMMETRIC])
@pytest.mark.parametrize(
    ("text", "keep", "reason"),
    [
        ("y = Tanh (x)", (), "no convolution and no product is in it"),
        ("y = MatMul (x, w)", (), "y: MatMul has no INT8 form"),
        ("y = Gemm <transB=1> (x, w)", ("y",), "y: kept in float as asked"),
    ],
)
def test_int8_with_nothing_to_quantize_says_so(
    dialect: Dialect, text: str, keep: tuple[str, ...], reason: str
) -> None:
    model = graph(f"net (float[N,8] x) => (float[N,8] y) {{ {text} }}", w=random(8, 8))
    if dialect is not U8 and "MatMul" in text:
        reason = "no convolution and no product is in it"
    with pytest.raises(BuildError, match=f"there is nothing to quantize: {reason}; leave out"):
        insert_qdq(model, ranges_of(x=(-1.0, 1.0), y=(-3.0, 3.0)), dialect, keep)


def test_a_cast_behind_a_quantized_convolution_has_that_ones_range() -> None:
    model = graph(
        """net (float[N,3,8,8] x) => (float[N,5,8,8] y) {
            c = Conv <pads=[1,1,1,1]> (x, w)
            h = Cast <to=10> (c)
            f = Cast <to=1> (h)
            y = Conv (f, v)
        }""",
        w=random(4, 3, 3, 3),
        v=random(5, 4, 1, 1, seed=1),
    )
    assert int8_error(model) < 0.1
