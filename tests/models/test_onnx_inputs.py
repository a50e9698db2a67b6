"""ONNX files of several inputs: what they may be, and the one batch that all of them have."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from exporter.artifact import Model
from exporter.errors import InputError
from exporter.models.onnx_file import load_onnx
from tests.foreign import refused

WEIGHTS = {"w": (4, 3, 3, 3), "v": (4, 1, 3, 3), "m": (6, 4)}


def file(inputs: str, folder: Path, *, read: str = "Cast <to=1> (mask)") -> Path:
    """A convolution of each picture, the mask's cast before, and a product of the vector."""
    text = f"""<ir_version: 9, opset_import: ["" : 17]>
        net ({inputs}) => (float[N, 4] y) {{
            shade = {read}
            a = Conv (image, w)
            b = Conv (shade, v)
            both = Add (a, b)
            pooled = GlobalAveragePool (both)
            rows = Flatten (pooled)
            told = MatMul (about, m)
            y = Add (rows, told)
        }}"""
    proto = onnx.parser.parse_model(text)
    random = np.random.default_rng(0)
    for name, shape in WEIGHTS.items():
        values = random.standard_normal(shape, np.float32)
        proto.graph.initializer.append(numpy_helper.from_array(values, name))
    path = folder / "net.onnx"
    path.write_bytes(proto.SerializeToString())
    return path


def taken(inputs: str, folder: Path) -> Model:
    return load_onnx(file(inputs, folder))


def test_pictures_masks_and_vectors_are_taken(tmp_path: Path) -> None:
    model = taken("float[N,3,8,8] image, uint8[N,1,8,8] mask, float[N,6] about", tmp_path)
    assert [(one.name, one.dtype, one.shape) for one in model.spec.inputs] == [
        ("image", "float32", ("N", 3, 8, 8)),
        ("mask", "uint8", ("N", 1, 8, 8)),
        ("about", "float32", ("N", 6)),
    ]
    assert model.spec.output.shape == ("N", 4)


@pytest.mark.parametrize(
    ("batches", "expected"),
    [("NMK", "N"), ("NNN", "N"), ("??B", "B"), ("???", "batch"), ("222", 2), ("111", 1)],
)
def test_all_have_one_batch(batches: str, expected: str | int, tmp_path: Path) -> None:
    image, mask, about = list(batches)
    model = taken(
        f"float[{image},3,8,8] image, uint8[{mask},1,8,8] mask, float[{about},6] about", tmp_path
    )
    assert {one.shape[0] for one in model.spec.inputs} == {expected}
    assert model.given is not None
    given = onnx.load_model_from_string(model.given).graph.input
    dims = [value.type.tensor_type.shape.dim[0] for value in given]
    assert {dim.dim_param or dim.dim_value for dim in dims} == {expected}


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (
            "float[N,3,8,8] image, uint8[1,1,8,8] mask, float[N,6] about",
            r"different batches \(image dynamic, mask 1, about dynamic\)",
        ),
        (
            "float[N,3,8,8] image, int64[N,1,8,8] mask, float[N,6] about",
            "the input 'mask' is INT64, expected a batch of images",
        ),
        (
            "float[N,3,8,8] image, uint8[N,1,8,8] mask, float[N,K] about",
            "the length of the input 'about' must be fixed",
        ),
        (
            "float[N,3,8,8] image, uint8[N,1,H,8] mask, float[N,6] about",
            "height and width of the input 'mask' must be fixed",
        ),
        (
            "float[N,3,8,8] image, uint8[N,1,8,8] mask, float[N,1,6] about",
            r"'about' has 3 dimensions, .* or vectors, float32 \(N, K\)",
        ),
        (
            "float[N,3,8,8] image, uint8[N,1,8,8] mask, uint8[N,6] about",
            "'about' has 2 dimensions",
        ),
    ],
)
def test_what_does_not_fit_is_refused(inputs: str, message: str, tmp_path: Path) -> None:
    refused(file(inputs, tmp_path), message)


def test_one_must_be_a_picture(tmp_path: Path) -> None:
    proto = onnx.parser.parse_model(
        """<ir_version: 9, opset_import: ["" : 17]>
        net (float[N,6] a, float[N,6] b) => (float[N,6] y) { y = Add (a, b) }"""
    )
    path = tmp_path / "net.onnx"
    path.write_bytes(proto.SerializeToString())
    with pytest.raises(InputError, match="none of the inputs a, b is a batch of images"):
        load_onnx(path)


def test_the_answer_depends_on_its_own_sample_alone(tmp_path: Path) -> None:
    inputs = "float[N,3,8,8] image, float[N,1,8,8] mask, float[N,6] about"
    mixing = "ReduceMean <axes=[0], keepdims=1> (mask)"
    refused(file(inputs, tmp_path, read=mixing), "depends on the other images of its batch")
