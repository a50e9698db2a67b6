"""What the GPU itself reports, through NVML: clocks, temperature, throttling, energy, memory.

NVML is the library behind nvidia-smi; it needs the driver and no CUDA context. It is read by the
process that waits, never by the one that is timed.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import Any, Final

from exporter.artifact import Skipped

PERIOD_S: Final = 0.1

THROTTLING: Final = {
    0x4: "power cap",
    0x8: "hardware slowdown",
    0x20: "too hot (software)",
    0x40: "too hot (hardware)",
    0x80: "power brake",
}
"""NVML's bits of `nvmlClocksEventReasons` that hold a busy GPU's clock down.

Not among them: idle (0x1), clocks that somebody has set (0x2), boost in step with others (0x10),
a display (0x100).
"""


@dataclass(frozen=True)
class GpuSample:
    """The GPU at one moment."""

    at_s: float
    """Since the first sample."""
    sm_clock_mhz: int
    memory_clock_mhz: int
    temperature_c: int
    power_w: float
    throttled: int
    """The bits of `nvmlClocksEventReasons`."""
    memory_used_bytes: int


def reasons(samples: Iterable[GpuSample]) -> tuple[str, ...]:
    """Why the clock was held down in any of the samples, in words."""
    bits = 0
    for sample in samples:
        bits |= sample.throttled
    return tuple(words for bit, words in THROTTLING.items() if bits & bit)


class Gpu:
    """One GPU, as NVML knows it."""

    def __init__(self, nvml: Any, handle: Any) -> None:
        self._nvml = nvml
        self._handle = handle
        # Renamed in driver 535; nvidia-ml-py has both names, an older driver the old one alone.
        self._reasons = getattr(nvml, "nvmlDeviceGetCurrentClocksEventReasons", None) or (
            nvml.nvmlDeviceGetCurrentClocksThrottleReasons
        )

    def sample(self, begin: float) -> GpuSample:
        """The GPU now; `begin` is the monotonic time of the first sample."""
        nvml, handle = self._nvml, self._handle
        return GpuSample(
            at_s=round(time.monotonic() - begin, 3),
            sm_clock_mhz=int(nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM)),
            memory_clock_mhz=int(nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_MEM)),
            temperature_c=int(nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU)),
            power_w=nvml.nvmlDeviceGetPowerUsage(handle) / 1e3,
            throttled=int(self._reasons(handle)),
            memory_used_bytes=self.memory_used_bytes(),
        )

    def memory_used_bytes(self) -> int:
        """Of the whole GPU, by all processes."""
        return int(self._nvml.nvmlDeviceGetMemoryInfo(self._handle).used)

    def energy_j(self) -> float | None:
        """Since the driver was loaded; None on a GPU without such a counter (before Volta)."""
        try:
            return float(self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._handle)) / 1e3
        except self._nvml.NVMLError:
            return None


def open_gpu(uuid: str | None = None) -> Gpu | Skipped:
    """The GPU of that UUID, else the first that CUDA_VISIBLE_DEVICES leaves; or why there is none.

    `uuid` is as PyTorch gives it, without "GPU-".
    """
    try:
        import pynvml as nvml
    except ImportError:
        return Skipped("the GPU's clocks and energy are not read: run pip install nvidia-ml-py")
    try:
        nvml.nvmlInit()
        if uuid is not None:
            return Gpu(nvml, nvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}"))
        first = os.environ.get("CUDA_VISIBLE_DEVICES", "0").partition(",")[0].strip() or "0"
        if first.isdigit():
            return Gpu(nvml, nvml.nvmlDeviceGetHandleByIndex(int(first)))
        return Gpu(nvml, nvml.nvmlDeviceGetHandleByUUID(first))
    except nvml.NVMLError as error:
        return Skipped(f"NVML does not answer: {error}")


class GpuWatch:
    """Samples the GPU every PERIOD_S on a thread of its own, from entering to leaving."""

    def __init__(self, gpu: Gpu | Skipped) -> None:
        self._gpu = gpu
        self._samples: list[GpuSample] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.failure: str | None = gpu.skipped if isinstance(gpu, Skipped) else None
        """Why there are no samples, or no more."""

    def __enter__(self) -> GpuWatch:
        if isinstance(self._gpu, Gpu):
            self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()

    @property
    def samples(self) -> Sequence[GpuSample]:
        return tuple(self._samples)

    def rows(self) -> list[dict[str, Any]]:
        """The samples as JSON's own types."""
        return [asdict(sample) for sample in self._samples]

    def _watch(self) -> None:
        assert isinstance(self._gpu, Gpu)
        begin = time.monotonic()
        while True:
            try:
                self._samples.append(self._gpu.sample(begin))
            except Exception as error:  # NVML's own, of a GPU that was lost or lacks a counter
                self.failure = f"NVML stopped answering: {error}"
                return
            if self._ended.wait(PERIOD_S):
                return
