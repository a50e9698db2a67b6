"""What production imports: a bundle in, answers out. numpy and the runtime library, nothing else.

    from exporter.runtime import load

    engine = load("bundle")
    best = engine.predict("cat.jpg")[0][0]  # Prediction(label, index, probability)
    logits = engine(images)                 # (N, H, W, 3) uint8, cropped -> (N, classes)

Importing this imports neither PyTorch nor ONNX nor the compiler; ONNX Runtime or OpenVINO come with
the first engine that needs them, Pillow with the first picture. This package imports nothing else
of `exporter`, so that a copy of it serves alone.
"""

from exporter.runtime.engine import Engine, Prediction
from exporter.runtime.errors import (
    BundleError,
    ClosedError,
    GoldenError,
    InputError,
    NoEngineError,
    ServingError,
)
from exporter.runtime.loading import load
from exporter.runtime.telemetry import switch_off
from exporter.runtime.threads import Advice, Threads

switch_off()  # before the first engine imports a runtime library

__all__ = [
    "Advice",
    "BundleError",
    "ClosedError",
    "Engine",
    "GoldenError",
    "InputError",
    "NoEngineError",
    "Prediction",
    "ServingError",
    "Threads",
    "load",
]
