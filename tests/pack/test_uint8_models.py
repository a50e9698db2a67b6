"""Models that take 8-bit images themselves, as somebody else's ONNX file may."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from exporter.artifact import Precision
from exporter.builds.request import ExportRequest
from exporter.pack.formats import pack
from exporter.pack.request import PackRequest
from exporter.pipeline import export_model
from exporter.progress import Silent
from exporter.runtime import load
from tests.packed import pack_build

SIDE = 8
CLASSES = 5


def write_model(path: Path, channels: int, *, last: bool) -> Path:
    """A convolutional classifier of pixels, its scaling inside."""
    rng = np.random.default_rng(0)
    weights = {
        "scale": np.float32(1 / 255),
        "w": rng.standard_normal((4, channels, 3, 3)).astype(np.float32),
        "fc": rng.standard_normal((CLASSES, 4)).astype(np.float32),
    }
    order = [0, 3, 1, 2] if last else [0, 1, 2, 3]
    nodes = [
        helper.make_node("Cast", ["pixels"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["float", "scale"], ["scaled"]),
        helper.make_node("Transpose", ["scaled"], ["planes"], perm=order),
        helper.make_node("Conv", ["planes", "w"], ["convolved"], name="conv"),
        helper.make_node("Relu", ["convolved"], ["rectified"]),
        helper.make_node("GlobalAveragePool", ["rectified"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["features"]),
        helper.make_node("Gemm", ["features", "fc"], ["logits"], transB=1, name="fc"),
    ]
    shape: list[str | int | None] = (
        ["N", SIDE, SIDE, channels] if last else ["N", channels, SIDE, SIDE]
    )
    graph = helper.make_graph(
        nodes,
        "pixels_in",
        [helper.make_tensor_value_info("pixels", TensorProto.UINT8, shape)],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", CLASSES])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)
    return path


def build_of(model: Path) -> Path:
    request = ExportRequest(
        source=str(model),
        targets=("ort-cpu",),
        precisions=(Precision.FP32,),
        out=model.parent / "build",
        samples=8,
        measure=False,
        allow_partial=True,
        threads=1,
    )
    return export_model(request, Silent()).folder


@pytest.mark.parametrize("last", [True, False], ids=["NHWC", "NCHW"])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_bundle_takes_images_in_one_layout(tmp_path: Path, channels: int, last: bool) -> None:
    given = write_model(tmp_path / "given.onnx", channels, last=last)
    build = build_of(given)
    bundle = pack_build(build, tmp_path / "bundle")
    with np.load(bundle / "golden.npz") as goldens:
        assert "images" in goldens
    images = np.random.default_rng(1).integers(0, 256, (3, SIDE, SIDE, channels), np.uint8)
    tensors = images if last else np.ascontiguousarray(images.transpose(0, 3, 1, 2))
    reference = onnxruntime.InferenceSession(given, providers=["CPUExecutionProvider"])
    expected = reference.run(None, {"pixels": tensors})[0]
    with load(bundle) as engine:
        assert engine.image_shape == (SIDE, SIDE, channels)
        assert np.abs(engine(images) - expected).max() < 1e-4
        assert np.abs(engine.run(tensors) - expected).max() < 1e-4
        assert (engine.prepare(images) == tensors).all()
    node = pack(PackRequest(build, format="node", out=tmp_path / "node"), Silent()).path
    contract = json.loads((node / "model.json").read_text())
    assert contract["layout"] == ("NHWC" if last else "NCHW")
    assert contract["goldens"]["images"]
