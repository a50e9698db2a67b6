"""From one worker's samples and the baseline's to a latency."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from exporter.artifact import Skipped
from exporter.measure.nvml import GpuWatch, reasons
from exporter.measure.statistics import is_stable, p50_interval_ms, paired_speedup, percentiles_ms
from exporter.measure.timing import BASELINES, ComputeTime, Conditions, GpuUse, Latency


@dataclass(frozen=True)
class Rounds:
    """Everything that one worker was timed at, in seconds, a list a round."""

    end_to_end_s: list[Sequence[float]] = field(default_factory=list)
    compute_s: list[Sequence[float]] = field(default_factory=list)
    """Of the GPU alone; empty lists on a CPU."""

    def add(self, reply: Mapping[str, Any]) -> None:
        """Takes a worker's answer to a round."""
        self.end_to_end_s.append(reply["samples_s"])
        self.compute_s.append(reply["compute_s"])


def latency_of(
    own: Rounds, eager: Rounds, *, batch: int, warmup: int, baseline: str, conditions: Conditions
) -> Latency:
    """The latency of an engine whose rounds were interleaved with those of `baseline`."""
    speedup = paired_speedup(eager.end_to_end_s, own.end_to_end_s, conditions.seed)
    p50, p90, p99 = percentiles_ms(own.end_to_end_s)
    eager_p50, eager_p90, _ = percentiles_ms(eager.end_to_end_s)
    return Latency(
        batch=batch,
        threads=conditions.threads,
        warmup=warmup,
        rounds=conditions.rounds,
        p50_ms=p50,
        p90_ms=p90,
        p99_ms=p99,
        eager_p50_ms=eager_p50,
        baseline=baseline,
        speedup=speedup,
        stable=is_stable(speedup, p90 / p50, eager_p90 / eager_p50),
        eager_p90_ms=eager_p90,
        device=BASELINES[baseline].device,
        p50_ci95_ms=p50_interval_ms(own.end_to_end_s, conditions.seed),
    )


def compute_time(own: Rounds, eager: Rounds, *, seed: int, cuda_graph: bool) -> ComputeTime | None:
    """What the GPU alone took; None where the clock is a CPU's."""
    if not any(own.compute_s):
        return None
    speedup = paired_speedup(eager.compute_s, own.compute_s, seed)
    p50, p90, p99 = percentiles_ms(own.compute_s)
    eager_p50, eager_p90, _ = percentiles_ms(eager.compute_s)
    return ComputeTime(
        p50_ms=p50,
        p90_ms=p90,
        p99_ms=p99,
        eager_p50_ms=eager_p50,
        speedup=speedup,
        stable=is_stable(speedup, p90 / p50, eager_p90 / eager_p50),
        cuda_graph=cuda_graph,
    )


def gpu_use(
    watch: GpuWatch, batch: int, sustained: Mapping[str, Any], memory_bytes: int | None
) -> GpuUse | Skipped:
    """What NVML told during a run, and of one engine that ran back to back (`sustained`)."""
    samples = watch.samples
    if not samples:
        return Skipped(watch.failure or "the run was over before NVML answered")
    clocks = [sample.sm_clock_mhz for sample in samples]
    temperatures = [sample.temperature_c for sample in samples]
    spent, images = sustained["energy_j"], sustained["inferences"] * batch
    return GpuUse(
        samples=len(samples),
        sm_clock_mhz=(min(clocks), max(clocks)),
        temperature_c=(min(temperatures), max(temperatures)),
        throttled=reasons(samples),
        power_w=None if spent is None else spent / sustained["seconds"],
        energy_per_image_j=None if spent is None else spent / images,
        memory_bytes=memory_bytes,
    )
