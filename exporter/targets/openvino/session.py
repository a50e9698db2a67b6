"""OpenVINO's compiled models: the one place that says with which options they are made.

OpenVINO computes FP32 graphs in BF16 where the CPU can, unless told otherwise; so the precision
hint is always given: f16 for FP16 engines, f32 for all others (INT8 comes from the graph's Q/DQ).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from exporter import host
from exporter.artifact import Precision
from exporter.errors import BuildError
from exporter.runtime.errors import reason_of
from exporter.targets.target import Array

PRECISION: Final = ["exporter", "precision"]
"""Where an IR keeps the precision that it was built for (OpenVINO's rt_info)."""


class OpenVinoSession:
    """A compiled model; `run` takes its first input and answers with its first output."""

    def __init__(self, compiled: Any) -> None:
        self._compiled: Any = compiled
        self._request: Any = compiled.create_infer_request()
        # Asked for once: it takes longer than the smallest networks do.
        self._names = [
            (index, name)
            for index, output in enumerate(compiled.outputs)
            for name in (sorted(output.get_names()) or [output.get_node().get_friendly_name()])
        ]

    def run(self, batch: Array) -> Array:
        """The first output for (N, ...) inputs.

        Raises:
            BuildError: the session is closed, or OpenVINO refuses the input.
        """
        return self._infer({0: batch})[0]

    def run_all(self, batch: Array) -> tuple[Array, ...]:
        """Every output for (N, ...) inputs, in order."""
        return self._infer({0: batch})

    def run_named(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Every output by its tensor's name, for every input by its name."""
        answers = self._infer(dict(feeds))
        return {name: answers[index] for index, name in self._names}

    def _infer(self, feeds: Mapping[Any, Array]) -> tuple[Array, ...]:
        """All outputs in order, each a copy of its own."""
        if self._request is None:
            raise BuildError("this OpenVINO session is closed; open the engine again")
        contiguous = {key: np.ascontiguousarray(value) for key, value in feeds.items()}
        try:
            answers = self._request.infer(contiguous, share_inputs=True, share_outputs=False)
        except RuntimeError as error:
            reason = reason_of(error)
            raise BuildError(f"openvino {version()} failed to run: {reason}") from None
        outputs: tuple[Array, ...] = answers.to_tuple()
        return outputs

    def close(self) -> None:
        """Frees the request and the compiled model."""
        self._request = None
        self._compiled = None

    def __enter__(self) -> OpenVinoSession:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def read_model(engine: Path) -> Any:
    """An IR, not yet compiled."""
    import openvino as ov

    return ov.Core().read_model(engine)


def compile_model(model: Any, threads: int, *, counted: bool = False) -> Any:
    """The model compiled for this CPU, one stream on `threads` threads.

    `counted`: with a counter for each kernel's time. Raises BuildError where the IR is not ours.
    """
    import openvino as ov

    half = _precision_of(model) is Precision.FP16
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "INFERENCE_PRECISION_HINT": "f16" if half and has_fp16() else "f32",
        "PERF_COUNT": counted,
    }
    return ov.Core().compile_model(model, "CPU", settings)


def _precision_of(model: Any) -> Precision:
    if not model.has_rt_info(PRECISION):
        raise BuildError("this IR was not written by this tool: it names no precision")
    return Precision(model.get_rt_info(PRECISION).astype(str))


def has_fp16() -> bool:
    """Whether the plugin computes in FP16 on this CPU."""
    import openvino as ov

    return "FP16" in ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def version() -> str:
    """OpenVINO's, as its package tells it."""
    return host.versions().get("openvino", "?")
