"""Which engine of a bundle this machine should run.

An engine is a candidate where its runtime library is installed in the version that it was validated
with or a newer one, the CPU has the features it requires, its device is the one asked for, and on
a GPU, what its provider is linked with loads and the driver answers.
Among the candidates the one that was measured fastest comes first; GPU engines come before CPU
engines. One measurement does not carry over: INT8 on an x86 CPU without VNNI runs kernels that do
not saturate and are slower, so there it comes last.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from importlib import metadata
from typing import Final

from exporter.runtime import gpu_libraries
from exporter.runtime.description import EngineEntry
from exporter.runtime.errors import InputError, NoEngineError
from exporter.runtime.machine import cpu_flags, saturates_u8s8
from exporter.runtime.sessions import backend_of, is_installed

DEVICES: Final = ("auto", "cpu", "cuda")
_UNMEASURED: Final = ("int8", "mixed", "bf16", "fp32", "fp16")
_DISTRIBUTIONS: Final = {"onnxruntime": ("onnxruntime", "onnxruntime-gpu")}

Reasons = list[tuple[str, str]]


def choose(
    engines: Sequence[EngineEntry], device: str, engine: str | None
) -> tuple[list[EngineEntry], Reasons]:
    """The candidates, best first, and why each of the others is none.

    Raises:
        InputError: no such device, or no such engine in the bundle.
        NoEngineError: there is no candidate.
    """
    if device not in DEVICES:
        raise InputError(f"device is {device!r}; give one of {', '.join(DEVICES)}")
    ids = [entry.id for entry in engines]
    if engine is not None and engine not in ids:
        raise InputError(f"the bundle has no engine {engine!r}; it has {', '.join(ids)}")
    candidates: list[EngineEntry] = []
    others: Reasons = []
    for entry in engines:
        reason = f"{engine} was asked for" if engine not in (None, entry.id) else None
        reason = reason or why_not(entry, device)
        if reason is None:
            candidates.append(entry)
        else:
            others.append((entry.id, reason))
    if not candidates:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in others)
        raise NoEngineError(f"no engine of the bundle can run here: {reasons}")
    return sorted(candidates, key=_rank), others


def why_not(entry: EngineEntry, device: str) -> str | None:
    """Why this machine cannot run an engine, or None where nothing speaks against it."""
    backend = backend_of(entry.target)
    if backend is None:
        elsewhere = "; serve it with Triton (exporter pack --format triton)"
        hint = elsewhere if entry.target.partition(":")[0] == "tensorrt" else ""
        return f"exporter.runtime does not run {entry.target} engines{hint}"
    if device not in {"auto", backend.device}:
        return f"it runs on {backend.device}, and device={device!r} was asked for"
    if not is_installed(backend.module):
        return f"{backend.module} is not installed; run `pip install '{backend.package}'`"
    validated = entry.requires.versions.get(backend.module)
    installed = _installed_version(backend.module)
    if validated and installed and _major_minor(installed) < _major_minor(validated):
        return (
            f"{backend.module} {installed} is older than {validated}, with which it was validated; "
            f"run `pip install '{backend.package}>={validated}'`"
        )
    flags = cpu_flags()
    missing = sorted(entry.requires.cpu_flags - flags)
    if flags and missing:
        return f"this CPU lacks {', '.join(missing)}"
    obstacle = gpu_libraries.why_not(backend.providers[0])
    return None if obstacle is None else str(obstacle)


def _rank(entry: EngineEntry) -> tuple[bool, bool, float, int]:
    slow_int8 = entry.precision in ("int8", "mixed") and saturates_u8s8(cpu_flags())
    backend = backend_of(entry.target)
    assert backend is not None, "a candidate has one"
    return (
        backend.device == "cpu",
        slow_int8,
        entry.p50_ms if entry.p50_ms is not None else math.inf,
        _UNMEASURED.index(entry.precision) if entry.precision in _UNMEASURED else 9,
    )


def _installed_version(module: str) -> str | None:
    for distribution in _DISTRIBUTIONS.get(module, (module,)):
        try:
            return metadata.version(distribution)
        except metadata.PackageNotFoundError:
            continue
    return None


def _major_minor(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version)[:2])
