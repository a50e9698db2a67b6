"""What is kept of a run that is interrupted after engines were proved: a build beside its place.

The build that was there before stays. What a second interruption meets is dropped.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from exporter.builds.folder import BuildFolder, staged
from exporter.builds.records import EngineRecord, FailedEngine

REASON: Final = "interrupted"


def drop_unproved(
    folder: BuildFolder, built: Sequence[EngineRecord], proved: Sequence[EngineRecord]
) -> tuple[FailedEngine, ...]:
    """Removes the files of the engines that nothing was proved of, and names those engines."""
    known = {engine.id for engine in proved}
    kept = {file.path for engine in proved for file in engine.files}
    dropped = []
    for engine in built:
        if engine.id in known:
            continue
        for file in engine.files:
            path = folder.root / file.path
            if path.parent.name != "onnx" and file.path not in kept:  # portable files stay
                path.unlink(missing_ok=True)
        dropped.append(FailedEngine(engine.id, engine.target, engine.precision, "prove", REASON))
    return tuple(dropped)


def keep_aside(folder: BuildFolder, destination: Path, proved: Sequence[EngineRecord]) -> str:
    """Moves a build that says what it lacks to DESTINATION.interrupted; says so in a sentence.

    Raises:
        UsageError: something else lies there.
        InputError: it cannot be written.
    """
    aside = destination.with_name(f"{destination.name}.{REASON}")
    with staged(aside, folder.model) as kept:
        for path in folder.root.iterdir():
            if not path.name.startswith("."):  # scratch
                path.replace(kept.root / path.name)
    return (
        f"interrupted; what was proved ({', '.join(engine.id for engine in proved)}) is kept in "
        f"{aside}: `exporter benchmark {aside}` measures it, exporting again makes all"
    )
