"""OpenVINO's compiled models: the one place that says with which options they are made.

OpenVINO computes FP32 graphs in BF16 where the CPU can, unless told otherwise; so the precision
hint is always given: f16 for FP16 engines, f32 for all others. INT8 comes from the graph's Q/DQ,
BF16 from its types: the hint bf16 would compute in BF16 what was to be kept in FP32, too.
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
from exporter.runtime.inputs import by_name
from exporter.targets.target import Array, ServerConfig

PRECISION: Final = ["exporter", "precision"]
"""Where an IR keeps the precision that it was built for (OpenVINO's rt_info)."""


class OpenVinoSession:
    """A compiled model; `run` answers with its first output.

    A batch is (N, ...) of its one input, or records (N,) of several (`runtime/inputs.py`).
    """

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
        """The first output for a batch.

        Raises:
            BuildError: the session is closed, or OpenVINO refuses the input.
        """
        return self.run_all(batch)[0]

    def run_all(self, batch: Array) -> tuple[Array, ...]:
        """Every output for a batch, in order."""
        return self._infer({0: batch} if batch.dtype.names is None else by_name(batch, ""))

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

    `counted`: with a counter for each kernel's time.

    Raises:
        BuildError: the IR is not ours, or has BF16 in it, which this CPU would compute in FP32.
    """
    import openvino as ov

    if has_bf16(model) and not computes_in("BF16"):
        raise BuildError("OpenVINO has no BF16 arithmetic on this CPU and would compute in FP32")
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "INFERENCE_PRECISION_HINT": _hint(_precision_of(model)),
        "PERF_COUNT": counted,
    }
    return ov.Core().compile_model(model, "CPU", settings)


def served_settings(streams: int, threads: int) -> ServerConfig:
    """What another server of OpenVINO is told so that it computes as `exporter.runtime` does.

    FP16 engines, too, are computed in FP32 there: what the server's CPU can is not known, and f16
    would be BF16 on one with that and no FP16.
    """
    return {
        "NUM_STREAMS": str(streams),
        "INFERENCE_NUM_THREADS": streams * threads,
        "ENABLE_CPU_PINNING": False,
        "INFERENCE_PRECISION_HINT": "f32",
    }


def has_bf16(model: Any) -> bool:
    """Whether anything in an IR is of that type: all of it, or the blocks that `mixed` keeps."""
    import openvino as ov

    results = (output for op in model.get_ops() for output in op.outputs())
    return any(output.get_element_type() == ov.Type.bf16 for output in results)


def _precision_of(model: Any) -> Precision:
    if not model.has_rt_info(PRECISION):
        raise BuildError("this IR was not written by this tool: it names no precision")
    return Precision(model.get_rt_info(PRECISION).astype(str))


def _hint(precision: Precision) -> str:
    """Without FP16 arithmetic such an engine is computed in FP32, as its receipt says."""
    return "f16" if precision is Precision.FP16 and computes_in("FP16") else "f32"


def computes_in(capability: str) -> bool:
    """Whether the plugin has kernels of a type ("FP16", "BF16") for this CPU."""
    import openvino as ov

    return capability in ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def version() -> str:
    """OpenVINO's, as its package tells it."""
    return host.versions().get("openvino", "?")
