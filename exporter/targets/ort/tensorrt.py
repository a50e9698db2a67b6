"""ONNX Runtime's TensorRT provider: an EPContext model with the TensorRT engine inside.

The engine is one ONNX file with a single `EPContext` node whose `ep_cache_context` attribute holds
the serialized engine; loading it builds nothing. A second file keeps what the build was allowed, so
that the engine opens under the same conditions. The precision is the graph's. TensorRT 10's
flags only permit the types that the graph already asks for; TensorRT 11 has no flags (ONNX Runtime
1.27 and later).

ONNX Runtime gives no access to the engine's layers, so its receipt is `unverified`; build the same
graph with the target `tensorrt` to see what TensorRT makes of it.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from exporter import host
from exporter.artifact import Dialect, Kernel, Precision, Verdict
from exporter.disk.writing import can_write
from exporter.errors import BuildError
from exporter.targets.cause import EVERYWHERE, Cause
from exporter.targets.ort.gpu import OrtGpuTarget, built_with_fallback, gpu_session
from exporter.targets.ort.session import OrtSession, version
from exporter.targets.target import (
    BuildOptions,
    BuildResult,
    MachineKind,
    Mark,
    UnreadableKernels,
)
from exporter.targets.tensorrt.settings import Profile, TensorRtSettings
from exporter.targets.tensorrt.versions import precision_options

PROVIDER: Final = "TensorrtExecutionProvider"
BUILT_WITH: Final = "build.json"
"""Beside the engine: whether its build was allowed nodes on the CPU."""
SETTINGS: Final = ("profile", "timing_cache", "optimization_level")


class OrtTensorRt(OrtGpuTarget):
    """Target `ort-tensorrt`."""

    family = "ort-tensorrt"
    mark = Mark.CROSS
    has_profiles = True
    dequantizes_int32 = False
    provider = PROVIDER

    @classmethod
    def default_for(cls, kind: MachineKind) -> tuple[tuple[str, Precision], ...]:
        return (("", Precision.FP16),) if kind is MachineKind.GPU else ()

    def dialect(self, precision: Precision) -> Dialect:
        self.check_precision(precision)
        return Dialect.S8_SYMMETRIC if precision is Precision.INT8 else Dialect.FLOAT

    def expected(self, precision: Precision) -> Verdict:  # noqa: ARG002
        return Verdict.UNVERIFIED

    def causes(self) -> frozenset[Cause]:
        return EVERYWHERE | {Cause.CODES_NOT_TAKEN}

    def check_settings(self, settings: Mapping[str, str]) -> None:
        self._parse(settings)

    def _parse(self, settings: Mapping[str, str]) -> TensorRtSettings:
        return TensorRtSettings.parse(settings, SETTINGS, self.name)

    def build(
        self, graph: Path, precision: Precision, out: Path, options: BuildOptions
    ) -> BuildResult:
        """Writes `<out>.onnx`, an EPContext model with the engine embedded, and `<out>.build.json`.

        Settings: profile, timing_cache and optimization_level of `tensorrt/settings.py`.

        Raises:
            UsageError: an unknown setting or a malformed one.
            BuildError: the provider refuses the graph or leaves nodes outside the engine.
        """
        settings = self._parse(options.settings)
        times = settings.timing_cache
        if times is not None and not can_write(Path(times)):
            options.report(f"measured kernel times are not kept: {times} cannot be written")
            settings = replace(settings, timing_cache=None)
        engine = out.with_name(f"{out.name}.onnx")
        account = _account_file(engine)
        here = host.describe_host()
        tensorrt = here.versions.get("tensorrt", "10.0")
        try:
            with tempfile.TemporaryDirectory(dir=out.parent, prefix=".build-") as folder:
                written = Path(folder, engine.name)
                provider_options = build_options(
                    precision, settings, _inputs_of(graph), tensorrt, written
                )
                gpu_session(
                    graph, PROVIDER, provider_options, allow_fallback=options.allow_fallback
                )
                embedded = embedded_engine(written, options.allow_fallback)
                allowed = Path(folder, BUILT_WITH)
                allowed.write_text(
                    json.dumps({"allow_fallback": options.allow_fallback}), encoding="utf-8"
                )
                written.replace(engine)
                allowed.replace(account)
        except OSError as error:
            raise BuildError(
                f"cannot write {engine}: {error.strerror}; free space or choose another --out"
            ) from None
        return BuildResult(
            (engine, account),
            {
                "compute_capability": here.compute_capability,
                "gpu": here.gpu,
                "versions": {"onnxruntime": version(), "tensorrt": tensorrt},
                "profile": str(settings.profile),
                "engine_sha256": hashlib.sha256(embedded).hexdigest(),
                "reproducible": "no: TensorRT picks kernels by measuring them",
                "allow_fallback": options.allow_fallback,
            },
        )

    def open(self, engine: Path, threads: int) -> OrtSession:
        """Loads an EPContext model, its engine deserialized, with the fallback of its build."""
        allowed = built_with_fallback(_account_file(engine))
        return OrtSession(
            gpu_session(engine, PROVIDER, {}, threads=threads, allow_fallback=allowed)
        )

    def kernels(self, engine: Path) -> tuple[tuple[Kernel, ...], str]:
        """Always raises UnreadableKernels: ONNX Runtime does not show the engine's layers."""
        raise UnreadableKernels(
            f"{engine.name} holds its TensorRT engine inside an EPContext node, whose layers "
            "ONNX Runtime does not show; the target tensorrt does"
        )


def build_options(
    precision: Precision,
    settings: TensorRtSettings,
    inputs: Mapping[str, tuple[int | str, ...]],
    tensorrt_version: str,
    written: Path,
) -> dict[str, str]:
    """The provider's options for one build; `inputs` are the shapes of all, by name."""
    options = {
        "trt_dump_ep_context_model": "True",
        "trt_ep_context_file_path": str(written),
        "trt_ep_context_embed_mode": "1",
        "trt_engine_cache_enable": "False",
    }
    if settings.optimization_level is not None:
        options["trt_builder_optimization_level"] = str(settings.optimization_level)
    options.update(precision_options(precision, tensorrt_version))
    if settings.timing_cache is not None:
        options["trt_timing_cache_enable"] = "True"
        options["trt_timing_cache_path"] = os.fspath(settings.timing_cache)
    options.update(_profile_options(settings.profile, inputs))
    return options


def _profile_options(
    profile: Profile, inputs: Mapping[str, tuple[int | str, ...]]
) -> Mapping[str, str]:
    if all(isinstance(shape[0], int) for shape in inputs.values()):
        return {}
    sizes = {"min": profile.min, "opt": profile.opt, "max": profile.max}
    return {
        f"trt_profile_{key}_shapes": ",".join(
            f"{name}:{'x'.join(map(str, (size, *shape[1:])))}" for name, shape in inputs.items()
        )
        for key, size in sizes.items()
    }


def embedded_engine(path: Path, allow_fallback: bool) -> bytes:
    """The engine inside an EPContext model.

    Raises:
        BuildError: none was written, or nodes were left beside it that were not allowed to be.
    """
    import onnx

    if not path.exists():
        raise BuildError(f"onnxruntime {version()} wrote no EPContext model")
    nodes = onnx.load(path).graph.node
    contexts = [node for node in nodes if node.op_type == "EPContext"]
    beside = [node.name or node.op_type for node in nodes if node.op_type != "EPContext"]
    if beside and not allow_fallback:
        raise BuildError(
            f"TensorRT left {len(beside)} nodes outside its engine ({', '.join(beside[:3])}); "
            "--allow-fallback accepts them"
        )
    engines: list[Any] = [
        attribute.s
        for node in contexts
        for attribute in node.attribute
        if attribute.name == "ep_cache_context"
    ]
    if not engines:
        raise BuildError("the EPContext model holds no engine")
    return b"".join(engines)


def _account_file(engine: Path) -> Path:
    return engine.with_suffix(f".{BUILT_WITH}")


def _inputs_of(graph: Path) -> dict[str, tuple[int | str, ...]]:
    import onnx

    return {
        value.name: tuple(
            dim.dim_param or int(dim.dim_value) for dim in value.type.tensor_type.shape.dim
        )
        for value in onnx.load(graph, load_external_data=False).graph.input
    }
