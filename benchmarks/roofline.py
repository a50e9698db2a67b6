"""Each layer under the machine's roof: what it computes a second, against operations per byte.

    roof(i) = min(ceiling of the arithmetic, i * bytes the machine copies a second)

A layer's time is the median over RUNS inferences in ONNX Runtime's own profiler; its operations and
bytes follow from the shapes that the profiler names: input, weights and output once each. A layer
that lies above the slanted part of the roof reads from the caches what its neighbour has written.
"""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks import artifacts
from benchmarks.record import Recorder
from exporter.artifact import Skipped, TensorSpec
from exporter.errors import BuildError
from exporter.measure.worker import make_input
from exporter.progress import Progress

RUNS: Final = 30
ENGINES: Final = ("ort-cpu.fp32", "ort-cpu.int8")
_BYTES: Final[Mapping[str, int]] = {"float": 4, "uint8": 1, "int8": 1, "int32": 4, "float16": 2}
_TYPES: Final[Mapping[int, str]] = {1: "float", 2: "uint8", 3: "int8", 10: "float16"}
"""onnx.TensorProto's numbers."""
_CONVOLUTIONS: Final = ("Conv", "FusedConv", "QLinearConv")


@dataclass(frozen=True)
class Layer:
    """One convolution as the runtime ran it."""

    name: str
    time_us: float
    operations: int
    """A multiply-accumulate is two."""
    moved_bytes: int

    @property
    def intensity(self) -> float:
        """Operations per byte."""
        return self.operations / self.moved_bytes

    @property
    def gops(self) -> float:
        """10^9 operations a second."""
        return self.operations / self.time_us / 1e3


def profile(engine: Path, given: TensorSpec, threads: int, seed: int = 0) -> tuple[Layer, ...]:
    """The convolutions of an `ort-cpu` engine at batch 1, in the order of the graph."""
    import onnxruntime as ort

    from exporter.targets.ort.session import make_session, session_options, write_optimized

    batch = make_input((1, *map(int, given.shape[1:])), given.dtype, seed)
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as folder:
        options = session_options(threads)
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "profile")
        session: ort.InferenceSession = make_session(engine, options)
        for _ in range(RUNS):
            session.run(None, {given.name: batch})
        events = json.loads(Path(session.end_profiling()).read_text())
        weights = _weights(write_optimized(engine, Path(folder)))
    return layers_of(events, weights)


def record(
    model: str, threads: int, seed: int, cache: Path, recorder: Recorder, progress: Progress
) -> None:
    """Writes the layers of our ONNX Runtime engines of a model, one event an engine."""
    files = artifacts.build(model, ENGINES, seed=seed, cache=cache, progress=progress)
    for engine in ENGINES:
        path = files.files[engine]
        if isinstance(path, Skipped):
            raise BuildError(f"no layers of {engine}: {path.skipped}")
        with progress.stage(f"profile {engine}, {RUNS} inferences"):
            layers = profile(path, files.spec.input, threads, seed)
        recorder.write(
            "layers",
            model=model,
            name=engine,
            precision=engine.rpartition(".")[2],
            layers=[asdict(layer) for layer in layers],
        )


def points(layers: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The layers of an event, each with its operations per byte and a second."""
    made = [Layer(**layer) for layer in layers]
    return [asdict(one) | {"intensity": one.intensity, "gops": one.gops} for one in made]


def _weights(optimized: Any) -> dict[str, tuple[tuple[int, ...], int]]:
    """Name of a convolution -> the shape of its weights and their bytes.

    The profiler does not name weights that a kernel has packed into a layout of its own.
    """
    initializers = {tensor.name: tensor for tensor in optimized.graph.initializer}
    found = {}
    for node in optimized.graph.node:
        if node.op_type in _CONVOLUTIONS:
            # Of a quantized one x, x_scale and x_zero_point come before the weights.
            tensor = initializers[node.input[3 if node.op_type == "QLinearConv" else 1]]
            shape = tuple(tensor.dims)
            found[node.name] = shape, math.prod(shape) * _BYTES[_TYPES[tensor.data_type]]
    return found


def layers_of(
    events: Sequence[Mapping[str, Any]], weights: Mapping[str, tuple[tuple[int, ...], int]]
) -> tuple[Layer, ...]:
    """The convolutions among the events of ONNX Runtime's profiler."""
    times: dict[str, list[float]] = {}
    facts: dict[str, Mapping[str, Any]] = {}
    for event in events:
        name = event.get("name", "").removesuffix("_kernel_time")
        if event.get("cat") == "Node" and name != event["name"] and name in weights:
            times.setdefault(name, []).append(float(event["dur"]))
            facts[name] = event["args"]
    return tuple(_layer(name, times[name], facts[name], *weights[name]) for name in times)


def _layer(
    name: str,
    times: Sequence[float],
    facts: Mapping[str, Any],
    shape: tuple[int, ...],
    weight_bytes: int,
) -> Layer:
    inputs, outputs = (
        [(kind, tuple(dims)) for one in facts[key] for kind, dims in one.items()]
        for key in ("input_type_shape", "output_type_shape")
    )
    data = [(kind, dims) for kind, dims in inputs if dims != shape]
    moved = sum(_BYTES[kind] * math.prod(dims) for kind, dims in (*data, *outputs))
    # (O, I / groups, kh, kw): each result takes I / groups * kh * kw multiply-accumulates.
    operations = 2 * math.prod(outputs[0][1]) * math.prod(shape[1:])
    # The first inferences are slower than the rest.
    settled = times[len(times) // 3 :]
    return Layer(name, float(np.median(settled)), operations, moved + weight_bytes)
