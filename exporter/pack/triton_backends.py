"""Triton's backends, and which engine of a release each of them serves.

`onnxruntime`, `openvino` and `tensorrt` serve one engine each; `python` serves a whole bundle
through `exporter.runtime`: it checks hashes and goldens, takes uint8 images and sets what the
engine requires. The others cannot: Triton's onnxruntime backend has no session options, so an
engine that needs some is not packed for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from exporter.builds.records import EngineRecord
from exporter.errors import UsageError, unknown_name
from exporter.pack.packable import Release, p50_of
from exporter.runtime.sessions import BACKENDS as SERVED
from exporter.targets import MachineKind, target_class

PYTHON: Final = "python"
_SESSION: Final = frozenset({"session_options", "session_config_without_vnni", "provider_options"})
"""What an engine may require of the session that it is loaded into."""


@dataclass(frozen=True)
class Backend:
    """One of Triton's backends: under which names it looks for files, and what it is told."""

    files: tuple[str, ...]
    parameters: Mapping[str, str]
    """Triton's name -> a template for {threads}."""
    note: str = ""
    """What it cannot do as the engine was validated."""


# By Triton's own names; which of them serves the engines of a target, the target says.
BACKENDS: Final[Mapping[str, Backend]] = {
    "onnxruntime": Backend(("model.onnx",), {"intra_op_thread_count": "{threads}"}),
    "openvino": Backend(
        ("model.xml", "model.bin"),
        {"INFERENCE_NUM_THREADS": "{threads}", "NUM_STREAMS": "1", "PERFORMANCE_HINT": "LATENCY"},
        "Triton's openvino backend cannot set INFERENCE_PRECISION_HINT: it computes FP32 and BF16 "
        "engines alike, in BF16 where the CPU has it; --backend python does as validated",
    ),
    "tensorrt": Backend(("model.plan",), {}),
    PYTHON: Backend((), {"threads": "{threads}"}),
}


def choose_engine(release: Release, backend: str | None) -> tuple[EngineRecord, str]:
    """The engine to serve and its backend: the fastest that the backend, or any of them, serves.

    Raises:
        UsageError: no such backend, or no engine that it serves.
    """
    if backend is not None and backend not in BACKENDS:
        raise unknown_name("Triton backend", backend, BACKENDS)
    reasons = []
    for engine in sorted(release.engines, key=p50_of):
        for name in [backend] if backend else BACKENDS:
            reason = why_not(engine, name)
            if reason is None:
                return engine, name
            reasons.append(f"{engine.id}: {reason}")
    raise UsageError(f"no engine to serve: {'; '.join(reasons)}")


def on_gpu(engine: EngineRecord) -> bool:
    """Whether an engine runs on a GPU."""
    return target_class(engine.target).runs_on is MachineKind.GPU


def largest_batch(release: Release, engine: EngineRecord) -> int | None:
    """The largest batch that an engine takes at all; None: any."""
    declared = release.manifest.model.input.shape[0]
    if isinstance(declared, int):
        return declared
    return max((largest for _, _, largest in _profiles(engine)), default=None)


def why_not(engine: EngineRecord, backend: str) -> str | None:
    """Why a backend cannot serve an engine as it was validated."""
    target = target_class(engine.target)
    serves = target.family in SERVED if backend == PYTHON else target.triton_backend == backend
    if not serves:
        return f"backend {backend} does not serve {target.family} engines"
    smallest = min((least for least, _, _ in _profiles(engine)), default=1)
    if smallest > 1:
        return (
            f"its optimization profiles take no batch below {smallest}, and Triton may send a "
            "single image; export it with --profile 1:OPT:MAX"
        )
    reason = None if backend == PYTHON else target.why_not_in_triton(engine.requires)
    if reason is not None:
        return reason
    if backend == "onnxruntime" and not _SESSION.isdisjoint(engine.requires):
        return (
            "it requires options of its session or provider, which Triton's onnxruntime backend "
            "has no way to set; take --backend python"
        )
    return None


def _profiles(engine: EngineRecord) -> list[tuple[int, int, int]]:
    """(minimum, optimum, maximum) batch of each optimization profile."""
    profiles = []
    for profile in engine.requires.get("profiles") or ():
        least, best, largest = map(int, profile.split(":"))
        profiles.append((least, best, largest))
    return profiles
