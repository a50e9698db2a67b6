"""From samples to a latency: on the CPU, and with what a GPU's clock adds."""

from __future__ import annotations

import pytest

from exporter.artifact import Skipped
from exporter.measure.cuda_clock import MOST_SLOTS, slots_for
from exporter.measure.nvml import GpuWatch
from exporter.measure.summary import Rounds, compute_time, gpu_use, latency_of
from exporter.measure.timing import Conditions
from exporter.targets import MachineKind

CONDITIONS = Conditions(threads=2, rounds=3, seed=0, batches=(1,))


def rounds(end_to_end_s: float, compute_s: float | None = None) -> Rounds:
    found = Rounds()
    for _ in range(CONDITIONS.rounds):
        alone = [] if compute_s is None else [compute_s] * 4
        found.add({"samples_s": [end_to_end_s] * 4, "compute_s": alone})
    return found


@pytest.mark.parametrize(
    ("baseline", "device"),
    [("torch-eager", MachineKind.CPU), ("torch-eager-cuda", MachineKind.GPU)],
)
def test_a_latency_is_on_the_device_of_its_baseline(baseline: str, device: MachineKind) -> None:
    found = latency_of(
        rounds(0.001), rounds(0.004), batch=1, warmup=9, baseline=baseline, conditions=CONDITIONS
    )
    assert (found.device, found.baseline) == (device, baseline)
    assert found.p50_ms == pytest.approx(1.0)
    assert found.eager_p50_ms == pytest.approx(4.0)
    assert found.speedup.median == pytest.approx(4.0)


def test_what_the_gpu_alone_took_is_a_figure_of_its_own() -> None:
    own, eager = rounds(0.001, 0.0005), rounds(0.004, 0.003)
    found = compute_time(own, eager, seed=0, cuda_graph=True)
    assert found is not None
    assert found.p50_ms == pytest.approx(0.5)
    assert found.eager_p50_ms == pytest.approx(3.0)
    assert found.speedup.median == pytest.approx(6.0)
    assert found.stable
    assert compute_time(rounds(0.001), rounds(0.004), seed=0, cuda_graph=False) is None


def test_without_nvml_the_use_of_the_gpu_says_why() -> None:
    sustained = {"inferences": 10, "seconds": 1.0, "energy_j": None}
    with GpuWatch(Skipped("NVML does not answer: no driver")) as watch:
        pass
    assert gpu_use(watch, 1, sustained, None) == Skipped("NVML does not answer: no driver")


@pytest.mark.parametrize(
    ("input_bytes", "cache_bytes", "slots"),
    [
        (602_112, 50 << 20, 89),  # one image of ResNet-50 on an H100
        (602_112 * 32, 50 << 20, 4),
        (602_112 * 256, 50 << 20, 2),
        (3_072, 50 << 20, MOST_SLOTS),
        (0, 0, 2),
    ],
)
def test_inputs_rotate_through_more_than_the_cache_holds(
    input_bytes: int, cache_bytes: int, slots: int
) -> None:
    assert slots_for(input_bytes, cache_bytes) == slots
    assert slots == MOST_SLOTS or (slots - 1) * input_bytes >= cache_bytes
