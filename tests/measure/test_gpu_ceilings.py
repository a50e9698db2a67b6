"""The ceilings of a GPU, rehearsed on the CPU: the same products, by the wall clock."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
import torch

from exporter.artifact import Skipped
from exporter.measure import gpu_ceilings
from exporter.measure.gpu_ceilings import ceilings_on, measure_gpu_ceilings
from exporter.measure.timing import GpuCeilings


def seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_ceilings, "WARM_UP_S", 0.0)


def test_every_type_has_its_fastest_product_and_memory_a_copy() -> None:
    before = torch.backends.cuda.matmul.allow_tf32
    found = ceilings_on(torch.device("cpu"), (32, 64), 1 << 16, seconds)
    assert isinstance(found, GpuCeilings)
    assert set(found.gops) | set(found.left_out) == {"fp32", "tf32", "fp16", "bf16", "int8"}
    assert {"fp32", "tf32", "bf16"} <= set(found.gops)
    assert all(rate > 0 for rate in found.gops.values())
    assert found.copy_gb_s > 0
    torch.backends.cuda.matmul.allow_tf32 = before


def test_a_type_that_the_device_lacks_costs_itself_alone() -> None:
    def fails_for_int8(run: Callable[[], object]) -> float:
        answer = run()
        if isinstance(answer, torch.Tensor) and answer.dtype is torch.int32:
            raise RuntimeError("no kernel image is\navailable")
        return 1.0

    found = ceilings_on(torch.device("cpu"), (64,), 1 << 16, fails_for_int8)
    assert isinstance(found, GpuCeilings)
    assert found.left_out == {"int8": Skipped("no kernel image is available")}
    assert found.gops["fp32"] == pytest.approx(2 * 64**3 / 1e9)
    assert found.copy_gb_s == pytest.approx(2 * (1 << 16) / 1e9)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_a_gpu_there_are_none_and_the_reason_is_said() -> None:
    found = measure_gpu_ceilings()
    assert isinstance(found, Skipped)
    assert "reaches no NVIDIA GPU here" in found.skipped
