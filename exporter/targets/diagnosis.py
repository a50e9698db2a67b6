"""Whether a library is here, what is in its way, and what would add it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from importlib import import_module, util
from typing import Final

from exporter.errors import MissingDependencyError, install_command
from exporter.host import Host, compiler_extra
from exporter.runtime.errors import reason_of

NO_GPU: Final = "needs an NVIDIA GPU; no driver answers here"


class Status(StrEnum):
    """How much of a target or library this machine has."""

    AVAILABLE = "available"
    """Builds and runs here."""
    BUILDABLE = "buildable only"
    """Its engines run elsewhere."""
    MISSING = "missing"


@dataclass(frozen=True)
class TargetDiagnosis:
    """One target, or one library that every compile needs, on this machine."""

    name: str
    status: Status
    detail: str
    """The library's version, and what is in the way."""
    command: str | None = None
    """What would add what is missing; None where nothing is, or where it is hardware."""


def import_problem(module: str) -> str | None:
    """Why a module does not import, as the end of a sentence; None where it does.

    It is really imported, since an installed library may lack a shared library or a driver.
    """
    try:
        import_module(module)
    except ModuleNotFoundError as error:
        absent = error.name == module
        return "is not installed" if absent else f"does not import: no module {error.name}"
    except (ImportError, OSError) as error:
        return f"does not import: {reason_of(error)}"
    return None


def require(target: str, library: str, module: str, install: str | None = None) -> None:
    """Imports a target's library.

    Raises:
        MissingDependencyError: it does not import.
    """
    problem = import_problem(module)
    if problem is not None:
        install = install or install_command(compiler_extra())
        raise MissingDependencyError(
            f"target {target} needs {library}, which {problem}; run: {install}"
        )


def require_installed(target: str, library: str, module: str, install: str) -> None:
    """The same for a library that only the process imports which builds with it, or runs a plan.

    Raises:
        MissingDependencyError: it cannot be found.
    """
    if util.find_spec(module) is None:
        raise MissingDependencyError(
            f"target {target} needs {library}, which is not installed; {install}"
        )


def diagnose_library(
    name: str, module: str, here: Host, install: str | None = None
) -> TargetDiagnosis:
    """Available where the library imports, else missing with the reason."""
    problem = import_problem(module)
    if problem is None:
        return TargetDiagnosis(name, Status.AVAILABLE, with_version(module, here))
    return TargetDiagnosis(
        name, Status.MISSING, f"{module} {problem}", install or install_command(compiler_extra())
    )


def with_version(module: str, here: Host) -> str:
    """The library and its version, as the package's metadata tells it."""
    return f"{module} {here.versions.get(module, '(unknown version)')}"
