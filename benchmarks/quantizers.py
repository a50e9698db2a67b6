"""The quantizers that ours is compared with, each as its own documentation uses it.

    ONNX Runtime   `quantize_static`: QDQ, U8 activations, S8 per-channel weights, min-max ranges
    NNCF           `nncf.quantize` on the OpenVINO model, its default preset

Both read the calibration images one at a time, in the order in which our own calibration does.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnx

from exporter.disk.writing import whole_file
from exporter.errors import InputError, MissingDependencyError, install_command
from exporter.images.samples import Samples
from exporter.quantize.one_at_a_time import images

POOLS: Final = ("GlobalAveragePool", "AveragePool", "ReduceMean")


def quantize_static(graph: Path, samples: Samples, out: Path, *, float_head: bool) -> Path:
    """ONNX Runtime's own post-training quantization of a float32 ONNX file; writes and returns it.

    With `float_head` all that comes after the last pooling (flattening, classifier, softmax) stays
    float; without it, it is quantized as `quantize_static` does where nothing is said.

    Raises:
        InputError: the samples are not the model's input, or there is no pooling to find a head by.
    """
    from onnxruntime.quantization import (
        CalibrationDataReader,
        CalibrationMethod,
        QuantFormat,
        QuantType,
    )
    from onnxruntime.quantization import quantize_static as quantize

    model = onnx.load(graph)
    name, shape = _input_of(model)

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        """Feeds the images one at a time."""

        def __init__(self) -> None:
            self._images = images(samples, shape)

        def get_next(self) -> dict[str, npt.NDArray[np.float32]] | None:
            image = next(self._images, None)
            return None if image is None else {name: image}

    with whole_file(out) as file:
        logger = logging.getLogger()
        level = logger.level
        logger.setLevel(logging.ERROR)  # it asks for a pre-processing that our pipeline has done
        try:
            quantize(
                model,
                file,
                Reader(),
                quant_format=QuantFormat.QDQ,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                per_channel=True,
                calibrate_method=CalibrationMethod.MinMax,
                nodes_to_exclude=_head(model.graph, graph.name) if float_head else [],
            )
        finally:
            logger.setLevel(level)
    return out


def quantize_nncf(graph: Path, samples: Samples, out: Path) -> Path:
    """NNCF's post-training quantization of the OpenVINO model of a float32 ONNX file.

    `out` is the `.xml` to write, which is returned; the weights are written beside it as `.bin`.

    Raises:
        InputError: the samples are not the model's input.
        MissingDependencyError: NNCF is not installed.
    """
    try:
        import nncf
        import openvino as ov
    except ImportError:
        raise MissingDependencyError(
            "NNCF is not installed, which the comparison with it needs; "
            f"run: {install_command('cpu,bench')}"
        ) from None
    _, shape = _input_of(onnx.load(graph, load_external_data=False))
    nncf.set_log_level(logging.ERROR)
    quantized = nncf.quantize(
        ov.Core().read_model(graph),
        nncf.Dataset(_Repeatable(samples, shape)),
        subset_size=samples.count,
    )
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as folder:
        partial = Path(folder) / "model.xml"
        ov.save_model(quantized, partial, compress_to_fp16=False)
        partial.with_suffix(".bin").replace(out.with_suffix(".bin"))
        partial.replace(out)
    return out


class _Repeatable:
    """The images, from the first one each time that somebody iterates over them."""

    def __init__(self, samples: Samples, shape: tuple[int | str | None, ...]) -> None:
        self._samples = samples
        self._shape = shape

    def __iter__(self) -> Iterator[npt.NDArray[np.float32]]:
        return iter(images(self._samples, self._shape))

    def __len__(self) -> int:
        return self._samples.count


def _input_of(model: onnx.ModelProto) -> tuple[str, tuple[int | str | None, ...]]:
    weights = {tensor.name for tensor in model.graph.initializer}
    given = next(value for value in model.graph.input if value.name not in weights)
    sizes: list[int | str | None] = [
        size.dim_value if size.HasField("dim_value") else size.dim_param or None
        for size in given.type.tensor_type.shape.dim
    ]
    return given.name, tuple(sizes)


def _head(graph: Any, name: str) -> list[str]:
    """The names of all nodes that depend on the last pooling to a vector."""
    pools = [node for node in graph.node if node.op_type in POOLS]
    if not pools:
        raise InputError(f"{name} has no {' or '.join(POOLS)}, so that its head cannot be found")
    reached = set(pools[-1].output)
    head = []
    for node in graph.node:
        if reached.intersection(node.input):
            reached.update(node.output)
            head.append(node.name)
    return head
