"""A loaded engine: any batch, any thread, and clear errors for what it cannot take."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from exporter.graph.files import serialize
from exporter.runtime import BundleError, ClosedError, Engine, InputError, load
from exporter.runtime.description import Description, EngineEntry, Requirements
from exporter.runtime.images import Normalisation
from exporter.runtime.layout import Layout
from exporter.runtime.loading import open_engine
from exporter.runtime.threads import Threads
from tests.graphs import Array, graph, random
from tests.packed import digits_bundle
from tests.runtime.crowd import wrong_answers

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with load(digits_bundle(), engine="ort-cpu.fp32", threads=1) as loaded:
        yield loaded


@pytest.fixture(scope="module")
def images() -> Array:
    with np.load(digits_bundle() / "golden.npz") as goldens:
        return np.array(goldens["images"])


def small_engine(
    shape: str, *, dtype: str = "float", known: bool = True, answers: str = "logits"
) -> Engine:
    """An engine of two operators for an input of this shape."""
    axes = "1, 2" if shape.endswith("3") else "2, 3"
    cast = "c = Cast <to=1> (x)" if dtype != "float" else "c = Identity(x)"
    model = graph(
        f"""small ({dtype}[{shape}] x) => (float[{shape.split(",")[0]},4] y) {{
            {cast}
            axes = Constant <value_ints=[{axes}]> ()
            m = ReduceMean <keepdims=0> (c, axes)
            y = MatMul(m, w)
        }}""",
        w=random(3, 4),
    )
    return open_model(model, known=known, answers=answers)


def open_model(model: ir.Model, *, known: bool, answers: str) -> Engine:
    description = Description(
        "small", ("x",), MEAN if known else None, STD if known else None, answers, ()
    )
    entry = EngineEntry("ort-cpu.fp32", "ort-cpu", "fp32", (), Requirements(), None, 1e-5, "engine")
    return open_engine(entry, description, ("a", "b", "c", "d"), [serialize(model)], Threads(1))


@pytest.mark.parametrize("count", [0, 1, 2, 31, 32, 33, 100])
def test_batches_of_any_size(engine: Engine, images: Array, count: int) -> None:
    batch = np.resize(images, (count, *images.shape[1:]))
    answers = engine(batch)
    assert answers.shape == (count, 10)
    assert answers.dtype == np.float32
    each = [engine(image[None])[0] for image in batch[:8]]
    assert np.abs(answers[:8] - np.array(each or np.empty((0, 10)))).max(initial=0) < 1e-5


@pytest.mark.parametrize("count", [0, 1, 3, 4, 5, 9])
def test_an_engine_of_a_fixed_batch_takes_any(count: int) -> None:
    fixed, free = small_engine("4,3,6,6"), small_engine("N,3,6,6")
    batch = np.random.default_rng(0).integers(0, 256, (count, 6, 6, 3), np.uint8)
    assert fixed.input_shape == (4, 3, 6, 6)
    assert np.abs(fixed(batch) - free(batch)).max(initial=0) < 1e-6
    assert len(fixed(batch)) == count


def test_images_are_normalised_as_the_contract_says() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 6, 6, 3), np.uint8)
    pixels[0], pixels[1] = 0, 255
    expected = (pixels / 255.0 - np.array(MEAN)) / np.array(STD)
    nchw, nhwc = small_engine("N,3,6,6"), small_engine("N,6,6,3")
    assert np.abs(nchw.prepare(pixels) - expected.transpose(0, 3, 1, 2)).max() < 1.5e-7
    assert np.abs(nhwc.prepare(pixels) - expected).max() < 1.5e-7
    assert np.abs(nchw(pixels) - nhwc(pixels)).max() < 1e-6
    assert np.abs(nchw(pixels[:, ::-1, :, :]) - nchw(pixels)).max() < 1e-6  # strided views too


def test_an_engine_that_takes_images_gets_them_as_they_are() -> None:
    baked = small_engine("N,6,6,3", dtype="uint8")
    pixels = np.random.default_rng(0).integers(0, 256, (3, 6, 6, 3), np.uint8)
    expected = pixels.mean(axis=(1, 2)) @ random(3, 4)
    assert np.abs(baked(pixels) - expected).max() < 1e-3
    assert (baked.run(pixels) == baked(pixels)).all()


def test_predictions_are_sorted_and_sum_to_one(engine: Engine, images: Array) -> None:
    predictions = engine.predict(images, top=10)
    assert len(predictions) == len(images)
    for prediction, logits in zip(predictions, engine(images).astype(np.float64), strict=True):
        exact = np.exp(logits) / np.exp(logits).sum()
        probabilities = [one.probability for one in prediction]
        assert probabilities == sorted(probabilities, reverse=True)
        assert abs(sum(probabilities) - 1) < 1e-9
        assert all(abs(one.probability - exact[one.index]) < 1e-6 for one in prediction)
        assert all(one.label == str(one.index) for one in prediction)
    assert [len(p) for p in engine.predict(images, top=3)] == [3] * len(images)
    assert engine.predict(images[:0]) == []


def test_probabilities_are_not_softened_twice() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (1, 6, 6, 3), np.uint8)
    given = small_engine("N,3,6,6", answers="probabilities")
    assert given.predict(pixels, top=1)[0][0].probability == pytest.approx(given(pixels).max())


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ([[1, 2]], "a list, not an array"),
        (np.zeros((1, 32, 32, 3), np.float32), "of type float32; give a uint8 array"),
        (np.zeros((1, 32, 32, 3), np.int64), "of type int64"),
        (np.zeros((32, 32, 3), np.uint8), r"one image is images\[None\]"),
        (np.zeros((1, 3, 32, 32), np.uint8), r"shape \(1, 3, 32, 32\); .* takes \(N, 32, 32, 3\)"),
        (np.zeros((1, 32, 31, 3), np.uint8), r"shape \(1, 32, 31, 3\)"),
        (np.zeros((1, 32, 32, 4), np.uint8), r"shape \(1, 32, 32, 4\)"),
        (np.zeros((0, 32, 32), np.uint8), r"shape \(0, 32, 32\)"),
    ],
)
def test_what_is_no_batch_of_images_is_refused(engine: Engine, wrong: Array, message: str) -> None:
    with pytest.raises(InputError, match=message):
        engine(wrong)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (None, "a NoneType, not an array"),
        (np.zeros((1, 3, 32, 32)), "of type float64; .* takes a float32 array"),
        (np.zeros((1, 32, 32, 3), np.float32), r"shape \(1, 32, 32, 3\); .* \(N, 3, 32, 32\)"),
        (np.zeros((3, 32, 32), np.float32), r"shape \(3, 32, 32\)"),
        (np.full((1, 3, 32, 32), 255, np.float32), "between 255 and 255; .* normalised"),
        (np.full((1, 3, 32, 32), np.nan, np.float32), "between nan and nan"),
        (np.full((1, 3, 32, 32), -np.inf, np.float32), "between -inf"),
    ],
)
def test_what_is_no_input_tensor_is_refused(engine: Engine, wrong: Array, message: str) -> None:
    with pytest.raises(InputError, match=message):
        engine.run(wrong)


def test_one_nan_among_many_values_is_found(engine: Engine) -> None:
    inputs = np.zeros((2, 3, 32, 32), np.float32)
    inputs[1, 2, 31, 30] = np.nan
    with pytest.raises(InputError, match="nan"):
        engine.run(inputs)


@pytest.mark.parametrize("mask", [True, False])
def test_a_masked_array_is_refused(engine: Engine, images: Array, mask: bool) -> None:
    """Its minimum and maximum are those of what the mask leaves; the engine gets all of it."""
    inputs = np.zeros((1, 3, 32, 32), np.float32)
    inputs[0, 0, 3, 3] = np.nan
    with pytest.raises(InputError, match=r"a MaskedArray, not an array.*float32 array"):
        engine.run(np.ma.masked_invalid(inputs))
    with pytest.raises(InputError, match="a MaskedArray, not an array; give a uint8 array"):
        engine(np.ma.masked_array(images, mask=mask))


def test_an_array_of_another_class_is_taken_as_its_values(engine: Engine) -> None:
    class Calm(np.ndarray):
        def min(self, *args: Any, **kwargs: Any) -> Any:
            return np.float32(0)

        max = min  # noqa: A003 - its name there

    inputs = np.full((1, 3, 32, 32), np.nan, np.float32)
    with pytest.raises(InputError, match="between nan and nan"):
        engine.run(inputs.view(Calm))
    assert engine.run(np.zeros_like(inputs).view(Calm)).shape == (1, 10)


@pytest.mark.parametrize("top", [0, -1, "3", 2.5, None, True])
def test_top_is_a_positive_whole_number(engine: Engine, images: Array, top: Any) -> None:
    with pytest.raises(InputError, match=f"top is {top!r}; give a whole number, at least 1"):
        engine.predict(images, top=top)


def test_images_need_a_known_preprocessing() -> None:
    unknown = small_engine("N,3,6,6", known=False)
    with pytest.raises(InputError, match=r"came with no preprocessing.*engine\.run"):
        unknown(np.zeros((1, 6, 6, 3), np.uint8))
    assert unknown.run(np.full((1, 3, 6, 6), 1e3, np.float32)).shape == (1, 4)
    with pytest.raises(InputError, match="inf"):
        unknown.run(np.full((1, 3, 6, 6), np.inf, np.float32))


def test_an_engine_for_something_else_than_images_is_refused() -> None:
    model = graph("g (float[N,3] x) => (float[N,4] y) { y = MatMul(x, w) }", w=random(3, 4))
    with pytest.raises(BundleError, match=r"takes \(N, 3\); expected a batch of images"):
        open_model(model, known=True, answers="logits")


def test_a_closed_engine_says_so(images: Array) -> None:
    engine = load(digits_bundle(), threads=1)
    engine.close()
    engine.close()
    for call in (
        lambda: engine(images),
        lambda: engine.predict(images),
        lambda: engine(images[:0]),
    ):
        with pytest.raises(ClosedError, match="is closed; load the bundle again"):
            call()


@pytest.mark.parametrize("name", ["ort-cpu.fp32", "ort-cpu.int8"])
def test_sixteen_threads_at_once_get_their_own_answers(name: str, images: Array) -> None:
    with load(digits_bundle(), engine=name, threads=2) as engine:
        assert wrong_answers(engine, images, engine(images), calls=25) == []


def test_closing_while_others_call_ends_cleanly(images: Array) -> None:
    engine = load(digits_bundle(), threads=1)
    unexpected: list[BaseException] = []

    def ask() -> None:
        try:
            while True:
                engine(images)
        except ClosedError:
            return
        except BaseException as error:
            unexpected.append(error)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    engine.close()
    for thread in threads:
        thread.join(30)
    assert unexpected == []
    assert not any(thread.is_alive() for thread in threads)


def test_the_table_is_the_formula_rounded_once() -> None:
    normalise = Normalisation(MEAN, STD, dtype=np.dtype(np.float32), layout=Layout.NCHW)
    exact = (np.arange(256)[None] / 255 - np.array(MEAN)[:, None]) / np.array(STD)[:, None]
    assert (normalise.table == exact.astype(np.float32)).all()
    low, high = normalise.range
    assert (low, high) == (exact.min().astype(np.float32), exact.max().astype(np.float32))
