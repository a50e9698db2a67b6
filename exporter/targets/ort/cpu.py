"""ONNX Runtime's CPU provider.

The engine is the lowered ONNX file itself: ONNX Runtime optimizes it at load for the CPU it finds
(level 3 layouts differ between instruction sets, so they are not shipped). FP32 graphs arrive with
the residual sums written as `com.microsoft.FusedConv`. Strides are moved to where fewer positions
are computed, and in INT8 the first convolution and grouped ones are brought into the form that is
fast here (`int8_forms.ORT_CPU`); all else stays byte for byte. This provider has no FP16
convolution on x86: it computes such a graph in FP32, and the receipt says so.

`ort-cpu:amx` is the same in INT8 for CPUs with AMX: the same numbers in the form that reaches it
(`offset_weights`), which is slower on every other CPU.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from exporter import host
from exporter.artifact import Dialect, Kernel, Precision, Skipped, Verdict
from exporter.disk.writing import write_whole
from exporter.errors import BuildError, UsageError
from exporter.targets.cause import EVERYWHERE, Cause
from exporter.targets.diagnosis import Status, TargetDiagnosis, diagnose_library, require
from exporter.targets.ort.session import (
    CONFIG_WITHOUT_VNNI,
    DISABLED_OPTIMIZERS,
    OrtSession,
    make_session,
    profile_session,
    session_options,
    version,
    write_optimized,
)
from exporter.targets.target import (
    Array,
    BuildOptions,
    BuildResult,
    MachineKind,
    Mark,
    Target,
    TimedRun,
    UnreadableKernels,
)

_DIALECTS: Final[Mapping[Precision, Dialect]] = MappingProxyType(
    {
        Precision.FP32: Dialect.FLOAT_FUSED,
        Precision.FP16: Dialect.FLOAT,
        Precision.INT8: Dialect.U8_ASYMMETRIC,
    }
)


class OrtCpu(Target):
    """Target `ort-cpu`, or `ort-cpu:amx`."""

    family = "ort-cpu"
    library = triton_backend = "onnxruntime"
    runs_on = MachineKind.CPU
    mark = Mark.CIRCLE
    mixes = True
    reads_qlinear = True

    def __init__(self, variant: str = "") -> None:
        if variant not in ("", "amx"):
            raise UsageError(
                f"target ort-cpu has no variant {variant!r}; write ort-cpu or ort-cpu:amx"
            )
        self.name = f"{self.family}:{variant}" if variant else self.family
        self._amx = variant == "amx"
        if self._amx:
            self.precisions = (Precision.INT8,)
        require(self.name, "ONNX Runtime", self.library)

    @classmethod
    def default_for(cls, kind: MachineKind) -> tuple[tuple[str, Precision], ...]:
        if kind is not MachineKind.CPU:
            return ()
        return (*(("", precision) for precision in cls.precisions), ("amx", Precision.INT8))

    @classmethod
    def diagnose(cls, here: host.Host) -> tuple[TargetDiagnosis, ...]:
        plain = diagnose_library(cls.family, cls.library, here)
        amx = replace(plain, name=f"{cls.family}:amx")
        if plain.status is Status.AVAILABLE and host.AMX_FLAG not in host.cpu_flags():
            detail = f"{plain.detail}; this CPU has no AMX"
            amx = replace(amx, status=Status.BUILDABLE, detail=detail)
        return plain, amx

    def dialect(self, precision: Precision) -> Dialect:
        if precision is Precision.BF16:
            raise UsageError(
                "ONNX Runtime's CPU provider has no BF16 convolution (on ARM it can compute FP32 "
                "matrix products in BF16, never a graph); for bf16 use --target openvino"
            )
        if precision is Precision.FP8:
            raise UsageError(
                "no CPU computes in FP8; use --target tensorrt or tensorrt-rtx for fp8"
            )
        if precision not in self.precisions:
            raise UsageError(f"target {self.name} is for int8 alone; use ort-cpu for {precision}")
        return _DIALECTS[precision]

    def needed_cpu_flags(self, precision: Precision) -> tuple[str, ...]:  # noqa: ARG002
        return (host.AMX_FLAG,) if self._amx else ()

    def expected(self, precision: Precision) -> Verdict:
        return Verdict.PARTIAL if precision is Precision.FP16 else Verdict.FUSED

    def runs_here(self) -> Skipped | None:
        if self._amx and host.AMX_FLAG not in host.cpu_flags():
            return Skipped(f"built, not run here: this CPU has no AMX ({host.AMX_FLAG})")
        return None

    def causes(self) -> frozenset[Cause]:
        own = {Cause.SIGNED_ACTIVATIONS, Cause.BIAS_SCALE, Cause.SMALL_GROUPS}
        return EVERYWHERE | own

    def load_given(self, graph: Path, precision: Precision, out: Path) -> Path:  # noqa: ARG002
        """The file itself, once it loads."""
        make_session(graph, session_options(1))
        return graph

    def build(
        self, graph: Path, precision: Precision, out: Path, options: BuildOptions
    ) -> BuildResult:
        """Loads the graph once to see that it loads, then writes the engine to `<out>.onnx`.

        Raises:
            UsageError: a setting was given; this target has none.
            BuildError: ONNX Runtime refuses the graph, or the file cannot be written.
        """
        from exporter.targets import int8_forms

        self.check_settings(options.settings)
        make_session(graph, session_options(1))
        forms = int8_forms.ORT_CPU_FLOAT
        if precision is Precision.INT8:
            forms = int8_forms.ORT_CPU_AMX if self._amx else int8_forms.ORT_CPU
        content = int8_forms.rewritten(graph.read_bytes(), forms)
        engine = out.with_name(f"{out.name}.onnx")
        try:
            write_whole(engine, content)
        except OSError as error:
            raise BuildError(
                f"cannot write {engine}: {error.strerror}; free space or choose another --out"
            ) from None
        return BuildResult(files=(engine,), requires=self._requires(precision))

    def _requires(self, precision: Precision) -> dict[str, Any]:
        requires: dict[str, Any] = {
            "cpu_flags": list(self.needed_cpu_flags(precision)),
            "versions": {"onnxruntime": host.versions().get("onnxruntime", version())},
        }
        if precision is Precision.INT8:
            requires["session_options"] = {"disabled_optimizers": list(DISABLED_OPTIMIZERS)}
            requires["session_config_without_vnni"] = dict(CONFIG_WITHOUT_VNNI)
        return requires

    def open(self, engine: Path, threads: int) -> OrtSession:
        """Loads an engine, all optimizations on."""
        return OrtSession(make_session(engine, session_options(threads)))

    def profile(
        self, engine: Path, threads: int, batch: Array, budget_s: float
    ) -> tuple[list[TimedRun], str]:
        """Each kernel's time as the session's own profiler tells it.

        Raises:
            UnreadableKernels: the profile lists other nodes than the optimized model.
        """
        from exporter.targets.ort.kernels import kernels_of

        with tempfile.TemporaryDirectory(prefix="exporter-") as folder:
            model, runs = profile_session(engine, Path(folder), threads, batch, budget_s)
        kernels = {kernel.name: kernel for kernel in kernels_of(model)}
        if not all({name for name, _ in run} == set(kernels) for run in runs):
            raise UnreadableKernels("the profile's nodes are not those of the optimized model")
        timed = [[(kernels[name], time_us) for name, time_us in run] for run in runs]
        return timed, f"ONNX Runtime's profiler (onnxruntime {version()})"

    def kernels(self, engine: Path) -> tuple[tuple[Kernel, ...], str]:
        """The nodes of the optimized model, one kernel each.

        Raises:
            UnreadableKernels: ONNX Runtime writes no optimized model that can be read.
        """
        from exporter.targets.ort.kernels import kernels_of

        with tempfile.TemporaryDirectory(prefix="exporter-") as folder:
            try:
                model = write_optimized(engine, Path(folder))
            except (BuildError, OSError) as error:
                raise UnreadableKernels(f"no optimized model to read: {error}") from None
        kernels = kernels_of(model)
        return kernels, f"optimized model written by the session (onnxruntime {version()})"
