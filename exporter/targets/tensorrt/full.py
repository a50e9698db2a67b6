"""Full TensorRT, 10 and 11: engines for the GPU that they are built on.

Both versions are asked for the same thing, a strongly typed network: TensorRT 11 has no other, and
in TensorRT 10 it makes the graph's types hold. So precision is never a builder flag here, and what
was built is checked against the graph. The differences that are left are in `versions.py`.

Expected of the s8-symmetric dialect: Q/DQ on the shortcut alone leaves each residual sum inside
the main branch's last convolution (docs/decisions/0032).
"""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from exporter import host
from exporter.artifact import Dialect, Kernel, Precision, Skipped, Verdict
from exporter.disk.writing import write_whole
from exporter.errors import BuildError, MissingDependencyError, UsageError, install_command
from exporter.targets.cause import EVERYWHERE, Cause
from exporter.targets.diagnosis import (
    NO_GPU,
    Status,
    TargetDiagnosis,
    diagnose_library,
    require_installed,
)
from exporter.targets.probe import why_it_fails
from exporter.targets.target import (
    BuildOptions,
    BuildResult,
    KernelTraffic,
    MachineKind,
    Mark,
    Prediction,
    Session,
    Target,
    UnreadableKernels,
)
from exporter.targets.tensorrt.arithmetic import DIALECTS, check_arithmetic
from exporter.targets.tensorrt.inspector import parse_engine
from exporter.targets.tensorrt.layer_list import parse_nodes
from exporter.targets.tensorrt.portability import rebuild_line, why_not_loaded
from exporter.targets.tensorrt.predict import traffic
from exporter.targets.tensorrt.records import LayerList
from exporter.targets.tensorrt.refit import WEIGHTS
from exporter.targets.tensorrt.request import ENGINE, PLAN, BuildRequest, RefusedError
from exporter.targets.tensorrt.session import choose_profile
from exporter.targets.tensorrt.settings import ALL_KEYS, Profile, TensorRtSettings
from exporter.targets.tensorrt.timing_cache import TIMES, fetch_times, keep_times, timing_cache
from exporter.targets.tensorrt.types import asked_types, check_types
from exporter.targets.tensorrt.versions import CHECKED, trtexec_switches, unchecked
from exporter.targets.triton_containers import newest


class TensorRt(Target):
    """Target `tensorrt`."""

    family = name = library = triton_backend = "tensorrt"
    runs_on = MachineKind.GPU
    mark = Mark.DIAMOND
    has_profiles = True
    cuda_graph = True
    dequantizes_int32 = False
    builder_image = "nvcr.io/nvidia/tensorrt"
    on_request: tuple[Precision, ...] = (Precision.BF16, Precision.FP8)

    def __init__(self, variant: str = "") -> None:
        if variant:
            raise UsageError(
                f"target tensorrt builds for the GPU that is here and has no variant {variant!r}; "
                f"for another GPU use tensorrt-rtx:{variant}"
            )
        install = f"it comes from NVIDIA's index; run: {install_command('gpu')}"
        require_installed(self.name, "TensorRT", self.library, install)
        require_installed(self.name, "Polygraphy", "polygraphy", install)
        if host.describe_host().gpu is None:
            raise MissingDependencyError(
                "target tensorrt builds on an NVIDIA GPU, and no driver answers here; "
                "use --target tensorrt-rtx:sm89 (or another variant) to build without one"
            )

    @classmethod
    def default_for(cls, kind: MachineKind) -> tuple[tuple[str, Precision], ...]:
        return tuple(("", p) for p in cls.precisions) if kind is MachineKind.GPU else ()

    @classmethod
    def diagnose(cls, here: host.Host) -> tuple[TargetDiagnosis, ...]:
        found = diagnose_library(cls.family, cls.library, here, install_command("gpu"))
        if found.status is not Status.AVAILABLE:
            if here.gpu is None:
                return (TargetDiagnosis(cls.family, Status.MISSING, NO_GPU),)
            return (found,)
        refused = why_it_fails(cls.library)
        if refused is not None:
            detail = f"{found.detail} imports; {refused}"
            return (replace(found, status=Status.MISSING, detail=detail),)
        warning = unchecked(here.versions.get(cls.library, CHECKED[0]))
        return (found if warning is None else replace(found, detail=warning),)

    @classmethod
    def why_not_loaded(cls, requires: Mapping[str, Any], version: str) -> str | None:
        """As the base class says; of a build that recorded no version nothing is known."""
        built = requires.get("versions", {}).get(cls.library)
        if built is None:
            return None
        compatible = bool(requires.get("version_compatible"))
        return why_not_loaded(built, version, version_compatible=compatible)

    @classmethod
    def why_not_in_triton(cls, requires: Mapping[str, Any]) -> str | None:
        if requires.get("strip_weights"):
            return (
                "its plan has no weights, and Triton does not put them back; "
                "export it without --setting tensorrt.strip_weights=on"
            )
        return None

    @classmethod
    def triton_options(cls, requires: Mapping[str, Any]) -> tuple[str, ...]:
        compatible = requires.get("version_compatible")
        return ("--backend-config=tensorrt,version-compatible=true",) if compatible else ()

    def dialect(self, precision: Precision) -> Dialect:
        check_arithmetic(precision, host.describe_host().compute_capability, "this GPU")
        return DIALECTS.get(precision, Dialect.FLOAT)

    def expected(self, precision: Precision) -> Verdict:
        # What TensorRT makes of FP8 nobody has seen: whatever the receipt says is news.
        return Verdict.UNVERIFIED if precision is Precision.FP8 else Verdict.FUSED

    def causes(self) -> frozenset[Cause]:
        return EVERYWHERE | {Cause.CODES_NOT_TAKEN}

    def runs_here(self) -> Skipped | None:
        if host.describe_host().gpu is None:
            return Skipped("no NVIDIA GPU here")
        return None

    def check_settings(self, settings: Mapping[str, str]) -> None:
        self._parse(settings)

    def _parse(self, settings: Mapping[str, str]) -> TensorRtSettings:
        return TensorRtSettings.parse(settings, ALL_KEYS, self.name)

    def build(
        self, graph: Path, precision: Precision, out: Path, options: BuildOptions
    ) -> BuildResult:
        """Writes `<out>.plan` and the inspector's account of it, `<out>.engine.json`.

        Of a plan without weights also `<out>.weights.onnx`. Settings: see `settings.py`.

        Raises:
            UsageError: an unknown setting or a malformed one.
            BuildError: the builder refuses the graph, dies, or builds other types than asked for.
        """
        from exporter.targets.tensorrt.process import run_builder

        settings = self._parse(options.settings)
        here = host.describe_host()
        what = f"{self.name} {precision}"
        try:
            with tempfile.TemporaryDirectory(dir=out.parent, prefix=".build-") as folder:
                request = BuildRequest(
                    library="tensorrt",
                    onnx=str(graph.resolve()),
                    folder=str(Path(folder).resolve()),
                    built_for=str(here.compute_capability),
                    profiles=profiles(settings.profile, options.batches),
                    tf32=settings.tf32,
                    memory_mb=settings.memory_mb,
                    optimization_level=settings.optimization_level,
                    hardware_compatibility=settings.hardware_compatibility,
                    version_compatible=settings.version_compatible,
                    strip_weights=settings.strip_weights,
                    timing_cache=str(Path(folder, TIMES).resolve()),
                )
                kept = timing_cache(settings, here)
                fetch_times(kept, Path(folder, TIMES), options.report)
                answer = run_builder(request, what, options.report)
                described = Path(folder, ENGINE)
                # An unreadable engine is for `kernels` to tell: the receipt is then `unverified`.
                with contextlib.suppress(UnreadableKernels):
                    check_types(read_engine(described), asked_types(graph), precision, what)
                plan = Path(folder, PLAN).replace(out.with_name(f"{out.name}.{PLAN}"))
                files = [plan, described.replace(out.with_name(f"{out.name}.{ENGINE}"))]
                if settings.strip_weights:
                    files.append(out.with_name(f"{out.name}.{WEIGHTS}"))
                    write_whole(files[-1], graph.read_bytes())
                keep_times(Path(folder, TIMES), kept, options.report)
        except OSError as error:
            raise BuildError(
                f"{what}: cannot write to {out.parent}: {error.strerror}; "
                "free space or choose another --out"
            ) from None
        return BuildResult(tuple(files), requires(settings, here, answer, plan, options.batches))

    def open(self, engine: Path, threads: int) -> Session:  # noqa: ARG002
        """Loads a plan on this machine's GPU, its weights from beside it where it has none.

        Raises:
            BuildError: TensorRT refuses the plan or the weights.
        """
        from exporter.targets.tensorrt.session import open_plan

        return open_plan(engine, "tensorrt")

    def kernels(self, engine: Path) -> tuple[tuple[Kernel, ...], str]:
        """The kernels of the built engine, from the inspector's account that `build` kept.

        Raises:
            UnreadableKernels: the account is missing, in an unknown form, or does not add up.
        """
        built = read_engine(engine.with_suffix(f".{ENGINE}"))
        return built.kernels(), f"the engine inspector ({built.library}, GPU {built.built_for})"

    def predict(
        self,
        engine: Path,
        precision: Precision,  # noqa: ARG002
        batches: tuple[int, ...],  # noqa: ARG002
    ) -> tuple[tuple[Prediction, ...], tuple[str, ...]]:
        """No costs, since they are measured; a warning about a version that was not checked."""
        try:
            built = read_engine(engine.with_suffix(f".{ENGINE}"))
        except UnreadableKernels:
            return (), ()
        warning = unchecked(built.library.rpartition(" ")[2])
        return (), () if warning is None else (warning,)

    def traffic(self, engine: Path, batch: int) -> tuple[KernelTraffic, ...]:
        """What each kernel of the profile for a batch size computes and moves.

        Raises:
            UnreadableKernels: as `kernels`, or the plan has no profile for it.
        """
        account = engine.with_suffix(f".{ENGINE}")
        kept = built_profiles(account)
        try:
            index = choose_profile([(low, high) for low, _, high in kept], batch) if kept else 0
        except BuildError as error:
            raise UnreadableKernels(str(error)) from None
        return traffic(read_engine(account, index), batch)


def why_no_builder() -> str | None:
    """None where TensorRT makes a builder, which needs a GPU; else its own reason."""
    from exporter.targets.tensorrt.builder import Messages, make_builder

    try:
        make_builder(Messages())
    except RefusedError as error:
        return str(error)
    return None


def profiles(asked: Profile, batches: Sequence[int]) -> tuple[tuple[int, int, int], ...]:
    """One tuned at each batch size that matters, 1 always among them, and then the asked one.

    A profile is tuned at its middle size alone, so the asked one serves for that size. The kernels
    of the first profile are those that a receipt counts.
    """
    every = (asked.min, asked.opt, asked.max)
    sizes = [size for size in (1, *batches) if asked.min <= size <= asked.max]
    tuned = {(size, size, size) for size in sizes if size != asked.opt or size == 1}
    return (*sorted(tuned - {every}), every)


def requires(
    settings: TensorRtSettings,
    here: host.Host,
    answer: Mapping[str, Any],
    plan: Path,
    batches: Sequence[int],
) -> dict[str, Any]:
    """What the manifest says that the engine needs, and how trtexec would measure it."""
    portable = {
        None: str(here.compute_capability),
        "same_compute_capability": f"{here.compute_capability} (any GPU that has it)",
        "ampere_plus": "8.0 and later",
    }
    shapes = answer["inputs"]
    dynamic = any(shape[0] < 0 for shape in shapes.values())
    built = profiles(settings.profile, batches)
    version, compatible = answer["version"], settings.version_compatible
    server = newest(
        "tensorrt",
        lambda found: why_not_loaded(version, found, version_compatible=compatible) is None,
    )
    return {
        "compute_capability": portable[settings.hardware_compatibility],
        "gpu": here.gpu,
        "versions": {"tensorrt": version},
        "version_compatible": compatible,
        "strip_weights": settings.strip_weights,
        "triton_container": "none is known" if server is None else server.tag,
        "profiles": [":".join(map(str, p)) for p in built] if dynamic else [],
        "tf32": settings.tf32,
        "reproducible": "no: TensorRT picks kernels by measuring them",
        "build": {key: answer[key] for key in ("seconds", "memory_mb")},
        "trtexec": {
            str(batch): trtexec_line(plan.name, shapes, batch, built, version)
            for batch in (batches if dynamic else batches[:1])
            if any(low <= batch <= high for low, _, high in built)
        },
        "rebuild": rebuild_line(settings, shapes, built, version),
    }


def trtexec_line(
    plan: str,
    shapes: Mapping[str, list[int]],
    batch: int,
    built: Sequence[tuple[int, int, int]],
    version: str,
) -> str:
    """The trtexec command that measures what `measure/cuda_clock.py` calls compute.

    The median of its "GPU Compute Time" is the figure that ours must match; its throughput counts
    queries, not images. It gives every inference the same input, which may stay in the L2 cache.
    A plan with several profiles is run at the one of this batch.
    """
    line = f"trtexec --loadEngine={plan}"
    dynamic = {name: shape for name, shape in shapes.items() if shape[0] < 0}
    if dynamic:
        sizes = ",".join(
            f"{name}:{'x'.join(map(str, (batch, *shape[1:])))}" for name, shape in dynamic.items()
        )
        line += f" --shapes={sizes}"
        index = choose_profile([(low, high) for low, _, high in built], batch)
        if index:
            line += f" --useProfile={index}"
    return line + trtexec_switches(version)


def built_profiles(path: Path) -> tuple[tuple[int, int, int], ...]:
    """(min, opt, max) of the profiles that an engine was built with; empty: a fixed batch.

    Raises:
        UnreadableKernels: there is no such file, or it is in an unknown form.
    """
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))["profiles"]
        return tuple((int(low), int(best), int(high)) for low, best, high in kept)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UnreadableKernels(f"no engine inspector's account to read: {error}") from None


def read_engine(path: Path, profile: int = 0) -> LayerList:
    """The layers in a file that the builder process wrote, of one of its profiles.

    Raises:
        UnreadableKernels: there is no such file, or it is in an unknown form.
    """
    try:
        account = json.loads(path.read_text(encoding="utf-8"))
        return parse_engine(
            account["inspector"],
            parse_nodes(account["nodes"]),
            account["library"],
            account["built_for"],
            profile,
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UnreadableKernels(f"no engine inspector's account to read: {error}") from None
