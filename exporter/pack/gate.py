"""`pack --require-gate`: nothing leaves that the release gate has not passed."""

from __future__ import annotations

from exporter.artifact import Skipped
from exporter.builds.records import Manifest
from exporter.errors import UsageError
from exporter.prove.gate_record import Decision


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
