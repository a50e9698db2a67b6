"""What a run may be asked for beyond what it measures, and the raw file that it begins."""

from __future__ import annotations

import shlex
import sys
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks import artifacts, machine
from exporter import host
from exporter.artifact import Skipped
from exporter.report.flat import HOST_KEYS
from exporter.runtime.machine import first_cores


@dataclass(frozen=True)
class Settings:
    """What a run may be asked for beyond its suite."""

    threads: int
    seed: int = 0
    cache: Path = artifacts.CACHE
    command: str = ""
    """How to do it again, for the reader."""
    date: str = field(default_factory=lambda: datetime.now(UTC).date().isoformat())
    """When it began: a run over midnight has one date, in its file's name and inside."""


def settings_of(threads: int | None, seed: int) -> Settings:
    """What is common to all runs, with the command that is being run."""
    given = ["python", "-m", "benchmarks", *sys.argv[1:]]
    return Settings(threads or host.usable_threads(), seed, command=shlex.join(given))


def free_path(out: Path, name: str, settings: Settings) -> Path:
    """A raw file's name that no earlier run has: samples are kept, never overwritten."""
    folder = out / "raw"
    stem = f"{name}-{settings.date}"
    numbers = (stem if number == 1 else f"{stem}-{number}" for number in range(1, 10_000))
    return next(
        folder / f"{word}.jsonl" for word in numbers if not (folder / f"{word}.jsonl").exists()
    )


def header(suite: str, rounds: int, lives: int, settings: Settings) -> dict[str, Any]:
    """The header of a raw file: what was asked for and where."""
    described = asdict(host.describe_host())
    versions = described.pop("versions")
    meter = machine.find_meter()
    return {
        "suite": suite,
        "date": settings.date,
        "command": settings.command,
        "host": {key: described[key] for key in HOST_KEYS},
        "versions": versions | _peer_versions(),
        "threads": settings.threads,
        "cpus": first_cores(settings.threads),
        "rounds": rounds,
        "lives": lives,
        "seed": settings.seed,
        "machine": machine.snapshot(),
        "energy": {"missing": meter.skipped} if isinstance(meter, Skipped) else "RAPL",
    }


def _peer_versions() -> dict[str, str]:
    """Of the libraries that only peers need, as far as they are installed."""
    found = {}
    for name in (
        "nncf",
        "torchao",
        "ncnn",
        "executorch",
        "ai-edge-litert",
        "ai-edge-quantizer",
        "zentorch",
    ):
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found
