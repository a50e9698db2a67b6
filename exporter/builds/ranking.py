"""Which engine to use: the fastest one that passed every gate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def fastest(manifest: Mapping[str, Any]) -> str | None:
    """The id of the engine with the highest speedup among those that passed; None: none was."""
    passed = [
        engine
        for engine in manifest["engines"]
        if engine["parity"].get("passed")
        and "speedup" in engine["latency"]
        and not engine["path"].endswith(".rejected")
    ]
    if not passed:
        return None
    best = max(passed, key=lambda engine: float(engine["latency"]["speedup"]["median"]))
    return str(best["id"])
