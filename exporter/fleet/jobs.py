"""A job of a sweep: one export on one kind of machine, and which build is its result.

A build is the same where the request, the contents of the files that it names, the hardware and the
versions of the libraries are. Its folder in the store is named by the hash of all that, so whether
a job is done is whether that folder has a manifest.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import attrs

from exporter.builds.folder import sha256_of
from exporter.builds.option import given
from exporter.builds.request import ExportRequest
from exporter.errors import UsageError
from exporter.fleet.hardware import Kind
from exporter.fleet.spec import FILES, NamedModel, Spec
from exporter.models.names import is_onnx
from exporter.targets import MachineKind, device_of


@dataclass(frozen=True)
class Job:
    """It travels to a node as it is."""

    model: str
    hardware: str
    build: str
    """The folder of its result in the store."""
    request: ExportRequest
    """Without where the build goes: that is the node's own matter."""


def jobs_of(spec: Spec, kinds: tuple[Kind, ...]) -> tuple[tuple[Job, Kind], ...]:
    """Every model on every kind of machine.

    A target that is asked for on all hardware and runs on a GPU is not built where there is none;
    one that a hardware itself asks for is, as far as that goes.

    Raises:
        UsageError: no target is left of a hardware.
    """
    found = []
    for kind in kinds:
        hardware = kind.hardware
        if hardware.targets is None:
            left_out = left_out_on(kind, spec.targets)
            kept = tuple(one for one in spec.targets if one not in left_out)
            if left_out and not kept:
                raise UsageError(
                    f"hardware {hardware.name} ({kind.host.cpu}) has no GPU, and "
                    f"{', '.join(left_out)} runs on one; give it targets: of its own"
                )
            hardware = replace(hardware, targets=kept)
        for model in spec.models:
            request = spec.request_for(model, hardware)
            build = f"{model.name}-{_fingerprint(request, model, kind)}"
            found.append((Job(model.name, kind.hardware.name, build, request), kind))
    return tuple(found)


def left_out_on(kind: Kind, targets: tuple[str, ...]) -> tuple[str, ...]:
    """Of targets that are asked for on all hardware, those that this kind cannot run."""
    if kind.hardware.targets is not None or kind.host.gpu is not None:
        return ()
    return tuple(one for one in targets if device_of(one) is MachineKind.GPU)


def _fingerprint(request: ExportRequest, model: NamedModel, kind: Kind) -> str:
    contents = dict(_contents(request))
    told = {
        "model": model.name,
        # A file is what it holds, wherever it lies; one that is not here is its name.
        "request": {
            one.name: repr(value) for one, value in given(request) if one.name not in contents
        },
        "contents": contents,
        "host": vars(kind.host),
        # Nodes that were told apart by their labels alone are two kinds of machine.
        "labels": dict(kind.hardware.labels),
    }
    text = json.dumps(told, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _contents(request: ExportRequest) -> Iterator[tuple[str, str]]:
    """The hash of each file or folder that the request names and that is here."""
    named = {name: getattr(request, name) for name in FILES}
    if is_onnx(request.source):
        named["source"] = request.source
    for name, value in named.items():
        path = Path(str(value).partition("::")[0])
        if isinstance(value, str | Path) and path.is_file():
            yield name, sha256_of(path)
        elif isinstance(value, Path) and path.is_dir():
            files = sorted(one for one in path.rglob("*") if one.is_file())
            lines = [f"{one.relative_to(path).as_posix()} {sha256_of(one)}" for one in files]
            yield name, hashlib.sha256("\n".join(lines).encode()).hexdigest()


def request_into(request: ExportRequest, out: Path) -> ExportRequest:
    """The request with a folder to write to."""
    return attrs.evolve(request, out=out)
