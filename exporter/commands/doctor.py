"""What this machine can build and run, target by target, and what would add the rest.

Each library is really imported, since an installed one may lack a shared library or a driver. A
target is `available` (builds and runs here), `buildable only` (its engines run elsewhere) or
`missing`, and then says what adds it: a command, or the hardware that no command can add.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from importlib import import_module
from typing import TYPE_CHECKING, Final

from exporter import host
from exporter.errors import UsageError
from exporter.targets.tensorrt.rtx import VARIANTS

if TYPE_CHECKING:
    from rich.console import Console

AVAILABLE, BUILDABLE, MISSING = "available", "buildable only", "missing"

_CPU: Final = "pip install 'resnet-exporter[cpu]'"
_GPU: Final = "pip install 'resnet-exporter[gpu]'"
_SWAP: Final = f"pip uninstall -y onnxruntime && {_GPU}"
_NO_GPU: Final = "needs an NVIDIA GPU; no driver answers here"

# What decides INT8's speed, in words that people know, and the flags that show it.
_FEATURES: Final[Mapping[str, tuple[str, ...]]] = {
    "AVX2": ("avx2",),
    "AVX-512": ("avx512f",),
    "VNNI": ("avx512_vnni", "avx_vnni"),
    "AMX": ("amx_int8", "amx_bf16"),
}
_ARM_FEATURES: Final[Mapping[str, tuple[str, ...]]] = {
    "NEON": ("neon",),
    "dot product": ("dotprod",),
    "I8MM": ("i8mm",),
    "SVE": ("sve",),
}


@dataclass(frozen=True)
class TargetDiagnosis:
    """One target on this machine."""

    name: str
    status: str
    """"available", "buildable only" or "missing"."""
    detail: str
    """The library's version, and what is in the way."""
    command: str | None = None
    """What would add what is missing; None where nothing is, or where it is hardware."""


@dataclass(frozen=True)
class Diagnosis:
    """Everything that `exporter doctor` says."""

    host: host.Host
    cpu_features: dict[str, bool]
    """Instruction sets that decide which kernels run: AVX2, AVX-512, VNNI, AMX, or ARM's."""
    targets: tuple[TargetDiagnosis, ...]
    compiler: tuple[TargetDiagnosis, ...]
    """The libraries that every compile needs, in the same three words."""
    problems: tuple[str, ...]
    """What is wrong with the environment itself."""

    def to_json(self) -> str:
        """The same, for programs."""
        return json.dumps(asdict(self), indent=2, ensure_ascii=False)


def diagnose() -> Diagnosis:
    """Looks at the machine; a second or two, since libraries are imported."""
    here = host.describe_host()
    return Diagnosis(
        host=here,
        cpu_features=cpu_features(host.cpu_flags(), platform.machine()),
        targets=(
            _library("ort-cpu", "onnxruntime", here),
            _with_amx(_library("ort-cpu:amx", "onnxruntime", here)),
            _library("openvino", "openvino", here),
            _tensorrt_rtx(here),
            _tensorrt(here),
            _provider("ort-cuda", "CUDAExecutionProvider", here),
            _provider("ort-tensorrt", "TensorrtExecutionProvider", here),
        ),
        compiler=tuple(
            _library(name, name, here) for name in ("torch", "onnx", "onnx_ir", "onnxscript")
        ),
        problems=_problems(),
    )


def _with_amx(found: TargetDiagnosis) -> TargetDiagnosis:
    """The same library; its engines run anywhere, but are meant for CPUs with AMX."""
    if found.status != "available" or host.AMX_FLAG in host.cpu_flags():
        return found
    return replace(found, status="buildable only", detail=f"{found.detail}; this CPU has no AMX")


def cpu_features(flags: frozenset[str], machine: str) -> dict[str, bool]:
    """Which instruction sets of this kind of CPU are here; empty where the flags are unreadable."""
    features = _ARM_FEATURES if machine.lower() in {"aarch64", "arm64"} else _FEATURES
    return (
        {name: not flags.isdisjoint(any_of) for name, any_of in features.items()} if flags else {}
    )


def _import_problem(module: str) -> str | None:
    """Why a module does not import, in one line; None where it does."""
    try:
        import_module(module)
    except ModuleNotFoundError as error:
        absent = error.name == module
        return "not installed" if absent else f"does not import: no module {error.name}"
    except (ImportError, OSError) as error:
        return f"does not import: {' '.join(str(error).split())}"
    return None


def _library(name: str, module: str, here: host.Host) -> TargetDiagnosis:
    problem = _import_problem(module)
    if problem is None:
        return TargetDiagnosis(name, AVAILABLE, _with_version(module, here))
    return TargetDiagnosis(name, MISSING, f"{module} is {problem}", _CPU)


def _with_version(module: str, here: host.Host) -> str:
    return f"{module} {here.versions.get(module, '(unknown version)')}"


def _tensorrt_rtx(here: host.Host) -> TargetDiagnosis:
    name = "tensorrt-rtx"
    problem = _import_problem("tensorrt_rtx")
    if problem is not None:
        wheels = platform.machine() in {"x86_64", "AMD64"} and platform.system() != "Darwin"
        if not wheels:
            return TargetDiagnosis(name, MISSING, "no wheels for this platform (x86-64 alone)")
        return TargetDiagnosis(name, MISSING, f"tensorrt_rtx is {problem}", _CPU)
    version = _with_version("tensorrt_rtx", here)
    if here.gpu is None or here.compute_capability is None:
        return TargetDiagnosis(name, BUILDABLE, f"{version}; no NVIDIA GPU to run its plans on")
    variant = f"sm{here.compute_capability.replace('.', '')}"
    if variant not in VARIANTS:
        detail = f"{version}; it does not support this GPU ({variant}), use tensorrt here"
        return TargetDiagnosis(name, BUILDABLE, detail)
    return TargetDiagnosis(name, AVAILABLE, f"{version}; this GPU is {variant}")


def _tensorrt(here: host.Host) -> TargetDiagnosis:
    if here.gpu is None:
        return TargetDiagnosis("tensorrt", MISSING, _NO_GPU)
    problem = _import_problem("tensorrt")
    if problem is not None:
        return TargetDiagnosis("tensorrt", MISSING, f"tensorrt is {problem}", _GPU)
    return TargetDiagnosis("tensorrt", AVAILABLE, _with_version("tensorrt", here))


def _provider(name: str, provider: str, here: host.Host) -> TargetDiagnosis:
    if here.gpu is None:
        return TargetDiagnosis(name, MISSING, _NO_GPU)
    problem = _import_problem("onnxruntime")
    if problem is not None:
        return TargetDiagnosis(name, MISSING, f"onnxruntime is {problem}", _GPU)
    import onnxruntime

    if provider not in onnxruntime.get_available_providers():
        detail = f"{_with_version('onnxruntime', here)} has no {provider}"
        return TargetDiagnosis(name, MISSING, detail, _SWAP)
    return TargetDiagnosis(name, AVAILABLE, _with_version("onnxruntime", here))


def _problems() -> tuple[str, ...]:
    try:
        host.check_single_onnxruntime()
    except UsageError as error:
        return (str(error),)
    return ()


def render(diagnosis: Diagnosis, console: Console) -> None:
    """Prints a diagnosis as two tables."""
    from rich.markup import escape
    from rich.table import Table

    here = diagnosis.host
    machine = Table(title="this machine", title_justify="left", show_header=False)
    yes_no = ", ".join(
        f"{name} {'yes' if present else 'no'}" for name, present in diagnosis.cpu_features.items()
    )
    for row in (
        ("CPU", here.cpu),
        ("system", here.system),
        ("instruction sets", yes_no or "cannot be read on this system"),
        ("threads", f"{here.threads} for an engine, of {here.logical_cpus} logical CPUs"),
        ("GPU", here.gpu or "none that an NVIDIA driver answers for"),
        ("driver", here.driver or "-"),
        ("compute capability", here.compute_capability or "-"),
        ("versions", ", ".join(f"{name} {v}" for name, v in here.versions.items())),
    ):
        machine.add_row(row[0], escape(row[1]))
    console.print(machine)
    targets = Table(title="targets", title_justify="left")
    for heading in ("name", "status", "detail", "what would add it"):
        targets.add_column(heading)
    colours = {AVAILABLE: "green", BUILDABLE: "yellow", MISSING: "red"}
    absent = [part for part in diagnosis.compiler if part.status == MISSING]
    for target in (*diagnosis.targets, *absent):
        status = f"[{colours[target.status]}]{target.status}[/]"
        targets.add_row(target.name, status, escape(target.detail), escape(target.command or "-"))
    console.print(targets)
    for problem in diagnosis.problems:
        console.print(f"[red]problem:[/red] {escape(problem)}")
