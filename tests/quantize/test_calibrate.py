"""Calibration: what is measured, that nothing but the data matters to it, and what is refused."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from onnx_ir.passes import common

from exporter.artifact import CalibrationMethod, Dialect
from exporter.errors import BuildError, InputError
from exporter.graph.optimize import optimize
from exporter.graph.to_onnx import export
from exporter.images.samples import open_data
from exporter.models.sources import define
from exporter.passes.qdq.insert import insert_qdq
from exporter.passes.qdq.ranges import Ranges
from exporter.progress import Silent
from exporter.quantize.calibrate import RECOMMENDED, calibrate
from exporter.quantize.histogram import Histogram
from exporter.quantize.mse_range import asymmetric_range
from tests.graphs import Array, graph, random, run
from tests.samples import InPortions, samples_of

NETWORK = """net (float[{batch},3,8,8] x) => (float[{batch},5] y) {{
    c1 = Conv <pads=[1,1,1,1]> (x, w1, b1)
    r1 = Relu (c1)
    p1 = MaxPool <kernel_shape=[2,2], strides=[2,2]> (r1)
    c2 = Conv <pads=[1,1,1,1]> (p1, w2)
    a1 = Add (c2, p1)
    r2 = Relu (a1)
    g = GlobalAveragePool (r2)
    f = Flatten (g)
    y = Gemm <transB=1> (f, w3, b3)
}}"""


def network(batch: str = "N", **changed: Array) -> ir.Model:
    weights = {
        "w1": random(4, 3, 3, 3, seed=1),
        "b1": random(4, seed=2),
        "w2": random(4, 4, 3, 3, seed=3),
        "w3": random(5, 4, seed=4),
        "b3": random(5, seed=5),
        **changed,
    }
    return graph(NETWORK.format(batch=batch), **weights)


def values_of(model: ir.Model, tensor: str, x: Array) -> Array:
    copy = model.clone()
    copy.graph.outputs[0] = next(o for node in copy.graph for o in node.outputs if o.name == tensor)
    return run(copy, x)


X = random(12, 3, 8, 8, seed=9, low=-2.0, high=3.0)


def test_minmax_is_the_extremes_of_all_images_with_zero() -> None:
    model = network()
    ranges = calibrate(model, samples_of(X), method=CalibrationMethod.MINMAX, progress=Silent())
    assert set(ranges.tensors) == {"x", "r1", "c2", "r2", "g", "y"}
    for tensor in ("r1", "c2", "r2", "g", "y"):
        values = values_of(model, tensor, X)
        expected = min(0.0, float(values.min())), max(0.0, float(values.max()))
        assert ranges.of(tensor) == pytest.approx(expected, rel=1e-5)
        assert ranges.largest(tensor) == max(-ranges.of(tensor)[0], ranges.of(tensor)[1])
    assert ranges.of("x") == (float(X.min()), float(X.max()))
    assert ranges.of("r1")[0] == 0.0
    assert ranges.samples == 12


def test_mse_is_the_least_squares_range_of_the_values() -> None:
    model = network()
    ranges = calibrate(model, samples_of(X), progress=Silent())
    values = values_of(model, "c2", X)
    histogram = Histogram()
    histogram.add(values.reshape(-1), float(np.abs(values).max()))
    expected = asymmetric_range(histogram, float(values.min()), float(values.max()))
    assert ranges.of("c2") == pytest.approx(expected, rel=1e-4)
    assert ranges.of("c2") != (values.min(), values.max())


@pytest.mark.parametrize("method", CalibrationMethod)
def test_neither_order_nor_batch_size_nor_a_static_batch_changes_a_bit(
    method: CalibrationMethod,
) -> None:
    reference = calibrate(network(), samples_of(X), method=method, progress=Silent())
    shuffled = X[np.random.RandomState(0).permutation(len(X))]
    for other in (samples_of(shuffled), samples_of(X[::-1])):
        again = calibrate(network(), other, method=method, progress=Silent())
        assert again.tensors == reference.tensors
        assert again.symmetric == reference.symmetric
    for portion in (1, 5, 12):
        plain = samples_of(X)
        other = InPortions(
            plain.source, plain.count, plain.sha256, None, plain._read, portion=portion
        )
        assert calibrate(network(), other, method=method, progress=Silent()) == reference
    fixed = calibrate(network(batch="4"), samples_of(X), method=method, progress=Silent())
    if method is CalibrationMethod.MINMAX:
        assert fixed.tensors == reference.tensors
    else:
        for tensor, bounds in reference.tensors.items():
            assert fixed.of(tensor) == pytest.approx(bounds, rel=1e-6)


def test_a_trained_network_is_measured_whole() -> None:
    model = define("resnet20-digits", progress=Silent())
    optimized, _ = optimize(export(model))
    samples = open_data(model.spec, None).calibration.take(16)
    ranges = calibrate(optimized, samples, progress=Silent())
    blocks = [f"layer{stage}.{block}" for stage in (1, 2, 3) for block in (0, 1, 2)]
    for block in blocks:
        assert {f"{block}.relu", f"{block}.conv2", f"{block}.relu_1"} <= set(ranges.tensors)
        assert ranges.of(f"{block}.relu_1")[0] == 0.0 < ranges.of(f"{block}.relu_1")[1]
        assert ranges.of(f"{block}.conv2")[0] < 0.0 < ranges.of(f"{block}.conv2")[1]
    assert not {f"{block}.add" for block in blocks} & set(ranges.tensors)


def test_the_cache_answers_without_the_data(tmp_path: Path) -> None:
    first = calibrate(network(), samples_of(X), progress=Silent(), cache=tmp_path)
    unreadable = samples_of(X)
    object.__setattr__(unreadable, "_read", None)
    assert calibrate(network(), unreadable, progress=Silent(), cache=tmp_path) == first
    assert len(list(tmp_path.iterdir())) == 1


def test_the_cache_knows_graph_data_and_method(tmp_path: Path) -> None:
    def files_after(model: ir.Model, data: Array, method: CalibrationMethod) -> int:
        calibrate(model, samples_of(data), method=method, progress=Silent(), cache=tmp_path)
        return len(list(tmp_path.iterdir()))

    assert files_after(network(), X, CalibrationMethod.MSE) == 1
    assert files_after(network(), X, CalibrationMethod.MINMAX) == 2
    assert files_after(network(), X[:-1], CalibrationMethod.MSE) == 3
    assert files_after(network(b1=random(4, seed=22)), X, CalibrationMethod.MSE) == 4
    assert files_after(network(), X, CalibrationMethod.MSE) == 4


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: "",
        lambda text: text[:-30],
        lambda text: "[" * 100_000,
        lambda text: "[]",
        lambda text: text.replace('"r1"', '"r9"'),
        lambda text: re.sub(r'(?<="r1": )[\d.]+', "NaN", text),
        lambda text: re.sub(r'(?<="r1": )[\d.]+', '"high"', text),
    ],
    ids=["empty", "cut off", "deep", "of another kind", "other tensors", "not finite", "words"],
)
def test_a_damaged_cache_is_a_note_and_mended(tmp_path: Path, damage: Callable[[str], str]) -> None:
    first = calibrate(network(), samples_of(X), progress=Silent(), cache=tmp_path)
    (file,) = tmp_path.iterdir()
    whole = file.read_text()
    assert damage(whole) != whole
    file.write_text(damage(whole))
    progress = Silent()
    assert calibrate(network(), samples_of(X), progress=progress, cache=tmp_path) == first
    (note,) = progress.notes
    assert str(file) in note
    assert "measured again" in note
    assert file.read_text() == whole


@pytest.mark.parametrize("place", ["a file", "below a file", "no folder of files"])
def test_a_cache_that_cannot_be_made_is_a_note(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("")
    cache = {
        "a file": tmp_path / "file",
        "below a file": tmp_path / "file" / "cache",
        "no folder of files": Path("/proc/self/nothing"),
    }[place]
    progress = Silent()
    measured = calibrate(network(), samples_of(X), progress=progress, cache=cache)
    assert measured == calibrate(network(), samples_of(X), progress=Silent())
    assert f"{cache} cannot be written" in progress.notes[-1]


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (X[:0], "holds no samples"),
        (np.where(np.arange(12)[:, None, None, None] == 7, np.nan, X), "sample 7 .* NaN"),
        (X[:, :, :4], r"sample 0 .* shape \(3, 4, 8\)"),
        (X[:, :1], r"sample 0 .* shape \(1, 8, 8\)"),
        (X.astype(np.float64), "float64, not float32"),
    ],
)
def test_unfit_data_is_an_error_that_names_the_sample(array: Array, words: str) -> None:
    given = samples_of(array if "float64" in words else array.astype(np.float32))
    with pytest.raises(InputError, match=words):
        calibrate(network(), given, progress=Silent())


def test_few_samples_are_used_with_a_word_on_how_many_are_enough() -> None:
    progress = Silent()
    calibrate(network(), samples_of(X[:7]), progress=progress)
    (note,) = progress.notes
    assert f"{RECOMMENDED[0]} to {RECOMMENDED[1]}" in note
    enough = Silent()
    calibrate(network(), samples_of(X[:8]), progress=enough)
    assert enough.notes == []


@pytest.mark.parametrize("method", CalibrationMethod)
def test_an_activation_that_overflows_is_named_where_its_range_is_needed(
    tmp_path: Path, method: CalibrationMethod
) -> None:
    huge = network(w1=np.full((4, 3, 3, 3), 3e38, np.float32))
    for _ in ("measured", "from the cache"):
        data = samples_of(np.abs(X))
        ranges = calibrate(huge, data, method=method, progress=Silent(), cache=tmp_path)
        assert ranges.of("x")[1] > 0
        with pytest.raises(BuildError, match="tensor r1 is not finite on calibration image 0"):
            ranges.of("r1")


INFINITIES = {
    "a bound": ("m = Min (c, k)", np.inf, ()),
    "a mask": ("m = Add (c, k)", -np.inf, (1, 1, 8, 1)),
    "a choice": ("t = Less (c, zero)  m = Where (t, k, c)", -np.inf, ()),
}


@pytest.mark.parametrize("what", INFINITIES)
def test_an_infinite_constant_that_is_no_weight_is_none(what: str) -> None:
    nodes, value, shape = INFINITIES[what]
    constant = np.full(shape, value, np.float32)
    if shape:
        constant[..., 1:, :] = 0  # a column of infinities alone has no softmax
    model = graph(
        f"""net (float[N,3,8,8] x) => (float[N,4,8,8] y) {{
            c = Conv <pads=[1,1,1,1]> (x, w)
            {nodes}
            y = Softmax <axis=2> (m)
        }}""",
        w=random(4, 3, 3, 3, seed=1),
        k=constant,
        zero=np.zeros((), np.float32),
    )
    ranges = calibrate(model, samples_of(X), progress=Silent())
    lowered = model.clone()
    report = insert_qdq(lowered, ranges, Dialect.U8_ASYMMETRIC)
    assert report.counts["convs"] == 1
    assert np.isfinite(run(lowered, X)).mean() > 0.9


def test_infinity_put_around_what_is_pooled_is_in_no_range() -> None:
    model = graph(
        """net (float[N,3,8,8] x) => (float[N,4,4,4] y) {
            c1 = Conv <pads=[1,1,1,1]> (x, w1)
            p = Pad (c1, pads, inf)
            m = MaxPool <kernel_shape=[3,3], strides=[2,2]> (p)
            y = Conv <pads=[1,1,1,1]> (m, w2)
        }""",
        w1=random(4, 3, 3, 3, seed=1),
        w2=random(4, 4, 3, 3, seed=2),
        pads=np.array([0, 0, 0, 0, 0, 0, 1, 1], np.int64),
        inf=np.array(-np.inf, np.float32),
    )
    ranges = calibrate(model, samples_of(X), progress=Silent())
    assert set(ranges.tensors) == {"x", "c1", "m", "y"}
    report = insert_qdq(model, ranges, Dialect.U8_ASYMMETRIC)
    assert report.counts["convs"] == 2
    assert np.isfinite(run(model, X)).all()


CAST_INPUTS = {
    "8-bit images": ("uint8", "d = Cast <to=1> (x)  f = Mul (d, k)"),
    "moved, then cast": ("uint8", "t = Transpose <perm=[0,1,3,2]> (x)  f = Cast <to=1> (t)"),
    "double inside": ("float", "d = Cast <to=11> (x)  e = Mul (d, k64)  f = Cast <to=1> (e)"),
    "half inside": ("float", "d = Cast <to=10> (x)  e = Mul (d, k16)  f = Cast <to=1> (e)"),
}


@pytest.mark.parametrize("what", CAST_INPUTS)
def test_a_tensor_that_is_cast_has_a_range_of_its_own(what: str) -> None:
    dtype, nodes = CAST_INPUTS[what]
    model = graph(
        f"""net ({dtype}[N,3,8,8] x) => (float[N,4,8,8] y) {{
            {nodes}
            y = Conv <pads=[1,1,1,1]> (f, w)
        }}""",
        w=random(4, 3, 3, 3, seed=1),
        k=np.array(0.5, np.float32),
        k64=np.array(0.5, np.float64),
        k16=np.array(0.5, np.float16),
    )
    common.ShapeInferencePass()(model)
    given = (np.abs(X) * 60).astype(np.uint8) if dtype == "uint8" else X
    ranges = calibrate(model, samples_of(given), progress=Silent())
    low, high = ranges.of("f" if "half" not in what else "e")
    assert (low, high) == pytest.approx(
        (min(values_of(model, "f", given).min(), 0), values_of(model, "f", given).max()), rel=0.05
    )
    exact = run(model, given)
    report = insert_qdq(model, ranges, Dialect.U8_ASYMMETRIC)
    assert report.counts["convs"] == 1
    assert np.abs(run(model, given) - exact).max() < 0.05 * np.abs(exact).max()


def test_a_weight_that_is_not_finite_is_named() -> None:
    broken = network(w3=np.full((5, 4), np.nan, np.float32))
    with pytest.raises(BuildError, match="weight w3"):
        calibrate(broken, samples_of(X), progress=Silent())


def test_ranges_of_another_graph_are_refused() -> None:
    with pytest.raises(BuildError, match="no tensor 'r9'"):
        Ranges(CalibrationMethod.MINMAX, 1, "", {"r1": (0.0, 1.0)}).of("r9")
