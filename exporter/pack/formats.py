"""`exporter pack`: from a build to what production runs, in one of the formats below."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from exporter.errors import UsageError, unknown_name
from exporter.pack.packable import PackRequest, Release, open_release
from exporter.progress import Progress

Written = tuple[tuple[str, ...], tuple[str, ...]]
"""The ids of the engines that went in, and what the user must be told."""
Writer = Callable[[Release, PackRequest, Path], Written]


@dataclass(frozen=True)
class Format:
    """One way to pack: the name of a `Writer`, and what it can be told."""

    module: str
    function: str
    options: tuple[str, ...]
    """Which of the request's optional fields mean something here."""


FORMATS: Final[Mapping[str, Format]] = {
    "bundle": Format("exporter.pack.bundle", "pack_bundle", ("sign",)),
    "triton": Format("exporter.pack.triton", "pack_triton", ("backend", "slo_ms")),
    "kserve": Format("exporter.pack.kserve", "pack_kserve", ("backend", "slo_ms", "storage_uri")),
    "node": Format("exporter.pack.javascript", "pack_node", ()),
    "web": Format("exporter.pack.javascript", "pack_web", ()),
}
_OPTIONS: Final = ("sign", "backend", "slo_ms", "storage_uri")


@dataclass(frozen=True)
class Packed:
    """What was written."""

    path: Path
    engines: tuple[str, ...]
    notes: tuple[str, ...]


def pack(request: PackRequest, progress: Progress) -> Packed:
    """Packs a build, whole or not at all.

    Raises:
        UsageError: unknown format or engine, an option that the format has not, untrained
            weights, or an `out` that holds something else.
        InputError: the build is missing, malformed or was changed.
        GateError: an engine no longer answers as it was validated.
    """
    if request.format not in FORMATS:
        raise unknown_name("format", request.format, FORMATS)
    chosen = FORMATS[request.format]
    for name in _OPTIONS:
        if getattr(request, name) is not None and name not in chosen.options:
            users = [known for known, entry in FORMATS.items() if name in entry.options]
            raise UsageError(
                f"--{name.replace('_', '-')} means nothing to format {request.format}; "
                f"leave it out, or pack as {' or '.join(users)}"
            )
    release = open_release(
        request.build,
        engines=request.engines,
        labels=request.labels,
        allow_untrained=request.allow_untrained,
        progress=progress,
    )
    out = request.out or Path("dist") / f"{release.name}-{request.format}"
    write: Writer = getattr(importlib.import_module(chosen.module), chosen.function)
    with progress.stage(f"pack {release.name} as {request.format}"):
        engines, notes = write(release, request, out)
    return Packed(out, engines, (*release.notes, *notes))
