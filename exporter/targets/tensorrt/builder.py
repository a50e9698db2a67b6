"""Builds one plan with TensorRT or TensorRT-RTX, in the process that `build.py` is.

Names and arguments are TensorRT's own: `make rehearse-gpu` checks each against the real bindings of
every version that is supported.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, SupportsInt, TypeVar

from exporter.runtime.errors import reason_of
from exporter.targets.tensorrt.api import trt
from exporter.targets.tensorrt.layer_list import layer_list_file, node_lines
from exporter.targets.tensorrt.request import (
    ENGINE,
    LAYERS,
    PLAN,
    BuildRequest,
    RefusedError,
    Tell,
)
from exporter.targets.tensorrt.versions import NO_OBJECT

_LIBRARIES: Final = {"tensorrt_rtx": "TensorRT-RTX", "tensorrt": "TensorRT"}

Parsed = tuple["trt.Builder", "trt.INetworkDefinition", "trt.OnnxParser"]
Made = TypeVar("Made")


def build(request: BuildRequest, tell: Tell) -> dict[str, Any]:
    """Writes PLAN and the layer list into the request's folder; says what was built.

    Raises:
        RefusedError: the parser or the builder refuses the graph, or there is no GPU.
    """
    start = time.perf_counter()
    messages = Messages()
    builder = make_builder(messages)
    tell({"event": "progress", "text": "parse"})
    network, parser = _parse(builder, messages, Path(request.onnx))
    tell({"event": "progress", "text": "build"})
    plan = _build(request, (builder, network, parser), messages, tell)
    folder = Path(request.folder)
    (folder / PLAN).write_bytes(plan)
    library = f"{_LIBRARIES[request.library]} {trt.__version__}"
    if request.library == "tensorrt_rtx":
        text = layer_list_file(f"{library}, built for {request.built_for}", messages.all)
        (folder / LAYERS).write_text(text, encoding="utf-8", newline="\n")
    else:
        account = {
            "library": library,
            "built_for": request.built_for,
            "profiles": _kept_profiles(request, network),
            "nodes": node_lines(messages.all),
            "inspector": _inspect(plan, messages),
        }
        (folder / ENGINE).write_text(json.dumps(account), encoding="utf-8")
    return {
        "version": trt.__version__,
        "seconds": round(time.perf_counter() - start, 3),
        "inputs": {
            network.get_input(i).name: list(network.get_input(i).shape)
            for i in range(network.num_inputs)
        },
    }


class Logger(trt.ILogger):  # type: ignore[misc]  # Any without its stubs
    """Keeps what the library says."""

    def __init__(self) -> None:
        trt.ILogger.__init__(self)
        self.said: list[tuple[trt.ILogger.Severity, str]] = []

    def log(self, severity: trt.ILogger.Severity, msg: str) -> None:
        self.said.append((severity, msg))


class Messages:
    """Everything that the library said, by the only logger that it takes."""

    def __init__(self) -> None:
        self.logger = Logger()

    @property
    def all(self) -> list[str]:
        return [text for _, text in self.logger.said]

    def reason(self, otherwise: str) -> str:
        """The last error, in one line."""
        severe = (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR)
        errors = [text for severity, text in self.logger.said if severity in severe]
        return " ".join(errors[-1].split()) if errors else otherwise


def make_builder(messages: Messages) -> trt.Builder:
    """A builder for this machine's GPU; TensorRT-RTX needs none.

    Raises:
        RefusedError: the library makes none here.
    """
    return made(lambda: trt.Builder(messages.logger), messages, "builder")


def made(make: Callable[[], Made], messages: Messages, what: str) -> Made:
    """What the library makes.

    Raises:
        RefusedError: it makes none, as where no GPU can be used.
    """
    try:
        return make()
    except TypeError as error:
        if NO_OBJECT not in str(error):
            raise
        reason = messages.reason(f"is there an NVIDIA GPU that can be used? ({error})")
        raise RefusedError(f"it makes no {what} here: {reason}") from None


def _parse(
    builder: trt.Builder, messages: Messages, onnx: Path
) -> tuple[trt.INetworkDefinition, trt.OnnxParser]:
    typed = trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED
    network = builder.create_network(1 << int(typed))
    parser = made(lambda: trt.OnnxParser(network, messages.logger), messages, "parser")
    parsed = parser.parse(onnx.read_bytes())
    if parser.num_errors:
        raise RefusedError(_refusal(parser.get_error(0)))
    # A file that is no ONNX at all parses "successfully" to an empty network.
    if not parsed or not network.num_inputs or not network.num_outputs:
        raise RefusedError(messages.reason("its ONNX parser finds no network in the file"))
    return network, parser


def _refusal(error: trt.ParserError) -> str:
    """A parser's error in one line; an unknown operator is looked for as a plugin, in vain."""
    where = f"node {error.node_name()} [{error.node_operator()}]"
    if "Plugin not found" in error.desc():
        return f"its ONNX parser does not know the operator of {where}"
    reason = " ".join(error.desc().split())
    return f"its ONNX parser refuses {where if error.node_operator() else 'the file'}: {reason}"


def _build(request: BuildRequest, parsed: Parsed, messages: Messages, tell: Tell) -> bytes:
    from polygraphy.backend.trt import EngineBytesFromNetwork
    from polygraphy.exception import PolygraphyException
    from polygraphy.logger import G_LOGGER

    G_LOGGER.module_severity = G_LOGGER.CRITICAL  # its errors come back as exceptions
    create = _config(request, parsed[1], tell)
    try:
        plan = EngineBytesFromNetwork(
            parsed, config=create, save_timing_cache=request.timing_cache
        )()
    except PolygraphyException as error:
        raise RefusedError(messages.reason(reason_of(error))) from None
    return bytes(plan)


Config = Callable[["trt.Builder", "trt.INetworkDefinition"], "trt.IBuilderConfig"]


def _config(request: BuildRequest, network: trt.INetworkDefinition, tell: Tell) -> Config:
    """Polygraphy's configuration loader, with TF32 set as asked for in either library."""
    common: dict[str, Any] = {
        "profiles": _profiles(request, network),
        "progress_monitor": Monitor(tell),
        "profiling_verbosity": trt.ProfilingVerbosity.DETAILED,
    }
    loader: Config
    if request.library == "tensorrt_rtx":
        from polygraphy.backend.tensorrt_rtx import CreateConfigRTX

        loader = CreateConfigRTX(compute_capabilities=_capabilities(request.built_for), **common)
    else:
        from polygraphy.backend.trt import CreateConfig

        level = request.hardware_compatibility
        cache = request.timing_cache
        loader = CreateConfig(
            builder_optimization_level=request.optimization_level,
            hardware_compatibility_level=(
                trt.HardwareCompatibilityLevel.__members__[level.upper()] if level else None
            ),
            version_compatible=request.version_compatible,
            load_timing_cache=cache if cache and Path(cache).exists() else None,
            **common,
        )

    def create(builder: trt.Builder, parsed: trt.INetworkDefinition) -> trt.IBuilderConfig:
        config = loader(builder, parsed)
        # TensorRT's default is on, and CreateConfigRTX leaves it so.
        change = config.set_flag if request.tf32 else config.clear_flag
        change(trt.BuilderFlag.TF32)
        if request.strip_weights:
            # The same weights are put back. For others TensorRT would choose other kernels, and
            # plain REFIT has lost biases of Gemm (known issue of TensorRT 11.3).
            config.set_flag(trt.BuilderFlag.STRIP_PLAN)
            config.set_flag(trt.BuilderFlag.REFIT_IDENTICAL)
        return config

    return create


def _capabilities(built_for: str) -> list[tuple[int, int]] | None:
    """Of sm120: (12, 0); None builds a plan that every supported GPU can load."""
    if built_for == "portable":
        return None
    digits = built_for.removeprefix("sm")
    return [(int(digits[:-1]), int(digits[-1]))]


def _profiles(request: BuildRequest, network: trt.INetworkDefinition) -> list[Any]:
    from polygraphy.backend.trt import Profile

    inputs = [network.get_input(i) for i in range(network.num_inputs)]
    profiles = []
    for sizes in request.profiles:
        profile = Profile()
        for tensor in inputs:
            batch, *image = tuple(tensor.shape)
            if any(size < 0 for size in image):
                raise RefusedError(f"input {tensor.name} has dynamic sizes besides its batch")
            if batch < 0:
                low, best, high = ((size, *image) for size in sizes)
                profile.add(tensor.name, min=low, opt=best, max=high)
        profiles.append(profile)
    return profiles if _dynamic(network) else profiles[:1]


def _kept_profiles(
    request: BuildRequest, network: trt.INetworkDefinition
) -> list[tuple[int, int, int]]:
    """The profiles that the plan has, in its order; none where its batch is fixed."""
    return list(request.profiles) if _dynamic(network) else []


def _dynamic(network: trt.INetworkDefinition) -> bool:
    return any(network.get_input(i).shape[0] < 0 for i in range(network.num_inputs))


class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
    """Tells the phases of a build, which take minutes on a GPU."""

    def __init__(self, tell: Tell) -> None:
        trt.IProgressMonitor.__init__(self)
        self._tell = tell

    def phase_start(
        self,
        phase_name: str,
        parent_phase: str | None,
        num_steps: SupportsInt,  # noqa: ARG002
    ) -> None:
        if parent_phase is not None:
            self._tell({"event": "progress", "text": phase_name})

    def phase_finish(self, phase_name: str) -> None:
        pass

    def step_complete(self, phase_name: str, step: SupportsInt) -> bool:  # noqa: ARG002
        return True


def _inspect(plan: bytes, messages: Messages) -> str:
    """The engine inspector's JSON, which needs the engine loaded."""
    runtime = made(lambda: trt.Runtime(messages.logger), messages, "runtime")
    # A version-compatible plan brings code of its own, and it was built by this very process.
    runtime.engine_host_code_allowed = True
    engine = runtime.deserialize_cuda_engine(plan)
    if engine is None:
        raise RefusedError(messages.reason("the plan that was just built does not load"))
    inspector = engine.create_engine_inspector()
    information: str = inspector.get_engine_information(trt.LayerInformationFormat.JSON)
    return information
