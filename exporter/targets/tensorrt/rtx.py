"""TensorRT-RTX: plans for GPUs that are not here, built and read back with no GPU and no driver.

A variant is the GPU that a plan is for (`tensorrt-rtx:sm89`: an RTX 4090, an L4), or `portable`,
which every supported GPU loads. TensorRT-RTX compiles its kernels on that GPU when it loads the
plan; what the builder lists, and the receipt counts, is the ahead-of-time stage.

What TensorRT-RTX 1.7 makes of residual networks, as its own list says (docs/decisions/0030):
FP32, FP16 and BF16 have every residual sum inside a convolution; in INT8 each convolution writes
FP32, and the sums are generated kernels of their own, so its receipt is `partial` and FP16 is
advised.
"""

from __future__ import annotations

import contextlib
import platform
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from exporter import host
from exporter.artifact import (
    Dialect,
    ElementType,
    Kernel,
    Operation,
    Precision,
    Skipped,
    Verdict,
)
from exporter.errors import BuildError, UsageError, unknown_name
from exporter.targets.cause import EVERYWHERE, Cause
from exporter.targets.diagnosis import (
    Status,
    TargetDiagnosis,
    import_problem,
    require_installed,
    with_version,
)
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
from exporter.targets.tensorrt.arithmetic import DIALECTS, SINCE, check_arithmetic
from exporter.targets.tensorrt.layer_list import parse_layer_list
from exporter.targets.tensorrt.predict import predictions, traffic
from exporter.targets.tensorrt.records import LayerList
from exporter.targets.tensorrt.request import LAYERS, PLAN, BuildRequest
from exporter.targets.tensorrt.settings import RTX_KEYS, TensorRtSettings
from exporter.targets.tensorrt.types import asked_types, check_types

_OLDEST: Final = "7.5"
VARIANTS: Final[Mapping[str, str]] = {
    "portable": f"any supported GPU, compute capability {_OLDEST} and later",
    "sm75": "Turing: RTX 20, T4",
    "sm80": "Ampere: A100, A30",
    "sm86": "Ampere: RTX 30, A10, A40",
    "sm89": "Ada: RTX 40, L4, L40S",
    "sm120": "Blackwell: RTX 50, RTX PRO",
    "sm121": "Blackwell: GB10",
}
_DATA_CENTRE: Final[Mapping[str, str]] = {"sm90": "Hopper", "sm100": "Blackwell data centre"}

_INSTALL: Final = "pip install tensorrt-rtx-cu13"
_NO_WHEELS: Final = "no wheels for this platform (x86-64 Linux and Windows alone)"
_NOT_REPRODUCIBLE: Final = (
    "no: TensorRT-RTX numbers a plan's internal tensors by where they lie in memory; "
    "kernels and weights are the same from build to build"
)


class TensorRtRtx(Target):
    """Target `tensorrt-rtx`, with a variant of `VARIANTS` after a colon."""

    family = "tensorrt-rtx"
    library = "tensorrt_rtx"
    runs_on = MachineKind.GPU
    mark = Mark.TRIANGLE
    has_profiles = True
    cuda_graph = True
    dequantizes_int32 = False
    prediction_example = "--target tensorrt-rtx:sm89 --precision fp16"
    on_request: tuple[Precision, ...] = (Precision.BF16, Precision.FP8)

    def __init__(self, variant: str = "") -> None:
        if variant in _DATA_CENTRE:
            raise UsageError(
                f"TensorRT-RTX does not support {variant} ({_DATA_CENTRE[variant]}); "
                "use --target tensorrt on such a GPU"
            )
        self.variant = variant or "portable"
        if self.variant not in VARIANTS:
            raise unknown_name("variant of target tensorrt-rtx", variant, VARIANTS)
        self.name = f"{self.family}:{variant}" if variant else self.family
        how = f"run: {_INSTALL}" if _has_wheels() else _NO_WHEELS
        require_installed(self.name, "TensorRT-RTX", self.library, how)
        require_installed(self.name, "Polygraphy", "polygraphy", "run: pip install polygraphy")
        if self.variant == "sm75":
            self.precisions = (Precision.FP16,)
            self.on_request = ()

    @classmethod
    def default_for(cls, kind: MachineKind) -> tuple[tuple[str, Precision], ...]:
        return (("", Precision.FP16),) if kind is MachineKind.CPU else ()

    @classmethod
    def diagnose(cls, here: host.Host) -> tuple[TargetDiagnosis, ...]:
        problem = import_problem(cls.library)
        if problem is not None and not _has_wheels():
            return (TargetDiagnosis(cls.family, Status.MISSING, _NO_WHEELS),)
        if problem is not None:
            detail = f"{cls.library} {problem}"
            return (TargetDiagnosis(cls.family, Status.MISSING, detail, _INSTALL),)
        version = with_version(cls.library, here)
        if here.gpu is None or here.compute_capability is None:
            detail = f"{version}; no NVIDIA GPU to run its plans on"
            return (TargetDiagnosis(cls.family, Status.BUILDABLE, detail),)
        variant = f"sm{_digits(here.compute_capability)}"
        if variant not in VARIANTS:
            detail = f"{version}; it does not support this GPU ({variant}), use tensorrt here"
            return (TargetDiagnosis(cls.family, Status.BUILDABLE, detail),)
        return (TargetDiagnosis(cls.family, Status.AVAILABLE, f"{version}; this GPU is {variant}"),)

    def dialect(self, precision: Precision) -> Dialect:
        if self.variant != "portable":
            check_arithmetic(precision, _dotted(self.variant), self.variant)
        if precision not in (*self.precisions, *self.on_request):
            raise UsageError(
                f"TensorRT-RTX has no FP32 matrix product on sm75, which the classifier of an "
                f"{precision} engine is; ask for fp16"
            )
        return DIALECTS.get(precision, Dialect.FLOAT)

    def expected(self, precision: Precision) -> Verdict:
        return Verdict.PARTIAL if precision.quantized else Verdict.FUSED

    def activations(self, precision: Precision) -> frozenset[str]:  # noqa: ARG002
        return frozenset({"Relu", "Clip"})

    def causes(self) -> frozenset[Cause]:
        return EVERYWHERE | {Cause.CODES_NOT_TAKEN}

    def runs_here(self) -> Skipped | None:
        here = host.describe_host()
        if here.gpu is None or here.compute_capability is None:
            return Skipped("built, not run here: this machine has no NVIDIA GPU")
        if self.variant != "portable" and self.variant != f"sm{_digits(here.compute_capability)}":
            return Skipped(f"built for {self.variant}, not run here: {here.gpu} is another GPU")
        return None

    def check_settings(self, settings: Mapping[str, str]) -> None:
        self._parse(settings)

    def _parse(self, settings: Mapping[str, str]) -> TensorRtSettings:
        return TensorRtSettings.parse(settings, RTX_KEYS, self.name)

    def build(
        self, graph: Path, precision: Precision, out: Path, options: BuildOptions
    ) -> BuildResult:
        """Writes `<out>.plan` and, beside it, the builder's list of layers `<out>.layers.txt`.

        Settings: see `settings.py`.

        Raises:
            UsageError: an unknown setting or a malformed one.
            BuildError: the builder refuses the graph, dies, or builds other types than asked for.
        """
        from exporter.targets.tensorrt.process import run_builder

        settings = self._parse(options.settings)
        profile = settings.profile
        what = f"{self.name} {precision}"
        try:
            with tempfile.TemporaryDirectory(dir=out.parent, prefix=".build-") as folder:
                request = BuildRequest(
                    library="tensorrt_rtx",
                    onnx=str(graph.resolve()),
                    folder=str(Path(folder).resolve()),
                    built_for=self.variant,
                    profiles=((profile.min, profile.opt, profile.max),),
                    tf32=settings.tf32,
                    memory_mb=settings.memory_mb,
                )
                answer = run_builder(request, what, options.report)
                listed = Path(folder, LAYERS)
                # An unreadable list is for `kernels` to tell: the receipt is then `unverified`.
                with contextlib.suppress(UnreadableKernels):
                    check_types(read_layers(listed), asked_types(graph), precision, what)
                plan = Path(folder, PLAN).replace(_beside(out, PLAN))
                layers = listed.replace(_beside(out, LAYERS))
        except OSError as error:
            raise BuildError(
                f"{what}: cannot write to {out.parent}: {error.strerror}; "
                "free space or choose another --out"
            ) from None
        return BuildResult((plan, layers), self._requires(precision, settings, answer))

    def _requires(
        self, precision: Precision, settings: TensorRtSettings, answer: Mapping[str, Any]
    ) -> dict[str, Any]:
        dynamic = any(shape[0] < 0 for shape in answer["inputs"].values())
        return {
            "compute_capability": self._capability(precision),
            "versions": {"tensorrt_rtx": answer["version"]},
            "profile": str(settings.profile) if dynamic else "fixed batch",
            "tf32": settings.tf32,
            "reproducible": _NOT_REPRODUCIBLE,
            "build": {key: answer[key] for key in ("seconds", "memory_mb")},
        }

    def _capability(self, precision: Precision) -> str:
        if self.variant != "portable":
            return _dotted(self.variant)
        since = SINCE.get(precision)
        return f"any supported GPU, compute capability {since or _OLDEST} and later"

    def open(self, engine: Path, threads: int) -> Session:  # noqa: ARG002
        """Loads a plan on this machine's GPU.

        Raises:
            BuildError: there is no GPU, or TensorRT-RTX refuses the plan.
        """
        from exporter.targets.tensorrt.session import open_plan

        missing = self.runs_here()
        if missing is not None:
            raise BuildError(f"{self.name}: {missing.skipped}")
        return open_plan(engine, "tensorrt_rtx")

    def kernels(self, engine: Path) -> tuple[tuple[Kernel, ...], str]:
        """The kernels of the ahead-of-time stage, from the list that `build` kept.

        Raises:
            UnreadableKernels: the list is missing, in an unknown form, or does not add up.
        """
        listed = read_layers(layers_of(engine))
        source = (
            f"the builder's layer list ({listed.library} for {listed.built_for}; ahead-of-time "
            "stage: the GPU that loads the plan compiles these kernels)"
        )
        return listed.kernels(), source

    def traffic(self, engine: Path, batch: int) -> tuple[KernelTraffic, ...]:
        """What each kernel of the ahead-of-time stage computes and moves.

        Raises:
            UnreadableKernels: as `kernels`.
        """
        return traffic(read_layers(layers_of(engine)), batch)

    def predict(
        self, engine: Path, precision: Precision, batches: tuple[int, ...]
    ) -> tuple[tuple[Prediction, ...], tuple[str, ...]]:
        """A roofline for each GPU that the plan is for, and what its layers say against INT8.

        What is not known is not estimated: without a readable list of layers, that is the advice.
        """
        try:
            listed = read_layers(layers_of(engine))
        except UnreadableKernels as error:
            return (), (f"no predicted cost: {error}",)
        advice = recommendation(listed, precision)
        return predictions(listed, self.variant, batches), (advice,) if advice else ()


def layers_of(engine: Path) -> Path:
    """Where the layer list of a plan lies."""
    return _beside(engine.with_suffix(""), LAYERS)


def read_layers(path: Path) -> LayerList:
    """The layer list in a file.

    Raises:
        UnreadableKernels: there is no such file, or it is in an unknown form.
    """
    try:
        return parse_layer_list(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UnreadableKernels(f"no layer list to read: {error}") from None


def recommendation(listed: LayerList, precision: Precision) -> str | None:
    """What the builder's list says against this precision on this runtime, if anything."""
    convs = [layer for layer in listed.layers if Operation.CONV in layer.does]
    in_float = {t.name for layer in convs for t in layer.outputs if t.dtype is ElementType.FP32}
    if not precision.quantized or not in_float:
        return None
    readers = sum(
        layer.type == "kgen" and not in_float.isdisjoint(t.name for t in layer.inputs)
        for layer in listed.layers
    )
    return (
        f"{listed.library} compiles {precision.upper()} to {len(convs)} convolutions, "
        f"{len(in_float)} of which write FP32, and {readers} pointwise kernels that read it back; "
        "prefer --precision fp16 on this runtime"
    )


def _has_wheels() -> bool:
    return platform.machine() in {"x86_64", "AMD64"} and platform.system() != "Darwin"


def _beside(out: Path, suffix: str) -> Path:
    return out.with_name(f"{out.name}.{suffix}")


def _digits(capability: str) -> str:
    return capability.replace(".", "")


def _dotted(variant: str) -> str:
    digits = variant.removeprefix("sm")
    return f"{digits[:-1]}.{digits[-1]}"
