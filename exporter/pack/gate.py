"""What the release gate found, in a package; `--require-gate`: nothing leaves that did not pass."""

from __future__ import annotations

from dataclasses import replace

from exporter.artifact import Skipped
from exporter.builds.records import Manifest
from exporter.errors import UsageError
from exporter.prove.gate_record import Decision


def without_flips(manifest: Manifest) -> Manifest:
    """The manifest without the flips' names and pictures: whose images they are stays at home."""
    if isinstance(manifest.gate, Skipped):
        return manifest
    engines = tuple(replace(one, flipped=()) for one in manifest.gate.engines)
    decoders = manifest.gate.decoders
    if not isinstance(decoders, Skipped):
        decoders = replace(decoders, flipped=())
    gate = replace(manifest.gate, engines=engines, unreadable=(), decoders=decoders)
    return replace(manifest, gate=gate)


def check_gate(manifest: Manifest) -> None:
    """Refuses engines of a manifest that were not gated, or did not pass.

    Raises:
        UsageError: the message names each with the reason.
    """
    gate = manifest.gate
    refused = {}
    for engine in manifest.engines:
        found = None if isinstance(gate, Skipped) else gate.engine(engine.id)
        if found is None:
            refused[engine.id] = "not gated"
        elif found.decision is not Decision.PASS:
            refused[engine.id] = found.in_words
    if refused:
        said = ", ".join(f"{name} ({why})" for name, why in refused.items())
        raise UsageError(
            f"--require-gate: {said}; run `exporter gate` on the build, or name with --engine "
            "those that passed"
        )
