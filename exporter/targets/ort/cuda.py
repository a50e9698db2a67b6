"""ONNX Runtime's CUDA provider.

FP32 arrives with its residual sums written as `com.microsoft.FusedConv`, the only fusion that this
provider still does; its kernel calls cuDNN's fused convolution and, where that refuses, falls back
to separate calls without a word. The node's presence proves nothing, so the build profiles one run
and keeps the CUDA kernels' names beside the engine: a separate addition or activation among them
shows. FP16 takes the standard graph, whose sums and Relus are kernels of their own there. INT8 is
refused: the provider has no 8-bit convolution.

Provider options are written out rather than left to defaults that changed between versions.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from exporter import host
from exporter.artifact import Dialect, Kernel, Operation, Precision, Verdict
from exporter.errors import BuildError, UsageError
from exporter.runtime import cuda_graphs
from exporter.targets.ort.cuda_options import (
    LAYOUT,
    OPTIONS,
    one_by_one,
    options_for,
    time_layouts,
)
from exporter.targets.ort.gpu import (
    OrtGpuTarget,
    built_with_fallback,
    gpu_session,
    placements,
    require_provider,
)
from exporter.targets.ort.session import OrtSession, session_options, version
from exporter.targets.target import (
    BuildOptions,
    BuildResult,
    MachineKind,
    Mark,
    UnreadableKernels,
)

PROVIDER: Final = "CUDAExecutionProvider"
PROFILE: Final = "profile.json"
"""What one run of the engine showed, and whether its build was allowed nodes on the CPU."""

# cuDNN's kernels for what its fused convolution would have done inside. A plain convolution has
# its bias added by one of the first kind, too.
_ADDITION: Final = re.compile(r"op_(generic_)?tensor|add_?tensor|addbias", re.IGNORECASE)
_ACTIVATION: Final = re.compile(r"activation_fw", re.IGNORECASE)


class OrtCuda(OrtGpuTarget):
    """Target `ort-cuda`."""

    family = "ort-cuda"
    mark = Mark.WEDGE
    triton_backend = "onnxruntime"
    provider = PROVIDER
    precisions = (Precision.FP32, Precision.FP16)

    @classmethod
    def default_for(cls, kind: MachineKind) -> tuple[tuple[str, Precision], ...]:
        return (("", Precision.FP32), ("", Precision.FP16)) if kind is MachineKind.GPU else ()

    def dialect(self, precision: Precision) -> Dialect:
        if precision is Precision.INT8:
            raise UsageError(
                "ONNX Runtime's CUDA provider has no 8-bit convolution and would dequantize "
                "around each one; for int8 on this GPU use --target tensorrt"
            )
        self.check_precision(precision)
        return Dialect.FLOAT_FUSED if precision is Precision.FP32 else Dialect.FLOAT

    def expected(self, precision: Precision) -> Verdict:
        # FP32 depends on the cuDNN that is installed: whatever the profile says is news.
        return Verdict.UNVERIFIED if precision is Precision.FP32 else Verdict.PARTIAL

    def build(
        self, graph: Path, precision: Precision, out: Path, options: BuildOptions
    ) -> BuildResult:
        """Copies the graph to `<out>.onnx` and profiles one run of it to `<out>.profile.json`.

        Raises:
            UsageError: a setting was given; this target has none.
            BuildError: a node is not on the GPU, or the file cannot be written.
        """
        self.check_settings(options.settings)
        engine = out.with_name(f"{out.name}.onnx")
        account = out.with_name(f"{out.name}.{PROFILE}")
        try:
            with tempfile.TemporaryDirectory(dir=out.parent, prefix=".build-") as folder:
                copy = Path(shutil.copyfile(graph, Path(folder, engine.name)))
                described = _describe(copy, Path(folder), precision, options)
                profile = Path(folder, PROFILE)
                profile.write_text(json.dumps(described, sort_keys=True), encoding="utf-8")
                copy.replace(engine)
                profile.replace(account)
        except OSError as error:
            raise BuildError(
                f"cannot write {engine}: {error.strerror}; free space or choose another --out"
            ) from None
        here = host.describe_host()
        return BuildResult(
            (engine, account),
            {
                "compute_capability": here.compute_capability,
                "versions": {"onnxruntime": version()},
                "provider_options": {PROVIDER: described["provider_options"]},
                "allow_fallback": options.allow_fallback,
            },
        )

    def open(self, engine: Path, threads: int) -> OrtSession:
        """Loads an engine on the GPU, with the fallback that its build was allowed."""
        allowed = built_with_fallback(_account_file(engine))
        return open_as_served(
            engine, _provider_options(engine), allow_fallback=allowed, threads=threads
        )

    def kernels(self, engine: Path) -> tuple[tuple[Kernel, ...], str]:
        """The nodes of the optimized model, corrected by what the profile shows of cuDNN.

        Raises:
            UnreadableKernels: there is no profile, or no CUDA kernel is in it.
        """
        account = _account(engine)
        if not account["cuda_kernels"]:
            raise UnreadableKernels(
                "no CUDA kernels were profiled (PyTorch with CUDA is needed), and a FusedConv "
                "node may have run as several"
            )
        import onnx

        from exporter.targets.ort.kernels import kernels_of

        with tempfile.TemporaryDirectory(prefix="exporter-") as folder:
            model = onnx.load(
                _optimized(engine, Path(folder), account["allow_fallback"]),
                load_external_data=False,
            )
        kernels = unfused_where_shown(kernels_of(model), account["cuda_kernels"])
        return kernels, (
            f"optimized model written by the session, and the CUDA kernels of a profiled run "
            f"(onnxruntime {version()})"
        )


def open_as_given(graph: Path, threads: int) -> OrtSession:
    """An ONNX file as somebody gave it: this provider runs what it can, the CPU the rest.

    Raises:
        MissingDependencyError: this machine does not offer the provider.
        BuildError: it does not load, or refuses the file.
    """
    require_provider(PROVIDER, "ort-cuda")
    return OrtSession(gpu_session(graph, PROVIDER, OPTIONS, threads=threads, allow_fallback=True))


_IN_A_CONVOLUTION: Final = frozenset({Operation.ADD, Operation.RELU})


def unfused_where_shown(kernels: tuple[Kernel, ...], cuda_kernels: list[str]) -> tuple[Kernel, ...]:
    """Takes the sum and the Relu out of fused convolutions where cuDNN ran them separately.

    A profile does not say which node a CUDA kernel belongs to. So if there is even one such kernel
    that no plain convolution's bias explains, no fused convolution is believed.
    """
    plain = sum(kernel.does == (Operation.CONV,) for kernel in kernels)
    additions = sum(_ADDITION.search(name) is not None for name in cuda_kernels)
    if additions <= plain and not any(map(_ACTIVATION.search, cuda_kernels)):
        return kernels
    believed = []
    for kernel in kernels:
        extra = tuple(op for op in kernel.does if op in _IN_A_CONVOLUTION)
        if Operation.CONV not in kernel.does or not extra:
            believed.append(kernel)
            continue
        inner = f"{kernel.name}.unfused"
        believed.append(replace(kernel, does=(Operation.CONV,), outputs=(inner,)))
        believed.append(
            replace(
                kernel,
                name=inner,
                op="cuDNN calls of their own",
                does=extra,
                inputs=(inner, *kernel.inputs[1:]),
                labels=kernel.labels,
            )
        )
    return tuple(believed)


def _describe(
    engine: Path, folder: Path, precision: Precision, options: BuildOptions
) -> dict[str, Any]:
    """One run of the engine: where its nodes are, and which CUDA kernels it launches."""
    allow_fallback = options.allow_fallback
    given = options_for(allow_fallback=allow_fallback)
    session = gpu_session(engine, PROVIDER, one_by_one(given), allow_fallback=allow_fallback)
    feed = {
        each.name: np.zeros(
            [size if isinstance(size, int) else options.batches[0] for size in each.shape],
            np.uint8 if "uint8" in each.type else np.float32,
        )
        for each in session.get_inputs()
    }
    layouts: dict[str, float] = {}
    if precision is Precision.FP16:
        layouts = time_layouts(
            lambda tried: open_as_served(engine, tried, allow_fallback=allow_fallback), given, feed
        )
        given[LAYOUT] = min(layouts, key=layouts.__getitem__)
        session = gpu_session(engine, PROVIDER, one_by_one(given), allow_fallback=allow_fallback)
    session.run(None, feed)
    return {
        "allow_fallback": allow_fallback,
        "provider_options": given,
        "layout_ms": layouts,
        "placements": placements(session),
        "cuda_kernels": _launched(lambda: session.run(None, feed), folder),
    }


def open_as_served(
    engine: Path, given: Mapping[str, str], *, allow_fallback: bool, threads: int = 1
) -> OrtSession:
    """An engine with those options of the provider, its graph replayed if they say so."""
    return OrtSession(
        gpu_session(engine, PROVIDER, given, threads=threads, allow_fallback=allow_fallback),
        cuda_graphs=given.get(cuda_graphs.OPTION) == "1",
    )


def _launched(run: Any, folder: Path) -> list[str]:
    """The CUDA kernels that a call launches, in order; empty where nothing can trace them."""
    try:
        import torch
    except ImportError:
        return []
    if not torch.cuda.is_available():
        return []
    # CUPTI traces the whole process, so ONNX Runtime's kernels are in it too.
    activities = [torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities, acc_events=True) as trace:
        run()
        torch.cuda.synchronize()
    path = folder / "trace.json"
    trace.export_chrome_trace(str(path))
    events = json.loads(path.read_text(encoding="utf-8"))["traceEvents"]
    kernels = [event for event in events if event.get("cat") == "kernel"]
    return [event["name"] for event in sorted(kernels, key=lambda event: event["ts"])]


def _optimized(engine: Path, folder: Path, allow_fallback: bool) -> Path:
    optimized = folder / "optimized.onnx"
    options = session_options(1)
    options.optimized_model_filepath = str(optimized)
    given = one_by_one(_provider_options(engine))
    gpu_session(engine, PROVIDER, given, allow_fallback=allow_fallback, config=options)
    return optimized


def _provider_options(engine: Path) -> dict[str, str]:
    """Those that an engine was built with; of one that is older than its record of them, the
    options of then.
    """
    try:
        return dict(_account(engine)["provider_options"])
    except (UnreadableKernels, KeyError):
        return dict(OPTIONS)


def _account_file(engine: Path) -> Path:
    return engine.with_suffix(f".{PROFILE}")


def _account(engine: Path) -> dict[str, Any]:
    try:
        account: dict[str, Any] = json.loads(_account_file(engine).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UnreadableKernels(f"no profile of the engine's run to read: {error}") from None
    return account
