"""The peers: what they are asked for is what they write."""

from __future__ import annotations

import builtins
import importlib.util
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from benchmarks.quantizers import quantize_nncf, quantize_static
from exporter.errors import InputError, MissingDependencyError, install_command
from exporter.graph.files import save
from exporter.graph.optimize import optimize
from exporter.graph.to_onnx import export
from exporter.images.samples import Samples, open_data
from exporter.models.sources import define
from exporter.progress import Silent
from tests.graphs import graph, random, relative_error
from tests.samples import samples_of


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Samples, Samples]:
    """The float32 file, samples to calibrate with and others to judge by."""
    model = define("resnet20-digits", progress=Silent())
    optimized, _ = optimize(export(model))
    path = tmp_path_factory.mktemp("digits") / "fp32.onnx"
    save(optimized, path)
    data = open_data(model.spec, None)
    return path, data.calibration.take(16), data.evaluation.take(64)


def producers(model: onnx.ModelProto) -> Mapping[str, onnx.NodeProto]:
    return {name: node for node in model.graph.node for name in node.output}


def array(model: onnx.ModelProto, name: str) -> Any:
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == name)
    return onnx.numpy_helper.to_array(tensor)


def answers(path: Path, samples: Samples) -> Any:
    import onnxruntime as ort

    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: next(samples.batches(64))})[0]


@pytest.mark.parametrize("float_head", [True, False])
def test_quantize_static_writes_u8_activations_and_s8_weights_per_channel(
    digits: tuple[Path, Samples, Samples], tmp_path: Path, float_head: bool
) -> None:
    given, calibration, evaluation = digits
    out = quantize_static(given, calibration, tmp_path / "q.onnx", float_head=float_head)
    assert [path.name for path in tmp_path.iterdir()] == ["q.onnx"] == [out.name]
    model = onnx.load(out)
    made_by = producers(model)
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    assert len(convolutions) == 21
    for node in convolutions:
        x, weight = made_by[node.input[0]], made_by[node.input[1]]
        assert x.op_type == weight.op_type == "DequantizeLinear"
        assert array(model, x.input[2]).dtype == np.uint8
        codes, scales = array(model, weight.input[0]), array(model, weight.input[1])
        assert codes.dtype == np.int8
        assert scales.shape == (codes.shape[0],)
    (classifier,) = (node for node in model.graph.node if node.op_type == "Gemm")
    quantized = made_by.get(classifier.input[1])
    assert (quantized is None) == float_head
    assert (made_by[model.graph.output[0].name].op_type == "Gemm") == float_head
    expected = answers(given, evaluation)
    assert 0 < relative_error(answers(out, evaluation), expected) < 0.05


def test_a_graph_without_pooling_has_no_head(tmp_path: Path) -> None:
    model = graph(
        "net (float[N,4,9,9] x) => (float[N,?,?,?] y) { y = Conv (x, w) }", w=random(6, 4, 3, 3)
    )
    save(model, tmp_path / "conv.onnx")
    samples = samples_of(random(8, 4, 9, 9))
    with pytest.raises(InputError, match=r"conv\.onnx has no GlobalAveragePool"):
        quantize_static(tmp_path / "conv.onnx", samples, tmp_path / "q.onnx", float_head=True)
    assert quantize_static(
        tmp_path / "conv.onnx", samples, tmp_path / "q.onnx", float_head=False
    ).exists()


def test_unfit_samples_are_an_error_that_names_the_sample(
    digits: tuple[Path, Samples, Samples], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"sample 0 .* shape"):
        quantize_static(
            digits[0], samples_of(random(8, 3, 8, 8)), tmp_path / "q.onnx", float_head=True
        )
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(
    importlib.util.find_spec("nncf") is None,
    reason="NNCF is not installed (extra `bench`)",
)
def test_nncf_writes_an_openvino_model_near_the_float_one(
    digits: tuple[Path, Samples, Samples], tmp_path: Path
) -> None:
    import openvino as ov

    given, calibration, evaluation = digits
    out = quantize_nncf(given, calibration, tmp_path / "q.xml")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["q.bin", "q.xml"]
    model = ov.Core().read_model(out)
    kinds = [op.get_type_name() for op in model.get_ordered_ops()]
    assert kinds.count("Convolution") == 21
    assert kinds.count("FakeQuantize") >= 21
    compiled = ov.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    found = compiled(next(evaluation.batches(64)))[0]
    expected = answers(given, evaluation)
    assert 0 < relative_error(found, expected) < 0.05


def test_without_nncf_the_error_says_how_to_install_it(
    digits: tuple[Path, Samples, Samples], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name.partition(".")[0] == "nncf":
            raise ModuleNotFoundError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingDependencyError, match=re.escape(install_command("cpu,bench"))):
        quantize_nncf(digits[0], digits[1], tmp_path / "q.xml")
