"""OpenVINO on CPUs.

The engine is OpenVINO's own IR (`.xml` and `.bin`), made from the lowered ONNX file with nothing
optimized yet but how INT8 takes the image (`INT8_FORMS`): OpenVINO compiles it for the CPU that it
finds. What it made is read from the compiled model's execution graph, in which each node names its
layer type, its runtime precision and the layers that were fused into it.

OpenVINO computes FP32 graphs in BF16 where the CPU can, unless told otherwise; so the precision
hint is always given: f16 for FP16 engines, f32 for all others (INT8 comes from the graph's Q/DQ).
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import openvino as ov

from exporter import host
from exporter.artifact import Dialect, Kernel, Precision, Skipped, Verdict
from exporter.disk.writing import whole_file
from exporter.errors import BuildError, UsageError
from exporter.passes.forms.signed_input import signed_input
from exporter.targets import Array, BuildOptions, BuildResult, TimedRun, UnreadableKernels
from exporter.targets.int8_forms import Form, in_fast_form

INT8_FORMS: Final[tuple[Form, ...]] = (signed_input,)
"""Passes after which OpenVINO computes an INT8 graph sooner."""

_PRECISION: Final = ["exporter", "precision"]
"""Where an IR keeps the precision that it was built for (OpenVINO's rt_info)."""

_DTYPES: Final[Mapping[str, str]] = {
    "f32": "fp32", "f16": "fp16", "bf16": "bf16", "u8": "int8", "i8": "int8",
}  # fmt: skip

# Layer types of the CPU plugin's execution graph; what they compute, where the name says it all.
_LAYERS: Final[Mapping[str, tuple[str, ...]]] = {
    "Reorder": ("reorder",),
    "Reshape": ("reorder",),
    "Transpose": ("reorder",),
    "Convert": ("cast",),
    "FakeQuantize": ("quantize",),
    "FullyConnected": ("gemm",),
    "MatMul": ("gemm",),
    "Softmax": ("softmax",),
    "Reduce": ("avgpool",),
    "Math": ("pointwise",),
}
# Operators of the IR; an Add of two computed tensors is "add", one with a constant is a bias.
_OPERATORS: Final[Mapping[str, str]] = {
    "Relu": "relu", "MaxPool": "maxpool", "AvgPool": "avgpool", "ReduceMean": "avgpool",
    "BatchNormInference": "batchnorm", "MatMul": "gemm",
}  # fmt: skip


class OpenVino:
    """Target `openvino`."""

    family = name = "openvino"
    has_profiles = False
    accepts_fallback = False
    prediction_example = ""

    def __init__(self, variant: str = "") -> None:
        if variant:
            raise UsageError(f"target openvino has no variant {variant!r}; write openvino")

    def dialect(self, precision: Precision) -> Dialect:
        return Dialect.U8_ASYMMETRIC if precision is Precision.INT8 else Dialect.FLOAT

    def expected(self, precision: Precision) -> Verdict:
        # Without FP16 arithmetic the plugin computes such a graph in FP32.
        if precision is Precision.FP16 and not _has_fp16():
            return Verdict.PARTIAL
        return Verdict.FUSED

    def runs_here(self) -> Skipped | None:
        return None

    def build(
        self, graph: Path, precision: Precision, out: Path, options: BuildOptions
    ) -> BuildResult:
        """Writes `<out>.xml` and `<out>.bin`.

        Raises:
            UsageError: a setting was given; this target has none.
            BuildError: OpenVINO refuses the graph, or a file cannot be written.
        """
        if options.settings:
            raise UsageError(
                f"target openvino has no setting {next(iter(options.settings))!r}; leave it out"
            )
        xml, weights = out.with_name(f"{out.name}.xml"), out.with_name(f"{out.name}.bin")
        try:
            content = graph.read_bytes()
            if precision is Precision.INT8:
                content = in_fast_form(content, INT8_FORMS)
            model = ov.Core().read_model(content, b"")
            model.set_friendly_name(out.name)
            _name_reproducibly(model, content)
            model.set_rt_info(str(precision), _PRECISION)
            with whole_file(weights) as binary, whole_file(xml) as file:
                ov.serialize(model, file, binary)
                _compile(ov.Core().read_model(file, binary), 1)
        except (RuntimeError, OSError) as error:
            reason = " ".join(str(error).split())
            raise BuildError(
                f"openvino {_version()} does not build {graph.name}: {reason}"
            ) from None
        requires = {"cpu_flags": [], "versions": {"openvino": _version()}}
        return BuildResult(files=(xml, weights), requires=requires)

    def open(self, engine: Path, threads: int) -> OpenVinoSession:
        """Compiles an IR for this CPU, one stream on `threads` threads."""
        try:
            return OpenVinoSession(_compile(ov.Core().read_model(engine), threads))
        except RuntimeError as error:
            reason = " ".join(str(error).split())
            raise BuildError(
                f"openvino {_version()} does not load {engine.name}: {reason}"
            ) from None

    def profile(
        self, engine: Path, threads: int, batch: Array, budget_s: float
    ) -> tuple[list[TimedRun], str]:
        """Each kernel's time as the plugin's own counters (PERF_COUNT) tell it.

        Raises:
            BuildError: OpenVINO does not load the engine, or fails to run it.
            UnreadableKernels: a kernel of the execution graph has no counter.
        """
        try:
            model = ov.Core().read_model(engine)
            compiled = _compile(model, threads, counted=True)
            kernels = _kernels_of(compiled.get_runtime_model(), _operations_of(model))
            request = compiled.create_infer_request()
            runs: list[TimedRun] = []
            done, begin = 0, 0.0
            while len(runs) < 3 or time.perf_counter() - begin < budget_s:
                request.infer({0: np.ascontiguousarray(batch)})
                done += 1
                if done <= 2:
                    begin = time.perf_counter()
                    continue
                spent = {
                    info.node_name: info.real_time.total_seconds() * 1e6
                    for info in request.get_profiling_info()
                }
                runs.append([(kernel, spent[kernel.name]) for kernel in kernels])
        except KeyError as error:
            raise UnreadableKernels(f"no counter for the kernel {error}") from None
        except RuntimeError as error:
            reason = " ".join(str(error).split())
            raise BuildError(
                f"openvino {_version()} does not profile {engine.name}: {reason}"
            ) from None
        return runs, f"OpenVINO's performance counters (openvino {_version()})"

    def kernels(self, engine: Path) -> tuple[tuple[Kernel, ...], str]:
        """The nodes of the execution graph, one kernel each.

        Raises:
            UnreadableKernels: OpenVINO gives no execution graph, or one in an unknown form.
        """
        try:
            model = ov.Core().read_model(engine)
            executed = _compile(model, 1).get_runtime_model()
        except RuntimeError as error:
            raise UnreadableKernels(f"no execution graph: {' '.join(str(error).split())}") from None
        kernels = _kernels_of(executed, _operations_of(model))
        return kernels, f"execution graph of the compiled model (openvino {_version()})"


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
            reason = " ".join(str(error).split())
            raise BuildError(f"openvino {_version()} failed to run: {reason}") from None
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


def _name_reproducibly(model: Any, content: bytes) -> None:
    """Numbers what OpenVINO named by a counter of the whole process: same graph, same bytes."""
    import onnx

    proto = onnx.load_model_from_string(content).graph
    given = {name for node in proto.node for name in (node.name, *node.output)}
    given.update(value.name for value in (*proto.initializer, *proto.input))
    for index, op in enumerate(model.get_ordered_ops()):
        name, kind = op.get_friendly_name(), op.get_type_name()
        if name not in given and re.fullmatch(rf"{kind}_\d+", name):
            op.set_friendly_name(f"{kind}.{index}")


def _compile(model: Any, threads: int, *, counted: bool = False) -> Any:
    half = _precision_of(model) is Precision.FP16
    return ov.Core().compile_model(
        model,
        "CPU",
        {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "INFERENCE_PRECISION_HINT": "f16" if half and _has_fp16() else "f32",
            "PERF_COUNT": counted,
        },
    )


def _precision_of(model: Any) -> Precision:
    if not model.has_rt_info(_PRECISION):
        raise BuildError("this IR was not written by this tool: it names no precision")
    return Precision(model.get_rt_info(_PRECISION).astype(str))


def _has_fp16() -> bool:
    return "FP16" in ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def _operations_of(model: Any) -> dict[str, str]:
    """Name of an IR operator -> what it computes, for those that matter to the receipt."""
    found = {}
    constants: set[str] = set()
    for op in model.get_ordered_ops():
        name, kind = op.get_friendly_name(), op.get_type_name()
        sources = [value.get_node().get_friendly_name() for value in op.input_values()]
        # With a dynamic batch, the shape that a bias is reshaped to is computed, its values not.
        values = sources[:1] if kind in {"Reshape", "Unsqueeze"} else sources
        if kind == "Constant" or (values and constants.issuperset(values)):
            constants.add(name)
        elif kind == "Add" and constants.isdisjoint(sources):
            found[name] = "add"
        elif kind in _OPERATORS:
            found[name] = _OPERATORS[kind]
    return found


def _kernels_of(executed: Any, operations: Mapping[str, str]) -> tuple[Kernel, ...]:
    constants: set[str] = set()
    kernels = []
    for op in executed.get_ordered_ops():
        name = op.get_friendly_name()
        info = op.get_rt_info()
        layer, dtype = _text(info, "layerType"), _text(info, "runtimePrecision")
        given = [value.get_node().get_friendly_name() for value in op.input_values()]
        computed = tuple(source for source in given if source not in constants)
        if layer == "Const" or (given and not computed):
            constants.add(name)
            continue
        if layer in {"Input", "Parameter", "Output", "Result"}:
            continue
        fused = tuple(filter(None, _text(info, "originalLayersNames").split(",")))
        kernels.append(
            Kernel(
                name=name,
                op=layer,
                does=_does(layer, fused, operations),
                dtype=_DTYPES.get(dtype, dtype),
                inputs=computed,
                outputs=(name,),
                labels=fused,
                output_dtypes=tuple(
                    _DTYPES.get(word, word) for word in _text(info, "outputPrecisions").split(",")
                ),
            )
        )
    return tuple(kernels)


def _does(layer: str, fused: tuple[str, ...], operations: Mapping[str, str]) -> tuple[str, ...]:
    inside = [operations[name] for name in fused if name in operations]
    if layer == "Convolution":
        extra = [what for what in inside if what in {"add", "relu", "batchnorm"}]
        return ("conv", *dict.fromkeys(extra))
    if layer == "Pooling":
        return tuple(dict.fromkeys(inside)) or ("other",)
    if layer in _LAYERS:
        return _LAYERS[layer]
    if layer in {"Eltwise", "Subgraph"}:
        return tuple(dict.fromkeys(inside)) or ("pointwise",)
    return ("other",)


def _text(info: Any, key: str) -> str:
    if key not in info:
        return ""
    value = info[key]
    return str(getattr(value, "value", value))


def _version() -> str:
    return host.versions().get("openvino", "?")
