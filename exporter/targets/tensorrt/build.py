"""The process that builds one TensorRT plan: `python -m exporter.targets.tensorrt.build`.

It reads a `BuildRequest` as JSON from standard input and answers with one JSON object a line:

    {"event": "progress", "text": "...", "memory_mb": 212}
    {"event": "error", "message": "..."}        exit code 1; nothing was left behind
    {"event": "done", "version": "1.7.1.116", "seconds": 0.5, "memory_mb": 310, "inputs": {...}}

A process of its own, because Polygraphy picks TensorRT or TensorRT-RTX once a process, because
the builder's log can only be read by the logger that was there first, and because a builder that
is killed or runs out of memory must not take the compiler with it.

TensorRT-RTX builds with no GPU and no driver; full TensorRT needs the GPU that it builds for.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from exporter.targets.tensorrt.layer_list import layer_list_file, node_lines

PLAN, LAYERS, ENGINE = "plan", "layers.txt", "engine.json"
"""Files in the request's folder: the plan, and what the builder or the inspector says of it."""


@dataclass(frozen=True)
class BuildRequest:
    """What one plan is built from."""

    library: str
    """"tensorrt_rtx" or "tensorrt", the Python module's name."""
    onnx: str
    folder: str
    """Where PLAN and the lists are written; the caller's, on the disk of the final file."""
    built_for: str
    """"sm89" or "portable" (TensorRT-RTX); the GPU's compute capability (TensorRT)."""
    profiles: tuple[tuple[int, int, int], ...]
    """Batch sizes (min, opt, max); used where the graph's batch is dynamic."""
    tf32: bool = False
    memory_mb: int | None = None
    optimization_level: int | None = None
    hardware_compatibility: str | None = None
    version_compatible: bool = False
    strip_weights: bool = False
    timing_cache: str | None = None
    """A file in `folder`; read if it is there, and written."""


class RefusedError(Exception):
    """The builder's own reason for not building, in one line."""


Tell = Callable[[dict[str, Any]], None]


def main() -> int:
    """Builds what standard input asks for; returns the exit code."""
    # Only our events go to standard output: the vendor's prints are sent to standard error.
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as events:
        os.dup2(2, 1)

        def tell(event: dict[str, Any]) -> None:
            events.write(json.dumps({**event, "memory_mb": peak_memory_mb()}) + "\n")
            events.flush()

        request = BuildRequest(**json.load(sys.stdin))
        try:
            _limit_memory(request.memory_mb)
            done = build(request, tell)
        except RefusedError as error:
            tell({"event": "error", "message": str(error)})
            return 1
        except MemoryError:
            tell({"event": "error", "message": "out of memory"})
            return 1
        tell({"event": "done", **done})
    return 0


def build(request: BuildRequest, tell: Tell) -> dict[str, Any]:
    """Writes PLAN and the layer list into the request's folder; says what was built.

    Raises:
        RefusedError: the parser or the builder refuses the graph, or there is no GPU.
    """
    start = time.perf_counter()
    trt = _import(request.library)
    messages = _Messages(trt)
    builder = trt.Builder(messages.logger)
    if builder is None:
        raise RefusedError(messages.reason("no builder"))
    tell({"event": "progress", "text": "parse"})
    network, parser = _parse(trt, builder, messages, Path(request.onnx))
    tell({"event": "progress", "text": "build"})
    plan = _build(trt, request, (builder, network, parser), messages, tell)
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
            "inspector": _inspect(trt, plan, messages),
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


_LIBRARIES = {"tensorrt_rtx": "TensorRT-RTX", "tensorrt": "TensorRT"}


def _import(library: str) -> Any:
    try:
        if library == "tensorrt_rtx":
            import tensorrt_rtx as trt
        else:
            import tensorrt as trt
    except ImportError as error:
        # Its message starts with the library's path on this machine.
        raise RefusedError(f"{library} does not import: {str(error).rpartition(': ')[2]}") from None
    return trt


class _Messages:
    """Everything that the library said, by the only logger that it takes."""

    def __init__(self, trt: Any) -> None:
        said: list[tuple[Any, str]] = []

        class Logger(trt.ILogger):  # type: ignore[misc]  # the library's types are Any
            def __init__(self) -> None:
                trt.ILogger.__init__(self)

            def log(self, severity: Any, msg: str) -> None:
                said.append((severity, msg))

        self._said = said
        self._severe = {trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR}
        self.logger = Logger()

    @property
    def all(self) -> list[str]:
        return [text for _, text in self._said]

    def reason(self, otherwise: str) -> str:
        """The last error, in one line."""
        errors = [text for severity, text in self._said if severity in self._severe]
        return " ".join(errors[-1].split()) if errors else otherwise


def _parse(trt: Any, builder: Any, messages: _Messages, onnx: Path) -> tuple[Any, Any]:
    # TensorRT 11 has strongly typed networks alone and may drop the flag.
    typed = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    network = builder.create_network(0 if typed is None else 1 << int(typed))
    parser = trt.OnnxParser(network, messages.logger)
    parsed = parser.parse(onnx.read_bytes())
    if parser.num_errors:
        raise RefusedError(_refusal(parser.get_error(0)))
    # A file that is no ONNX at all parses "successfully" to an empty network.
    if not parsed or not network.num_inputs or not network.num_outputs:
        raise RefusedError(messages.reason("its ONNX parser finds no network in the file"))
    return network, parser


def _refusal(error: Any) -> str:
    """A parser's error in one line; an unknown operator is looked for as a plugin, in vain."""
    where = f"node {error.node_name()} [{error.node_operator()}]"
    if "Plugin not found" in error.desc():
        return f"its ONNX parser does not know the operator of {where}"
    reason = " ".join(error.desc().split())
    return f"its ONNX parser refuses {where if error.node_operator() else 'the file'}: {reason}"


def _build(
    trt: Any, request: BuildRequest, parsed: tuple[Any, Any, Any], messages: _Messages, tell: Tell
) -> bytes:
    from polygraphy.backend.trt import EngineBytesFromNetwork
    from polygraphy.exception import PolygraphyException
    from polygraphy.logger import G_LOGGER

    G_LOGGER.module_severity = G_LOGGER.CRITICAL  # its errors come back as exceptions
    network = parsed[1]
    create = _config(trt, request, network, tell)
    try:
        plan = EngineBytesFromNetwork(
            parsed, config=create, save_timing_cache=request.timing_cache
        )()
    except PolygraphyException as error:
        raise RefusedError(messages.reason(" ".join(str(error).split()))) from None
    return bytes(plan)


def _config(trt: Any, request: BuildRequest, network: Any, tell: Tell) -> Callable[[Any, Any], Any]:
    """Polygraphy's configuration loader, with TF32 set as asked for in either library."""
    common: dict[str, Any] = {
        "profiles": _profiles(request, network),
        "progress_monitor": _monitor(trt, tell),
        "profiling_verbosity": trt.ProfilingVerbosity.DETAILED,
    }
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
                getattr(trt.HardwareCompatibilityLevel, level.upper()) if level else None
            ),
            version_compatible=request.version_compatible,
            load_timing_cache=cache if cache and Path(cache).exists() else None,
            **common,
        )

    def create(builder: Any, parsed: Any) -> Any:
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


def _profiles(request: BuildRequest, network: Any) -> list[Any]:
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


def _kept_profiles(request: BuildRequest, network: Any) -> list[tuple[int, int, int]]:
    """The profiles that the plan has, in its order; none where its batch is fixed."""
    return list(request.profiles) if _dynamic(network) else []


def _dynamic(network: Any) -> bool:
    return any(network.get_input(i).shape[0] < 0 for i in range(network.num_inputs))


def _monitor(trt: Any, tell: Tell) -> Any:
    """Tells the phases of a build, which take minutes on a GPU."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)

        def phase_start(self, name: str, parent: str | None, steps: int) -> None:  # noqa: ARG002
            if parent is not None:
                tell({"event": "progress", "text": name})

        def phase_finish(self, name: str) -> None:
            pass

        def step_complete(self, name: str, step: int) -> bool:  # noqa: ARG002
            return True

    return Monitor()


def _inspect(trt: Any, plan: bytes, messages: _Messages) -> str:
    """The engine inspector's JSON, which needs the engine loaded."""
    runtime = trt.Runtime(messages.logger)
    # A version-compatible plan brings code of its own, and it was built by this very process.
    runtime.engine_host_code_allowed = True
    engine = runtime.deserialize_cuda_engine(plan)
    if engine is None:
        raise RefusedError(messages.reason("the plan that was just built does not load"))
    inspector = engine.create_engine_inspector()
    information: str = inspector.get_engine_information(trt.LayerInformationFormat.JSON)
    return information


def peak_memory_mb() -> int | None:
    """This process's largest resident size so far, MiB; None where the system does not tell."""
    status = Path("/proc/self/status")
    if status.exists():
        # Not ru_maxrss: Linux hands the parent's peak on to a child.
        lines = status.read_text().splitlines()
        peaks = [line.split()[1] for line in lines if line.startswith("VmHWM:")]
        return int(peaks[0]) >> 10 if peaks else None
    with contextlib.suppress(ImportError):  # Windows has no such module
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 20  # macOS counts in bytes
    return None


def _limit_memory(megabytes: int | None) -> None:
    if megabytes is None:
        return
    try:
        import resource

        # RLIMIT_AS would count the libraries' mapped files as well.
        resource.setrlimit(resource.RLIMIT_DATA, (megabytes << 20, megabytes << 20))
    except (ImportError, ValueError, OSError) as error:
        raise RefusedError(f"memory_mb cannot be set on this system: {error}") from None


if __name__ == "__main__":
    sys.exit(main())
