"""ONNX Runtime's CPU provider.

The engine is the lowered ONNX file itself, byte for byte: ONNX Runtime optimizes it at load for
the CPU it finds (level 3 layouts differ between instruction sets, so they are not shipped).
FP32 graphs arrive with the residual sums written as `com.microsoft.FusedConv`. This provider has
no FP16 convolution on x86: it computes such a graph in FP32, and the receipt says so.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import onnxruntime as ort

from exporter import host
from exporter.artifact import Dialect, Kernel, Precision, Skipped, Verdict
from exporter.errors import BuildError, UsageError
from exporter.targets import Array, BuildOptions, BuildResult, TimedRun, UnreadableKernels
from exporter.targets.ort_kernels import kernels_of
from exporter.targets.ort_session import (
    CONFIG_WITHOUT_VNNI,
    DISABLED_OPTIMIZERS,
    OrtSession,
    make_session,
    profile_session,
    session_options,
    write_optimized,
)


class OrtCpu:
    """Target `ort-cpu`."""

    name = "ort-cpu"

    def __init__(self, variant: str = "") -> None:
        if variant:
            raise UsageError(f"target ort-cpu has no variant {variant!r}; write ort-cpu")

    def dialect(self, precision: Precision) -> Dialect:
        return Dialect.U8_ASYMMETRIC if precision is Precision.INT8 else Dialect.FLOAT

    def fuses_residual(self, precision: Precision) -> bool:
        return precision is Precision.FP32

    def expected(self, precision: Precision) -> Verdict:
        return Verdict.PARTIAL if precision is Precision.FP16 else Verdict.FUSED

    def runs_here(self) -> Skipped | None:
        return None

    def build(
        self, graph: Path, precision: Precision, out: Path, options: BuildOptions
    ) -> BuildResult:
        """Loads the graph once to see that it loads, then copies it to `<out>.onnx`.

        Raises:
            UsageError: a setting was given; this target has none.
            BuildError: ONNX Runtime refuses the graph, or the file cannot be written.
        """
        if options.settings:
            raise UsageError(
                f"target ort-cpu has no setting {next(iter(options.settings))!r}; leave it out"
            )
        make_session(graph, session_options(1))
        engine = out.with_name(f"{out.name}.onnx")
        temporary = engine.with_name(f".{engine.name}.partial")
        try:
            shutil.copyfile(graph, temporary)
            temporary.replace(engine)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise BuildError(
                f"cannot write {engine}: {error.strerror}; free space or choose another --out"
            ) from None
        return BuildResult(files=(engine,), requires=self._requires(precision))

    def _requires(self, precision: Precision) -> dict[str, Any]:
        requires: dict[str, Any] = {
            "cpu_flags": [],
            "versions": {"onnxruntime": host.versions().get("onnxruntime", ort.__version__)},
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
        with tempfile.TemporaryDirectory(prefix="exporter-") as folder:
            model, runs = profile_session(engine, Path(folder), threads, batch, budget_s)
        kernels = {kernel.name: kernel for kernel in kernels_of(model)}
        if not all({name for name, _ in run} == set(kernels) for run in runs):
            raise UnreadableKernels("the profile's nodes are not those of the optimized model")
        timed = [[(kernels[name], time_us) for name, time_us in run] for run in runs]
        return timed, f"ONNX Runtime's profiler (onnxruntime {ort.__version__})"

    def kernels(self, engine: Path) -> tuple[tuple[Kernel, ...], str]:
        """The nodes of the optimized model, one kernel each.

        Raises:
            UnreadableKernels: ONNX Runtime writes no optimized model that can be read.
        """
        with tempfile.TemporaryDirectory(prefix="exporter-") as folder:
            try:
                model = write_optimized(engine, Path(folder))
            except (BuildError, OSError) as error:
                raise UnreadableKernels(f"no optimized model to read: {error}") from None
        kernels = kernels_of(model)
        return kernels, f"optimized model written by the session (onnxruntime {ort.__version__})"
