"""OpenVINO on CPUs.

The engine is OpenVINO's own IR (`.xml` and `.bin`), made from the lowered ONNX file with nothing
optimized yet but, in INT8, the strides and how the image is taken (`int8_forms.OPENVINO`): OpenVINO
compiles it for the CPU that it finds. What it made is read from the compiled model's execution
graph (`kernels.py`).
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from exporter import host
from exporter.artifact import Dialect, Kernel, Precision, Skipped, Verdict
from exporter.disk.writing import whole_file
from exporter.errors import BuildError, UsageError
from exporter.runtime.errors import reason_of
from exporter.runtime.inputs import by_name
from exporter.runtime.machine import BF16_FLAG
from exporter.targets.diagnosis import TargetDiagnosis, diagnose_library, require
from exporter.targets.openvino.kernels import kernels_of
from exporter.targets.openvino.session import (
    PRECISION,
    OpenVinoSession,
    compile_model,
    computes_in,
    has_bf16,
    read_model,
    served_settings,
    version,
)
from exporter.targets.target import (
    Array,
    BuildOptions,
    BuildResult,
    MachineKind,
    Mark,
    ServerConfig,
    Target,
    TimedRun,
    UnreadableKernels,
)

if TYPE_CHECKING:
    from exporter.targets.int8_forms import Form

_COPY_TOLERANCES: Final = {Precision.FP16: 5e-3, Precision.BF16: 3e-2, Precision.INT8: 3e-2}


class OpenVino(Target):
    """Target `openvino`."""

    family = name = library = triton_backend = "openvino"
    runs_on = MachineKind.CPU
    mark = Mark.SQUARE
    mixes = True

    def __init__(self, variant: str = "") -> None:
        if variant:
            raise UsageError(f"target openvino has no variant {variant!r}; write openvino")
        require(self.name, "OpenVINO", self.library)
        if BF16_FLAG in host.cpu_flags():
            self.precisions = (Precision.FP32, Precision.FP16, Precision.BF16, Precision.INT8)
            self.mixes_in = (Precision.BF16, Precision.FP32)

    @classmethod
    def default_for(cls, kind: MachineKind) -> tuple[tuple[str, Precision], ...]:
        defaults = (Precision.FP32, Precision.BF16, Precision.INT8)
        return tuple(("", p) for p in defaults) if kind is MachineKind.CPU else ()

    @classmethod
    def diagnose(cls, here: host.Host) -> tuple[TargetDiagnosis, ...]:
        return (diagnose_library(cls.family, cls.library, here),)

    @classmethod
    def model_server_config(cls, streams: int, threads: int) -> ServerConfig:
        return served_settings(streams, threads)

    def dialect(self, precision: Precision) -> Dialect:
        if precision is Precision.FP8:
            raise UsageError(
                "no CPU computes in FP8; use --target tensorrt or tensorrt-rtx for fp8"
            )
        if precision not in self.precisions:
            raise UsageError(
                f"target openvino computes {precision.upper()} on CPUs with {BF16_FLAG} alone, "
                f"which this one has not; ask for {' or '.join(self.precisions)}"
            )
        return Dialect.U8_ASYMMETRIC if precision is Precision.INT8 else Dialect.FLOAT

    def needed_cpu_flags(self, precision: Precision) -> tuple[str, ...]:
        return (BF16_FLAG,) if precision is Precision.BF16 else ()

    def expected(self, precision: Precision) -> Verdict:
        # Without FP16 arithmetic the plugin computes such a graph in FP32.
        if precision is Precision.FP16 and not computes_in("FP16"):
            return Verdict.PARTIAL
        return Verdict.FUSED

    def activations(self, precision: Precision) -> frozenset[str]:
        # In INT8 all but a Clip comes dequantized, in a kernel of its own.
        if precision is Precision.INT8:
            return frozenset({"Relu", "Clip"})
        return frozenset({"Relu", "Clip", "Elu", "Gelu", "HardSwish", "LeakyRelu", "Mish", "PRelu"})

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
        from exporter.targets import int8_forms

        self.check_settings(options.settings)
        in_int8 = precision is Precision.INT8
        forms = int8_forms.OPENVINO if in_int8 else int8_forms.OPENVINO_FLOAT
        files = _write_ir(graph, precision, out, forms)
        requires = {
            "cpu_flags": [BF16_FLAG] if has_bf16(read_model(files[0])) else [],
            "versions": {"openvino": version()},
        }
        return BuildResult(files=files, requires=requires)

    def load_given(self, graph: Path, precision: Precision, out: Path) -> Path:
        """The graph's IR, nothing rewritten.

        Raises:
            BuildError: OpenVINO refuses the graph.
        """
        return _write_ir(graph, precision, out, ())[0]

    def open(self, engine: Path, threads: int) -> OpenVinoSession:
        """Compiles an IR for this CPU, one stream on `threads` threads."""
        try:
            return OpenVinoSession(compile_model(read_model(engine), threads))
        except RuntimeError as error:
            reason = reason_of(error)
            raise BuildError(
                f"openvino {version()} does not load {engine.name}: {reason}"
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
            model = read_model(engine)
            compiled = compile_model(model, threads, counted=True)
            kernels = kernels_of(compiled.get_runtime_model(), model)
            request = compiled.create_infer_request()
            several = batch.dtype.names is not None
            feeds = by_name(batch, "") if several else {0: np.ascontiguousarray(batch)}
            runs: list[TimedRun] = []
            done, begin = 0, 0.0
            while len(runs) < 3 or time.perf_counter() - begin < budget_s:
                request.infer(feeds)
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
            reason = reason_of(error)
            raise BuildError(
                f"openvino {version()} does not profile {engine.name}: {reason}"
            ) from None
        return runs, f"OpenVINO's performance counters (openvino {version()})"

    def kernels(self, engine: Path) -> tuple[tuple[Kernel, ...], str]:
        """The nodes of the execution graph, one kernel each.

        Raises:
            UnreadableKernels: OpenVINO gives no execution graph, or one in an unknown form.
        """
        try:
            model = read_model(engine)
            executed = compile_model(model, 1).get_runtime_model()
        except RuntimeError as error:
            raise UnreadableKernels(f"no execution graph: {reason_of(error)}") from None
        return kernels_of(executed, model), (
            f"execution graph of the compiled model (openvino {version()})"
        )

    def copy_tolerance(self, precision: Precision) -> float:
        # OpenVINO sums a shortcut in place, inside the convolution; a block output that is also an
        # output of the graph cannot be overwritten, so there the copy sums apart and rounds once
        # more.
        return _COPY_TOLERANCES.get(precision, super().copy_tolerance(precision))


def _write_ir(
    graph: Path, precision: Precision, out: Path, forms: Sequence[Form]
) -> tuple[Path, Path]:
    """Writes `<out>.xml` and `<out>.bin` of a graph in these forms, which then compile here."""
    import openvino as ov
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    from exporter.targets.int8_forms import rewritten

    xml, weights = out.with_name(f"{out.name}.xml"), out.with_name(f"{out.name}.bin")
    try:
        content = rewritten(graph.read_bytes(), forms)
        model = ov.Core().read_model(content, b"")
        model.set_friendly_name(out.name)
        _name_reproducibly(model, content)
        model.set_rt_info(str(precision), PRECISION)
        with whole_file(weights) as binary, whole_file(xml) as file:
            ov.serialize(model, file, binary)
            compile_model(ov.Core().read_model(file, binary), 1)
    except (RuntimeError, OSError, DecodeError) as error:
        reason = reason_of(error)
        raise BuildError(f"openvino {version()} does not build {graph.name}: {reason}") from None
    return xml, weights


def _name_reproducibly(model: Any, content: bytes) -> None:
    """Numbers what OpenVINO named by a counter of the whole process: same graph, same bytes.

    What computes an output it names after that; it gets its node's name, by which one keeps it.
    """
    import onnx

    proto = onnx.load_model_from_string(content).graph
    given = {name for node in proto.node for name in (node.name, *node.output)}
    given.update(value.name for value in (*proto.initializer, *proto.input))
    outputs = {value.name for value in proto.output}
    nodes = {node.output[0]: node.name for node in proto.node if node.output[0] in outputs}
    for index, op in enumerate(model.get_ordered_ops()):
        name, kind = op.get_friendly_name(), op.get_type_name()
        if nodes.get(name):
            op.set_friendly_name(nodes[name])
        if name not in given and re.fullmatch(rf"{kind}_\d+", name):
            op.set_friendly_name(f"{kind}.{index}")
