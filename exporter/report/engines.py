"""How one engine is named, marked and told apart, everywhere on the page.

Colour says the precision (Okabe and Ito's palette), shape says the runtime, and a letter says which
engine it is: no reader has to tell colours apart.
"""

from __future__ import annotations

import string
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from exporter.artifact import REJECTED
from exporter.report.traced import Traced

SHAPES: Final[Mapping[str, str]] = {
    "ort-cpu": "circle",
    "openvino": "square",
    "tensorrt-rtx": "triangle",
    "tensorrt": "diamond",
    "ort-cuda": "wedge",
    "ort-tensorrt": "cross",
}
PRECISIONS: Final = ("fp32", "fp16", "int8")


@dataclass(frozen=True)
class EngineView:
    """An engine of the manifest with its marks."""

    entry: Traced
    letter: str
    shape: str
    colour: str
    """A class of the style sheet."""

    @property
    def id(self) -> str:
        return str(self.entry["id"].raw)

    @property
    def measured(self) -> bool:
        return self.entry["latency"].has("speedup")

    @property
    def rejected(self) -> bool:
        return str(self.entry["path"].raw).endswith(REJECTED)

    @property
    def passed(self) -> bool:
        """Parity was checked and passed, and no other gate rejected the engine."""
        parity = self.entry["parity"]
        return parity.has("passed") and bool(parity["passed"]) and not self.rejected

    @property
    def drift(self) -> Traced | None:
        """The figures at each block, where they were asked for."""
        parity = self.entry["parity"]
        return parity["blocks"] if parity.has("blocks") and parity["blocks"] else None

    @property
    def profile(self) -> Traced | None:
        """Where its time goes; None: `unprofiled` says why."""
        found = self.entry["profile"] if self.entry.has("profile") else None
        return found if found is not None and found.has("blocks") else None

    @property
    def unprofiled(self) -> str:
        """Why there is no profile; "" where there is one."""
        if self.profile is not None:
            return ""
        if self.entry.has("profile"):
            return str(self.entry["profile"]["skipped"])
        return "the build is older than the profile; benchmark it again"


def views(manifest: Traced) -> tuple[EngineView, ...]:
    """All engines, in the manifest's order."""
    letters = [a + b for a in ("", *string.ascii_uppercase) for b in string.ascii_uppercase]
    return tuple(_view(entry, letters[i]) for i, entry in enumerate(manifest["engines"]))


def _view(entry: Traced, letter: str) -> EngineView:
    family = str(entry["target"].raw).partition(":")[0]
    precision = entry["precision"].raw
    return EngineView(
        entry=entry,
        letter=letter,
        shape=SHAPES.get(family, "circle"),
        colour=precision if precision in PRECISIONS else "other",
    )
