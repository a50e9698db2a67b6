"""An ONNX/TensorRT deployment compiler for ResNets.

    import exporter

    build = exporter.export("resnet50", precisions=["fp32", "int8"], data="images/")
    build["ort-cpu.int8"].latency
    build.pack("bundle", "out")
    engine = exporter.load("out")

Everything but `load` is imported on first use, so that `exporter.runtime` works where nothing but
numpy and a runtime library is installed.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from exporter.runtime import load  # which switches the libraries' telemetry off

if TYPE_CHECKING:
    from exporter.artifact import Precision, Skipped
    from exporter.builds.records import EngineRecord, FailedEngine, Manifest
    from exporter.capacity.record import Plan
    from exporter.commands.benchmark import Benchmark
    from exporter.commands.build import Build, open_build
    from exporter.commands.classify import Classification, classify
    from exporter.commands.evaluate import EvaluatedEngine, Evaluation
    from exporter.commands.export import export
    from exporter.commands.gate import Gated
    from exporter.commands.sweep import Sweep, sweep
    from exporter.commands.validate import Validation
    from exporter.errors import (
        BuildError,
        ExporterError,
        InputError,
        MissingDependencyError,
        NotReproducedError,
        UnknownEngineError,
        UsageError,
    )
    from exporter.measure.throughput import ServedPoint, Throughput
    from exporter.measure.timing import Latency, Profile, Speedup
    from exporter.pack.formats import Packed
    from exporter.progress import Progress
    from exporter.prove.certificate import Accuracy, Parity, Receipt
    from exporter.prove.gate_record import Gate, GatedEngine

__version__ = "0.1.0"

__all__ = [
    "Accuracy",
    "Benchmark",
    "Build",
    "BuildError",
    "Classification",
    "EngineRecord",
    "EvaluatedEngine",
    "Evaluation",
    "ExporterError",
    "FailedEngine",
    "Gate",
    "Gated",
    "GatedEngine",
    "InputError",
    "Latency",
    "Manifest",
    "MissingDependencyError",
    "NotReproducedError",
    "Packed",
    "Parity",
    "Plan",
    "Precision",
    "Profile",
    "Progress",
    "Receipt",
    "ServedPoint",
    "Skipped",
    "Speedup",
    "Sweep",
    "Throughput",
    "UnknownEngineError",
    "UsageError",
    "Validation",
    "__version__",
    "classify",
    "export",
    "load",
    "open_build",
    "sweep",
]

_HOMES = {
    "exporter.artifact": ("Precision", "Skipped"),
    "exporter.builds.records": ("EngineRecord", "FailedEngine", "Manifest"),
    "exporter.capacity.record": ("Plan",),
    "exporter.commands.benchmark": ("Benchmark",),
    "exporter.commands.build": ("Build", "open_build"),
    "exporter.commands.export": ("export",),
    "exporter.commands.classify": ("Classification", "classify"),
    "exporter.commands.evaluate": ("EvaluatedEngine", "Evaluation"),
    "exporter.commands.gate": ("Gated",),
    "exporter.commands.sweep": ("Sweep", "sweep"),
    "exporter.commands.validate": ("Validation",),
    "exporter.errors": (
        "BuildError",
        "ExporterError",
        "InputError",
        "MissingDependencyError",
        "NotReproducedError",
        "UnknownEngineError",
        "UsageError",
    ),
    "exporter.measure.throughput": ("ServedPoint", "Throughput"),
    "exporter.measure.timing": ("Latency", "Profile", "Speedup"),
    "exporter.pack.formats": ("Packed",),
    "exporter.progress": ("Progress",),
    "exporter.prove.certificate": ("Accuracy", "Parity", "Receipt"),
    "exporter.prove.gate_record": ("Gate", "GatedEngine"),
}
"""Where the names are that are imported on first use."""


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            try:
                module = importlib.import_module(home)
            except ModuleNotFoundError as missing:
                from exporter.errors import MissingDependencyError, install_command

                raise MissingDependencyError(
                    f"exporter.{name} needs {missing.name} (exporter.load works without it); "
                    f"run: {install_command('cpu')}"
                ) from None
            globals()[name] = getattr(module, name)
            return globals()[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
