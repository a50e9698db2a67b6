"""How a plan is built again where it does not load: on another GPU, with another TensorRT."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

import attrs

from exporter.artifact import ModelKind
from exporter.builds.option import command_line
from exporter.builds.records import EngineRecord
from exporter.errors import InputError
from exporter.pack.packable import Release
from exporter.pack.request import PackRequest
from exporter.targets import target_class


@dataclass(frozen=True)
class Rebuilding:
    """What the package says of it."""

    needs: str
    """Where the plan loads as it is."""
    image: str
    """Of the vendor, with the tool that `command` starts."""
    command: str
    """To run in the model's folder, where the graph lies."""
    ours: tuple[str, ...]
    """The same with this compiler, which proves and measures; empty: a program held the model."""


def rebuilding(
    release: Release, request: PackRequest, engine: EngineRecord, tag: str
) -> Rebuilding | None:
    """None for an engine that records no such command. `tag` is that of the server's container."""
    requires = engine.requires
    if "rebuild" not in requires:
        return None
    versions = ", ".join(f"{name} {v}" for name, v in requires.get("versions", {}).items())
    later = " or later" if requires.get("version_compatible") else ""
    capability = requires.get("compute_capability", "unknown")
    again = attrs.evolve(request, build=Path("build", release.name), out=None, engines=(engine.id,))
    lines = (
        ["exporter", "export", *command_line(release.manifest.request)],
        ["exporter", "pack", *command_line(again)],
    )
    live = release.manifest.model.kind is ModelKind.LIVE
    return Rebuilding(
        needs=f"compute capability {capability}, {versions}{later}",
        image=f"{target_class(engine.target).builder_image}:{tag or 'TAG'}",
        command=str(requires["rebuild"]),
        ours=() if live else tuple(shlex.join(line) for line in lines),
    )


def graph_of(release: Release, engine: EngineRecord) -> bytes:
    """The ONNX file that an engine was built from.

    Raises:
        InputError: the build has lost it.
    """
    path = release.build / engine.built_from
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(
            f"{path}, of which {engine.id} was built, cannot be read ({error.strerror}); "
            "export the model again"
        ) from None
