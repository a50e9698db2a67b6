"""A TensorRT or TensorRT-RTX plan on this machine's GPU.

Numbers come from Polygraphy's `TrtRunner`, which owns the buffers. `bind` leaves them where PyTorch
has them, on its stream: that is what `measure/cuda_clock.py` captures and times.

Polygraphy serves one library a process, whichever was asked for first.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from exporter.errors import BuildError
from exporter.runtime.errors import reason_of
from exporter.runtime.gpu_libraries import cuda_runtime_folder
from exporter.runtime.inputs import by_name
from exporter.targets import Array
from exporter.targets.tensorrt.refit import put_weights_back, weights_of
from exporter.targets.tensorrt.versions import NO_OBJECT

if TYPE_CHECKING:
    import tensorrt as trt
    import torch


def open_plan(engine: Path, library: str) -> TensorRtSession:
    """Loads a plan with `library`, "tensorrt" or "tensorrt_rtx".

    Raises:
        BuildError: the library refuses the plan or the weights that lie beside it, or this process
            already uses the other library.
    """
    _choose(library)
    from polygraphy.backend.common import BytesFromPath
    from polygraphy.backend.trt import EngineFromBytes
    from polygraphy.exception import PolygraphyException
    from polygraphy.logger import G_LOGGER

    G_LOGGER.module_severity = G_LOGGER.CRITICAL  # its errors come back as exceptions
    try:
        loaded = EngineFromBytes(BytesFromPath(str(engine)))()
        weights = weights_of(engine)
        if weights.exists():
            put_weights_back(importlib.import_module(library), loaded, weights)
        return TensorRtSession(loaded, engine.name)
    except (PolygraphyException, TypeError) as error:
        if isinstance(error, TypeError) and NO_OBJECT not in str(error):
            raise
        reason = reason_of(error)
        raise BuildError(f"{library} does not load {engine.name}: {reason}") from None


def _choose(library: str) -> None:
    wanted = library == "tensorrt_rtx"
    if "polygraphy" not in sys.modules:
        os.environ["POLYGRAPHY_USE_TENSORRT_RTX"] = "1" if wanted else "0"
    from polygraphy import config

    if wanted is not bool(config.USE_TENSORRT_RTX):
        raise BuildError(
            f"this process already runs engines of the other TensorRT, so it cannot run one of "
            f"{library}; give the two targets in two commands"
        )
    _name_cuda_runtime()


def _name_cuda_runtime() -> None:
    """Has Polygraphy find the CUDA runtime of NVIDIA's wheels for CUDA 13, where it does not look.

    It reads this variable when it makes its first stream; the loader has read it long before.
    """
    folder = cuda_runtime_folder()
    known = os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep)
    if folder is not None and str(folder) not in known:
        os.environ["LD_LIBRARY_PATH"] = os.pathsep.join(filter(None, [*known, str(folder)]))


def choose_profile(ranges: Sequence[tuple[int, int]], batch: int) -> int:
    """The narrowest of the profiles' (min, max) batch ranges that holds `batch`.

    Raises:
        BuildError: none does.
    """
    fitting = [
        (high - low, index) for index, (low, high) in enumerate(ranges) if low <= batch <= high
    ]
    if not fitting:
        known = ", ".join(f"{low} to {high}" for low, high in ranges)
        raise BuildError(
            f"the plan takes batches of {known}, not {batch}; "
            "build it with another --setting profile=MIN:OPT:MAX"
        )
    return min(fitting)[1]


class TensorRtSession:
    """A loaded plan.

    A batch is (N, ...) of its one input, or records (N,) of several (`runtime/inputs.py`).
    """

    def __init__(self, engine: trt.ICudaEngine, name: str) -> None:
        from polygraphy.backend.trt import TrtRunner

        self._engine = engine
        self._name = name
        self._runner = TrtRunner(engine)
        self._runner.activate()
        self._profile = 0
        self._contexts: dict[int, Any] = {}
        tensors = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
        inputs = [t for t in tensors if str(engine.get_tensor_mode(t)).endswith("INPUT")]
        self._inputs = inputs
        self._outputs = [t for t in tensors if t not in inputs]

    def run(self, batch: Array) -> Array:
        """The first output for a batch of N.

        Raises:
            BuildError: the plan has no profile for N, or the library fails.
        """
        return self.run_named(by_name(batch, self._inputs[0]))[self._outputs[0]]

    def run_all(self, batch: Array) -> list[Array]:
        """Every output for a batch, in the plan's order."""
        return list(self.run_named(by_name(batch, self._inputs[0])).values())

    def run_named(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Every output by its name, for inputs by name."""
        from polygraphy.exception import PolygraphyException

        self._use_profile(len(next(iter(feeds.values()))))
        try:
            outputs = self._runner.infer(
                {name: np.ascontiguousarray(value) for name, value in feeds.items()}
            )
        except PolygraphyException as error:
            reason = reason_of(error)
            raise BuildError(f"running {self._name} failed: {reason}") from None
        # The runner writes the next inference into the same buffers.
        return {name: np.array(value) for name, value in outputs.items()}

    def _use_profile(self, batch: int) -> None:
        profile = self._profile_for(batch)
        if profile != self._profile:
            self._runner.set_profile(profile)
            self._profile = profile

    def _profile_for(self, batch: int) -> int:
        shapes = [
            self._engine.get_tensor_profile_shape(self._inputs[0], index)
            for index in range(self._engine.num_optimization_profiles)
        ]
        return choose_profile([(low[0], high[0]) for low, _, high in shapes], batch)

    def bind(self, given: torch.Tensor) -> Callable[[], torch.Tensor]:
        """One inference on PyTorch's current stream; it can be captured in a CUDA graph.

        All inputs of a profile share its execution context, so they may not run at the same time.

        Raises:
            BuildError: the plan has no profile for this batch size.
        """
        import torch

        cuda: Any = torch.cuda  # without annotations in part
        context = self._context_for(len(given), cuda.current_stream().cuda_stream)
        context.set_input_shape(self._inputs[0], tuple(given.shape))
        buffers = {self._inputs[0]: given}
        for name in self._outputs:
            shape = tuple(context.get_tensor_shape(name))
            dtype = getattr(torch, _torch_dtype(self._engine.get_tensor_dtype(name)))
            buffers[name] = torch.empty(shape, dtype=dtype, device=given.device)

        def run() -> torch.Tensor:
            context.set_input_shape(self._inputs[0], tuple(given.shape))
            for name, tensor in buffers.items():
                context.set_tensor_address(name, tensor.data_ptr())
            if not context.execute_async_v3(cuda.current_stream().cuda_stream):
                raise BuildError(f"{self._name}: TensorRT could not start an inference")
            return buffers[self._outputs[0]]

        return run

    def _context_for(self, batch: int, stream: int) -> Any:
        profile = self._profile_for(batch)
        if profile not in self._contexts:
            context = self._engine.create_execution_context()
            context.set_optimization_profile_async(profile, stream)
            self._contexts[profile] = context
        return self._contexts[profile]

    def close(self) -> None:
        """Frees the GPU's memory."""
        self._contexts.clear()
        self._runner.deactivate()

    def __enter__(self) -> TensorRtSession:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _torch_dtype(dtype: trt.DataType) -> str:
    """TensorRT's DataType.FLOAT in PyTorch's words: float32."""
    name = str(dtype).rpartition(".")[2]
    known = {"FLOAT": "float32", "HALF": "float16", "INT8": "int8", "INT32": "int32",
             "INT64": "int64", "UINT8": "uint8", "BOOL": "bool"}  # fmt: skip
    return known[name]
