"""How ONNX Runtime's CUDA provider is set up, and which layout an FP16 engine is faster in.

Provider options are written out rather than left to defaults that changed between versions.
docs/decisions/0062 has the figures.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from exporter.runtime import cuda_graphs
from exporter.targets.ort.session import OrtSession
from exporter.targets.target import Array

OPTIONS: Final[Mapping[str, str]] = MappingProxyType(
    {
        # Measured once per shape at load; HEURISTIC may pick a kernel that is several times slower.
        "cudnn_conv_algo_search": "EXHAUSTIVE",
        "cudnn_conv_use_max_workspace": "1",
        # TF32 is on by default and beyond FP32's parity limit.
        "use_tf32": "0",
        "do_copy_in_default_stream": "1",
        "arena_extend_strategy": "kSameAsRequested",
        # Slower in NHWC, and in NCHW it fails with cuDNN 9.19.
        "fuse_conv_bias": "0",
        cuda_graphs.OPTION: "0",
    }
)
"""Of every session."""
LAYOUT: Final = "prefer_nhwc"
"""The option that has convolutions read NHWC, as tensor cores do: given NCHW, cuDNN converts around
each of them. Small pictures may be faster in NCHW all the same."""
_WARM_UP: Final = 5
_RUNS: Final = 30


def options_for(*, allow_fallback: bool) -> dict[str, str]:
    """Those of an engine: launched as one CUDA graph if all of its nodes are on the GPU."""
    return {**OPTIONS, cuda_graphs.OPTION: "0" if allow_fallback else "1"}


def one_by_one(given: Mapping[str, str]) -> dict[str, str]:
    """The same options, each kernel launched for itself, as whoever looks at them needs it."""
    return {**given, cuda_graphs.OPTION: "0"}


def time_layouts(
    open_with: Callable[[Mapping[str, str]], OrtSession],
    given: Mapping[str, str],
    feed: Mapping[str, Array],
) -> dict[str, float]:
    """Milliseconds of one inference by the value of `LAYOUT`, as the engine will be run."""
    found = {}
    for value in ("0", "1"):
        with open_with({**given, LAYOUT: value}) as session:
            for _ in range(_WARM_UP):
                session.run_named(feed)
            found[value] = 1e3 * statistics.median(_seconds(session, feed) for _ in range(_RUNS))
    return found


def _seconds(session: OrtSession, feed: Mapping[str, Array]) -> float:
    start = time.perf_counter()
    session.run_named(feed)
    return time.perf_counter() - start
