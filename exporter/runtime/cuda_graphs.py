"""One CUDA graph for an inference: ONNX Runtime launches all of its kernels as one.

At small batches a GPU waits for launches, not for arithmetic: ResNet-50 in FP16 at batch 1 took
1.48 ms kernel by kernel and 0.64 ms as a graph (NVIDIA H200; docs/decisions/0062). A graph replays
on the addresses that it was captured with, so inputs and outputs stay where they are, a place for
each batch size, and a call copies into it and out of it.

ONNX Runtime keeps graphs by thread: each thread that calls captures its own, once.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import onnxruntime as ort

Array = npt.NDArray[Any]

OPTION: Final = "enable_cuda_graph"
"""Of the CUDA provider; "1": its sessions are run by `CudaGraphs`."""
MOST_PLACES: Final = 16
"""Batch sizes with a graph; any other is run kernel by kernel."""
_GRAPH_ID: Final = "gpu_graph_id"
NO_GRAPH: Final = "-1"


@dataclass(frozen=True)
class _Place:
    """The GPU's memory for one batch size."""

    inputs: Mapping[str, ort.OrtValue]
    outputs: Mapping[str, ort.OrtValue]
    binding: ort.IOBinding
    options: ort.RunOptions


class CudaGraphs:
    """Runs a session whose CUDA provider has `enable_cuda_graph`, on the first GPU."""

    def __init__(self, session: ort.InferenceSession) -> None:
        self._session = session
        self._names = [output.name for output in session.get_outputs()]
        self._ids = itertools.count(1)
        self._places: dict[tuple[tuple[str, tuple[int, ...]], ...], _Place] = {}
        self._lock = threading.Lock()

    def run(self, outputs: Sequence[str], feeds: Mapping[str, Array]) -> list[Array]:
        """The outputs of those names for an array of each input; a thread waits for another."""
        shapes = tuple((name, given.shape) for name, given in feeds.items())
        with self._lock:
            place = self._places.get(shapes)
            if place is None and len(self._places) < MOST_PLACES:
                place = self._places[shapes] = self._place(feeds)
            if place is None:
                found: list[Array] = self._session.run(
                    list(outputs), dict(feeds), run_options(NO_GRAPH)
                )
                return found
            for name, given in feeds.items():
                place.inputs[name].update_inplace(given)
            self._session.run_with_iobinding(place.binding, place.options)
            return [np.array(place.outputs[name].numpy()) for name in outputs]

    def new_graph(self) -> ort.RunOptions:
        """What makes runs with a binding of the caller's own a graph of their own."""
        return run_options(str(next(self._ids)))

    def _place(self, feeds: Mapping[str, Array]) -> _Place:
        import onnxruntime as ort

        # A run without a graph tells how large the outputs are.
        answers = self._session.run(self._names, dict(feeds), run_options(NO_GRAPH))
        inputs = {name: _on_gpu(given) for name, given in feeds.items()}
        outputs = {name: _on_gpu(answer) for name, answer in zip(self._names, answers, strict=True)}
        binding = ort.IOBinding(self._session)
        for name, value in inputs.items():
            binding.bind_ortvalue_input(name, value)
        for name, value in outputs.items():
            binding.bind_ortvalue_output(name, value)
        return _Place(inputs, outputs, binding, self.new_graph())


def run_options(graph: str) -> ort.RunOptions:
    """Of a run that captures or replays the graph of that number."""
    import onnxruntime as ort

    options = ort.RunOptions()
    options.add_run_config_entry(_GRAPH_ID, graph)
    return options


def _on_gpu(array: Array) -> ort.OrtValue:
    import onnxruntime as ort

    return ort.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array), "cuda", 0)
