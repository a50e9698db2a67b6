"""`exporter pack`: from a build to what production runs, in one of the formats below."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from exporter.builds import manifest as manifests
from exporter.builds.option import first_unused
from exporter.errors import UsageError, unknown_name, unused_option
from exporter.pack.bundle import ARCHIVE
from exporter.pack.destination import check_out
from exporter.pack.from_build import open_release
from exporter.pack.gate import check_gate
from exporter.pack.packable import Release, Written
from exporter.pack.request import Concern, PackRequest
from exporter.progress import Progress

Writer = Callable[[Release, PackRequest, Path], Written]


@dataclass(frozen=True)
class Format:
    """One way to pack: the name of a `Writer`, and what its options may be about."""

    module: str
    function: str
    concerns: tuple[Concern, ...] = ()


FORMATS: Final[Mapping[str, Format]] = {
    "bundle": Format("exporter.pack.bundle", "pack_bundle", (Concern.SIGNATURE,)),
    "triton": Format("exporter.pack.triton", "pack_triton", (Concern.TRITON,)),
    "kserve": Format("exporter.pack.kserve", "pack_kserve", (Concern.TRITON, Concern.KSERVE)),
    "mlflow": Format("exporter.pack.mlflow", "pack_mlflow"),
    "ovms": Format("exporter.pack.ovms", "pack_ovms"),
    "node": Format("exporter.pack.javascript", "pack_node"),
    "web": Format("exporter.pack.javascript", "pack_web"),
}
_ARCHIVE_SUFFIXES: Final = frozenset(
    {".7z", ".bz2", ".gz", ".rar", ".tar", ".tbz2", ".tgz", ".txz", ".xz", ".zip", ".zst"}
)


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
        NotReproducedError: an engine no longer answers as it was validated.
    """
    if request.format not in FORMATS:
        raise unknown_name("format", request.format, FORMATS)
    chosen = FORMATS[request.format]
    unused = first_unused(request, chosen.concerns)
    if unused is not None:
        concern = unused.option.concerns
        users = [name for name, entry in FORMATS.items() if concern in entry.concerns]
        raise unused_option(
            unused.flag,
            f"{concern}, which format {request.format} does not have",
            f"pack as {' or '.join(users)}",
        )
    if request.out is not None:
        _check_suffix(request.out, request.format)
    named = f"{manifests.model_name(request.build)}-{request.format}"
    out = request.out or Path("dist") / named
    check_out(out)
    release = open_release(
        request.build,
        engines=request.engines,
        labels=request.labels,
        allow_untrained=request.allow_untrained,
        progress=progress,
    )
    write: Writer = getattr(importlib.import_module(chosen.module), chosen.function)
    if request.require_gate:
        check_gate(release.manifest)
    with progress.stage(f"pack {release.name} as {request.format}"):
        written = write(release, request, out)
    return Packed(out, written.engines, (*release.notes, *written.notes))


def _check_suffix(out: Path, kind: str) -> None:
    """Refuses a folder that would be called like an archive."""
    if kind == "bundle" and out.name.endswith(ARCHIVE):
        return
    if out.suffix.lower() in _ARCHIVE_SUFFIXES:
        folder = out.with_name(out.name.partition(".")[0] or "package")
        archive = f" or a file {folder}{ARCHIVE}" if kind == "bundle" else ""
        raise UsageError(
            f"--out {out}: format {kind} writes no {out.suffix} file; "
            f"give a folder, as in --out {folder}{archive}"
        )
