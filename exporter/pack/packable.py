"""What is packed: the engines of a build that may leave it, with what proves them.

Every format writes a `Release`, which `from_build.py` makes.
"""

from __future__ import annotations

import hashlib
import io
import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from exporter.artifact import EngineFile
from exporter.builds.records import EngineRecord, Manifest
from exporter.errors import InputError
from exporter.measure.timing import Latency
from exporter.pack.packed_manifest import Bundle, LeftOut, to_text
from exporter.runtime.choice import why_not
from exporter.runtime.description import Description, read_description
from exporter.runtime.goldens import ANSWERS, Goldens, golden_inputs


@dataclass(frozen=True)
class Written:
    """What a format wrote."""

    engines: tuple[str, ...]
    """The ids of those that went in."""
    notes: tuple[str, ...] = ()
    """What the user must be told, a sentence each."""


@dataclass(frozen=True)
class Release:
    """The engines of one build that are packed, with what proves them."""

    build: Path
    manifest: Manifest
    """The build's, with the chosen engines alone."""
    bundle: Bundle
    goldens: Goldens
    labels: tuple[str, ...]
    notes: tuple[str, ...]
    """What the user must be told, a sentence each."""

    @property
    def name(self) -> str:
        return self.manifest.model.name

    @property
    def engines(self) -> tuple[EngineRecord, ...]:
        return self.manifest.engines

    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(engine.id for engine in self.engines)

    @property
    def manifest_text(self) -> str:
        """The text of the packed manifest.json."""
        return to_text(self.manifest, self.bundle)

    @property
    def description(self) -> Description:
        """The packed manifest as a server reads it."""
        return read_description(self.manifest_text.encode())

    def runs_here(self, engine: str) -> bool:
        """Whether `exporter.runtime` can run an engine on this machine."""
        entries = {entry.id: entry for entry in self.description.engines}
        return why_not(entries[engine], "auto") is None

    def read(self, file: EngineFile) -> bytes:
        """The contents of an engine's file, checked by hash.

        Raises:
            InputError: it is missing, or not the file that was validated.
        """
        path = self.build / file.path
        try:
            contents = path.read_bytes()
        except OSError as error:
            raise InputError(f"cannot read {path}: {error.strerror}; export it again") from None
        if hashlib.sha256(contents).hexdigest() != file.sha256:
            raise InputError(f"{path} is not the file that was validated; export the model again")
        return contents

    def golden_file(self) -> bytes:
        """golden.npz: inputs, outputs and, where they came from images, the images."""
        arrays = {**golden_inputs(self.goldens.inputs), "outputs": self.goldens.outputs}
        if self.goldens.images is not None:
            arrays["images"] = self.goldens.images
        for engine in self.engines:
            if engine.id in self.goldens.answers:
                arrays[f"{ANSWERS}{engine.id}"] = self.goldens.answers[engine.id]
        buffer = io.BytesIO()
        np.savez(buffer, allow_pickle=False, **arrays)
        return buffer.getvalue()


def with_engine(release: Release, engine: EngineRecord) -> Release:
    """The release with one of its engines alone."""
    return with_engines(release, (engine,), "not asked for")


def with_engines(release: Release, engines: tuple[EngineRecord, ...], reason: str) -> Release:
    """The release with some of its engines, in its order; `reason` is why the others stay out."""
    kept = {engine.id for engine in engines}
    others = (LeftOut(other, reason) for other in release.ids if other not in kept)
    tolerances = {name: one for name, one in release.bundle.tolerances.items() if name in kept}
    bundle = replace(
        release.bundle,
        tolerances=tolerances,
        left_out=(*release.bundle.left_out, *others),
    )
    return replace(release, manifest=release.manifest.only(engines), bundle=bundle)


def p50_of(engine: EngineRecord) -> float:
    """The measured latency in ms by which engines are ranked; infinite where there is none."""
    return engine.latency.p50_ms if isinstance(engine.latency, Latency) else math.inf
