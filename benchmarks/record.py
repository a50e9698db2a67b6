"""The raw record of a run: one JSON object a line, written as it happens.

    {"event": "header",  ...host, versions, seed, threads, cpus, load average, CPU frequency}
    {"event": "group",   "group", "kind", "model", "batch", ...}      what is measured together
    {"event": "engine",  "group", "name", "role", "precision", ...}   who, loaded; its facts
    {"event": "missing", "group", "name", ..., "why", "broken"}       who could not be measured
    {"event": "round",   "group", "name", "life", "round", "place", "samples_s", "energy_j"}
    {"event": "footer",  "group", ...load average, CPU frequency, what others took of the CPU}

Every figure of a result is computed from such a file alone (`analysis`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from exporter.errors import InputError

KIND: Final = "resnet-exporter-benchmark"
SCHEMA: Final = 1

Event = dict[str, Any]


class Recorder:
    """Writes events to a file whose name ends in `.partial` until the run is whole."""

    def __init__(self, path: Path, header: Mapping[str, Any]) -> None:
        self.path = path
        self._partial = path.with_name(f"{path.name}.partial")
        path.parent.mkdir(parents=True, exist_ok=True)
        self._stream = self._partial.open("w", encoding="utf-8")
        self.write("header", kind=KIND, schema=SCHEMA, **header)

    def write(self, event: str, **fields: Any) -> None:
        """Appends one event."""
        self._stream.write(json.dumps({"event": event, **fields}) + "\n")
        self._stream.flush()

    def __enter__(self) -> Recorder:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stream.close()
        if error is None:
            self._partial.replace(self.path)


def described(header: Event) -> dict[str, Any]:
    """What every kind of result says of its run: date, command, machine, versions, conditions."""
    kept = ("date", "command", "host", "versions", "machine")
    conditions = ("threads", "cpus", "rounds", "lives", "seed")
    return {key: header[key] for key in kept} | {
        "conditions": {key: header[key] for key in conditions}
    }


def read_events(path: Path) -> list[Event]:
    """All events of a raw file, the header first.

    Raises:
        InputError: no such file, not JSON lines, or not written by `Recorder`.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        events = [json.loads(line) for line in lines]
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None
    except ValueError as error:
        raise InputError(f"{path} is not JSON lines ({error}); give a raw file of a run") from None
    header = events[0] if events and isinstance(events[0], dict) else {}
    if (header.get("kind"), header.get("schema")) != (KIND, SCHEMA):
        raise InputError(f"{path} is no raw file of schema {SCHEMA}; run the suite again")
    return events
