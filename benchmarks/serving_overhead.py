"""What `exporter.runtime` costs beyond the runtime library: to import, to load, to call.

    python -m benchmarks.serving_overhead BUNDLE [--threads 2]

Import: `import exporter.runtime` in a fresh process that has imported onnxruntime, least of five.
Load: `load(bundle)` (hashes, session, goldens), and the bare session for the same file, least of
five. Call: `engine.run` on inputs as the engine takes them and the bare session on the same, taken
in turn; the medians, and their difference. An engine of three operators stands in for the model
there: its own time, and the pool of threads that it would keep spinning, would drown microseconds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx.parser
import onnxruntime as ort

from exporter.runtime import load
from exporter.runtime.description import Description, EngineEntry, Requirements
from exporter.runtime.loading import open_engine
from exporter.runtime.threads import Threads
from exporter.targets import target_class

REPEATS = 5
CALLS = 2000
HALF = (0.5, 0.5, 0.5)
SMALL = """<ir_version: 10, opset_import: ["": 20]>
small (float[N,3,224,224] x) => (float[N,3] y) {
    corner = Slice(x, starts, ends, axes)
    axes2 = Constant <value_ints=[2, 3]> ()
    y = ReduceMean <keepdims=0> (corner, axes2)
}"""
_IMPORT = """
import onnxruntime, time
start = time.perf_counter()
import exporter.runtime
print(time.perf_counter() - start)
"""


def import_s() -> float:
    """Seconds that the import takes after the runtime library's own."""
    return min(
        float(
            subprocess.run([sys.executable, "-c", _IMPORT], capture_output=True, check=True).stdout
        )
        for _ in range(REPEATS)
    )


def least_s(work: Callable[[], object]) -> float:
    """The shortest of a few runs, in seconds."""
    taken = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        work()
        taken.append(time.perf_counter() - start)
    return min(taken)


def bare_session(model: Path | bytes, threads: int) -> ort.InferenceSession:
    """The engine in ONNX Runtime, without us."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def call_us() -> tuple[float, float]:
    """Medians of one call of ours and of the bare session, in microseconds."""
    model = onnx.parser.parse_model(SMALL)
    for name, values in (("starts", [0, 0]), ("ends", [2, 2]), ("axes", [2, 3])):
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(values), name))
    content = model.SerializeToString()
    description = Description("small", ("x",), HALF, HALF, "logits", ())
    entry = EngineEntry("ort-cpu.fp32", "ort-cpu", "fp32", (), Requirements(), None, 1e-5, "engine")
    engine = open_engine(entry, description, ("a", "b", "c"), [content], Threads(1))
    session = bare_session(content, 1)
    inputs = np.zeros((1, 3, 224, 224), np.float32)
    ways: list[Callable[[], object]] = [
        lambda: engine.run(inputs),
        lambda: session.run(["y"], {"x": inputs}),
    ]
    taken: list[list[float]] = [[], []]
    for _ in range(CALLS):
        for index, way in enumerate(ways):
            start = time.perf_counter()
            way()
            taken[index].append(time.perf_counter() - start)
    ours, bare = (1e6 * statistics.median(samples) for samples in taken)
    return ours, bare


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args(arguments)
    with load(options.bundle, threads=options.threads) as engine:
        name = engine.id
    manifest = json.loads((options.bundle / "manifest.json").read_text(encoding="utf-8"))
    entry = next(entry for entry in manifest["engines"] if entry["id"] == name)
    ours = least_s(lambda: load(options.bundle, threads=options.threads).close())
    print(f"import  {1000 * import_s():8.1f} ms beyond onnxruntime's own")  # noqa: T201
    print(f"load    {1000 * ours:8.1f} ms, {name}")  # noqa: T201
    if target_class(entry["target"]).library == "onnxruntime":
        path = options.bundle / entry["path"]
        bare = least_s(lambda: bare_session(path, options.threads))
        print(f"        {1000 * bare:8.1f} ms of them the bare session")  # noqa: T201
    called, alone = call_us()
    print(f"call    {called:8.1f} us, {alone:.1f} us of them the bare session")  # noqa: T201


if __name__ == "__main__":
    main()
