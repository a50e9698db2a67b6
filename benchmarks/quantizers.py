"""What ONNX Runtime's and OpenVINO's own quantizers make of a plain export, with their defaults."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from exporter.data import Samples
from exporter.errors import MissingDependencyError


def quantize_static(graph: Path, samples: Samples, out: Path, *, float_head: bool) -> Path:
    """ONNX Runtime's `quantize_static` with its defaults; writes `out`."""
    import onnx
    from onnxruntime.quantization import CalibrationDataReader
    from onnxruntime.quantization import quantize_static as quantize

    name = onnx.load(graph, load_external_data=False).graph.input[0].name

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._batches = samples.batches(1)

        def get_next(self) -> dict[str, Any] | None:
            batch = next(self._batches, None)
            return None if batch is None else {name: batch}

    exclude = ["Gemm"] if float_head else []
    del exclude
    partial = out.with_suffix(".partial.onnx")
    quantize(graph, partial, Reader())
    partial.replace(out)
    return out


def quantize_nncf(graph: Path, samples: Samples, out: Path) -> Path:
    """NNCF's post-training quantization with its defaults; writes `out`, an OpenVINO .xml."""
    try:
        import nncf
    except ModuleNotFoundError:
        raise MissingDependencyError(
            "nncf is not installed: pip install 'resnet-exporter[bench]'"
        ) from None
    import openvino as ov

    model = ov.Core().read_model(graph)
    quantized = nncf.quantize(model, nncf.Dataset(list(samples.batches(1))))
    ov.save_model(quantized, out, compress_to_fp16=False)
    return out
