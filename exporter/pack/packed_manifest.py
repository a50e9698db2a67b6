"""manifest.json of a package: the build's with the packed engines alone, and what serving needs.

`exporter.runtime.description` reads it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from exporter.builds import manifest as manifests
from exporter.builds.records import Manifest

SCHEMA: Final = 1
"""Of the `bundle` entry."""


class Answers(StrEnum):
    """What an engine answers of classes."""

    LOGITS = "logits"
    PROBABILITIES = "probabilities"
    FEATURES = "features"
    """Nothing: no output holds scores."""


class Against(StrEnum):
    """What an engine's answers to the goldens are compared with where it serves."""

    ENGINE = "engine"
    """Its own answers when it was packed."""
    REFERENCE = "reference"
    """Eager PyTorch's: the engine could not run where it was packed."""


@dataclass(frozen=True)
class Tolerance:
    """How far from what an engine's answer to any golden may be."""

    against: Against
    rel_l2: float


@dataclass(frozen=True)
class GoldenFile:
    """Where the goldens are."""

    path: str
    samples: int


@dataclass(frozen=True)
class LeftOut:
    """An engine of the build that was not packed, and why."""

    id: str
    skipped: str


@dataclass(frozen=True)
class Bundle:
    """The `bundle` entry."""

    schema: int
    version: str
    """Of the exporter that packed."""
    answers: Answers
    goldens: GoldenFile
    tolerances: Mapping[str, Tolerance]
    """Engine id -> tolerance."""
    left_out: tuple[LeftOut, ...]


def to_text(manifest: Manifest, bundle: Bundle) -> str:
    """The text of the file."""
    content = {**manifests.to_json(manifest), "bundle": manifests.plain(bundle)}
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
