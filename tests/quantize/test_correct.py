"""Correction: rounding by covariance, the bias that takes the mean error back, and what stays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
import torch

from exporter.artifact import Dialect, Precision
from exporter.errors import BuildError
from exporter.graph.files import save, serialize
from exporter.graph.lower import Lowering, lower
from exporter.graph.optimize import optimize
from exporter.graph.to_onnx import export
from exporter.images.samples import open_data
from exporter.models.sources import define
from exporter.passes.qdq.nodes import is_quantized
from exporter.passes.values import constant
from exporter.progress import Silent
from exporter.quantize.calibrate import calibrate
from exporter.quantize.correct import CORRECTIONS, correct
from exporter.quantize.method import Correction
from exporter.quantize.rounding import DAMPING, POSITIONS, Moments, columns_of, round_columns
from exporter.targets import BuildOptions, get_target
from tests.graphs import Array, graph, random, relative_error, run
from tests.samples import samples_of

DIALECTS = [Dialect.U8_ASYMMETRIC, Dialect.S8_SYMMETRIC]


def convolution(attributes: str = "pads=[1,1,1,1]", weight: Array | None = None) -> ir.Model:
    return graph(
        f"net (float[N,4,9,9] x) => (float[N,?,?,?] y) {{ y = Conv <{attributes}> (x, w, b) }}",
        w=random(6, 4, 3, 3, seed=1) if weight is None else weight,
        b=random(6, seed=2),
    )


def quantized(model: ir.Model, x: Array, dialect: Dialect, keep: tuple[str, ...] = ()) -> ir.Model:
    ranges = calibrate(model, samples_of(x), progress=Silent())
    lowered, _ = lower(model, Lowering(Precision.INT8, dialect, ranges=ranges, keep=keep))
    return lowered


def codes_of(model: ir.Model, name: str, index: int) -> Array:
    node = next(node for node in model.graph if node.name == name)
    value = node.inputs[index]
    assert value is not None
    producer = value.producer()
    return array_of(value if producer is None else producer.inputs[0])


def array_of(value: ir.Value | None) -> Array:
    array = constant(value)
    assert array is not None
    return array


def test_rounding_by_an_identity_is_rounding_to_nearest() -> None:
    weight = random(8, 30, seed=3)
    scale = (np.abs(weight).max(axis=1) / 127).astype(np.float32)
    codes = round_columns(weight, scale, torch.eye(30))
    assert np.array_equal(codes, np.rint(weight / scale[:, None]).astype(np.int8))


def test_rounding_by_a_covariance_makes_the_result_vary_less() -> None:
    rng = np.random.default_rng(0)
    weight = random(16, 60, seed=4)
    scale = (np.abs(weight).max(axis=1) / 127).astype(np.float32)
    inputs = rng.standard_normal((60, 12)) @ rng.standard_normal((12, 500))
    inputs += 0.05 * rng.standard_normal(inputs.shape) + 3.0
    covariance = np.cov(inputs)
    codes = round_columns(weight, scale, torch.from_numpy(covariance.astype(np.float32)))
    nearest = np.rint(weight / scale[:, None])

    def variance(rounded: Array) -> float:
        error = weight - rounded * scale[:, None]
        return float(np.trace(error @ covariance @ error.T))

    assert variance(codes) < 0.4 * variance(nearest)
    assert np.abs(codes - nearest).max() >= 1
    assert np.abs(codes).max() <= 127


def test_inputs_that_outdo_all_others_or_never_change_are_no_obstacle() -> None:
    rng = np.random.default_rng(0)
    inputs = rng.standard_normal((1, 400, 600)).astype(np.float32)
    inputs[0, :40] = 1e4 * rng.standard_normal(600)  # forty times the same
    inputs[0, 40:80] = 1e5
    inputs[0, 80:120] = 0.0
    moments = Moments(1, 400)
    for part in np.array_split(inputs, 7, axis=2):
        moments.add(part)
    assert moments.covariance(0)[40:120].abs().max() < 1e-3
    weight = random(16, 400, seed=4)
    scale = (np.abs(weight).max(axis=1) / 127).astype(np.float32)
    codes = round_columns(weight, scale, moments.covariance(0))
    nearest = np.rint(weight / scale[:, None])

    def worst(rounded: Array) -> float:
        error = (weight - rounded * scale[:, None]) @ inputs[0]
        return float(error.std(axis=1).max())

    assert worst(codes) < 0.2 * worst(nearest)


def test_moments_are_the_covariance_of_all_columns() -> None:
    inputs = random(2, 5, 1700, seed=5, low=1.0, high=4.0)
    moments = Moments(2, 5)
    for part in np.array_split(inputs, 7, axis=2):
        moments.add(part)
    for group in (0, 1):
        expected = np.cov(inputs[group], bias=True)
        assert moments.covariance(group).numpy() == pytest.approx(expected, abs=2e-5)


def test_moments_hold_a_small_variance_beside_a_large_mean() -> None:
    inputs = random(1, 6, 4000, seed=6, low=999.99, high=1000.01)
    moments = Moments(1, 6)
    for part in np.array_split(inputs, 5, axis=2):
        moments.add(part)
    expected = np.cov(inputs[0].astype(np.float64), bias=True)
    assert moments.covariance(0).numpy() == pytest.approx(expected, rel=0.02, abs=1e-6)


def test_a_covariance_that_no_numbers_have_is_damped_until_it_can_be_factored() -> None:
    weight = random(8, 3, seed=3)
    scale = (np.abs(weight).max(axis=1) / 127).astype(np.float32)
    impossible = torch.tensor([[1.0, 1.05, 0.0], [1.05, 1.0, 0.0], [0.0, 0.0, 1.0]])
    assert torch.linalg.eigvalsh(impossible).min() < -DAMPING
    codes = round_columns(weight, scale, impossible)
    assert np.abs(codes - weight / scale[:, None]).max() < 3
    with pytest.raises(BuildError, match="no covariance"):
        round_columns(weight, scale, torch.full((3, 3), torch.inf))


def test_a_reduced_range_stays_reduced() -> None:
    model = convolution()
    x = random(8, 4, 9, 9, seed=8)
    ranges = calibrate(model, samples_of(x), progress=Silent())
    lowered, _ = lower(
        model, Lowering(Precision.INT8, Dialect.U8_ASYMMETRIC, ranges=ranges, reduce_range=True)
    )
    corrected = correct(lowered, model, samples_of(x), Silent())
    assert 60 < np.abs(codes_of(corrected, "y", 1).astype(int)).max() <= 64


@pytest.mark.parametrize(
    "attributes",
    [
        "pads=[1,1,1,1]",
        "pads=[0,1,2,0], strides=[2,1]",
        "dilations=[2,2], pads=[2,2,2,2]",
        "group=2, strides=[2,2]",
        'auto_pad="SAME_UPPER", strides=[2,2]',
        'auto_pad="SAME_LOWER", strides=[2,2]',
        'auto_pad="VALID"',
    ],
)
def test_columns_are_what_the_weights_are_multiplied_with(attributes: str) -> None:
    groups = 2 if "group" in attributes else 1
    weight = random(6, 4 // groups, 3, 3, seed=6)
    model = convolution(attributes, weight)
    x = random(1, 4, 9, 9, seed=7)
    columns = columns_of(model.graph[0], x, (3, 3))
    rows = weight.reshape(groups, 6 // groups, -1)
    result = (rows @ columns).reshape(6, -1) + random(6, seed=2)[:, None]
    expected = run(model, x).reshape(6, -1)
    positions = range(0, expected.shape[1], (expected.shape[1] // POSITIONS) | 1)
    assert result == pytest.approx(expected[:, list(positions)], abs=1e-5)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_the_mean_of_each_channel_comes_back(dialect: Dialect) -> None:
    model = convolution()
    x = random(32, 4, 9, 9, seed=8, low=0.5, high=2.0)
    lowered = quantized(model, x, dialect)
    corrected = correct(lowered, model, samples_of(x), Silent())

    def weights_alone(of: ir.Model) -> Array:
        """The exact convolution with the lowered graph's weight and bias."""
        node = next(node for node in of.graph if node.op_type == "Conv")
        copy = model.clone()
        target = copy.graph[0]
        for index in (1, 2):
            value = node.inputs[index]
            assert value is not None
            array = codes_of(of, str(node.name), index).astype(np.float32)
            if is_quantized(value):
                producer = value.producer()
                assert producer is not None
                scale = constant(producer.inputs[1])
                assert scale is not None
                array = array * scale.reshape((-1, 1, 1, 1) if index == 1 else (-1,))
            replaced = target.inputs[index]
            assert replaced is not None
            replaced.const_value = ir.tensor(array, name=replaced.name)
        shift: Array = (run(copy, x) - run(model, x)).mean(axis=(0, 2, 3))
        return shift

    before, after = weights_alone(lowered), weights_alone(corrected)
    assert np.abs(before).max() > 1e-3
    # An int32 bias moves in steps of x_scale * weight_scale, here 1e-4; a float one freely.
    assert np.abs(after).max() < (7e-5 if dialect is Dialect.U8_ASYMMETRIC else 2e-6)


def test_only_codes_and_biases_change_and_the_given_graph_stays() -> None:
    model = convolution()
    x = random(8, 4, 9, 9, seed=8)
    lowered = quantized(model, x, Dialect.U8_ASYMMETRIC)
    content = serialize(lowered)
    corrected = correct(lowered, model, samples_of(x), Silent())
    assert serialize(lowered) == content
    assert [node.name for node in corrected.graph] == [node.name for node in lowered.graph]
    changed = {
        name
        for name, value in corrected.graph.initializers.items()
        if not np.array_equal(array_of(value), array_of(lowered.graph.initializers[name]))
    }
    assert changed == {"w.quantized", "b.quantized"}
    assert serialize(correct(lowered, model, samples_of(x), Silent())) == serialize(corrected)


def test_a_float_bias_is_added_where_there_was_none() -> None:
    model = graph(
        "net (float[N,4,9,9] x) => (float[N,?,?,?] y) { y = Conv (x, w) }",
        w=random(6, 4, 3, 3, seed=1),
    )
    x = random(8, 4, 9, 9, seed=8, low=1.0, high=3.0)
    corrected = correct(quantized(model, x, Dialect.S8_SYMMETRIC), model, samples_of(x), Silent())
    bias = codes_of(corrected, "y", 2)
    assert bias.shape == (6,)
    assert bias.dtype == np.float32


@pytest.fixture(scope="module")
def digits() -> tuple[ir.Model, Array, Array]:
    """The trained network, and images to calibrate with and others to judge by."""
    model = define("resnet20-digits", progress=Silent())
    optimized, _ = optimize(export(model))
    data = open_data(model.spec, None)
    calibration = next(data.calibration.batches(64))
    return optimized, calibration, np.concatenate(list(data.evaluation.batches(180)))


@pytest.mark.parametrize(("dialect", "most"), [(DIALECTS[0], 0.75), (DIALECTS[1], 0.85)])
def test_a_trained_networks_logits_come_nearer(
    digits: tuple[ir.Model, Array, Array], dialect: Dialect, most: float
) -> None:
    model, calibration, images = digits
    lowered = quantized(model, calibration, dialect)
    corrected = correct(lowered, model, samples_of(calibration), Silent())
    expected = run(model, images)
    before = relative_error(run(lowered, images), expected)
    after = relative_error(run(corrected, images), expected)
    assert after < most * before
    assert after < 0.02
    assert (run(corrected, images).argmax(1) != expected.argmax(1)).sum() <= 2


def test_what_is_kept_is_left_alone(digits: tuple[ir.Model, Array, Array]) -> None:
    model, calibration, _ = digits
    lowered = quantized(model, calibration, Dialect.U8_ASYMMETRIC, keep=("layer1.0",))
    corrected = correct(lowered, model, samples_of(calibration[:8]), Silent())
    for index in (1, 2):
        name = "layer1.0.conv1"
        assert np.array_equal(codes_of(corrected, name, index), codes_of(model, name, index))
    assert not np.array_equal(
        codes_of(corrected, "layer1.1.conv1", 1), codes_of(lowered, "layer1.1.conv1", 1)
    )


def test_another_graph_is_refused() -> None:
    x = random(8, 4, 9, 9, seed=8)
    lowered = quantized(convolution(), x, Dialect.U8_ASYMMETRIC)
    other = convolution(weight=random(7, 4, 3, 3))
    with pytest.raises(BuildError, match="no Conv y of the lowered graph's shape"):
        correct(lowered, other, samples_of(x), Silent())


@pytest.mark.parametrize("name", ["ort-cpu", "openvino"])
def test_an_image_gets_the_same_answer_alone_and_among_seven_others(
    digits: tuple[ir.Model, Array, Array], tmp_path: Path, name: str
) -> None:
    model, calibration, images = digits
    lowered = quantized(model, calibration, Dialect.U8_ASYMMETRIC)
    corrected = correct(lowered, model, samples_of(calibration[:16]), Silent())
    save(corrected, tmp_path / "lowered.onnx")
    target = get_target(name)
    built = target.build(
        tmp_path / "lowered.onnx", Precision.INT8, tmp_path / "int8", BuildOptions()
    )
    with target.open(built.files[0], 2) as session:
        together = np.concatenate([session.run(images[i : i + 8]) for i in (0, 8, 16)])
        alone = np.concatenate([session.run(images[i : i + 1]) for i in range(24)])
    # The classifier's result is float; 8-bit sums before it are exact whatever the batch.
    assert np.abs(together - alone).max() <= 1e-5


def test_each_part_can_be_switched_off() -> None:
    model = convolution()
    x = random(8, 4, 9, 9, seed=8)
    lowered = quantized(model, x, Dialect.U8_ASYMMETRIC)

    def changed(correction: Correction) -> set[str]:
        result = correct(lowered, model, samples_of(x), Silent(), **CORRECTIONS[correction])
        return {
            name
            for name, value in result.graph.initializers.items()
            if not np.array_equal(array_of(value), array_of(lowered.graph.initializers[name]))
        }

    assert changed(Correction.NONE) == set()
    assert changed(Correction.BIASES) == {"b.quantized"}
    assert changed(Correction.ALL) == {"w.quantized", "b.quantized"}
