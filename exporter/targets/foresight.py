"""What can be said of an engine that a runtime lists but that cannot run here."""

from __future__ import annotations

from pathlib import Path

from exporter.artifact import Precision, Prediction
from exporter.targets import UnreadableKernels


def foresee(
    target: str, precision: Precision, engine: Path, batches: tuple[int, ...]
) -> tuple[tuple[Prediction, ...], tuple[str, ...]]:
    """Predicted costs and advice; both empty where the runtime tells nothing to go by."""
    if not target.startswith("tensorrt-rtx"):
        return (), ()
    from exporter.targets.tensorrt.predict import predictions
    from exporter.targets.tensorrt.rtx import layers_of, read_layers, recommendation

    try:
        advice = recommendation(read_layers(layers_of(engine)), precision)
        foreseen = predictions(engine, target, batches)
    except UnreadableKernels as error:
        return (), (f"no predicted cost: {error}",)
    return foreseen, (advice,) if advice else ()
