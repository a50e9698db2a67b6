"""Our code and Polygraphy's loaders against the doubles of one version: `contract.py STUBS`.

Runs in a process of its own, in which that version's bindings are imported. Prints "held" where a
plan is built, inspected, opened and run without a name or argument that the version lacks.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import tensorrt as trt

from exporter.targets.tensorrt import builder, session
from exporter.targets.tensorrt.refit import weights_of
from exporter.targets.tensorrt.request import PLAN, BuildRequest
from exporter.targets.tensorrt.settings import ALL_KEYS, TensorRtSettings
from tests.rehearsal.doubles import Double, read_classes


def put_doubles(stubs: Path) -> None:
    """Has the constructors that need a GPU make doubles, of arguments that are checked."""
    classes = read_classes(stubs)
    kinds: dict[str, tuple[type, ...]] = {
        "Builder": (trt.ILogger,),
        "Runtime": (trt.ILogger,),
        "OnnxParser": (trt.INetworkDefinition, trt.ILogger),
        "Refitter": (trt.ICudaEngine, trt.ILogger),
        "OnnxParserRefitter": (trt.Refitter, trt.ILogger),
    }

    def maker(name: str, arguments: tuple[type, ...]) -> Any:
        def make(*given: Any) -> Double:
            assert len(given) == len(arguments), f"{name}{given}"
            assert all(map(isinstance, given, arguments)), f"{name}{given}"
            return Double(name, classes)

        return make

    for name, arguments in kinds.items():
        setattr(trt, name, maker(name, arguments))


def requests(folder: Path) -> list[BuildRequest]:
    """Every setting that a build may be asked for, each at least once."""
    settings = TensorRtSettings.parse(
        {
            "profile": "1:8:32",
            "tf32": "on",
            "optimization_level": "5",
            "hardware_compatibility": "ampere_plus",
            "version_compatible": "on",
            "strip_weights": "on",
            "timing_cache": str(folder),
        },
        ALL_KEYS,
        "tensorrt",
    )
    graph = folder / "graph.onnx"
    graph.write_bytes(b"onnx")
    cache = folder / "timing.cache"
    cache.write_bytes(b"times")
    common = {
        "library": "tensorrt",
        "onnx": str(graph),
        "folder": str(folder),
        "built_for": "8.9",
        "profiles": ((1, 1, 1), (1, 8, 32)),
    }
    same = "same_compute_capability"
    return [
        BuildRequest(**common),  # type: ignore[arg-type]
        BuildRequest(**common, hardware_compatibility=same),  # type: ignore[arg-type]
        BuildRequest(
            **common,  # type: ignore[arg-type]
            tf32=settings.tf32,
            optimization_level=settings.optimization_level,
            hardware_compatibility=settings.hardware_compatibility,
            version_compatible=settings.version_compatible,
            strip_weights=settings.strip_weights,
            timing_cache=str(cache),
        ),
    ]


def main() -> None:
    """Builds, opens and runs."""
    put_doubles(Path(sys.argv[1]))
    events: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for request in requests(Path(folder)):
            done = builder.build(request, events.append)
            assert done["version"] == trt.__version__
            assert done["inputs"] == {"image": [-1, 3, 8, 8]}, done
        plan = Path(folder, PLAN).rename(Path(folder, f"int8.{PLAN}"))
        weights_of(plan).write_bytes(b"onnx")
        with session.open_plan(plan, "tensorrt") as opened:
            answer = opened.run(np.zeros((1, 3, 8, 8), np.float32))
            assert answer.shape == (1, 3, 8, 8)
            opened.run(np.zeros((32, 3, 8, 8), np.float32))  # of the other profile
    monitor = builder.Monitor(events.append)
    monitor.phase_start("tactics", "build", 3)
    assert monitor.step_complete("tactics", 1)
    assert events[-1]["text"] == "tactics"
    sys.stdout.write("held\n")


if __name__ == "__main__":
    main()
