"""Baked preprocessing is the two-step path, at the border too; INT8 reads the pixels themselves."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from onnx.reference import ReferenceEvaluator
from onnx_ir.passes import common

from exporter.artifact import (
    CalibrationMethod,
    Dialect,
    Interpolation,
    PassReport,
    Precision,
    Preprocessing,
)
from exporter.graph.files import serialize
from exporter.graph.lower import Lowering, lower
from exporter.passes.bake.preprocess import bake_preprocess
from exporter.passes.qdq.ranges import Ranges
from tests.graphs import Array, graph, operators, random, relative_error, run

CONTRACT = Preprocessing(
    resize=None,
    crop=9,
    interpolation=Interpolation.NONE,
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
    source="ImageNet",
)
STEM = """stem (float[N,3,9,9] x) => (float[N,4,5,5] y) {
    y = Conv <pads=[2,2,2,2], strides=[2,2]> (x, w, b)
}"""


def images(count: int = 5, size: int = 9, seed: int = 0) -> Array:
    """Random uint8 images; one black, one white, one whose border alone is not black."""
    drawn = np.random.default_rng(seed).integers(0, 256, (count, size, size, 3), np.uint8)
    drawn[1], drawn[2] = 0, 255
    drawn[3, 1:-1, 1:-1] = 0
    return drawn


def two_step(pixels: Array, dtype: type = np.float32, contract: Preprocessing = CONTRACT) -> Array:
    """(N, H, W, 3) uint8 -> (N, 3, H, W), as the contract says, computed in float64."""
    values = (pixels / 255.0 - np.array(contract.mean)) / np.array(contract.std)
    return np.ascontiguousarray(values.transpose(0, 3, 1, 2)).astype(dtype)


def stem(seed: int = 1) -> ir.Model:
    """One strided convolution with a border as wide as two pixels."""
    return graph(STEM, w=random(4, 3, 5, 5, seed=seed), b=random(4, seed=seed + 1))


def network() -> ir.Model:
    """A stem and what follows it in a ResNet, small."""
    return graph(
        """network (float[N,3,9,9] x) => (float[N,4] y) {
            c = Conv <pads=[2,2,2,2], strides=[2,2]> (x, w, b)
            r = Relu(c)
            m = MaxPool <kernel_shape=[3,3], strides=[2,2], pads=[1,1,1,1]> (r)
            d = Conv <pads=[1,1,1,1]> (m, w1, b)
            s = Add(d, m)
            t = Relu(s)
            p = GlobalAveragePool(t)
            y = Flatten(p)
        }""",
        w=random(4, 3, 5, 5, seed=1),
        b=random(4, seed=2),
        w1=random(4, 4, 3, 3, seed=3),
    )


def ranges_of(model: ir.Model, x: Array) -> Ranges:
    """Minimum and maximum of every tensor on one batch, by running them all."""
    proto = ir.to_proto(model)
    names = ["x", *(output for node in proto.graph.node for output in node.output)]
    values = ReferenceEvaluator(proto, verbose=0).run(names[1:], {"x": x})
    found = {"x": (float(x.min()), float(x.max()))}
    for name, value in zip(names[1:], values, strict=True):
        found[name] = (min(0.0, float(value.min())), max(0.0, float(value.max())))
    return Ranges(CalibrationMethod.MINMAX, len(x), "", found)


def test_folded_is_the_two_step_path_at_every_pixel() -> None:
    model, pixels = stem(), images()
    expected = run(model, two_step(pixels))
    report = bake_preprocess(model, CONTRACT)
    assert report == PassReport("bake_preprocess", 1)
    assert operators(model) == ["Cast", "Transpose", "Sub", "Conv"]
    image = model.graph.inputs[0]
    assert (image.dtype, image.name) == (ir.DataType.UINT8, "x")
    assert [str(size) for size in image.shape or ()] == ["N", "9", "9", "3"]
    common.CheckerPass(full_check=True)(model)
    answer = run(model, pixels)
    assert relative_error(answer, expected) < 1e-6
    # Each output on its own, the border's as well: nothing hides in a norm over all.
    assert np.abs(answer - expected).max() < 1e-5 * np.abs(expected).max()


def evaluate(model: ir.Model, x: Array) -> Array:
    """The first output by ONNX's own reference implementation, in the graph's precision."""
    (answer,) = ReferenceEvaluator(ir.to_proto(model)).run(None, {"x": x})
    assert isinstance(answer, np.ndarray)
    return answer


def test_the_algebra_in_float64() -> None:
    text = STEM.replace("float", "double")
    weights = {
        "w": random(4, 3, 5, 5, seed=1).astype(np.float64),
        "b": random(4, seed=2).astype(np.float64),
    }
    model, pixels = graph(text, **weights), images()
    expected = evaluate(model, two_step(pixels, np.float64))
    assert bake_preprocess(model, CONTRACT).fired == 1
    answer = evaluate(model, pixels)
    assert answer.dtype == np.float64
    assert np.abs(answer - expected).max() < 1e-12 * np.abs(expected).max()


def test_a_second_run_changes_nothing() -> None:
    model = stem()
    bake_preprocess(model, CONTRACT)
    content = serialize(model)
    report = bake_preprocess(model, CONTRACT)
    assert report.fired == 0
    assert "no float image of 3 channels" in report.refused[0][1]
    assert serialize(model) == content


@pytest.mark.parametrize(
    ("text", "weights"),
    [
        (
            "g (float[N,1,9,9] x) => (float[N,4,5,5] y) { y = Conv <strides=[2,2]> (x, w) }",
            (4, 1, 1, 1),
        ),
        ("g (float[N,27] x) => (float[N,4] y) { y = MatMul(x, w) }", (27, 4)),
    ],
)
def test_must_not_fire_on_what_is_no_image(text: str, weights: tuple[int, ...]) -> None:
    model = graph(text, w=random(*weights))
    content = serialize(model)
    assert bake_preprocess(model, CONTRACT).fired == 0
    assert serialize(model) == content


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("y = Relu(x)", "the input's reader is Relu"),
        (
            """a = Conv <pads=[2,2,2,2]> (x, w, b)
            z = Conv <pads=[2,2,2,2]> (x, w, b)
            y = Add(a, z)""",
            "x has 2 readers",
        ),
    ],
)
def test_prefix_where_nothing_better_applies(text: str, reason: str) -> None:
    channels = 3 if "Relu" in text else 4
    weights = {} if "Relu" in text else {"w": random(4, 3, 5, 5), "b": random(4)}
    model = graph(f"g (float[N,3,9,9] x) => (float[N,{channels},9,9] y) {{ {text} }}", **weights)
    pixels = images()
    expected = run(model, two_step(pixels))
    report = bake_preprocess(model, CONTRACT)
    assert report.fired == 1
    assert reason in report.refused[0][1]
    assert operators(model)[:4] == ["Cast", "Transpose", "Sub", "Mul"]
    common.CheckerPass(full_check=True)(model)
    assert relative_error(run(model, pixels), expected) < 1e-6


def test_a_shared_weight_is_not_scaled_for_its_other_reader() -> None:
    model = graph(
        """g (float[N,3,9,9] x) => (float[N,4,1,1] y) {
            c = Conv (x, w)
            d = Conv <kernel_shape=[5,5]> (e, w)
            g = GlobalAveragePool(c)
            h = GlobalAveragePool(d)
            y = Add(g, h)
        }""",
        w=random(4, 3, 5, 5),
        e=random(1, 3, 9, 9, seed=5),
    )
    pixels = images()
    expected = run(model, two_step(pixels))
    assert "no constant of its own" in bake_preprocess(model, CONTRACT).refused[0][1]
    assert relative_error(run(model, pixels), expected) < 1e-6


def test_an_nhwc_input_stays_nhwc() -> None:
    model = graph(
        """g (float[N,9,9,3] x) => (float[N,4,5,5] y) {
            t = Transpose <perm=[0,3,1,2]> (x)
            y = Conv <pads=[2,2,2,2], strides=[2,2]> (t, w)
        }""",
        w=random(4, 3, 5, 5),
    )
    pixels = images()
    expected = run(model, two_step(pixels).transpose(0, 2, 3, 1))
    assert bake_preprocess(model, CONTRACT).fired == 1
    assert operators(model) == ["Cast", "Sub", "Mul", "Transpose", "Conv"]
    assert relative_error(run(model, pixels), expected) < 1e-6


def test_prefix_stands_before_every_reader_in_whatever_order_they_were_connected() -> None:
    model = graph(
        """g (float[N,3,9,9] x) => (float[N,3,9,9] y) {
            a = Relu (x)
            b = Conv <pads=[1,1,1,1]> (x, w)
            y = Add (a, b)
        }""",
        w=random(3, 3, 3, 3),
    )
    first = model.graph[0]
    first.replace_input_with(0, None)
    first.replace_input_with(0, model.graph.inputs[0])  # as a pass does that inserts a node
    pixels = images()
    expected = run(model, two_step(pixels))
    assert bake_preprocess(model, CONTRACT).fired == 1
    common.CheckerPass(full_check=True)(model)
    assert relative_error(run(model, pixels), expected) < 1e-6


def test_fp16_keeps_its_rounding() -> None:
    model, pixels = network(), images()
    lowered, _ = lower(model, Lowering(Precision.FP16, Dialect.FLOAT))
    expected = run(lowered, two_step(pixels))
    assert bake_preprocess(lowered, CONTRACT).fired == 1
    assert relative_error(run(lowered, pixels), expected) < 1e-3  # one FP16 rounding of the input


def quantized_stem(
    weight: Array, bias: Array, contract: Preprocessing
) -> tuple[ir.Model, ir.Model, PassReport]:
    """(the float stem, its INT8 lowering with the preprocessing baked, the pass' report)."""
    exact = graph(
        """g (float[N,3,9,9] x) => (float[N,4,9,9] y) {
            c = Conv <pads=[2,2,2,2]> (x, w, b)
            y = Relu(c)
        }""",
        w=weight,
        b=bias,
    )
    x = two_step(images(), contract=contract)
    lowered, _ = lower(
        exact, Lowering(Precision.INT8, Dialect.U8_ASYMMETRIC, ranges=ranges_of(exact, x))
    )
    report = bake_preprocess(lowered, contract, exact)
    common.CheckerPass(full_check=True)(lowered)
    return exact, lowered, report


def before_rounding(model: ir.Model, pixels: Array) -> Array:
    """The quantized convolution's own result, before it is rounded to 8 bits."""
    proto = ir.to_proto(model)
    name = next(node.output[0] for node in proto.graph.node if node.op_type == "Conv")
    proto.graph.output.append(
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
    )
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options)
    result: Array = session.run([name], {"x": pixels})[0]
    return result


def test_identity_is_exact_where_the_weights_are_on_the_grid() -> None:
    # std = 256/255 and one integer mean: W' = W, W4 = 0, and the codes are the weights themselves.
    contract = Preprocessing(
        None, 9, Interpolation.NONE, (120 / 255,) * 3, (256 / 255,) * 3, "made up"
    )
    rng = np.random.default_rng(3)
    codes = rng.integers(-126, 127, (4, 3, 5, 5))
    codes[:, 0, 0, 0] = 127
    weight = (codes / 64).astype(np.float32)
    bias = (rng.integers(-500, 500, 4) * 2.0**-14).astype(np.float32)
    exact, baked, report = quantized_stem(weight, bias, contract)
    assert report.refused == ()
    pixels = images()
    answer = before_rounding(baked, pixels)
    expected = before_rounding(exact, two_step(pixels, contract=contract))
    assert np.abs(answer - expected).max() < 2e-6 * np.abs(expected).max()


def test_identity_is_as_near_at_the_border_as_inside() -> None:
    exact, baked, _ = quantized_stem(random(4, 3, 5, 5, seed=7), random(4, seed=8), CONTRACT)
    pixels = images(64, seed=4)
    answer = before_rounding(baked, pixels)
    error = answer - before_rounding(exact, two_step(pixels))
    inside = error[:, :, 2:-2, 2:-2]
    border = np.concatenate([error[:, :, :2].ravel(), error[:, :, -2:].ravel()])
    assert np.abs(answer).max() > 10
    assert inside.std() < 0.03  # weights rounded to 8 bits
    assert border.std() < 1.3 * inside.std()
    assert abs(inside.mean()) < 0.01
    assert abs(border.mean()) < 0.01


def test_identity_answers_the_mean_image_with_the_bias() -> None:
    contract = Preprocessing(
        None, 9, Interpolation.NONE, (124 / 255, 116 / 255, 104 / 255), CONTRACT.std, ""
    )
    bias = random(4, seed=8)
    _, baked, _ = quantized_stem(random(4, 3, 5, 5, seed=7), bias, contract)
    mean = np.broadcast_to(np.array([124, 116, 104], np.uint8), (1, 9, 9, 3)).copy()
    inside = before_rounding(baked, mean)[0, :, 2:-2, 2:-2]
    assert np.abs(inside - bias[:, None, None]).max() < 1e-4  # a step of the int32 bias


def test_no_float_tensor_before_the_first_quantized_convolution() -> None:
    exact, pixels = network(), images()
    lowered, _ = lower(
        exact,
        Lowering(Precision.INT8, Dialect.U8_ASYMMETRIC, ranges=ranges_of(exact, two_step(pixels))),
    )
    expected = run(exact, two_step(pixels))
    unbaked = run(lowered, two_step(pixels))
    assert bake_preprocess(lowered, CONTRACT, exact) == PassReport("bake_preprocess", 1)
    common.CheckerPass(full_check=True)(lowered)
    answer = run(lowered, pixels)
    assert relative_error(answer, expected) < 1.2 * relative_error(unbaked, expected) + 1e-3
    optimized = optimized_operators(lowered)
    first = optimized.index("QLinearConv")
    assert not {"QuantizeLinear", "DequantizeLinear", "Cast", "Sub", "Mul"} & set(optimized[:first])
    assert optimized.count("QLinearConv") == 2


def optimized_operators(model: ir.Model) -> list[str]:
    """What ONNX Runtime runs, all optimizations on."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "optimized.onnx"
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath = str(path)
        options.log_severity_level = 3
        onnxruntime.InferenceSession(serialize(model), options)
        return [node.op_type for node in onnx.load(path).graph.node]


def test_identity_needs_the_float_weights() -> None:
    exact, pixels = network(), images()
    lowered, _ = lower(
        exact,
        Lowering(Precision.INT8, Dialect.U8_ASYMMETRIC, ranges=ranges_of(exact, two_step(pixels))),
    )
    expected = run(lowered, two_step(pixels))
    assert "float weights of c" in bake_preprocess(lowered, CONTRACT).refused[0][1]
    # A pixel in 20000 may round to the next code.
    assert relative_error(run(lowered, pixels), expected) < 1e-2


def test_symmetric_int8_takes_the_prefix() -> None:
    exact, pixels = network(), images()
    lowered, _ = lower(
        exact,
        Lowering(Precision.INT8, Dialect.S8_SYMMETRIC, ranges=ranges_of(exact, two_step(pixels))),
    )
    expected = run(lowered, two_step(pixels))
    assert "not quantized to uint8" in bake_preprocess(lowered, CONTRACT, exact).refused[0][1]
    assert relative_error(run(lowered, pixels), expected) < 1e-2
