"""What this machine can build and run, target by target, and what would add the rest.

Each target speaks for itself (`Target.diagnose`): it is `available` (builds and runs here),
`buildable only` (its engines run elsewhere) or `missing`, and then says what adds it: a command, or
the hardware that no command can add.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final

from exporter import host
from exporter.errors import UsageError
from exporter.targets import TARGETS, target_class
from exporter.targets.diagnosis import Status, TargetDiagnosis, diagnose_library

if TYPE_CHECKING:
    from rich.console import Console

_COLOURS: Final[Mapping[Status, str]] = {
    Status.AVAILABLE: "green",
    Status.BUILDABLE: "yellow",
    Status.MISSING: "red",
}

# What decides INT8's and BF16's speed, in words that people know, and the flags that show it.
_FEATURES: Final[Mapping[str, tuple[str, ...]]] = {
    "AVX2": ("avx2",),
    "AVX-512": ("avx512f",),
    "VNNI": ("avx512_vnni", "avx_vnni"),
    "BF16": ("avx512_bf16",),
    "AMX": ("amx_int8", "amx_bf16"),
}
_ARM_FEATURES: Final[Mapping[str, tuple[str, ...]]] = {
    "NEON": ("neon",),
    "dot product": ("dotprod",),
    "I8MM": ("i8mm",),
    "SVE": ("sve",),
}


@dataclass(frozen=True)
class Diagnosis:
    """Everything that `exporter doctor` says."""

    host: host.Host
    cpu_features: dict[str, bool]
    """Instruction sets that decide which kernels run: AVX2, AVX-512, VNNI, BF16, AMX, or ARM's."""
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
        targets=tuple(line for name in TARGETS for line in target_class(name).diagnose(here)),
        compiler=tuple(
            diagnose_library(name, name, here)
            for name in ("torch", "onnx", "onnx_ir", "onnxscript")
        ),
        problems=_problems(),
    )


def cpu_features(flags: frozenset[str], machine: str) -> dict[str, bool]:
    """Which instruction sets of this kind of CPU are here; empty where the flags are unreadable."""
    features = _ARM_FEATURES if machine.lower() in {"aarch64", "arm64"} else _FEATURES
    return (
        {name: not flags.isdisjoint(any_of) for name, any_of in features.items()} if flags else {}
    )


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

    from exporter.commands.print_table import print_table

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
    print_table(machine, console)
    targets = Table(title="targets", title_justify="left")
    for heading in ("name", "status", "detail", "what would add it"):
        targets.add_column(heading)
    absent = [part for part in diagnosis.compiler if part.status is Status.MISSING]
    for target in (*diagnosis.targets, *absent):
        status = f"[{_COLOURS[target.status]}]{target.status}[/]"
        targets.add_row(target.name, status, escape(target.detail), escape(target.command or "-"))
    print_table(targets, console)
    for problem in diagnosis.problems:
        console.print(f"[red]problem:[/red] {escape(problem)}")
