"""What a bundle's manifest says, as far as serving needs it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from exporter.runtime.errors import BundleError

MANIFEST: Final = "manifest.json"
GOLDEN: Final = "golden.npz"
LABELS: Final = "labels.txt"
SCHEMA: Final = 1


@dataclass(frozen=True)
class EngineEntry:
    """One engine of the bundle."""

    id: str
    target: str
    precision: str
    files: tuple[str, ...]
    requires: Mapping[str, Any]
    p50_ms: float | None
    """At the first measured batch size, on the machine that built it; None: not measured."""
    tolerance: float
    """Largest relative L2 distance that the answer to any golden input may have."""
    against: str
    """From what: "engine", its own answers when it was packed, or "reference", where it could not
    run there."""


@dataclass(frozen=True)
class Description:
    """The bundle's manifest, checked for the fields that serving uses."""

    model: str
    input_dtype: str
    input_shape: tuple[int | str, ...]
    mean: tuple[float, ...] | None
    """Of the normalisation; None where the preprocessing is not known."""
    std: tuple[float, ...] | None
    answers: str
    """"logits" or "probabilities": what the engine's output is."""
    engines: tuple[EngineEntry, ...]


def read_description(contents: bytes) -> Description:
    """Parses a bundle's `manifest.json`.

    Raises:
        BundleError: it is no bundle's manifest, of another schema, or lacks a field.
    """
    try:
        manifest = json.loads(contents)
        if manifest["schema"] != SCHEMA or manifest["bundle"]["schema"] != SCHEMA:
            raise BundleError(
                f"{MANIFEST} has another schema than {SCHEMA}; pack the build again, "
                "or serve it with the version that packed it"
            )
        model, bundle = manifest["model"], manifest["bundle"]
        preprocessing = model["preprocessing"]
        known = "skipped" not in preprocessing
        return Description(
            model=model["name"],
            input_dtype=model["input"]["dtype"],
            input_shape=tuple(model["input"]["shape"]),
            mean=tuple(map(float, preprocessing["mean"])) if known else None,
            std=tuple(map(float, preprocessing["std"])) if known else None,
            answers=bundle["answers"],
            engines=tuple(
                EngineEntry(
                    id=engine["id"],
                    target=engine["target"],
                    precision=engine["precision"],
                    files=tuple(file["path"] for file in engine["files"]),
                    requires=engine["requires"],
                    p50_ms=engine["latency"].get("p50_ms"),
                    tolerance=float(bundle["tolerances"][engine["id"]]["rel_l2"]),
                    against=bundle["tolerances"][engine["id"]]["against"],
                )
                for engine in manifest["engines"]
            ),
        )
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise BundleError(
            f"{MANIFEST} is no bundle's manifest ({type(error).__name__}: {error}); "
            "give what `exporter pack --format bundle` wrote, not the build folder"
        ) from None
