"""What a GPU computes and copies at most, by PyTorch: the roof over the engines that run on it.

For each type the fastest of three square products counts, since no one size fills every GPU. FP32
is measured with TF32 off, as the engines are built. The copy stays within the GPU's own memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from exporter.artifact import Skipped
from exporter.errors import MissingDependencyError
from exporter.measure.clock import repeat
from exporter.measure.cuda_clock import require_cuda, switch_off_tf32
from exporter.measure.timing import GpuCeilings
from exporter.runtime.errors import reason_of

if TYPE_CHECKING:
    import torch

SIDES: Final = (2048, 4096, 8192)
"""Of the square matrices."""
COPIED_BYTES: Final = 1 << 30
REPEATS: Final = 5
"""The fastest counts, each long enough that a launch is nothing beside it."""
WARM_UP_S: Final = 0.3

Clock = Callable[[Callable[[], object]], float]
"""Seconds that one call takes on the device."""


def measure_gpu_ceilings() -> GpuCeilings | Skipped:
    """The ceilings of the GPU that PyTorch sees; about ten seconds."""
    try:
        require_cuda()
    except (ImportError, MissingDependencyError) as error:
        return Skipped(reason_of(error))
    import torch

    switch_off_tf32()
    try:
        return ceilings_on(torch.device("cuda"), SIDES, COPIED_BYTES, _cuda_seconds)
    finally:
        switch_off_tf32()  # the program's own, as this module's first words say
        torch.cuda.empty_cache()


def ceilings_on(
    device: torch.device, sides: tuple[int, ...], copied_bytes: int, clock: Clock
) -> GpuCeilings | Skipped:
    """The ceilings of a device, with matrices of these sides; skipped where it cannot even copy."""
    rates: dict[str, float] = {}
    left_out: dict[str, Skipped] = {}
    for name, product in _products(device):
        for side in sides:
            try:
                seconds = _least(clock, product(side))
            # What a type that the GPU lacks, or too little memory, raises: it costs no build.
            except (RuntimeError, NotImplementedError) as error:
                left_out[name] = Skipped(reason_of(error))
                break
            rates[name] = max(rates.get(name, 0.0), 2 * side**3 / seconds / 1e9)
    try:
        copied = 2 * copied_bytes / _least(clock, _copy(device, copied_bytes)) / 1e9
    except RuntimeError as error:
        return Skipped(f"the GPU cannot copy {copied_bytes >> 20} MiB: {reason_of(error)}")
    return GpuCeilings(rates, copied, {k: v for k, v in left_out.items() if k not in rates})


def _products(
    device: torch.device,
) -> Iterator[tuple[str, Callable[[int], Callable[[], object]]]]:
    """Name of a type, and what makes its product for a side."""
    import torch

    def of(dtype: torch.dtype, *, tf32: bool = False) -> Callable[[int], Callable[[], object]]:
        def make(side: int) -> Callable[[], object]:
            left, right = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
            answer = torch.empty(side, side, device=device, dtype=dtype)

            def run() -> object:
                torch.backends.cuda.matmul.allow_tf32 = tf32
                return torch.mm(left, right, out=answer)

            return run

        return make

    def int8(side: int) -> Callable[[], object]:
        left, right = (
            torch.randint(-127, 128, (side, side), device=device, dtype=torch.int8)
            for _ in range(2)
        )
        multiply: Any = torch._int_mm  # the only one that PyTorch has
        # cuBLAS's kernels for 8 bits want the right matrix column by column.
        column_by_column = right.t().contiguous().t()
        return lambda: multiply(left, column_by_column)

    types: Mapping[str, Callable[[int], Callable[[], object]]] = {
        "fp32": of(torch.float32),
        "tf32": of(torch.float32, tf32=True),
        "fp16": of(torch.float16),
        "bf16": of(torch.bfloat16),
        "int8": int8,
    }
    yield from types.items()


def _copy(device: torch.device, size: int) -> Callable[[], object]:
    import torch

    source = torch.ones(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return lambda: target.copy_(source)


def _least(clock: Clock, run: Callable[[], object]) -> float:
    run()
    repeat(lambda: clock(run), WARM_UP_S)
    return min(clock(run) for _ in range(REPEATS))


def _cuda_seconds(run: Callable[[], object]) -> float:
    import torch

    cuda: Any = torch.cuda  # without annotations in part
    begin, end = cuda.Event(enable_timing=True), cuda.Event(enable_timing=True)
    begin.record()
    run()
    end.record()
    end.synchronize()
    return float(begin.elapsed_time(end)) / 1e3
