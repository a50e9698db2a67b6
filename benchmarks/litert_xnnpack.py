"""LiteRT (TensorFlow Lite's successor) with XNNPACK, in FP32 and in INT8 by AI Edge Quantizer."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from benchmarks.peers import Place
from exporter.artifact import Model
from exporter.disk.writing import whole_file
from exporter.errors import MissingDependencyError, install_command
from exporter.images.samples import Samples
from exporter.measure.clock import Run
from exporter.quantize.one_at_a_time import images
from exporter.targets import Array


def convert(model: Model, out: Path) -> Path:
    """Writes `out` (.tflite), in FP32, by way of `torch.export`.

    Raises:
        MissingDependencyError: LiteRT or its converter is not installed.
    """
    _require()
    assert model.module is not None
    with _quiet():
        import litert_torch

        example = (torch.zeros(1, *model.spec.image_shape),)
        program = litert_torch.convert(model.module.eval(), example)
        with whole_file(out) as file:
            program.export(str(file))
    return out


def quantize(graph: Path, samples: Samples, out: Path) -> Path:
    """Writes `out`: a file of `convert` with weights and activations in 8 bits, its ends in float.

    Raises:
        MissingDependencyError: LiteRT or its quantizer is not installed.
    """
    _require()
    with _quiet():
        from ai_edge_litert.interpreter import Interpreter
        from ai_edge_quantizer import qtyping, quantizer, recipe

        interpreter = Interpreter(model_path=str(graph))
        ((signature, names),) = interpreter.get_signature_list().items()
        (given,) = interpreter.get_input_details()
        making = quantizer.Quantizer(str(graph), recipe.static_wi8_ai8())
        for end in (qtyping.TFLOperationName.INPUT, qtyping.TFLOperationName.OUTPUT):
            making.update_quantization_recipe(
                ".*", end, algorithm_key=recipe.AlgorithmName.NO_QUANTIZE
            )
        feeds = [{names["inputs"][0]: x} for x in images(samples, tuple(given["shape"].tolist()))]
        found = making.quantize(making.calibrate({signature: feeds}))
        with whole_file(out) as file:
            file.write_bytes(bytes(found.quantized_model))
    return out


def load(job: Mapping[str, Any]) -> Place:
    """The file of `convert` or `quantize`, its memory planned anew for another batch size."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=job["path"], num_threads=job["threads"])
    given = interpreter.get_input_details()[0]["index"]
    answer = interpreter.get_output_details()[0]["index"]

    def place(batch: Array) -> Run:
        def run() -> Array:
            interpreter.set_tensor(given, batch)
            interpreter.invoke()
            found: Array = interpreter.get_tensor(answer)
            return found

        interpreter.resize_tensor_input(given, batch.shape)
        interpreter.allocate_tensors()
        return run

    return place


def _require() -> None:
    for library in ("ai_edge_litert", "ai_edge_quantizer", "litert_torch"):
        if importlib.util.find_spec(library) is None:
            raise MissingDependencyError(
                f"{library.replace('_', '-')} is not installed; run: "
                f"{install_command('bench-litert')}"
            )


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what the converter warns of in its own libraries."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
