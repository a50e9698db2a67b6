"""ONNX Runtime sessions: the one place that says with which options they are made.

What the options guard against (each was met in ONNX Runtime 1.32):

* `WeightBiasQuantization` quantizes a convolution that was *kept* in float, if its input is
  dequantized and its output quantized. It is disabled everywhere, in debug copies too.
* U8 x S8 products saturate in 16 bits on x86 CPUs without VNNI. `session.x64quantprecision`
  prevents that by making the weights U8; but it does so on CPUs with VNNI as well, where nothing
  saturates and the U8 x U8 kernels are three times slower. So it is set on the serving machine,
  by its CPU flags, and only where they lack VNNI.
* `InferenceSession` answers some failures by a second try, without the disabled optimizers and
  with a message on stdout. That is switched off.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from exporter.errors import BuildError
from exporter.runtime.cuda_graphs import NO_GRAPH, CudaGraphs, run_options
from exporter.runtime.errors import reason_of
from exporter.runtime.inputs import by_name
from exporter.runtime.machine import cpu_flags, saturates_u8s8
from exporter.targets.target import Array

if TYPE_CHECKING:
    import onnxruntime as ort
    import torch

DISABLED_OPTIMIZERS: Final = ("WeightBiasQuantization",)
CONFIG_WITHOUT_VNNI: Final[Mapping[str, str]] = MappingProxyType({"session.x64quantprecision": "1"})
"""What a session on an INT8 graph needs on an x86 CPU without VNNI."""

WARM_UP: Final = 2
FEWEST_RUNS: Final = 3
CPU: Final = ("CPUExecutionProvider",)
_FATAL: Final = 4
"""The log level for fatal errors alone: what else goes wrong is in the exception."""


def session_options(threads: int, *, optimize: bool = True) -> ort.SessionOptions:
    """The options that every session of ours starts from: sequential, on `threads` threads."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = _FATAL
    level = ort.GraphOptimizationLevel
    options.graph_optimization_level = level.ORT_ENABLE_ALL if optimize else level.ORT_DISABLE_ALL
    if saturates_u8s8(cpu_flags()):
        for key, value in CONFIG_WITHOUT_VNNI.items():
            options.add_session_config_entry(key, value)
    return options


def make_session(
    model: Path | bytes, options: ort.SessionOptions, providers: Sequence[str] = CPU
) -> ort.InferenceSession:
    """A session on an ONNX file, or on its bytes.

    Raises:
        BuildError: ONNX Runtime refuses the model.
    """
    import onnxruntime as ort

    try:
        return ort.InferenceSession(
            str(model) if isinstance(model, Path) else model,
            options,
            providers=list(providers),
            disabled_optimizers=set(DISABLED_OPTIMIZERS),
            enable_fallback=0,
        )
    except Exception as error:  # its exceptions share no narrower base
        name = model.name if isinstance(model, Path) else "the given model"
        reason = reason_of(error)
        raise BuildError(f"onnxruntime {version()} does not load {name}: {reason}") from None


def version() -> str:
    """ONNX Runtime's, as the library itself tells it."""
    import onnxruntime as ort

    return str(ort.__version__)


class OrtSession:
    """A loaded graph; `run` answers with its first output.

    A batch is (N, ...) of its one input, or records (N,) of several (`runtime/inputs.py`).
    """

    def __init__(self, session: ort.InferenceSession, *, cuda_graphs: bool = False) -> None:
        """`cuda_graphs`: the session's CUDA provider was made with `enable_cuda_graph`."""
        self._session: ort.InferenceSession | None = session
        self._graphs = CudaGraphs(session) if cuda_graphs else None
        self._input: str = session.get_inputs()[0].name
        self._outputs: list[str] = [output.name for output in session.get_outputs()]
        self._output = self._outputs[0]

    @property
    def replays_cuda_graphs(self) -> bool:
        """Whether ONNX Runtime launches an inference as one CUDA graph."""
        return self._graphs is not None

    def run(self, batch: Array) -> Array:
        """The first output for a batch of the type that the graph's input has.

        Raises:
            BuildError: the session is closed, or ONNX Runtime refuses the input.
        """
        return self._run([self._output], by_name(batch, self._input))[0]

    def run_all(self, batch: Array) -> list[Array]:
        """Every output for a batch, in order.

        Raises:
            BuildError: as `run`.
        """
        return self._run(self._outputs, by_name(batch, self._input))

    def run_named(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Every output by its name, for every input by its name.

        Raises:
            BuildError: as `run`.
        """
        return dict(zip(self._outputs, self._run(self._outputs, feeds), strict=True))

    def _run(self, outputs: list[str], feeds: Mapping[str, Array]) -> list[Array]:
        if self._session is None:
            raise BuildError("this ONNX Runtime session is closed; open the engine again")
        try:
            contiguous = {name: np.ascontiguousarray(batch) for name, batch in feeds.items()}
            if self._graphs is not None:
                return self._graphs.run(outputs, contiguous)
            answers: list[Array] = self._session.run(outputs, contiguous)
        except Exception as error:
            reason = reason_of(error)
            raise BuildError(f"onnxruntime {version()} failed to run: {reason}") from None
        return answers

    def bind(self, given: torch.Tensor) -> Callable[[], torch.Tensor]:
        """One inference by IO binding: input and outputs stay on the tensor's device.

        A call has ended when it returns: ONNX Runtime waits for its own stream.

        Raises:
            BuildError: the session is closed, or ONNX Runtime refuses the input.
        """
        import torch

        if self._session is None:
            raise BuildError("this ONNX Runtime session is closed; open the engine again")
        session = self._session
        place = (given.device.type, given.device.index or 0)
        binding = session.io_binding()
        shape = tuple(given.shape)
        kind = _element_type(session.get_inputs()[0].type)
        binding.bind_input(self._input, *place, np.dtype(kind), shape, given.data_ptr())
        for name in self._outputs:
            binding.bind_output(name, *place)

        def start(options: ort.RunOptions | None) -> None:
            if given.is_cuda:  # what fills the input is on another stream than ONNX Runtime's
                torch.cuda.current_stream().synchronize()
            try:
                session.run_with_iobinding(binding, options)
            except Exception as error:
                reason = reason_of(error)
                raise BuildError(f"onnxruntime {version()} failed to run: {reason}") from None

        # The first run tells how large the outputs are; from then on each has a place, which a
        # graph needs.
        start(None if self._graphs is None else run_options(NO_GRAPH))
        answers = []
        for name, found in zip(self._outputs, binding.get_outputs(), strict=True):
            kind = _element_type(found.data_type())
            answer = torch.empty(found.shape(), dtype=getattr(torch, kind), device=given.device)
            binding.bind_output(
                name, *place, np.dtype(kind), tuple(found.shape()), answer.data_ptr()
            )
            answers.append(answer)
        graph = None if self._graphs is None else self._graphs.new_graph()

        def run() -> torch.Tensor:
            start(graph)
            return answers[0]

        return run

    def close(self) -> None:
        """Frees the session and its threads."""
        self._session = self._graphs = None

    def __enter__(self) -> OrtSession:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


_NAMES: Final = MappingProxyType({"float": "float32", "double": "float64"})


def _element_type(described: str) -> str:
    """ONNX Runtime's "tensor(float)" in the words of numpy and PyTorch: "float32"."""
    name = described.removeprefix("tensor(").removesuffix(")")
    return _NAMES.get(name, name)


def open_graph(graph: Path, threads: int) -> OrtSession:
    """An ONNX file as it is written: ONNX Runtime's optimizations are off.

    This is how a lowered graph is checked where its engine cannot run. One in BF16, of which there
    are no kernels here, is computed in float32 and rounded where BF16 would be.
    """
    content = _without_bf16(graph)
    return OrtSession(make_session(content, session_options(threads, optimize=False)))


def _without_bf16(graph: Path) -> Path | bytes:
    """The same file, where nothing in it is BF16."""
    import onnx
    import onnx_ir as ir

    from exporter.graph.files import serialize
    from exporter.passes.widen_bf16 import widen_bf16

    proto = onnx.load(graph)
    weights = (tensor.data_type for tensor in proto.graph.initializer)
    if onnx.TensorProto.BFLOAT16 not in weights:
        return graph
    model = ir.from_proto(proto)
    widen_bf16(model)
    return serialize(model)


def profile_session(
    model: Path, folder: Path, threads: int, batch: Array, budget_s: float
) -> tuple[Any, list[list[tuple[str, float]]]]:
    """A session's optimized model, and for each inference its nodes with their microseconds."""
    import onnx

    optimized = folder / "optimized.onnx"
    options = _writing(session_options(threads), optimized)
    options.enable_profiling = True
    options.profile_file_prefix = str(folder / "profile")
    session = make_session(model, options)
    given = by_name(batch, session.get_inputs()[0].name)
    feeds = {name: np.ascontiguousarray(one) for name, one in given.items()}
    runs, begin = 0, 0.0
    while runs < WARM_UP + FEWEST_RUNS or time.perf_counter() - begin < budget_s:
        if runs == WARM_UP:
            begin = time.perf_counter()
        session.run(None, feeds)
        runs += 1
    events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    end = "_kernel_time"
    timed = [
        (event["name"].removesuffix(end), float(event["dur"]))
        for event in events
        if event.get("cat") == "Node" and event["name"].endswith(end)
    ]
    size = len(timed) // runs
    each = [timed[i * size : (i + 1) * size] for i in range(WARM_UP, runs)]
    return onnx.load(optimized, load_external_data=False), each


def _writing(options: ort.SessionOptions, optimized: Path) -> ort.SessionOptions:
    """The options, with the model that is executed written there, its large weights beside it."""
    options.optimized_model_filepath = str(optimized)
    # Names and types are all that is asked of the weights.
    options.add_session_config_entry(
        "session.optimized_model_external_initializers_file_name", "optimized.weights"
    )
    options.add_session_config_entry(
        "session.optimized_model_external_initializers_min_size_in_bytes", "1024"
    )
    return options


def write_optimized(model: Path, folder: Path) -> Any:
    """The `onnx.ModelProto` of what a session really executes, without its large weights.

    Level 3 layouts (NCHWc, NHWC) are in it. Its operators are ONNX Runtime's own, so that
    `onnx.checker` knows nothing of them.
    """
    import onnx

    optimized = folder / "optimized.onnx"
    make_session(model, _writing(session_options(1), optimized))
    return onnx.load(optimized, load_external_data=False)
