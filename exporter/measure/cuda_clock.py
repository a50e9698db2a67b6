"""The clock of an NVIDIA GPU, by PyTorch: CUDA events on one stream, and CUDA graphs.

* *compute*: one inference between two CUDA events, its input in the GPU's memory already. Inputs
  rotate among more buffers than the L2 cache holds, so that no inference finds its input there
  because the one before had left it. Where the engine allows it, an inference is one replayed CUDA
  graph. trtexec calls this figure "GPU Compute Time".
* *end to end*: from pinned host memory to pinned host memory, by the wall clock: the copy to the
  GPU, the inference, the copy back, and the wait for all three.

PyTorch is asked for no TF32 anywhere, so that eager float32 is float32.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy as np

from exporter.errors import MissingDependencyError, install_command
from exporter.measure.clock import Place, Times, repeat, sample_s
from exporter.targets import Array, MachineKind

if TYPE_CHECKING:
    import torch

FEWEST_SLOTS: Final = 2
MOST_SLOTS: Final = 128
"""Each slot may hold a CUDA graph of the whole network."""


def require_cuda() -> None:
    """Raises MissingDependencyError where this process's PyTorch reaches no GPU."""
    import torch

    if not torch.cuda.is_available():
        raise MissingDependencyError(
            f"torch {torch.__version__} reaches no NVIDIA GPU here, and what runs on one needs "
            f"its CUDA build; run: {install_command('gpu')}"
        )


def switch_off_tf32() -> None:
    """Has PyTorch compute float32 in float32; cuDNN's convolutions are in TF32 by default."""
    import torch

    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False


def slots_for(input_bytes: int, cache_bytes: int) -> int:
    """How many inputs rotate: together they are larger than the cache, one of them left out."""
    needed = math.ceil(cache_bytes / max(input_bytes, 1)) + 1
    return min(MOST_SLOTS, max(FEWEST_SLOTS, needed))


@dataclass(frozen=True)
class _Slot:
    """One input in the GPU's memory, and what infers it."""

    given: torch.Tensor
    enqueue: Callable[[], object]
    """Starts one inference on the current stream."""
    answer: Callable[[], torch.Tensor]
    """What the last one answered."""


class CudaClock:
    """The clock of the first GPU that PyTorch sees."""

    device: ClassVar = MachineKind.GPU

    def __init__(self, *, cuda_graph: bool) -> None:
        """`cuda_graph`: what is placed can be captured.

        Raises:
            MissingDependencyError: this process's PyTorch reaches no GPU.
        """
        require_cuda()
        switch_off_tf32()
        self._cuda_graph = cuda_graph

    def place(self, place: Place, batch: Array) -> OnGpu:
        return OnGpu(place, batch, cuda_graph=self._cuda_graph)


class OnGpu:
    """An inference on the GPU; `place` takes a tensor there and its call starts on the stream."""

    def __init__(self, place: Place, batch: Array, *, cuda_graph: bool) -> None:
        import torch

        self._cuda: Any = torch.cuda  # without annotations in part
        self._stream = self._cuda.Stream()
        self._given = torch.from_numpy(np.ascontiguousarray(batch)).pin_memory()
        cache = int(self._cuda.get_device_properties(self._cuda.current_device()).L2_cache_size)
        self._place = place
        # One pool of memory for all graphs, which are never replayed at the same time.
        self._pool = self._cuda.graph_pool_handle() if cuda_graph else None
        self._wanted = slots_for(self._given.nbytes, cache)
        self._slots = [self._slot()]
        answer = self._slots[0].answer()
        self._answer = torch.empty(answer.shape, dtype=answer.dtype).pin_memory()
        self._next = 0

    def _slot(self) -> _Slot:
        with self._cuda.stream(self._stream):
            given = self._given.to("cuda", non_blocking=True)
            enqueue: Callable[[], Any] = self._place(given)
            last = [enqueue()]  # allocates and loads lazily, which a capture must not see
            self._stream.synchronize()
        if self._pool is not None:
            graph = self._cuda.CUDAGraph()
            with self._cuda.graph(graph, pool=self._pool, stream=self._stream):
                last[0] = enqueue()
            return _Slot(given, graph.replay, lambda: last[0])

        def run() -> None:
            last[0] = enqueue()

        return _Slot(given, run, lambda: last[0])

    def run(self) -> Array:
        slot = self._slots[0]
        with self._cuda.stream(self._stream):
            slot.given.copy_(self._given, non_blocking=True)
            slot.enqueue()
            self._answer.copy_(slot.answer(), non_blocking=True)
        self._stream.synchronize()
        answer: Array = self._answer.numpy()
        return answer

    def time(self, count: int) -> Times:
        return Times(sample_s(self.run, count), self._compute_s(count))

    def _fill(self) -> None:
        """Puts all inputs in place that rotate, the first time that they do."""
        while len(self._slots) < self._wanted:
            self._slots.append(self._slot())

    def _compute_s(self, count: int) -> list[float]:
        self._fill()
        events = [
            (self._cuda.Event(enable_timing=True), self._cuda.Event(enable_timing=True))
            for _ in range(count)
        ]
        with self._cuda.stream(self._stream):
            for begin, end in events:
                slot = self._rotate()
                begin.record(self._stream)
                slot.enqueue()
                end.record(self._stream)
        self._stream.synchronize()
        return [float(begin.elapsed_time(end)) / 1e3 for begin, end in events]

    def _rotate(self) -> _Slot:
        self._next = (self._next + 1) % len(self._slots)
        return self._slots[self._next]

    def sustain(self, seconds: float) -> int:
        self._fill()

        # A short queue: what is counted when the time is over has nearly ended, too.
        def some() -> None:
            with self._cuda.stream(self._stream):
                for _ in self._slots[:8]:
                    self._rotate().enqueue()
            self._stream.synchronize()

        return repeat(some, seconds) * min(8, len(self._slots))
