"""The runtime libraries behind one small face: a loaded engine that maps arrays to arrays.

Each is imported when the first engine needs it. An engine is loaded from the bytes that were
checked, with every option that its `requires` in the manifest names.

Threads without work: ONNX Runtime's spin, unless told not to (`Threads.spin`), and are never bound
to a core; OpenVINO's sleep, and are bound unless told not to.
"""

from __future__ import annotations

import importlib.util
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from exporter.runtime import cuda_graphs, gpu_libraries
from exporter.runtime.description import Requirements
from exporter.runtime.errors import NoEngineError, reason_of
from exporter.runtime.machine import BF16_FLAG, cpu_flags, saturates_u8s8
from exporter.runtime.threads import Threads

Array = npt.NDArray[Any]

ALLOW_SPINNING: Final = "session.intra_op.allow_spinning"
_ORT_ERRORS_ONLY: Final = 3
_ORT_TYPES: Final[Mapping[str, np.dtype[Any]]] = {
    "tensor(float)": np.dtype(np.float32),
    "tensor(float16)": np.dtype(np.float16),
    "tensor(double)": np.dtype(np.float64),
    "tensor(uint8)": np.dtype(np.uint8),
}


@dataclass(frozen=True)
class InputSpec:
    """What a loaded engine takes as one input."""

    names: frozenset[str]
    """Those that the runtime knows it by."""
    dtype: np.dtype[Any]
    shape: tuple[int | None, ...]
    """None: any size."""


class Session(Protocol):
    """A loaded engine. `run` may be called from many threads at once."""

    inputs: tuple[InputSpec, ...]
    outputs: tuple[frozenset[str], ...]
    """Of each output the names that it has."""

    def run(self, batches: Sequence[Array]) -> list[Array]:
        """The outputs, each an array of its own, for a contiguous batch of each input's type."""
        ...


class OnnxRuntimeSession:
    """An ONNX file in ONNX Runtime."""

    def __init__(
        self,
        files: Sequence[bytes],
        precision: str,  # noqa: ARG002 - it is in the graph
        requires: Requirements,
        threads: Threads,
        providers: tuple[str, ...],
    ) -> None:
        import onnxruntime as ort

        obstacle = gpu_libraries.why_not(providers[0])
        if obstacle is not None:
            raise NoEngineError(f"{providers[0]} does not work here: {obstacle}")
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads.pool
        options.inter_op_num_threads = 1
        options.log_severity_level = _ORT_ERRORS_ONLY
        config = dict(requires.session_config)
        if saturates_u8s8(cpu_flags()):
            config.update(requires.session_config_without_vnni)
        if not threads.spin:
            config[ALLOW_SPINNING] = "0"
        try:
            for key, value in config.items():
                options.add_session_config_entry(key, value)
            self._session = ort.InferenceSession(
                files[0],
                options,
                providers=[
                    (name, dict(requires.provider_options.get(name, {}))) for name in providers
                ],
                disabled_optimizers=set(requires.disabled_optimizers),
                # Else a failed load is tried again without the disabled optimizers.
                enable_fallback=0,
            )
        except Exception as error:  # ONNX Runtime's exceptions share no narrower base
            raise _refused(f"onnxruntime {ort.__version__}", error) from None
        placed = self._session.get_providers()
        if placed[0] != providers[0]:
            raise NoEngineError(
                f"onnxruntime {ort.__version__} has no working {providers[0]} here "
                f"(it offers {', '.join(placed)}); load with device='cpu' or repair its driver"
            )
        inputs = self._session.get_inputs()
        if not inputs or any(given.type not in _ORT_TYPES for given in inputs):
            types = ", ".join(given.type for given in inputs)
            raise NoEngineError(f"it takes ({types}); expected tensors of numbers")
        self._names: list[str] = [given.name for given in inputs]
        self._outputs = [output.name for output in self._session.get_outputs()]
        as_graph = requires.provider_options.get(providers[0], {}).get(cuda_graphs.OPTION) == "1"
        self._graphs = cuda_graphs.CudaGraphs(self._session) if as_graph else None
        self.outputs = tuple(frozenset({name}) for name in self._outputs)
        self.inputs = tuple(
            InputSpec(
                frozenset({given.name}),
                _ORT_TYPES[given.type],
                tuple(size if isinstance(size, int) else None for size in given.shape),
            )
            for given in inputs
        )

    def run(self, batches: Sequence[Array]) -> list[Array]:
        feeds = dict(zip(self._names, batches, strict=True))
        if self._graphs is not None:
            return self._graphs.run(self._outputs, feeds)
        outputs: list[Array] = self._session.run(self._outputs, feeds)
        return outputs


class OpenVinoSession:
    """An OpenVINO IR (`.xml` and `.bin`). Inference requests are pooled: one serves one thread."""

    def __init__(
        self,
        files: Sequence[bytes],
        precision: str,
        requires: Requirements,
        threads: Threads,
        providers: tuple[str, ...],
    ) -> None:
        import openvino

        try:
            core = openvino.Core()
            device = providers[0]
            capabilities = core.get_property(device, "OPTIMIZATION_CAPABILITIES")
            if BF16_FLAG in requires.cpu_flags and "BF16" not in capabilities:
                raise NoEngineError("openvino has no BF16 arithmetic on this CPU")
            config = {
                "PERFORMANCE_HINT": "LATENCY",
                "NUM_STREAMS": str(threads.streams),
                "INFERENCE_NUM_THREADS": str(threads.streams * threads.each),
                # Else every process binds its threads to the same first cores: two of one thread
                # each halve each other. Alone on its cores, an engine is up to 2 % slower without.
                "ENABLE_CPU_PINNING": "NO",
                # Else it picks BF16 by itself where the CPU has it.
                "INFERENCE_PRECISION_HINT": _hint(precision, capabilities),
            }
            model = core.read_model(model=files[0], weights=files[1])
            self._model = core.compile_model(model, device, config)
            self.outputs = tuple(frozenset(output.get_names()) for output in self._model.outputs)
            self.inputs = tuple(
                InputSpec(
                    frozenset(given.get_names()),
                    np.dtype(given.element_type.to_dtype()),
                    tuple(
                        size.get_length() if size.is_static else None
                        for size in given.partial_shape
                    ),
                )
                for given in self._model.inputs
            )
        except NoEngineError:
            raise
        except Exception as error:  # RuntimeError, and pybind's own for a wrong type
            raise _refused(f"openvino {openvino.__version__}", error) from None
        self._idle: deque[Any] = deque()

    def run(self, batches: Sequence[Array]) -> list[Array]:
        try:
            request = self._idle.pop()
        except IndexError:
            request = self._model.create_infer_request()
        try:
            request.infer(dict(enumerate(batches)), share_inputs=True)
            # An output's tensor belongs to the request and is overwritten by its next use.
            return [
                np.array(request.get_output_tensor(index).data)
                for index in range(len(self.outputs))
            ]
        finally:
            self._idle.append(request)


def _hint(precision: str, capabilities: Sequence[str]) -> str:
    """OpenVINO's word for what it computes FP32 in; BF16 and INT8 are in the graph."""
    return "f16" if precision == "fp16" and "FP16" in capabilities else "f32"


@dataclass(frozen=True)
class Backend:
    """How the engines of one target are run."""

    module: str
    package: str
    """On PyPI."""
    session: type[OnnxRuntimeSession] | type[OpenVinoSession]
    device: str
    """"cpu" or "cuda"."""
    providers: tuple[str, ...]
    """The library's own words for the device."""


# Targets of the compiler that this runtime serves. TensorRT plans are served by Triton.
BACKENDS: Final[Mapping[str, Backend]] = {
    "ort-cpu": Backend(
        "onnxruntime", "onnxruntime", OnnxRuntimeSession, "cpu", ("CPUExecutionProvider",)
    ),
    "openvino": Backend("openvino", "openvino", OpenVinoSession, "cpu", ("CPU",)),
    "ort-cuda": Backend(
        "onnxruntime",
        "onnxruntime-gpu[cuda,cudnn]",
        OnnxRuntimeSession,
        "cuda",
        ("CUDAExecutionProvider", "CPUExecutionProvider"),
    ),
}


def backend_of(target: str) -> Backend | None:
    """What runs the engines of a target ("ort-cpu:amx": a variant changes the engine alone)."""
    return BACKENDS.get(target.partition(":")[0])


def is_installed(module: str) -> bool:
    """Whether a runtime library can be imported, without importing it."""
    return importlib.util.find_spec(module) is not None


def _refused(library: str, error: Exception) -> NoEngineError:
    return NoEngineError(f"{library} does not load it: {reason_of(error)}")
